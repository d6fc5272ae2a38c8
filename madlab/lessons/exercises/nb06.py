"""Exercises and quiz of notebook 06, "Masks, bypasses and low-rank updates"."""

from collections.abc import Callable
from itertools import product
from typing import Any

import torch

from madlab.lessons.checks import Wrong, random_convs, same_tensor
from madlab.lessons.quizzes import Question


def mask_gradient(answer: Callable[[torch.Tensor, torch.Tensor], Any]) -> str:
    """mask_gradient(weight, weight_gradient) -> the straight-through gradient of m, (M, N, k, k)."""
    for conv, _ in random_convs(4):
        weight = conv.weight.detach()
        through = torch.randn_like(weight)
        expected = torch.zeros_like(weight)
        for place in product(*map(range, weight.shape)):
            expected[place] = float(weight[place]) * float(through[place])
        got = answer(weight.clone(), through.clone())
        if isinstance(got, torch.Tensor) and got.shape == weight.shape:
            if torch.equal(got, through):
                raise Wrong("The bit is multiplied by W in the forward pass, so its gradient is scaled by W.")
            if not got.any():
                raise Wrong("That is the true gradient of a step, zero. Straight-through means: pass on B's gradient.")
        if isinstance(got, torch.Tensor) and got.shape == weight.shape[:2] != weight.shape:
            raise Wrong("You summed over the kernel: that is the gradient of α. A mask has one bit per weight.")
        same_tensor(got, expected, "the gradient of m")
    return "The bit itself does not appear: a weight that is off still learns whether it should come back."


def best_mask(answer: Callable[[torch.Tensor, torch.Tensor], Any]) -> str:
    """best_mask(weight, target) -> the zeros and ones B for which weight * B is nearest to target."""
    for conv, _ in random_convs(4):
        weight = conv.weight.detach()
        target = weight + torch.randn_like(weight) * weight.std()
        expected = torch.zeros_like(weight)
        for place in product(*map(range, weight.shape)):
            on, wanted = float(weight[place]), float(target[place])
            expected[place] = float((on - wanted) ** 2 < wanted**2)
        got = answer(weight.clone(), target.clone())
        if isinstance(got, torch.Tensor) and got.shape == weight.shape:
            got = got.to(weight.dtype)
            if not ((got == 0) | (got == 1)).all():
                raise Wrong("A mask has only zeros and ones; this has other values. Compare, do not divide.")
            if weight.numel() > 40 and torch.equal(got, (target > 0).to(got.dtype)):
                raise Wrong("The sign of the target is not enough: a negative target may be near a negative weight.")
            if weight.numel() > 40 and torch.equal(got, (weight * target > 0).to(got.dtype)):
                raise Wrong("Nearly: with equal signs it still depends on the size. A tiny target is nearer to 0.")
        same_tensor(got, expected, "the mask")
    return "Zero and one are coarse: a mask has to round everything between them."


EXERCISES = {"mask_gradient": mask_gradient, "best_mask": best_mask}

QUIZ = (
    Question(
        "A step function has the gradient zero. What does “straight-through” do about it?",
        {
            "It replaces the step by a steep sigmoid, in the forward pass and in the backward pass": (
                "Then the filters that run would not be masked but scaled, and the bits would only be approximate."
            ),
            "It keeps the step forward, and treats it as the identity backward": (
                "The bits are exact in the forward pass; their gradient is passed on to the real numbers behind them."
            ),
            "It flips bits at random and keeps what helps": (
                "That would need no gradient at all, and for a million bits it would never end."
            ),
        },
        right="It keeps the step forward, and treats it as the identity backward",
    ),
    Question(
        "A 3×3 slice of the base is zero. Which method can put a vertical edge there?",
        {
            "Full MAD": "Any α times zero is zero: what the base does not have, modulation cannot scale.",
            "Piggyback": "A bit can only switch a weight off, and here all nine are off already.",
            "A parallel residual adapter": "It reaches the central tap of the slice, one of nine. An edge needs more.",
            "LoRA of rank 1": "It adds a filter of its own, of any shape, and does not ask what was there before.",
        },
        right="LoRA of rank 1",
    ),
    Question(
        "Why do all these adapters cost nothing when the network is used?",
        {
            "They are so small that the time they take does not matter": (
                "As branches they would cost time: a parallel adapter is a second convolution in every layer."
            ),
            "They are functions on filters, which are computed once": (
                "After merging, a domain is a plain network of the base's shape. (The prompt is the exception.)"
            ),
            "They only run during training": "Without them it would be the base network again.",
        },
        right="They are functions on filters, which are computed once",
    ),
)
