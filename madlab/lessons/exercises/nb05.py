"""Exercises and quiz of notebook 05, "Factorised MAD and the rank I"."""

import random
from collections.abc import Callable
from typing import Any

import torch

from madlab.lessons.checks import Wrong, number_in, present, same_number, same_tensor
from madlab.lessons.quizzes import Question


def largest_rank(answer: Callable[[int, int], Any]) -> str:
    """largest_rank(M, N) -> the largest rank I at which beta and gamma have fewer parameters than alpha."""
    shapes = [(64, 64), (256, 128), (3, 2), (32, 3), (1, 8), (2, 2)] + [
        (random.randint(2, 300), random.randint(2, 300)) for _ in range(20)
    ]
    for m, n in shapes:
        expected = max(i for i in range(min(m, n) + 1) if i * (m + n) < m * n)
        where = f"the largest rank for M = {m}, N = {n}"
        got = number_in(answer(m, n), where)
        if not got.is_integer():
            raise Wrong(f"{where} is {got:.4g}. A rank is a whole number.")
        if got == expected + 1:
            full, factors = m * n, (expected + 1) * (m + n)
            raise Wrong(
                f"{where} is {got:.0f}: then βγ has {factors:,} parameters and α {full:,}. It has to be *fewer*."
            )
        same_number(got, expected, where)
    return "Below MN/(M+N) factorising saves. That is below min(M, N), and for M = N it is half of it."


def _factors(got: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The β and γ that an answer returned; raises Wrong if it returned anything else."""
    present(got, "the pair of β and γ")
    is_pair = isinstance(got, tuple | list) and len(got) == 2
    if not is_pair or not all(isinstance(factor, torch.Tensor) for factor in got):
        raise Wrong("Return two tensors: `return beta, gamma`.")
    beta, gamma = (factor.detach() for factor in got)
    return beta, gamma


def truncate(answer: Callable[[torch.Tensor, int], Any]) -> str:
    """truncate(alpha, rank) -> beta (M, rank), gamma (rank, N) whose product is nearest to alpha."""
    for m, n, rank in ((5, 3, 1), (4, 9, 2), (12, 7, 5), (6, 6, 6)):
        alpha = torch.randn(m, n)
        u, sigma, v = torch.linalg.svd(alpha.double(), full_matrices=False)
        expected = torch.zeros(m, n, dtype=torch.float64)
        for i in range(rank):
            expected += sigma[i] * torch.outer(u[:, i], v[i])
        got = answer(alpha.clone(), rank)
        beta, gamma = _factors(got)
        if tuple(beta.shape) != (m, rank) or tuple(gamma.shape) != (rank, n):
            raise Wrong(
                f"For α of {m} × {n} and rank {rank}, β should be {(m, rank)} and γ {(rank, n)}; they are "
                f"{tuple(beta.shape)} and {tuple(gamma.shape)}."
            )
        product = (beta @ gamma).double()
        if torch.allclose(product, (u[:, :rank] @ v[:rank]), atol=1e-4):
            raise Wrong("The directions are right, but the singular values are missing: scale β or γ by them.")
        squared = (u[:, :rank] * sigma[:rank] ** 2) @ v[:rank]
        if torch.allclose(product, squared, atol=1e-4) and rank < 6:
            raise Wrong("The singular values went in twice. Put them into one factor, or their square root into both.")
        same_tensor(product, expected, "βγ", tolerance=1e-4)
    return "No other β and γ of this rank come nearer to α (Eckart and Young, 1936)."


def start(answer: Callable[[int, int, int], Any]) -> str:
    """start(M, N, rank) -> beta, gamma: their product is exactly one, and a gradient step uses all directions."""
    for m, n, rank in ((7, 5, 2), (6, 9, 4), (8, 8, 5)):
        got = answer(m, n, rank)
        beta, gamma = (factor.double() for factor in _factors(got))
        if tuple(beta.shape) != (m, rank) or tuple(gamma.shape) != (rank, n):
            raise Wrong(
                f"β should be {(m, rank)} and γ {(rank, n)}; they are {tuple(beta.shape)} and {tuple(gamma.shape)}."
            )
        same_tensor(beta @ gamma, torch.ones(m, n, dtype=torch.float64), "βγ at the start", tolerance=1e-5)
        pull = torch.randn(m, n, dtype=torch.float64)  # a gradient of alpha, and one step along it
        stepped = (beta - 0.1 * pull @ gamma.T) @ (gamma - 0.1 * beta.T @ pull)
        used = int((torch.linalg.svdvals(stepped) > 1e-5).sum())
        if used < rank and not (beta[:, 1:].any() or gamma[1:].any()):
            raise Wrong(
                "Directions that are zero in both β and γ get no gradient at all: one of the two must not be zero."
            )
        if used < rank:
            raise Wrong(f"After one gradient step α has rank {used}, not {rank}: some directions are copies of others.")
    return "It starts at the base network, and from the first step every direction goes its own way."


EXERCISES = {"largest_rank": largest_rank, "truncate": truncate, "start": start}

QUIZ = (
    Question(
        "What can a factorised adapter of rank 1 do to a convolution?",
        {
            "Scale the whole layer by one number": (
                "That is one parameter; β and γ of rank 1 have M + N. Write out (βγ)[m, n] = β[m] · γ[n]."
            ),
            "Scale each output channel by one number and each input channel by another": (
                "(βγ)[m, n] = β[m] · γ[n]: a gain after the layer times a gain before it."
            ),
            "Scale each slice freely": "That needs M · N free parameters. Rank 1 has M + N.",
            "Scale each output channel, as BatchNorm's gain does": (
                "That is β alone, and BatchNorm has it already. What γ adds is one gain for each input channel."
            ),
        },
        right="Scale each output channel by one number and each input channel by another",
    ),
    Question(
        "A 3×3 layer has 64 inputs and 64 outputs. How many parameters does rank 36 have, and how many full α?",
        {
            "2,304 and 4,096": "2,304 is 36 · 64: that is β alone. γ has as many again.",
            "4,608 and 4,096": "36 · (64 + 64) against 64 · 64: factorising costs more. It pays only below I = 32.",
            "4,608 and 36,864": "36,864 is every weight of the 3×3 layer. α has one number per slice, not nine.",
        },
        right="4,608 and 4,096",
    ),
    Question(
        "β = 1 and γ = 1/I start at exactly one. Why is this a bad start for I = 8?",
        {
            "The first gradient is zero": "It is not: β and γ both move. Ask how the eight directions differ.",
            "All eight directions get the same gradient for ever, so α stays at rank 1": (
                "Equal columns of β and equal rows of γ get equal gradients. One direction would do the same for less."
            ),
            "The product is not exactly one because of rounding": (
                "A product that is off by one part in ten million would not matter. Symmetry does."
            ),
        },
        right="All eight directions get the same gradient for ever, so α stays at rank 1",
    ),
)
