"""Exercises and quiz of notebook 09, "The Visual Decathlon"."""

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from madlab.lessons.checks import Wrong, present, same_number
from madlab.lessons.quizzes import Question


@dataclass(frozen=True)
class _Counts:
    """What the exercise gives for a domain: its index, its name, and how many images its splits have."""

    index: int
    name: str
    train: int
    val: int
    test: int


def split_of(answer: Callable[[int, list[_Counts]], Any]) -> str:
    """split_of(image_id, domains) -> (name, split) of the image with this id in the decathlon's annotations."""
    for _ in range(3):
        domains = [
            _Counts(index, f"domain {index}", random.randint(2, 90), random.randint(2, 90), random.randint(2, 90))
            for index in (1, 4, 10)
        ]
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
            f"image {image} is the {which} one of {want[1]}, not of {split!r}. After the domain's index, ids count "
            "from 200,001: all of train, then all of val, then all of test."
        )


def networks(answer: Callable[[int, int, int], float]) -> str:
    """networks(bits, weights, domains) -> how many base networks the base and `bits` per further domain take."""
    cases = [(5_806_944, 5_806_944, 10)]
    cases += [(random.randint(10, 9000), random.randint(100, 9000), random.randint(3, 20)) for _ in range(4)]
    for bits, weights, domains in cases:
        got, want = answer(bits, weights, domains), 1 + (domains - 1) * bits / (32 * weights)
        if isinstance(got, int | float):
            if abs(got - (1 + domains * bits / (32 * weights))) < 1e-9 * want:
                raise Wrong("The base's own domain needs no mask: only <code>domains - 1</code> of them add bits.")
            if abs(got - (1 + (domains - 1) * bits / weights)) < 1e-9 * max(1, got):
                raise Wrong("These are bits: a parameter has 32 of them.")
            if abs(got + 1 - want) < 1e-9 * want:
                raise Wrong("The base network itself is missing; it counts as 1.")
        same_number(got, want, f"The budget of {bits:,} bits beside {weights:,} weights for {domains} domains")
    return "Correct. With one bit per weight and ten domains: 1.28."


def _points(row: dict[str, float], finetuned: dict[str, float], domains: Iterable[str], least: float = 0.0) -> float:
    """The score over some domains; least: what an error above Emax counts as, before it is squared."""
    most = {name: 2 * (100 - finetuned[name]) for name in domains}
    return sum(1000 * max(least, 1 - (100 - row[name]) / most[name]) ** 2 for name in most)


def fair(answer: Callable[..., Any]) -> str:
    """fair(ours, theirs, finetuned) -> both scores over the domains that both rows have; all map domain to percent."""
    for _ in range(4):
        names = [f"domain {number}" for number in range(6)]
        finetuned = {name: float(random.randint(60, 95)) for name in names}
        ours = {name: finetuned[name] + random.randint(-4, 4) for name in names[:4]}
        theirs = {name: finetuned[name] + random.randint(-4, 4) for name in names[1:]}
        shared = names[1:4]
        ours[shared[0]] = 1.8 * finetuned[shared[0]] - 100  # an error above Emax

        got = answer(dict(ours), dict(theirs), dict(finetuned))
        present(got, "the pair of scores")
        try:
            pair = tuple(float(value) for value in got)
        except (TypeError, ValueError):
            raise Wrong(f"The answer should be a pair of scores, not {got!r}.") from None
        if len(pair) != 2:
            raise Wrong(f"The answer should be two scores, not {len(pair)}.")
        our_score, their_score = (_points(row, finetuned, shared) for row in (ours, theirs))
        if _equal(pair, [_points(row, finetuned, row) for row in (ours, theirs)]):
            raise Wrong("These sums are over different domains: leave out those that only one of the two has.")
        if _equal(pair, [their_score, our_score]):
            raise Wrong("The scores are the wrong way round: ours comes first.")
        if abs(pair[0] - _points(ours, finetuned, shared, least=-math.inf)) < 1e-6:
            raise Wrong("An error above Emax earns nothing: take max(0, ...) before you square.")
        same_number(pair[0], our_score, f"Our score over the {len(shared)} domains that both have")
        same_number(pair[1], their_score, f"Their score over the {len(shared)} domains that both have")
    return "Correct: both sums are over the same domains."


def _equal(pair: Iterable[float], other: Iterable[float]) -> bool:
    return all(abs(one - two) < 1e-6 for one, two in zip(pair, other, strict=True))


EXERCISES = {"split_of": split_of, "networks": networks, "fair": fair}

QUIZ = (
    Question(
        "Your validation accuracy on ucf101 is 74 %, a published test accuracy is 49 %. What do you know?",
        {
            "Your method is 25 points better": "Here the validation images resemble the training images far more than "
            "the test images do. Published code shows such a gap with nearly the same network.",
            "Hardly anything before you have the test accuracy": "On ucf101 validation is far easier than test, on "
            "aircraft it is harder. Only test accuracies can be compared with test accuracies.",
            "The published row must be a misprint": "Many rows agree on about 50 % on the test images.",
        },
        right="Hardly anything before you have the test accuracy",
    ),
    Question(
        "Your runs have nine domains (no ImageNet) and S = 3,300. A published row has 3,400 over ten. Which is ahead?",
        {
            "The published row, by 100": "It had one more domain in which to earn points; fine-tuning alone earns 250 "
            "there.",
            "Yours, because nine domains are harder": "A domain is no harder for having fewer beside it. The two sums "
            "are simply over different domains.",
            "Nobody can say until both are summed over the same nine": "S is a sum. Subtract ImageNet's points from "
            "the published row, which its accuracies allow, and then compare.",
        },
        right="Nobody can say until both are summed over the same nine",
    ),
    Question(
        "URL has the higher mean accuracy, MAD the higher score. How can that be?",
        {
            "One of the two numbers must be wrong": "Both can be right: mean and score weigh the domains differently.",
            "MAD may be better where a point of accuracy is worth a lot": "On GTSRB a tenth of a point is worth 21 "
            "points of S and next to nothing in the mean. A squared share also rewards one large gain more than "
            "several small ones. Which of the two it was, we do not know.",
            "The score counts parameters, too": "S depends on test errors only; budgets are a separate column.",
        },
        right="MAD may be better where a point of accuracy is worth a lot",
    ),
)
