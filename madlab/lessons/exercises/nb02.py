"""Exercises and quiz of notebook 02, "One modulated convolution"."""

from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from madlab.lessons.checks import Wrong, present, random_convs, same_tensor
from madlab.lessons.quizzes import Question


def merge(answer: Callable[[nn.Conv2d, torch.Tensor], Any]) -> str:
    """merge(conv, alpha) -> a new plain nn.Conv2d with the modulated filters; conv stays as it was."""
    for number, (conv, x) in enumerate(random_convs(5)):
        if number == 3:  # a stride and a missing bias have to survive too
            conv = nn.Conv2d(conv.in_channels, conv.out_channels, 3, stride=2, bias=False)
        if number == 4:  # and so have dilation and groups
            x = torch.cat([x, x], 1)
            conv = nn.Conv2d(x.shape[1], 2 * conv.out_channels, 3, padding=2, dilation=2, groups=2)
        weight, alpha = conv.weight.detach().clone(), torch.randn(conv.weight.shape[:2])

        got = answer(conv, alpha)
        present(got, "the merged layer")
        if type(got) is not nn.Conv2d:
            raise Wrong(f"`merge` should return a plain nn.Conv2d, but this is {type(got).__name__}.")
        if got is conv or not torch.equal(conv.weight, weight):
            raise Wrong("The base convolution was changed: other domains use it too. Work on a copy (`copy.deepcopy`).")

        expected = weight.clone()
        for m, n in product(*map(range, alpha.shape)):
            expected[m, n] *= alpha[m, n]
        same_tensor(got.weight, expected, "the merged weight")
        merged = F.conv2d(x, expected, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups)
        if any(getattr(got, name) != getattr(conv, name) for name in ("stride", "padding", "dilation", "groups")):
            raise Wrong("The merged layer has lost a stride, padding, dilation or groups. Copy the whole layer.")
        if _bias(got).shape != _bias(conv).shape or not torch.equal(_bias(got), _bias(conv)):
            raise Wrong("The bias is not that of the base convolution. It is not modulated, and has to be kept.")
        same_tensor(got(x), merged, "the merged layer's output")
    return "The merged layer is a plain convolution: a domain costs nothing at run time."


def _bias(conv: nn.Conv2d) -> torch.Tensor:
    return torch.zeros(0) if conv.bias is None else conv.bias


def gradient(answer: Callable[[torch.Tensor, torch.Tensor], Any]) -> str:
    """gradient(weight, weight_gradient) -> the gradient of alpha (M, N)."""
    for conv, _ in random_convs(3):
        weight, through = conv.weight.detach(), torch.randn_like(conv.weight)
        expected = torch.zeros(weight.shape[:2])
        for m, n in product(range(conv.out_channels), range(conv.in_channels)):
            expected[m, n] = torch.dot(through[m, n].flatten(), weight[m, n].flatten())
        got = answer(weight.clone(), through.clone())
        if isinstance(got, torch.Tensor) and got.shape == weight.shape:
            raise Wrong("This still has k × k numbers per slice. One α serves the whole slice: add up what it gets.")
        if isinstance(got, torch.Tensor) and got.shape == expected.shape and weight.shape[-1] > 1:
            if torch.allclose(got * weight[0, 0].numel(), expected, atol=1e-5):
                raise Wrong("You took the mean over the kernel. Each of the k × k weights contributes: take the sum.")
            if torch.allclose(got, through.sum((2, 3)), atol=1e-5):
                raise Wrong("The weights are missing: by the chain rule α's gradient is scaled by W.")
        same_tensor(got, expected, "the gradient of α")
    return "One inner product per slice: α learns only along the direction of the filter that is there."


def closest(answer: Callable[[torch.Tensor, torch.Tensor], Any]) -> str:
    """closest(weight, target) -> the alpha (M, N) for which alpha * weight is nearest to target."""
    for conv, _ in random_convs(3):
        weight, target = conv.weight.detach(), torch.randn_like(conv.weight)
        expected = torch.zeros(weight.shape[:2])
        for m, n in product(range(conv.out_channels), range(conv.in_channels)):
            slice_, wanted = weight[m, n].reshape(-1, 1), target[m, n].reshape(-1, 1)
            expected[m, n] = torch.linalg.lstsq(slice_, wanted).solution.squeeze()
        got = answer(weight.clone(), target.clone())
        if isinstance(got, torch.Tensor) and got.shape == weight.shape:
            raise Wrong(
                "This has one number per weight, as if target were divided by weight. α has one number per slice."
            )
        numerator = (weight * target).sum((2, 3))
        if isinstance(got, torch.Tensor) and got.shape == numerator.shape and torch.allclose(got, numerator, atol=1e-6):
            raise Wrong("The numerator is right. Divide by the squared length of the slice, Σ W².")
        same_tensor(got, expected, "the closest α", tolerance=1e-4)
    return "That is a least-squares projection: what remains is what MAD cannot express in this layer."


EXERCISES = {"merge": merge, "gradient": gradient, "closest": closest}

QUIZ = (
    Question(
        "A 3×3 convolution has 128 input and 256 output channels. How many parameters does its α have?",
        {
            "294,912": "That is every weight of the layer (256 · 128 · 9): fine-tuning. α has one number per slice.",
            "32,768": "256 · 128: one number for each pair of output and input channel, a ninth of the weights.",
            "384": "256 + 128 would be a gain for each output plus one for each input. α has one for each pair.",
            "256": "That would be one gain per filter, as BatchNorm has. α also distinguishes the inputs of a filter.",
        },
        "32,768",
    ),
    Question(
        "Why does α start at exactly 1, and not at random numbers?",
        {
            "So that its gradient is not zero": "The gradient depends on W, on the input and on the loss: "
            "random numbers would have one as well.",
            "Because softmax needs values that sum to one": "There is no softmax here: α is free, even negative.",
            "So that training starts from the base network": "One leaves every filter as it is, bit for bit: "
            "the new domain starts with everything that the base network has learned.",
        },
        "So that training starts from the base network",
    ),
    Question(
        "A slice W[m, n] is zero everywhere. What can α[m, n] do?",
        {
            "Nothing": "Zero times any number is zero, and so is the gradient. MAD can only use what is there.",
            "Bring the slice back": "A multiple of zero is zero. Only adding could do that, as in LoRA and bypasses.",
            "Only switch it off": "It is off already. Nothing that α does to this slice changes the output.",
        },
        "Nothing",
    ),
)
