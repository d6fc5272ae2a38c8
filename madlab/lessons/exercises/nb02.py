"""Exercises and quiz of notebook 02, "One modulated convolution"."""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from madlab.lessons.checks import Wrong, in_format_of, present, random_convs, same_tensor
from madlab.lessons.quizzes import Question


def forward(answer: type[nn.Module]) -> str:
    """ModulatedConv2d(conv): a module with `alpha` (M, N), whose forward convolves with alpha * weight."""
    for conv, x in (*random_convs(3), *_unusual_convs()):
        weight = conv.weight.detach().clone()
        layer = answer(conv)
        fresh = layer(x)
        present(fresh, "the output")
        alpha = getattr(layer, "alpha", None)
        if not isinstance(alpha, nn.Parameter) or alpha.shape != weight.shape[:2]:
            raise Wrong("`__init__` was given: leave `self.alpha` the parameter of shape (M, N) that it is.")
        same_tensor(fresh, conv(x), "the output of a new layer")

        with torch.no_grad():
            alpha.normal_()
        x.requires_grad_()
        got = layer(x)
        if not torch.equal(conv.weight, weight):
            raise Wrong("The base's filters were changed, but all domains share them. Compute new ones in `forward`.")
        expected = _slice_by_slice(conv, x, alpha.detach())
        got = in_format_of(expected, got)
        if isinstance(got, torch.Tensor) and not (
            got.shape == expected.shape and torch.allclose(got, expected, atol=1e-5)
        ):
            _told_apart(got, conv, x, alpha.detach())
        same_tensor(got, expected, "the output")
        if (
            not got.requires_grad
            or torch.autograd.grad(got.sum(), alpha, retain_graph=True, allow_unused=True)[0] is None
        ):
            raise Wrong("No gradient reaches α: use the parameter itself, not `.data`, `.detach()` or a copy of it.")
        if torch.autograd.grad(got.sum(), x, allow_unused=True)[0] is None:
            raise Wrong("No gradient reaches the input, but the layers below want to learn, too.")
    return "This is the layer of the paper. The library's version does the same (below)."


def _unusual_convs() -> Iterator[tuple[nn.Conv2d, torch.Tensor]]:
    """Convolutions with a stride, a dilation, groups and no bias, which all have to survive."""
    yield nn.Conv2d(2, 5, 3, stride=2, bias=False), torch.randn(2, 2, 9, 8)
    yield nn.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2), torch.randn(2, 4, 9, 8)


def _slice_by_slice(conv: nn.Conv2d, x: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """What the base computes with each of its slices multiplied by its number, one after the other."""
    weight = conv.weight.detach().clone()
    for m, n in product(*map(range, alpha.shape)):
        weight[m, n] *= alpha[m, n]
    return F.conv2d(x.detach(), weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups).detach()


def _told_apart(got: torch.Tensor, conv: nn.Conv2d, x: torch.Tensor, alpha: torch.Tensor) -> None:
    """Raise Wrong with the reason if the output is that of a common mistake."""

    def run(weight: torch.Tensor, bias: torch.Tensor | None = conv.bias, plain: bool = False) -> torch.Tensor:
        rest = () if plain else (conv.stride, conv.padding, conv.dilation, conv.groups)
        return F.conv2d(x, weight, bias, *rest)

    modulated = conv.weight * alpha[:, :, None, None]
    wrong = {"α is not used: this is what the base computes.": lambda: run(conv.weight)}
    wrong["This adds α to the filters. Multiply."] = lambda: run(conv.weight + alpha[:, :, None, None])
    wrong["This scales whole filters. α has a number for each input of a filter, too."] = lambda: run(
        conv.weight * alpha.mean(1)[:, None, None, None]
    )
    if conv.bias is not None:
        wrong["The bias is missing. It is not modulated, and has to be kept."] = lambda: run(modulated, None)
    if conv.groups == 1:
        wrong["Stride, padding and dilation are missing: they are the base's, too."] = lambda: run(
            modulated, conv.bias, plain=True
        )
    for message, candidate in wrong.items():
        other = candidate()
        if other.shape == got.shape and torch.allclose(got, other, atol=1e-6):
            raise Wrong(message)


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
        if {own.data_ptr() for own in got.parameters()} & {own.data_ptr() for own in conv.parameters()}:
            raise Wrong("The merged layer shares a parameter with the base, which belongs to all domains. Copy it.")
        same_tensor(got(x), merged, "the merged layer's output")
    return "The merged layer is a plain convolution: a domain costs nothing at run time."


def _bias(conv: nn.Conv2d) -> torch.Tensor:
    return torch.zeros(0) if conv.bias is None else conv.bias


def closest(answer: Callable[[torch.Tensor, torch.Tensor], Any]) -> str:
    """closest(weight, target) -> the alpha (M, N) for which alpha * weight is nearest to target."""
    for conv, _ in random_convs(3):
        weight = conv.weight.detach()
        weight += 0.3 * torch.where(weight < 0, -1, 1)  # a little beside Σ W², against division by zero, is no fault
        target = weight + 0.5 * torch.randn_like(weight)
        expected = torch.zeros(weight.shape[:2])
        for m, n in product(range(conv.out_channels), range(conv.in_channels)):
            slice_, wanted = weight[m, n].reshape(-1, 1), target[m, n].reshape(-1, 1)
            expected[m, n] = torch.linalg.lstsq(slice_, wanted).solution.squeeze()
        got = in_format_of(expected, answer(weight.clone(), target.clone()))
        if isinstance(got, torch.Tensor) and got.shape == weight.shape:
            raise Wrong(
                "This has one number per weight, as if target were divided by weight. α has one number per slice."
            )
        numerator = (weight * target).sum((2, 3))
        if isinstance(got, torch.Tensor) and got.shape == numerator.shape and torch.allclose(got, numerator, atol=1e-6):
            raise Wrong("The numerator is right. Divide by the squared length of the slice, Σ W².")
        length = weight.square().sum((2, 3))
        if isinstance(got, torch.Tensor) and got.shape == numerator.shape:
            if torch.allclose(got, numerator / length.sqrt(), atol=1e-6):
                raise Wrong("This divides by the length of the slice. Divide by its square, Σ W².")
            if torch.allclose(got, ((target - weight) * weight).sum((2, 3)) / length, atol=1e-6):
                raise Wrong("This is α − 1, the change. Return α itself.")
        same_tensor(got, expected, "the closest α", tolerance=1e-4)
    return "That is a least-squares projection: what remains is what MAD cannot express in this layer."


EXERCISES = {"forward": forward, "merge": merge, "closest": closest}

QUIZ = (
    Question(
        "A slice has the weights (0.1, −0.2), and the loss has the gradient (0.3, 0.4) with respect to them. What is "
        "the gradient of its α, which is 1?",
        {
            "−0.05": "0.1 · 0.3 − 0.2 · 0.4 = −0.05: the inner product of slice and gradient.",
            "0.7": "That is 0.3 + 0.4. By the chain rule each gradient is multiplied by its weight first.",
            "−0.025": "That is the mean of the two products. One α serves both weights, so they are added.",
            "0.11": "That adds the sizes of the products. The second one is negative, because its weight is.",
        },
        "−0.05",
    ),
    Question(
        "Why does α start at exactly 1, and not at random numbers?",
        {
            "So that its gradient is not zero": "The gradient depends on W, on the input and on the loss: "
            "random numbers would have one as well.",
            "Because softmax needs values that sum to one": "There is no softmax here: α is free, even negative.",
            "So that training starts from the base": "One leaves every filter as it is, bit for bit: "
            "the new domain starts with everything that the base network has learned.",
        },
        "So that training starts from the base",
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
