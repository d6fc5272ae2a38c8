"""Exercises and quiz of notebook 08, "Inside the adapters"."""

from collections.abc import Callable
from itertools import product
from typing import Any

import torch

from madlab.lessons.checks import Wrong, same_number, same_tensor
from madlab.lessons.quizzes import Question


def sparse_bits(answer: Callable[[torch.Tensor, float], Any]) -> str:
    """sparse_bits(alpha, threshold) -> one bit per slice, and 32 for every entry at least that far from one."""
    for m, n, threshold in ((5, 3, 0.25), (12, 7, 0.5), (40, 33, 0.0625), (8, 8, 3.0)):
        alpha = 1 + torch.randn(m, n) / 3
        alpha[0, 0] = 1 + threshold  # exactly at the limit, without rounding
        kept = sum(abs(float(alpha[i, j]) - 1) >= threshold for i, j in product(range(m), range(n)))
        got = answer(alpha.clone(), threshold)
        where = f"the size of {m * n} entries of which {kept} are kept"
        if not isinstance(got, torch.Tensor) or got.numel() == 1:
            if got == 32 * kept != m * n + 32 * kept:
                raise Wrong(f"{where} is {m * n + 32 * kept}: whoever reads the file has to know *which* are kept.")
            if got == m * n + 32 * (m * n - kept) and 2 * kept != m * n:
                raise Wrong("You stored the entries near one. They are the ones that need not be stored.")
            far_from_zero = int((alpha.abs() >= threshold).sum())
            if got == m * n + 32 * far_from_zero and far_from_zero != kept:
                raise Wrong("You measured the distance from zero. A slice rests at one.")
        same_number(got, m * n + 32 * kept, where)
    return "One bit per slice is the price of freedom; if few are kept, a list of positions would be smaller still."


def similarity(answer: Callable[[dict[str, torch.Tensor], dict[str, torch.Tensor]], Any]) -> str:
    """similarity(one, other) -> the cosine similarity of alpha - 1 over all layers together."""
    for _ in range(4):
        sizes = [(4, 3), (9, 5), (16, 8)]
        one = {f"layer {i}": 1 + 0.3 ** (i + 1) * torch.randn(*size) for i, size in enumerate(sizes)}
        other = {name: alpha + 0.1 * torch.randn(alpha.shape) for name, alpha in one.items()}
        dot = square_one = square_other = 0.0
        by_layer = []
        for name in one:
            a, b = one[name].double().flatten() - 1, other[name].double().flatten() - 1
            dot += float(a @ b)
            square_one += float(a @ a)
            square_other += float(b @ b)
            by_layer.append(float(torch.cosine_similarity(a, b, 0)))
        expected = dot / (square_one * square_other) ** 0.5

        got = answer(*({name: alpha.clone() for name, alpha in alphas.items()} for alphas in (one, other)))
        if isinstance(got, float | torch.Tensor) and torch.as_tensor(got).numel() == 1:
            a, b = (torch.cat([alpha.flatten() for alpha in alphas.values()]) for alphas in (one, other))
            if abs(float(got) - float(torch.cosine_similarity(a, b, 0))) < 1e-5:
                raise Wrong("That is the cosine of α itself. Every α is near one, so all domains would look alike.")
            if abs(float(got) - sum(by_layer) / len(by_layer)) < 1e-5:
                raise Wrong(
                    "That is the mean over layers. A layer that hardly moved should not count as much as others."
                )
            if abs(float(got) - dot) < 1e-5:
                raise Wrong("That is the inner product. Divide by both lengths.")
        same_number(got, expected, "the cosine", tolerance=1e-4)
    return "One number for two domains: near one if they pull the base network in the same direction."


def shrink(answer: Callable[[torch.Tensor, float], Any]) -> str:
    """shrink(alpha, s) -> every entry moved towards one by s, and left at one if it would pass it."""
    for m, n, s in ((3, 4, 0.1), (9, 7, 0.3), (20, 11, 0.02)):
        alpha = 1 + torch.randn(m, n) / 3
        alpha[0, 0], alpha[0, 1] = 1 + s / 2, 1.5  # one stops at one, one goes on
        expected = torch.empty(m, n)
        for i, j in product(range(m), range(n)):
            value = float(alpha[i, j])
            expected[i, j] = max(1.0, value - s) if value > 1 else min(1.0, value + s)
        got = answer(alpha.clone(), s)
        if isinstance(got, torch.Tensor) and got.shape == alpha.shape:
            if torch.allclose(got, torch.where((alpha - 1).abs() < s, torch.ones(()), alpha), atol=1e-6):
                raise Wrong(
                    "This sets small changes to one and leaves the others. The large ones have to move by s too."
                )
            if torch.allclose(got, alpha.sign() * (alpha.abs() - s).clamp(min=0), atol=1e-6):
                raise Wrong("This pulls towards zero. Shrink α − 1, then add the one again.")
            if torch.allclose(got, alpha - s * (alpha - 1).sign(), atol=1e-6):
                raise Wrong("Nearly: small changes pass one and come out on the other side. Stop them there.")
            if torch.allclose(got, 1 + (1 - s) * (alpha - 1), atol=1e-6):
                raise Wrong("That is decay: it multiplies the change and never brings it to zero. Subtract s.")
        same_tensor(got, expected, "the shrunk α")
    return "Soft thresholding: with it, sparsity is learned instead of being cut out afterwards."


EXERCISES = {"sparse_bits": sparse_bits, "similarity": similarity, "shrink": shrink}

QUIZ = (
    Question(
        "You train MAD with ordinary weight decay. Where does an entry of α go that receives no gradient?",
        {
            "It stays at 1": "Decay acts without any gradient: α loses the share ηλ of itself in every step.",
            "To 0, so that the slice is switched off": (
                "Ordinary decay pulls towards zero, and for a multiplier zero means “off”, not “as before”."
            ),
            "To −1": "Decay makes values smaller in size; it never changes their sign.",
        },
        right="To 0, so that the slice is switched off",
    ),
    Question(
        "Two adapters have α with a cosine of 0.99. What follows for their domains?",
        {
            "They are nearly the same domain": "Any two α near one have such a cosine, whatever the domains are.",
            "Nothing yet: compare α − 1": "The shared one dominates. A domain shows in the distance from one.",
            "One of them has not been trained": "An untrained α is one everywhere; a trained one is still near it.",
        },
        right="Nothing yet: compare α − 1",
    ),
    Question(
        "One row of α (all inputs of one output) is halved. BatchNorm follows. What happens in training?",
        {
            "The output channel is halved": "Before BatchNorm it is. BatchNorm divides by the spread that it measures.",
            "Nothing: BatchNorm removes the factor": (
                "Its batch statistics are halved too, so that its output stays the same (except for its tiny ε)."
            ),
            "The channel is switched off": "Only zero does that. Half of a signal is still the same signal, scaled.",
        },
        right="Nothing: BatchNorm removes the factor",
    ),
)
