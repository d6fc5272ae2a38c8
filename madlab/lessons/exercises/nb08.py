"""Exercises and quiz of notebook 08, "The Visual Decathlon"."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from madlab.lessons.checks import Wrong, present, same_number
from madlab.lessons.quizzes import Question


@dataclass(frozen=True)
class _Counts:
    """What the exercise gives for a domain: its number, name, and how many images its splits have."""

    index: int
    name: str
    train: int
    val: int
    test: int


def _number(low: int, high: int) -> int:
    return int(torch.randint(low, high + 1, ()))


def _split_of(answer: Callable[[int, list[_Counts]], Any]) -> str:
    for _ in range(3):
        domains = [_Counts(i, f"domain {i}", *(_number(2, 90) for _ in range(3))) for i in (1, 4, 10)]
        for domain in domains:
            start = domain.index * 10**7 + 200_001
            for split, first, count in (
                ("train", start, domain.train),
                ("val", start + domain.train, domain.val),
                ("test", start + domain.train + domain.val, domain.test),
            ):
                for image in (first, first + count - 1):  # both ends, where a count that is off by one shows
                    got = answer(image, domains)
                    _same_place(got, (domain.name, split), image, image == first)
    return "Correct for the first and last image of 27 splits."


def _same_place(got: Any, want: tuple[str, str], image: int, first: bool) -> None:
    present(got, "the pair of name and split")
    try:
        name, split = got
    except (TypeError, ValueError):
        raise Wrong(f"The answer should be a pair (name, split), not {got!r}.") from None
    which = "first" if first else "last"
    if name != want[0]:
        raise Wrong(f"image {image} is of {want[0]}, not {name!r}: the domain's index is image_id // 10,000,000.")
    if split != want[1]:
        raise Wrong(
            f"image {image} is the {which} one of {want[1]}, not of {split!r}. Behind the domain's index, ids count "
            "from 200,001: all of train, then all of val, then all of test."
        )


def _networks(answer: Callable[[int, int, int], float]) -> str:
    for bits, weights, domains in (
        (5_806_944, 5_806_944, 10),
        *((_number(10, 9000), _number(100, 9000), _number(3, 20)) for _ in range(4)),
    ):
        got, want = answer(bits, weights, domains), 1 + (domains - 1) * bits / (32 * weights)
        if isinstance(got, int | float):
            if abs(got - (1 + domains * bits / (32 * weights))) < 1e-9 * want:
                raise Wrong("The base's own domain needs no mask: only <code>domains - 1</code> of them add bits.")
            if abs(got - (1 + (domains - 1) * bits / weights)) < 1e-9 * max(1, got):
                raise Wrong("These are bits: a parameter has 32 of them.")
            if abs(got + 1 - want) < 1e-9 * want:
                raise Wrong("The base network itself is missing; it counts 1.")
        same_number(got, want, f"The budget of {bits:,} bits beside {weights:,} weights for {domains} domains")
    return "Correct. With one bit a weight and ten domains: 1.28."


def _fair(answer: Callable[..., Any]) -> str:
    for _ in range(4):
        names = [f"domain {i}" for i in range(6)]
        finetuned = {name: float(_number(50, 95)) for name in names}
        accuracies = [{name: finetuned[name] + _number(-4, 4) for name in part} for part in (names[:4], names[1:])]
        shared = names[1:4]
        accuracies[0][shared[0]] = 1.8 * finetuned[shared[0]] - 100  # an error above Emax

        def points(
            row: dict[str, float], domains: list[str], tuned: dict[str, float] = finetuned, least: float = 0.0
        ) -> float:
            most = {name: 2 * (100 - tuned[name]) for name in domains}
            return sum(1000 * max(least, 1 - (100 - row[name]) / most[name]) ** 2 for name in domains)

        got = answer(*(dict(row) for row in accuracies), dict(finetuned))
        present(got, "the pair of scores")
        try:
            pair = tuple(float(value) for value in got)
        except (TypeError, ValueError):
            raise Wrong(f"The answer should be a pair of scores, not {got!r}.") from None
        if len(pair) != 2:
            raise Wrong(f"The answer should be two scores, not {len(pair)}.")
        want = [points(row, shared) for row in accuracies]
        whole = [points(row, list(row)) for row in accuracies]
        if all(abs(a - b) < 1e-6 for a, b in zip(pair, whole, strict=True)):
            raise Wrong("These sums are over different domains: leave out those that only one of the two has.")
        if all(abs(a - b) < 1e-6 for a, b in zip(pair, reversed(want), strict=True)):
            raise Wrong("The scores are the wrong way round: first ours.")
        if abs(pair[0] - points(accuracies[0], shared, least=-math.inf)) < 1e-6:
            raise Wrong("An error above Emax earns nothing: take max(0, ...) before you square.")
        for value, expected, whose in zip(pair, want, ("Our", "Their"), strict=True):
            same_number(value, expected, f"{whose} score over the {len(shared)} domains that both have")
    return "Correct: both sums run over the same domains."


EXERCISES = {"split_of": _split_of, "networks": _networks, "fair": _fair}

QUIZ = (
    Question(
        "Your validation accuracy on ucf101 is 74 %, a published test accuracy is 49 %. What do you know?",
        {
            "Your method is 25 points better": "Validation resembles the training images far more than test does "
            "here. Published codes show such a gap with nearly the same network.",
            "Hardly anything before you have the test accuracy": "On ucf101 validation is far easier than test, on "
            "aircraft it is harder. Only test against test can be compared.",
            "The published row must be a misprint": "Many rows agree on about 50 % on the test images.",
        },
        right="Hardly anything before you have the test accuracy",
    ),
    Question(
        "Your runs have nine domains (no ImageNet) and S = 3,300. A published row has 3,400 over ten. Which is ahead?",
        {
            "The published row, by 100": "It had one domain more to earn points in; fine-tuning alone earns 250 there.",
            "Yours, because nine domains are harder": "No domain is harder for being counted alone. The sums simply "
            "run over different things.",
            "That cannot be said before both are summed over the same nine": "S is a sum. Take ImageNet's points out "
            "of the published row, which its accuracies allow, and compare then.",
        },
        right="That cannot be said before both are summed over the same nine",
    ),
    Question(
        "URL has the higher mean accuracy, MAD the higher score. How can that be?",
        {
            "One of the two numbers must be wrong": "Both can be right: mean and score weigh the domains differently.",
            "MAD may be better where a point of accuracy is worth much": "On GTSRB a tenth of a point is worth 21 "
            "points of S and next to nothing in the mean. A squared share also rewards one large gain more than "
            "several small ones. Which it was, we do not know.",
            "The score counts parameters, too": "S looks at test errors only; budgets are a column of their own.",
        },
        right="MAD may be better where a point of accuracy is worth much",
    ),
)
