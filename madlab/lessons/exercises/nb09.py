"""Exercises and quiz of notebook 09, "The Visual Decathlon"."""

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from madlab.lessons.checks import Wrong, apart, number_in, present, same_number
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
        share = bits / (32 * weights)
        want = 1 + (domains - 1) * share
        got = number_in(answer(bits, weights, domains), "The budget")
        if abs(got - want) <= 1e-6 * want:
            continue
        for other, reason in (
            (
                1 + domains * share,
                "The base's own domain needs no mask: only <code>domains - 1</code> of them add bits.",
            ),
            (1 + 32 * (domains - 1) * share, "These are bits: a parameter has 32 of them."),
            (1 + 4 * (domains - 1) * share, "A parameter has 4 bytes, which are 32 bits; you divided by 8 only."),
            (want - 1, "The base network itself is missing; it counts as 1."),
            (1 + share, "This is the budget of a single mask: every domain but the base's own has one."),
            (domains * (1 + share) - share, "Here every domain has a base network of its own; they share one."),
            (1 + (domains - 1) / share, "The share is upside down: bits of the mask by bits of the base."),
        ):
            if abs(got - other) < 1e-9 * max(1.0, abs(other)):
                raise Wrong(reason)
        yours, ours = apart(got, want)
        raise Wrong(
            f"For {bits:,} bits beside {weights:,} weights and {domains} domains you have {yours}, not {ours}. "
            f"One mask is {share:.4g} of the base's bits, and {domains - 1} of them stand beside the base."
        )
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
        ours = {name: finetuned[name] + random.uniform(-4, 4) for name in names[:4]}
        theirs = {name: finetuned[name] + random.uniform(-4, 4) for name in names[1:]}
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
        if _equal(pair, [our_score, their_score]):
            continue
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
    return all(math.isclose(one, two, rel_tol=1e-5, abs_tol=1e-3) for one, two in zip(pair, other, strict=True))


EXERCISES = {"split_of": split_of, "networks": networks, "fair": fair}

QUIZ = (
    Question(
        "Your validation accuracy on ucf101 is 74 %, a published test accuracy is 49 %. What do you know?",
        {
            "Your method is 25 points better": "Two things differ at once, the network and the images. Films of one "
            "scene can lie in training and in validation, and then validation is the easier of the two.",
            "Hardly anything yet": "You have two networks on two sets of images. Get your own accuracy on the test "
            "images first.",
            "The published row must be a misprint": "Many rows agree on about 50 % on the test images.",
        },
        right="Hardly anything yet",
    ),
    Question(
        "Your runs have nine domains (no ImageNet) and S = 3,300. A published row has 3,400 over ten. Which is ahead?",
        {
            "The published row, by 100": "It had one more domain in which to earn points; fine-tuning alone earns 250 "
            "there.",
            "Yours, because nine domains are harder": "A domain is no harder for having fewer beside it. The two sums "
            "are simply over different domains.",
            "Nobody can say yet": "S is a sum. Subtract ImageNet's points from "
            "the published row, which its accuracies allow, and then compare.",
        },
        right="Nobody can say yet",
    ),
    Question(
        "URL has the higher mean accuracy, MAD the higher score. How can that be?",
        {
            "One of the two numbers must be wrong": "Both can be right: mean and score weigh the domains differently.",
            "MAD may gain where a point is worth most": "On GTSRB a tenth of a point is worth 21 "
            "points of S and next to nothing in the mean. A squared share also rewards one large gain more than "
            "several small ones. Which of the two it was, we do not know.",
            "The score also counts parameters, and MAD has fewer": "S depends on test errors only; a budget is "
            "another column.",
        },
        right="MAD may gain where a point is worth most",
    ),
)
