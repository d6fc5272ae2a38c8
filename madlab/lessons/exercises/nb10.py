"""Exercises and quiz of notebook 10, "ImageNet-to-Sketch"."""

import random
from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from torch import Tensor

from madlab.lessons.checks import Wrong, apart, in_format_of, number_in, same_tensor
from madlab.lessons.quizzes import Question


def reach(answer: Callable[[Tensor, Tensor], Any]) -> str:
    """reach(weight, target) -> the alpha (M, N) that turns a 1x1 filter bank (M, N, 1, 1) into target."""
    for _ in range(4):
        channels = random.randint(2, 9), random.randint(10, 19)
        weight, target = (torch.randn(*channels, 1, 1) for _ in range(2))
        weight += weight.sign() * 0.1  # no weight is near zero
        kept = weight.clone()
        got = in_format_of(target, answer(weight, target.clone()))
        if not torch.equal(weight, kept):
            raise Wrong("The base network's filters were changed: they are shared and have to stay as they are.")
        if isinstance(got, Tensor) and got.shape == weight.shape:
            raise Wrong("The kernel's two axes of length 1 are still there: α has the shape (M, N).")
        if isinstance(got, Tensor) and got.shape == channels and torch.allclose(got, (target - weight)[:, :, 0, 0]):
            raise Wrong("This is what has to be added. α multiplies.")

        want = torch.empty(channels)
        for m, n in product(*map(range, channels)):
            want[m, n] = float(target[m, n]) / float(weight[m, n])
        same_tensor(got, want, "the modulation")
    return "Every filter bank can be reached: on a 1×1 convolution full MAD is fine-tuning in other numbers."


def largest(answer: Callable[[list[tuple[int, int]], int, int, float], Any]) -> str:
    """largest(shapes, filters, domains, networks) -> the largest rank whose base and adapters fit into `networks`."""
    # Nothing fits; exactly nine fit; three and a half; and networks of any shape. All these divisions are exact.
    cases = [([(8, 8)], 256, 10, 1.25), ([(8, 8)], 256, 3, 2.125), ([(8, 8)], 256, 5, 1.875)]
    for _ in range(6):
        shapes = [(random.randint(4, 64), random.randint(4, 64)) for _ in range(random.randint(2, 6))]
        filters = 4 * sum(m * n for m, n in shapes)
        cases.append((shapes, filters, random.randint(3, 10), 1 + random.randint(1, 8) / 4))
    cases.append(([(8, 8)], 256, 3, 0.5))  # not even the base fits, by more than an adapter of rank 1

    for shapes, filters, domains, networks in cases:
        per_rank = sum(m + n for m, n in shapes)
        got = number_in(answer(shapes, filters, domains, networks), "The rank")
        price, room = (domains - 1) * per_rank, (networks - 1) * filters
        want = _largest_that_fits(price, room)
        if got == want:
            continue
        if got < 0:
            raise Wrong("Where not even the base fits, the rank is 0: no rank is negative.")
        if got == _largest_that_fits(domains * per_rank, room):
            raise Wrong("The base's own domain needs no adapter: only <code>domains - 1</code> of them are paid for.")
        if got == _largest_that_fits(price, networks * filters):
            raise Wrong("The base network itself is missing: it takes 1 of the networks.")
        if not got.is_integer():
            raise Wrong(f"A rank is a whole number, not {got:.2f}: round down, so that it still fits.")
        where = f"For {domains} domains in {networks} networks, with M and N = {shapes}, there is room for {room:,.0f} "
        if got > want:
            raise Wrong(f"{where}parameters, and rank {got:.0f} takes {got * price:,.0f} in {domains - 1} adapters.")
        raise Wrong(
            f"{where}parameters, and your rank is {got:.0f}. Rank {want} takes {want * price:,} and still fits."
        )
    return "Correct: with the next higher rank the budget would be exceeded."


def _largest_that_fits(price: int, room: float) -> int:
    """The largest rank that fits into `room` parameters, where each unit of rank takes `price` of them; by counting."""
    rank = 0
    while (rank + 1) * price <= room + 1e-6:
        rank += 1
    return rank


def error_left(answer: Callable[[float, int], Any]) -> str:
    """error_left(score, domains) -> mean error / the fine-tuned error, if all domains but the base's earn the same."""
    cases = [(1500.0, 6)]
    cases += [
        (250.0 * domains + random.choice((-1, 2)) * random.randint(50, 200), domains) for domains in (3, 4, 6, 10)
    ]
    for score, domains in cases:
        points = (score - 250) / (domains - 1)
        want = 2 - 2 * (points / 1000) ** 0.5
        got = number_in(answer(score, domains), "The error left")
        if abs(got - want) <= 1e-6:
            continue
        for other, reason in (
            (2 - 2 * (score / domains / 1000) ** 0.5, "ImageNet's 250 points are given: take them out first, and "
             "divide by the other domains."),
            (2 - 2 * ((score - 250) / domains / 1000) ** 0.5, "The points that are left belong to "
             "<code>domains - 1</code> domains."),
            (want / 2, "This is the share of Emax, which is <i>twice</i> the fine-tuned error."),
            (2 - want, "This is what was removed of the fine-tuned error; asked for is what is left."),
            (1 - want, "This is what was removed of the fine-tuned error; asked for is what is left."),
            (2 - 2 * points / 1000, "The score is quadratic: take the root of points / 1000."),
        ):  # fmt: skip
            if abs(got - other) < 1e-6:
                raise Wrong(reason)
        yours, ours = apart(got, want)
        raise Wrong(
            f"For S = {score:.0f} over {domains} domains you have {yours}, not {ours}. Each of the other domains "
            f"has {points:.0f} points, and points / 1000 is the square of 1 - E / Emax."
        )
    return "Correct. For 1,500 points over six domains it is 1: fine-tuning itself."


EXERCISES = {"reach": reach, "largest": largest, "error_left": error_left}

QUIZ = (
    Question(
        "A 1×1 convolution goes from 512 to 128 channels. How many parameters does its full α have?",
        {
            "512 · 128 / 9, a ninth of the filters": "A ninth is right for 3×3 kernels, where nine weights share "
            "one α. Here a slice has a single weight.",
            "512 · 128, as many as the filters": "Every slice is one weight, so every weight has an α of its own.",
            "512 + 128, a row and a column": "That is rank 1. The full form has one for every pair of channels.",
        },
        right="512 · 128, as many as the filters",
    ),
    Question(
        "Only the 3×3 convolutions of DenseNet-121 are adapted, all 128 → 32. What does I = 36 do?",
        {
            "It saves 60 %, as on ResNet-26": "There the wide layers save. Here I · (M + N) = 36 · 160 is 5,760, while "
            "M · N is 4,096.",
            "It costs more and restricts nothing": "The break-even is 25.6, and a 32 × 128 matrix has "
            "at most rank 32: 36 directions can reach every α.",
            "It costs more, but makes α more expressive": "Every product of the two factors is something that the full "
            "α can be as well.",
        },
        right="It costs more and restricts nothing",
    ),
    Question(
        "Two papers report S on ImageNet-to-Sketch, one 1,100 and one 1,600. What do you ask first?",
        {
            "How many parameters each has": "A fair question, but the second one. S does not count parameters.",
            "Which fine-tuned networks each was scored against": "Emax is twice their error. With another baseline "
            "exactly the same accuracies have a different S, by hundreds of points.",
            "Nothing: the formula is the same, so 1,600 is better": "The formula contains the baseline's errors, and "
            "these are not the same for every network.",
        },
        right="Which fine-tuned networks each was scored against",
    ),
)
