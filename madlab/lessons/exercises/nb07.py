"""Exercises and quiz of notebook 07, "A fair comparison"."""

import copy
import math
import random
import statistics
from collections.abc import Callable
from typing import Any

from madlab.lessons.checks import Wrong, number_in, present, same_number
from madlab.lessons.quizzes import Question

CLOSE = 1e-4
"""Points that differences of accuracies near 100 may be off in float32, which torch.tensor makes of them."""


def lora_rank(answer: Callable[[int, int, int], Any]) -> str:
    """lora_rank(M, N, k) -> the largest LoRA rank with at most M * N parameters."""
    shapes = [(128, 64, 3), (64, 64, 1), (128, 64, 1), (3, 64, 3)]  # the second: exactly as many
    shapes += [(random.randint(2, 300), random.randint(2, 300), random.choice((1, 3, 5))) for _ in range(20)]
    for m, n, k in shapes:
        expected = 0
        while (expected + 1) * k * k * n + (expected + 1) * m <= m * n:
            expected += 1
        where = f"the largest rank for M = {m}, N = {n}, k = {k}"
        got = number_in(answer(m, n, k), where)
        if got != expected:
            _name_the_rank(got, expected, where, m, n, k)
    return "On 3×3 layers LoRA pays nine times for its inputs, because it brings its own shapes; MAD borrows them."


def _name_the_rank(got: float, expected: int, where: str, m: int, n: int, k: int) -> None:
    """Raise Wrong with what the wrong rank comes from, or with what it would cost."""
    if not got.is_integer():
        raise Wrong(f"{where} is {got:.4g}. A rank is a whole number.")
    rank = int(got)
    usual = {
        m * n // (m + n): "that is MAD's break-even. LoRA's A has k × k parameters for each input.",
        m * n // (k * k * n): "that is A alone. B has M parameters for each direction, too.",
        m * n // (k * k * m + n): "M and N are mixed up. A has one filter for each direction, over all inputs.",
    }
    if rank in usual:
        raise Wrong(f"{where} is {rank}: {usual[rank]}")
    told = f"with rank {rank} LoRA has {rank * (k * k * n + m):,} parameters and MAD {m * n:,}"
    if rank > expected:
        raise Wrong(f"{where} is {rank}: {told}. It may not have more.")
    raise Wrong(f"{where} is {rank}: {told}. Another direction would still fit.")


Form = dict[str, Any]
"""What a side may send: {"bytes": stored, "val": {seed: percent}, "test": {seed: percent}}."""


def duel(answer: Callable[[list[Form], list[Form], int], Any]) -> str:
    """duel(ours, theirs, budget) -> our lead on test between two fairly chosen forms, paired by seed.

    ours, theirs: forms in the order in which they were tried. Fair: as many trials for both (the first ones), no form
    beyond the budget, chosen by mean validation accuracy, mean difference over the seeds that both have.
    """
    wrong = []
    for turn in range(40):
        ours, theirs = _tried(5, BUDGET), _tried(3, BUDGET, beyond=turn % 4 < 2)
        if turn % 2:
            ours, theirs = theirs, ours
        got = number_in(answer(copy.deepcopy(ours), copy.deepcopy(theirs), BUDGET), "the lead")
        if abs(got - _lead(ours, theirs, BUDGET)) > CLOSE:
            wrong.append((got, ours, theirs))
    if wrong:
        _name_the_unfairness(wrong)
        got, ours, theirs = wrong[0]
        raise Wrong(
            f"The lead is {got:.4g}; it should be {_lead(ours, theirs, BUDGET):.4g} points. Go through the rules: as "
            "many trials for both, none beyond the budget, the best mean on validation, and seeds that both have."
        )
    return "Fair: equal bytes, equal tries, nobody chose on test, and the luck of the seeds cancels."


BUDGET = 40
"""Of a duel, in bytes."""
COUNTED = 3
"""Trials of the side that has fewer."""


def _tried(count: int, budget: int, beyond: bool = True) -> list[Form]:
    """Forms in the order of their trials, of which every rule has something to exclude.

    beyond: whether one that is too large, early among the trials, is the best on validation. Those that come later than
    the other side's last are better than all before them that fit.
    """
    forms = sorted((_form() for _ in range(count)), key=_merit)
    large = [forms.pop()] if beyond else []
    late = [forms.pop() for _ in range(count - COUNTED)]
    for form in (*forms, *late):
        form["bytes"] = random.randint(budget // 4, budget - 1)
    if random.random() < 0.5:
        forms[-1]["bytes"] = budget  # as much as is allowed
    for form in large:
        form["bytes"] = budget + random.randint(1, budget)
    early = [*large, *forms]
    random.shuffle(early)
    random.shuffle(late)
    return early + late


def _form() -> Form:
    """A form with four seeds, whose test accuracy is the higher the lower its quality; its size is still open."""
    quality, seeds = random.uniform(60, 75), random.sample(range(6), 4)
    luck = {seed: 3 * seed + random.gauss(0, 0.5) for seed in seeds}
    val = {seed: quality + luck[seed] / 10 + random.gauss(0, 3) for seed in seeds}
    return {"val": val, "test": {seed: 100 - quality / 2 + luck[seed] for seed in seeds}}


def _merit(form: Form) -> float:
    return statistics.mean(form["val"].values())


def _chosen(forms: list[Form], split: str) -> Form:
    return max(forms, key=lambda form: statistics.mean(form[split].values()))


def _lead(
    ours: list[Form],
    theirs: list[Form],
    budget: float,
    *,
    split: str = "val",
    equal: bool = True,
    paired: bool = True,
    report: str = "test",
    fits_first: bool = False,
) -> float:
    """Our lead, fair unless one of the rules is switched off. fits_first: what is too large counts as no trial."""
    sides = [[form for form in forms if form["bytes"] <= budget] if fits_first else forms for forms in (ours, theirs)]
    count = min(map(len, sides)) if equal else max(map(len, sides))
    best = [_chosen([form for form in forms[:count] if form["bytes"] <= budget], split) for forms in sides]
    first, second = (form[report] for form in best)
    if not paired:
        return statistics.mean(first.values()) - statistics.mean(second.values())
    return statistics.mean(first[seed] - second[seed] for seed in sorted(first.keys() & second.keys()))


FORGOTTEN: dict[str, dict[str, Any]] = {
    "A form beyond the budget took part. It fits only if its bytes are at most the budget.": {"budget": math.inf},
    "A form of exactly the budget fits, too.": {"budget": 39.5},
    "What is too large was a trial, too: count the trials first.": {"fits_first": True},
    "One side had more trials than the other. Let both choose among as many as the shorter list has.": {"equal": False},
    "You chose the form on the test images. Choose on validation, then read test once.": {"split": "test"},
    "The means are over different seeds. Subtract seed by seed, over those that both have.": {"paired": False},
    "These are validation accuracies. They chose the form, so they flatter it: report test.": {"report": "val"},
}
"""What to say of a rule that was forgotten, and what it does to `_lead`."""


def _name_the_unfairness(wrong: list[tuple[float, list[Form], list[Form]]]) -> None:
    """Raise Wrong if all wrong leads are what one finds who forgets one rule. wrong: each lead, with both sides."""
    if all(abs(got + _lead(ours, theirs, BUDGET)) < CLOSE for got, ours, theirs in wrong):
        raise Wrong("The lead is the wrong way round: ours minus theirs.")
    for message, rule in FORGOTTEN.items():
        if all(abs(got - _lead(ours, theirs, **{"budget": BUDGET} | rule)) < CLOSE for got, ours, theirs in wrong):
            raise Wrong(message)


def paired(answer: Callable[[dict[int, float], dict[int, float]], Any]) -> str:
    """paired(ours, theirs) -> (mean, standard deviation) of our lead over the seeds that both have.

    ours, theirs: seed -> accuracy in percent. The deviation is that of a sample, with n − 1.
    """
    for turn in range(20):
        luck = {seed: random.gauss(0, 4) for seed in random.sample(range(20), 6)}
        seeds = list(luck)
        lead = -2 if turn % 2 else 2
        ours = {seed: 70 + lead + luck[seed] + random.gauss(0, 1) for seed in seeds[:5]}
        theirs = {seed: 70 + luck[seed] + random.gauss(0, 1) for seed in reversed(seeds[1:])}
        leads = [ours[seed] - theirs[seed] for seed in seeds[1:5]]
        got = answer(dict(ours), dict(theirs))
        present(got, "the pair of mean and standard deviation")
        got = got.tolist() if hasattr(got, "tolist") else got  # NumPy's arrays and PyTorch's tensors
        if not isinstance(got, tuple | list) or len(got) != 2:
            raise Wrong("Return two numbers: `return mean, deviation`.")
        mean, deviation = (
            number_in(value, name) for value, name in zip(got, ("the mean", "the deviation"), strict=True)
        )
        if abs(mean - statistics.mean(leads)) > CLOSE:
            _name_the_mean(mean, leads, ours, theirs, seen_right=turn > 0)
        if abs(deviation - statistics.stdev(leads)) > CLOSE:
            _name_the_deviation(deviation, leads, [[row[seed] for seed in seeds[1:5]] for row in (ours, theirs)])
    return "A pair shares its start and its order of images, so the luck of a seed cancels."


def _name_the_mean(
    got: float, leads: list[float], ours: dict[int, float], theirs: dict[int, float], seen_right: bool
) -> None:
    """Raise Wrong with what the wrong mean comes from. seen_right: whether another lead was right before."""
    if abs(got + statistics.mean(leads)) < CLOSE:
        told = "The lead is the wrong way round: ours minus theirs."
        raise Wrong("The sign is lost: a lead may be negative." if seen_right else told)
    if abs(got - statistics.mean(ours.values()) + statistics.mean(theirs.values())) < CLOSE:
        raise Wrong("These means are over different seeds: leave out those that only one of the two has.")
    same_number(got, statistics.mean(leads), "the mean lead", CLOSE)


def _name_the_deviation(got: float, leads: list[float], rows: list[list[float]]) -> None:
    """Raise Wrong with what the wrong deviation comes from. rows: the accuracies of either side, seed by seed."""
    if abs(got - statistics.pstdev(leads)) < CLOSE:
        raise Wrong("Divide by n − 1: the mean was taken from the same few seeds.")
    if abs(got - sum(statistics.variance(row) for row in rows) ** 0.5) < CLOSE:
        raise Wrong("Both had the same seeds, and so the same luck. Subtract seed by seed before you measure spread.")
    same_number(got, statistics.stdev(leads), "the standard deviation of the lead", CLOSE)


EXERCISES = {"lora_rank": lora_rank, "paired": paired, "duel": duel}

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
            "Nothing, until all have as many tries": (
                "Trials are a budget, like bytes. On the same budget the lead may shrink, vanish or grow."
            ),
            "Its method is worse, or it would not have needed twelve rates": (
                "Many tries do not speak against a method. They only make its number incomparable with the others."
            ),
        },
        right="Nothing, until all have as many tries",
    ),
    Question(
        "Over nine domains method A leads B by 7 points on average. On one domain B has 32 %, where all others "
        "have 80 % and more. What do you do?",
        {
            "Report the 7 points: a failed run is part of the method": (
                "It may be, or one rate was wrong on one domain with one seed. As it stands, one run makes the lead."
            ),
            "Leave that domain out and report the rest": (
                "Then B is excused for what A was not. Whoever removes runs has to say which, and by what rule."
            ),
            "Run it again with more seeds, and show both means": (
                "48 points on one of nine domains are 5.3 of the 7. Whether B fails there as a rule, more seeds tell."
            ),
        },
        right="Run it again with more seeds, and show both means",
    ),
)
