"""Exercises and quiz of notebook 03, "A modulated network"."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from madlab.lessons.checks import Wrong, present, same_number, same_tensor
from madlab.lessons.quizzes import Question


def _channels(groups: int = 1) -> tuple[int, int, int, int]:
    """Output channels, input channels, kernel size and groups of a random convolution."""
    out_channels, in_channels = (groups * int(torch.randint(2, 9, ())) for _ in range(2))
    return out_channels, in_channels, int(torch.randint(0, 3, ())) * 2 + 1, groups


def adapter_parameters(answer: Callable[[nn.Conv2d, int | None], Any]) -> str:
    """adapter_parameters(conv, rank) -> parameters of a convolution's adapter; rank None is the full form."""
    for number in range(6):
        out_channels, in_channels, kernel, groups = _channels(1 + number % 3)
        conv = nn.Conv2d(in_channels, out_channels, kernel, groups=groups)
        for rank in (None, int(torch.randint(1, 9, ()))):
            height, width = out_channels, in_channels // groups
            want = height * width if rank is None else rank * height + rank * width
            got = answer(conv, rank)
            where = f"{out_channels} outputs, {in_channels} inputs, {groups} groups, k = {kernel}, rank {rank}"
            if got == want:
                continue
            if got == conv.weight.numel():
                raise Wrong(f"For {where} you counted every weight. α has one number per slice, not k × k.")
            if groups > 1 and got in (height * in_channels, (rank or 0) * (height + in_channels)):
                raise Wrong(f"For {where}: in a grouped convolution each filter sees only inputs / groups channels.")
            if rank is not None and got == rank * height * width:
                raise Wrong(f"For {where}: β is (M, I) and γ is (I, N). Their sizes are added, not multiplied.")
            same_number(got, want, f"The count for {where}")
    return "Correct for full and factorised adapters, and for grouped convolutions."


def break_even(answer: Callable[[int, int], Any]) -> str:
    """break_even(M, N) -> the largest rank at which the factorised form has fewer parameters than the full one."""
    for shape in ((64, 64), (32, 32), (8, 8), (2, 2), (1, 8), *(_channels()[:2] for _ in range(8))):
        out_channels, in_channels = shape
        full = out_channels * in_channels
        want = max(rank for rank in range(full) if rank * sum(shape) < full)
        got = answer(out_channels, in_channels)
        if got == 1 and want == 0:
            raise Wrong(f"For {shape} not even rank 1 is cheaper than the full α: the answer is 0.")
        if got != want and got in (min(shape), min(shape) - 1):
            raise Wrong(
                f"For {shape}: below min(M, N) the product has a lower rank, but that does not make it cheaper. "
                "Compare I · (M + N) with M · N."
            )
        if got == want + 1 and (want + 1) * sum(shape) == full:
            raise Wrong(f"For {shape} this rank costs exactly as much as the full α. It has to be cheaper.")
        same_number(got, want, f"The rank for {shape}")
    return "Correct, also where the division leaves no remainder."


class _Doubled(nn.Module):
    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.conv = conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * self.conv(x)


def swap(answer: Callable[[nn.Module, Callable[[nn.Conv2d], nn.Module]], Any]) -> str:
    """swap(network, make) -> nothing; in the network every convolution has been replaced by make(convolution)."""
    for _ in range(3):
        width = int(torch.randint(2, 7, ()))
        linear = nn.Linear(6, 6)
        deep = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Conv2d(width, width, 1), nn.Tanh(), linear))
        network = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), deep, nn.Conv2d(width, 2, 1))
        convs, x = [m for m in network.modules() if isinstance(m, nn.Conv2d)], torch.randn(2, 3, 6, 6)
        with torch.no_grad():
            first, second, third = convs
            want = 2 * third(linear(torch.tanh(2 * second(torch.relu(2 * first(x))))))
        made: list[nn.Module] = []

        def make(conv: nn.Conv2d, made: list[nn.Module] = made) -> nn.Module:
            made.append(conv)
            return _Doubled(conv)

        got = answer(network, make)
        if got is ...:  # None is what it should return
            present(got, "the network")
        if [m for m in network.modules() if isinstance(m, nn.Conv2d)] != convs:
            raise Wrong("The network's own convolutions should still be in it, inside what `make` returned.")
        if not made:
            raise Wrong("`make` was never called: is the network walked at all?")
        for module in made:
            if not isinstance(module, nn.Conv2d):
                raise Wrong(f"`make` was given a {type(module).__name__}. Only convolutions are to be swapped.")
        if len(made) < 3:
            raise Wrong(f"Only {len(made)} of 3 convolutions were swapped. One of them is inside a nested Sequential.")
        if len(made) > 3:
            raise Wrong(
                f"`make` was called {len(made)} times for 3 convolutions: the walk also met the convolutions inside "
                "the new modules. Make a list of the places before you change anything."
            )
        if isinstance(network[0], nn.Conv2d):
            raise Wrong("`make` was called, but its result was not put into the network.")
        same_tensor(network(x), want, "the output of the swapped network")
    return "All convolutions were swapped, including nested ones, and each only once."


EXERCISES = {"adapter_parameters": adapter_parameters, "break_even": break_even, "swap": swap}

QUIZ = (
    Question(
        "Why does each domain own its BatchNorm layers?",
        {
            "Its activations have a different mean and spread": "BatchNorm subtracts a mean and divides by a deviation "
            "that were measured on the base's photographs. For glyphs these are wrong. Gain and shift cost two "
            "parameters per channel.",
            "BatchNorm cannot be frozen": "It can, and the method <i>frozen</i> does so. It is just a bad idea where "
            "the statistics do not fit.",
            "It holds most of the domain's parameters": "It is a small part: 7,744 parameters in ResNet-26, against "
            "645,216 of full MAD.",
        },
        right="Its activations have a different mean and spread",
    ),
    Question(
        "Full MAD over all convolutions costs 11 % of ResNet-26's filters, but 72 % of DenseNet-121's. Why?",
        {
            "DenseNet-121 has more layers": "Both counts grow with the number of layers; their ratio does not.",
            "Most of DenseNet-121's weights are in 1×1 convolutions": "There a slice is a single weight, so α is as "
            "large as W. In a 3×3 convolution α is a ninth of W.",
            "DenseNet-121 has wider layers": "Width makes W and α grow alike. What counts is the number of weights per "
            "slice.",
        },
        right="Most of DenseNet-121's weights are in 1×1 convolutions",
    ),
    Question(
        "The paper says that I = 36 saves more than 60 %. Which convolutions did the authors adapt?",
        {
            "All 25, because 36 is the largest rank that saves 60 % there": "That is the simplest reading, and 36 is "
            "the limit there. But several other choices of layers satisfy the sentence too.",
            "The sentence does not say": "All layers, all but the first, the last two stages, the last stage alone, "
            "the second convolution of each block: they all save more than 60 % at rank 36. A claim that many causes "
            "explain identifies none of them.",
            "Only the last stage, where it saves most": "It does save most there, 70.9 %, and “more than 60 %” would "
            "be true. But it is true elsewhere as well.",
        },
        right="The sentence does not say",
    ),
)
