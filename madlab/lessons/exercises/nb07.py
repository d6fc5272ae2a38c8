"""Exercises and quiz of notebook 07, "A fair comparison"."""

import random
import statistics
from collections.abc import Callable
from typing import Any

from madlab.lessons.checks import Wrong, present, same_number
from madlab.lessons.quizzes import Question


def lora_rank(answer: Callable[[int, int, int], Any]) -> str:
    """lora_rank(M, N, k) -> the largest LoRA rank with at most M * N parameters."""
    shapes = [(64, 64, 3), (64, 64, 1), (128, 64, 1), (3, 64, 3)]  # the second: exactly as many
    shapes += [(random.randint(2, 300), random.randint(2, 300), random.choice((1, 3, 5))) for _ in range(20)]
    for m, n, k in shapes:
        expected = 0
        while (expected + 1) * k * k * n + (expected + 1) * m <= m * n:
            expected += 1
        got = answer(m, n, k)
        where = f"the largest rank for M = {m}, N = {n}, k = {k}"
        if isinstance(got, float) and not got.is_integer():
            raise Wrong(f"{where} is {got:.4g}. A rank is a whole number.")
        swapped = m * n // (k * k * m + n)
        if got == m * n // (m + n) not in (expected, swapped):
            raise Wrong(f"{where} is {got}: that is MAD's break-even. LoRA's A has k × k parameters for each input.")
        if got == swapped != expected:
            raise Wrong(
                f"{where} is {got}: M and N are mixed up. A has one filter for each direction, over all inputs."
            )
        same_number(got, expected, where)
    return "On 3×3 layers LoRA pays nine times for its inputs, because it brings its own shapes; MAD borrows them."


def lead(answer: Callable[[list[dict[str, float]], list[dict[str, float]]], Any]) -> str:
    """lead(ours, theirs) -> our lead on test, with equally many trials each and the trial chosen on validation.

    ours, theirs: trials in the order in which they were run, each {"val": percent, "test": percent}.
    """
    for turn in range(20):
        ours, theirs = _trials(5), _trials(3)
        if turn % 2:
            ours, theirs = theirs, ours
        count = min(len(ours), len(theirs))
        fair = _chosen(ours[:count], "val") - _chosen(theirs[:count], "val")
        got = answer([dict(trial) for trial in ours], [dict(trial) for trial in theirs])
        present(got, "the lead")
        if isinstance(got, int | float) and abs(got - fair) > 1e-6:
            _name_the_unfairness(got, ours, theirs, count)
        same_number(got, fair, f"our lead with {count} trials each")
    return "Fair: equally many tries for both, and nobody looked at the test images before choosing."


def _trials(count: int) -> list[dict[str, float]]:
    """Trials whose last one is best on validation, with numbers that occur only once; test never follows validation."""
    values = random.sample(range(300, 900), 2 * count)
    val, test = sorted(values[:count]), sorted(values[count:], reverse=True)
    early = [{"val": v / 10, "test": t / 10} for v, t in zip(val[:-1], test[:-1], strict=True)]
    random.shuffle(early)
    return [*early, {"val": val[-1] / 10, "test": test[-1] / 10}]


def _chosen(trials: list[dict[str, float]], split: str) -> float:
    """The test accuracy of the trial that is best on `split`."""
    return max(trials, key=lambda trial: trial[split])["test"]


def _name_the_unfairness(got: float, ours: list[dict[str, float]], theirs: list[dict[str, float]], count: int) -> None:
    fair = _chosen(ours[:count], "val") - _chosen(theirs[:count], "val")
    if abs(got + fair) < 1e-6:
        raise Wrong("The lead is the wrong way round: ours minus theirs.")
    if abs(got - (_chosen(ours, "val") - _chosen(theirs, "val"))) < 1e-6:
        raise Wrong(f"One side had {len(ours)} trials and the other {len(theirs)}. Let both choose among {count}.")
    if abs(got - (_chosen(ours[:count], "test") - _chosen(theirs[:count], "test"))) < 1e-6:
        raise Wrong("You chose the trial on the test images. Choose on validation, then read test once.")
    if abs(got - (max(t["val"] for t in ours[:count]) - max(t["val"] for t in theirs[:count]))) < 1e-6:
        raise Wrong("These are validation accuracies. They chose the trial, so they flatter it: report test.")


def paired(answer: Callable[[dict[int, float], dict[int, float]], Any]) -> str:
    """paired(ours, theirs) -> (mean, standard deviation) of our lead over the seeds that both have.

    ours, theirs: seed -> accuracy in percent. The deviation is that of a sample, with n − 1.
    """
    for _ in range(20):
        luck = {seed: random.gauss(0, 4) for seed in random.sample(range(20), 6)}
        seeds = list(luck)
        ours = {seed: 72 + luck[seed] + random.gauss(0, 1) for seed in seeds[:5]}
        theirs = {seed: 70 + luck[seed] + random.gauss(0, 1) for seed in reversed(seeds[1:])}
        leads = [ours[seed] - theirs[seed] for seed in seeds[1:5]]
        got = answer(dict(ours), dict(theirs))
        present(got, "the pair of mean and standard deviation")
        if not isinstance(got, tuple | list) or len(got) != 2:
            raise Wrong("Return two numbers: `return mean, deviation`.")
        mean, deviation = got
        if isinstance(mean, float) and abs(mean + statistics.mean(leads)) < 1e-6:
            raise Wrong("The lead is the wrong way round: ours minus theirs.")
        if (
            isinstance(mean, float)
            and abs(mean - statistics.mean(ours.values()) + statistics.mean(theirs.values())) < 1e-6
        ):
            raise Wrong("These means are over different seeds: leave out those that only one of the two has.")
        same_number(mean, statistics.mean(leads), "the mean lead")
        if isinstance(deviation, float) and abs(deviation - statistics.pstdev(leads)) < 1e-6:
            raise Wrong("Divide by n − 1: the mean was taken from the same few seeds.")
        alone = [statistics.stdev(row[seed] for seed in seeds[1:5]) for row in (ours, theirs)]
        if isinstance(deviation, float) and abs(deviation - (alone[0] ** 2 + alone[1] ** 2) ** 0.5) < 1e-6:
            raise Wrong(
                "Both had the same seeds, and so the same luck. Subtract seed by seed before you measure spread."
            )
        same_number(deviation, statistics.stdev(leads), "the standard deviation of the lead")
    return "A pair shares its start and its order of images, so the luck of a seed cancels."


EXERCISES = {"lora_rank": lora_rank, "lead": lead, "paired": paired}

QUIZ = (
    Question(
        "A 3×3 layer has 64 inputs and 64 outputs. Which of these adapters is the largest?",
        {
            "MAD, one number per slice": "64 · 64 = 4,096 parameters.",
            "Piggyback, one bit per weight": "36,864 bits, but 32 of them count as one parameter: 1,152.",
            "LoRA of rank 8": "8 · (9 · 64 + 64) = 5,120 parameters, more than MAD's 4,096.",
            "A parallel residual adapter": "One parameter for each pair of channels, as in MAD: 4,096.",
        },
        right="LoRA of rank 8",
    ),
    Question(
        "A paper tries twelve rates for its own method, and one for each rival. It leads by two points. What follows?",
        {
            "Its method is better by two points": "The best of twelve tries lies above a single one, whatever it is.",
            "Nothing, until all have twelve tries": (
                "Trials are a budget, like bytes. On the same budget the lead may shrink, vanish or grow."
            ),
            "Its method is worse, or it would not have needed twelve rates": (
                "Many tries do not speak against a method. They only make its number incomparable with the others."
            ),
        },
        right="Nothing, until all have twelve tries",
    ),
    Question(
        "Two methods vary by ±3 points over three seeds. Seed by seed one leads by 1.0, 1.2 and 0.9. Is it ahead?",
        {
            "No: 3 points of spread hide a lead of 1": (
                "The spread belongs to the seeds, and both methods had the same ones. It cancels in the difference."
            ),
            "Yes, on these images: the lead hardly varies": (
                "Paired, it is 1.0 ± 0.15. Other images may still say something else."
            ),
            "Only a hundred seeds could tell": "More seeds are welcome, but a lead that varies by 0.15 needs few.",
        },
        right="Yes, on these images: the lead hardly varies",
    ),
)
