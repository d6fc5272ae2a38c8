"""Exercises and quiz of notebook 00, "Start here"."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from madlab.lessons.checks import Wrong, number_in, random_convs, same_number
from madlab.lessons.quizzes import Question


def count(answer: Callable[[nn.Conv2d], Any]) -> str:
    """count(conv) -> the number of parameters in the modulation of a convolution: M * N."""
    for conv, _ in random_convs(4):
        weights, slices = conv.weight.numel(), sum(1 for filter_ in conv.weight for _ in filter_)
        got = number_in(answer(conv), "the number of modulations")
        if got == weights and conv.kernel_size != (1, 1):
            raise Wrong(f"{weights} is every weight of the layer. Modulation has one number per k × k slice.")
        if got == conv.out_channels + conv.in_channels:
            raise Wrong(f"{got:.0f} is M + N. There is one number for each pair of output and input: M · N.")
        same_number(got, slices, "the number of modulations")
    return "One number for each pair of output and input channel, whatever the kernel's size."


def ratio(answer: Callable[[float, float, int], Any]) -> str:
    """ratio(base, adapter, domains) -> parameters of one base with its adapters / those of one network per domain."""
    for _ in range(4):
        base, adapter = float(torch.randint(1000, 9000, ())), float(torch.randint(10, 900, ()))
        domains = int(torch.randint(2, 30, ()))
        got = number_in(answer(base, adapter, domains), "the ratio")
        shared = base
        for _ in range(domains):
            shared += adapter
        if abs(got - domains * base / shared) < 1e-9:
            raise Wrong("This is the ratio upside down: divide what sharing costs by what separate networks cost.")
        if abs(got - (base + adapter) / base) < 1e-9:
            raise Wrong("This counts one adapter. Every domain has one of its own.")
        if abs(got - (shared - adapter) / (domains * base)) < 1e-9:
            raise Wrong("One adapter is missing: here every domain has one, including the first.")
        if abs(got - 100 * shared / (domains * base)) < 1e-7:
            raise Wrong("This is a percentage. Return the ratio itself: 0.2 for a fifth.")
        same_number(got, shared / (domains * base), "the ratio", tolerance=1e-9)
    return "The base is paid for once. With many domains the ratio approaches adapter / base."


EXERCISES = {"count": count, "ratio": ratio}

QUIZ = (
    Question(
        "What do all domains share?",
        {
            "The frozen filters of the base network": "They are stored once, and no domain ever changes them.",
            "The classifier head": "A head gives a score for each class, and classes differ: every domain has its own.",
            "The adapter": "The adapter is precisely what a domain owns: the numbers that scale the shared filters.",
        },
        "The frozen filters of the base network",
    ),
    Question(
        "A new domain is added to a network that already serves nine. What happens to the nine?",
        {
            "They get a little worse": "That happens when shared weights are retrained. Here they are frozen.",
            "Nothing at all": "The base and the other adapters are not touched, so their answers stay the same.",
            "They have to be trained again": "They do not: nothing that they use has changed.",
        },
        "Nothing at all",
    ),
    Question(
        "An exercise check says “Not yet”. What does it compare your answer with?",
        {
            "With the text of the solution": "Your code may look quite different. Only what it computes is compared.",
            "With a stored number": "A stored number could be copied. The check draws new inputs each time.",
            "With the correct result on random inputs": "It computes the result in its own way, and tells you where "
            "yours differs.",
        },
        "With the correct result on random inputs",
    ),
)
