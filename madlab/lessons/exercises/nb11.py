"""Exercises and quiz of notebook 11, "Smaller still"."""

import random
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import torch

from madlab.lessons.checks import Wrong, in_format_of, number_in, present, same_number, same_tensor
from madlab.lessons.quizzes import Question


def bits(answer: Callable[[int, int, int, int], Any]) -> str:
    """bits(M, N, rank, width) -> bits to store a layer cut to this rank, with `width` bits per parameter."""
    cases = [(64, 64, 8, 32), (64, 64, 40, 8), (256, 128, 36, 4), (16, 3, 3, 8)]
    cases += [
        (random.randint(2, 300), random.randint(2, 300), random.randint(1, 60), random.choice((4, 8, 32)))
        for _ in range(20)
    ]
    for m, n, rank, width in cases:
        factors, whole = rank * (m + n), m * n
        where = f"the size of M = {m}, N = {n} at rank {rank} with {width} bits per parameter"
        got = answer(m, n, rank, width)
        if got == min(factors, whole) and width != 1:
            raise Wrong(f"{where} is {got:,}: that is the number of *parameters*. How many bits does each have?")
        if got == factors * width and whole < factors:
            raise Wrong(f"{where} is {got:,}; but α itself takes {whole * width:,}. Keep the cheaper form.")
        same_number(got, min(factors, whole) * width, where)
    return "Rank and bits multiply: a tenth of the parameters at a quarter of the bits is a fortieth of the file."


def mixed(answer: Callable[[dict[str, Any], torch.Tensor, list[str]], Any]) -> str:
    """mixed(networks, images, names) -> a list of logits in the order of the images; each network is called once."""
    for trial in range(5):
        classes = random.sample(range(2, 6), 3) if trial else (3, 3, 3)
        weights = {name: torch.randn(6, c) for name, c in zip(("signs", "flowers", "glyphs"), classes, strict=True)}
        calls, rows = dict.fromkeys(weights, 0), dict.fromkeys(weights, 0)

        def network(
            name: str, images: torch.Tensor, calls: Any = calls, rows: Any = rows, weights: Any = weights
        ) -> torch.Tensor:
            calls[name] += 1
            rows[name] += len(images)
            return images @ weights[name]

        networks = {name: partial(network, name) for name in weights}
        # No domain's images stand together, and the first is not the first of the dict.
        names = ["glyphs", "signs", "glyphs", "signs", *random.choices(list(weights), k=6), "signs", "glyphs"]
        images = torch.randn(len(names), 6)
        got = answer(networks, images.clone(), list(names))
        present(got, "the list of logits")
        if not isinstance(got, list | tuple | torch.Tensor):
            raise Wrong("Return a list with one row of logits for each image.")
        if len(got) != len(names):
            raise Wrong(f"There are {len(names)} images, but {len(got)} answers.")
        if max(calls.values()) > 1:
            often = max(calls, key=calls.__getitem__)
            raise Wrong(f"{often!r} was run {calls[often]} times for one batch. Collect its images, and run it once.")
        if idle := [name for name in weights if rows[name] > names.count(name)]:
            raise Wrong(
                f"{idle[0]!r} was run on {rows[idle[0]]} images, of which {names.count(idle[0])} are its own. Give "
                "each network its own images only."
            )

        expected = [image @ weights[name] for image, name in zip(images, names, strict=True)]
        for place, want in enumerate(expected):
            logits = in_format_of(want, got[place])
            if isinstance(logits, torch.Tensor):
                others = [other for other in expected if other is not want and other.shape == logits.shape]
                if any(torch.allclose(logits.to(other), other, atol=1e-4) for other in others):
                    raise Wrong(f"Answer {place} belongs to another image: put logits back where their images were.")
            same_tensor(logits, want, f"answer {place}", tolerance=1e-4)
    return "Each network ran once, however the batch was mixed. This is what `net(images, domain=names)` does."


def best_ranks(answer: Callable[[list[list[float]], list[int], int], Any]) -> str:
    """best_ranks(shares, prices, budget) -> the ranks, each at least 1, that explain most without exceeding budget."""
    # In the second case the greedy rule takes a cheap direction, and then cannot pay for a good one. In the third two
    # layers have to give up a direction for one that a single exchange does not reach. The last is spent to the last.
    cases = [
        ([[0.9, 0.06, 0.04], [0.9, 0.09, 0.01]], [4, 16], 36),
        ([[0.93, 0.06, 0.01], [0.8, 0.19, 0.01]], [4, 16], 36),
        ([[0.9, 0.1], [0.9, 0.1], [0.75, 0.25]], [8, 8, 16], 48),
        ([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1]], [3, 5], 24),
        ([[0.6, 0.5, 0.4], [0.1, 0.05, 0.01]], [4, 8], 12),  # where a layer of rank 0 would explain most
    ]
    for _ in range(8):
        shares = [sorted((random.random() for _ in range(3)), reverse=True) for _ in range(3)]
        prices = [random.randint(2, 9) for _ in shares]
        cases.append((shares, prices, sum(prices) + random.randint(0, 2 * sum(prices))))

    for shares, prices, budget in cases:
        got = answer([list(share) for share in shares], list(prices), budget)
        ranks = _checked_ranks(got, shares)
        spent = _price(ranks, prices)
        if spent > budget:
            raise Wrong(f"The ranks {list(ranks)} cost {spent}; the budget is {budget}.")

        possible = product(*(range(1, len(share) + 1) for share in shares))
        best = max((other for other in possible if _price(other, prices) <= budget), key=partial(_explained, shares))
        if _explained(shares, ranks) < _explained(shares, best) - 1e-9:
            raise Wrong(
                f"With prices {prices} and budget {budget} your ranks {list(ranks)} explain "
                f"{_explained(shares, ranks):.3f}; {list(best)} explain {_explained(shares, best):.3f}. "
                "Did you try all of them?"
            )
    return "There are no better ranks, because you tried them all. With 25 layers there would be too many to try."


def _checked_ranks(got: Any, shares: list[list[float]]) -> tuple[int, ...]:
    """The ranks that an answer returned; raises Wrong if layers cannot have them."""
    present(got, "the list of ranks")
    try:
        got = list(got)
    except TypeError:
        got = []
    if not got or not all(number_in(rank, "a rank").is_integer() for rank in got):
        raise Wrong("Return a list with one whole number for each layer.")
    ranks = tuple(int(rank) for rank in got)
    if len(ranks) != len(shares):
        raise Wrong(f"There are {len(shares)} layers; the answer has the ranks {list(ranks)}.")
    if min(ranks) < 1:
        raise Wrong("A layer got rank 0. The exercise asks for at least 1 in each.")
    if any(rank > len(share) for rank, share in zip(ranks, shares, strict=True)):
        raise Wrong("A layer got more directions than it has.")
    return ranks


def _price(ranks: tuple[int, ...], prices: list[int]) -> int:
    return sum(rank * price for rank, price in zip(ranks, prices, strict=True))


def _explained(shares: list[list[float]], ranks: tuple[int, ...]) -> float:
    return sum(sum(share[:rank]) for share, rank in zip(shares, ranks, strict=True))


EXERCISES = {"bits": bits, "mixed": mixed, "best_ranks": best_ranks}

QUIZ = (
    Question(
        "One more direction costs a layer M + N parameters. Which layer should get it first?",
        {
            "The one whose next direction explains most": (
                "That ignores the price. A large layer pays many times what a small one does for a direction."
            ),
            "The one that gains most per parameter": (
                "Gain divided by price, again and again until the budget is spent: that is the greedy rule."
            ),
            "The one with the most filters": (
                "It pays most for each direction, and its α may not need many of them. Look at its spectrum."
            ),
        },
        right="The one that gains most per parameter",
    ),
    Question(
        "Why does <code>quantise</code> round the distance from one, and not α itself?",
        {
            "So that one stays exactly one": (
                "Zero is always on the grid of distances. Most entries of a sparse adapter are one."
            ),
            "Because α is never negative": (
                "It may well be: a slice can be inverted. What is special about one is that it changes nothing."
            ),
            "Because this needs fewer bits": (
                "The number of bits is the same. What differs is which values the grid contains exactly."
            ),
        },
        right="So that one stays exactly one",
    ),
    Question(
        "In the hybrid of MAD and masks, α and the masks were first trained with one common rate. What went wrong?",
        {
            "Nothing: SGD adapts the rate by itself": "SGD does not. Adam does, and so hides the problem.",
            "The loss became NaN": (
                "It did not, and that is the trap: the training looked healthy, but half of the adapter did not move."
            ),
            "α hardly left one": (
                "Both gradients are scaled by the small weights. A mask starts beside its threshold, so that short "
                "steps flip bits; α has to travel, and stood still. You paid for two adapters and trained one."
            ),
        },
        right="α hardly left one",
    ),
)
