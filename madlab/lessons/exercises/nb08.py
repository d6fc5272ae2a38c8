"""Exercises and quiz of notebook 08, "Inside the adapters"."""

from collections.abc import Callable
from itertools import product
from typing import Any

import torch

from madlab.lessons.checks import Wrong, in_format_of, number_in, same_number, same_tensor
from madlab.lessons.quizzes import Question


def sparse_bits(answer: Callable[[torch.Tensor, float], Any]) -> str:
    """sparse_bits(alpha, threshold) -> one bit per slice, and 32 for every entry at least that far from one."""
    for m, n, threshold in ((5, 3, 0.25), (12, 7, 0.5), (40, 33, 0.0625), (8, 8, 0.375)):
        kept = int(torch.randint(3, m * n // 3, ()))
        alpha = _with_kept(m, n, threshold, kept)
        got = number_in(answer(alpha.clone(), threshold), f"the size of {m} × {n} entries")
        where = f"the size of {m * n} entries of which {kept} are kept"
        if got == 32 * kept:
            raise Wrong(f"{where} is {m * n + 32 * kept}: whoever reads the file has to know *which* are kept.")
        if got == m * n + 32 * (m * n - kept):
            raise Wrong("You stored the entries near one. They are the ones that need not be stored.")
        if got == m * n + 32 * int((alpha.abs() >= threshold).sum()):
            raise Wrong("You measured the distance from zero. A slice rests at one.")
        if got == m * n + 32 * int((alpha - 1 >= threshold).sum()):
            raise Wrong("You kept only what is above one. A slice that is weakened has changed as well.")
        if got == m * n + 32 * (kept - 1):
            raise Wrong("An entry exactly at the threshold is kept: only what is *nearer* is set back.")
        if got == m * n + 4 * kept:
            raise Wrong("A number takes four bytes, that is 32 bits.")
        same_number(got, m * n + 32 * kept, where)
    return "One bit per slice is the price of freedom; if few are kept, a list of positions would be smaller still."


def _with_kept(m: int, n: int, threshold: float, kept: int) -> torch.Tensor:
    """alpha (m, n) of which `kept` entries, at least three, are kept: one exactly at the threshold, some below one."""
    change = 0.9 * threshold * (2 * torch.rand(m * n) - 1)
    side = torch.where(torch.arange(kept) % 2 == 0, 1.0, -1.0)
    change[:kept] = side * (threshold + 0.05 + torch.rand(kept) / 2)
    change[0] = threshold  # a power of two or a sum of them: without rounding
    return 1 + change[torch.randperm(m * n)].view(m, n)


def similarity(answer: Callable[[dict[str, torch.Tensor], dict[str, torch.Tensor]], Any]) -> str:
    """similarity(one, other) -> the cosine similarity of alpha - 1 over all layers together."""
    for turn in range(4):
        sizes = [(4, 3), (9, 5), (9, 5)]
        one = {f"layer {i}": 1 + 0.3 ** (i + 1) * torch.randn(*size) for i, size in enumerate(sizes)}
        side = -1 if turn % 2 else 1  # domains may pull apart, too
        other = {name: 1 + side * (alpha - 1) + 0.1 * torch.randn(alpha.shape) for name, alpha in one.items()}
        # In another order, as dicts of two runs may be: layers go by their names.
        other = {name: other[name] for name in ("layer 0", "layer 2", "layer 1")}
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
        got = number_in(got, "the cosine")
        if turn % 2 and abs(got + expected) < 1e-4:
            raise Wrong("The sign is lost. Domains that pull in opposite directions have a negative cosine.")
        if abs(got - expected) > 1e-4:
            a, b = (torch.cat([alphas[name].flatten() for name in one]) for alphas in (one, other))
            if abs(float(got) - float(torch.cosine_similarity(a, b, 0))) < 1e-5:
                raise Wrong("That is the cosine of α itself. Every α is near one, so all domains would look alike.")
            a, b = (torch.cat([alpha.flatten() for alpha in alphas.values()]) - 1 for alphas in (one, other))
            if abs(float(got) - float(torch.cosine_similarity(a, b, 0))) < 1e-5:
                raise Wrong("The layers of the two dicts may come in another order: look them up by name.")
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
        got = in_format_of(expected, answer(alpha.clone(), s))
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
            "Nowhere: without a gradient it stays at 1": (
                "Decay acts without any gradient: α loses the share ηλ of itself in every step."
            ),
            "To 0, so that the slice is switched off": (
                "Ordinary decay pulls towards zero, and for a multiplier zero means “off”, not “as before”."
            ),
            "To −1": "Nothing pulls it there: decay alone ends at zero. (Momentum may carry it a little beyond.)",
        },
        right="To 0, so that the slice is switched off",
    ),
    Question(
        "Setting small changes back costs 30 points. Measured anew, BatchNorm's statistics bring 26 of them back. "
        "What did the small changes do for the domain?",
        {
            "They were worth 30 points": "26 of these were lost to averages that describe another α, not to the cut.",
            "They were worth about 4 points": "That is what is missing once the statistics fit what is left of α.",
            "They were worth nothing at all": "Then fresh statistics would have brought back all 30 points.",
        },
        right="They were worth about 4 points",
    ),
    Question(
        "One row of α (all inputs of one output) is halved. BatchNorm follows. What happens to its output in training?",
        {
            "The output channel is halved, too": "Before BatchNorm it is. Then it is divided by its spread.",
            "Nothing: BatchNorm divides it out": (
                "Its batch statistics are halved too, so that its output stays the same (except for its tiny ε)."
            ),
            "The channel is switched off for good": "Only zero does that. Half of a signal is the same signal, scaled.",
        },
        right="Nothing: BatchNorm divides it out",
    ),
)
