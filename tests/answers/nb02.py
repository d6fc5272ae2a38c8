"""Answers to the exercises of notebook 02."""

import copy

import torch
from torch import nn
from torch.nn import functional as F


class Layer(nn.Module):
    """What the exercise gives; an answer only adds `forward`."""

    def __init__(self, conv):
        super().__init__()
        self.conv = conv.requires_grad_(False)
        self.alpha = nn.Parameter(torch.ones(conv.weight.shape[:2]))

    def run(self, x, weight, bias=None):
        c = self.conv
        return F.conv2d(x, weight, c.bias if bias is None else bias, c.stride, c.padding, c.dilation, c.groups)

    @property
    def modulated(self):
        return self.conv.weight * self.alpha[:, :, None, None]


def layer(forward):
    """The class whose forward is this function of (self, x)."""
    return type("ModulatedConv2d", (Layer,), {"forward": forward})


def in_place(self, x):
    with torch.no_grad():
        self.conv.weight.mul_(self.alpha[:, :, None, None])
    return self.conv(x)


def with_zero_bias(self, x):
    return self.run(x, self.modulated, torch.zeros(len(self.alpha)))


def functional(self, x):
    return torch.func.functional_call(self.conv, {"weight": self.modulated}, (x,))


def of_the_output(self, x):
    return self.conv(x) * self.alpha.mean(1)[:, None, None]


def merge_in_place(conv, alpha):
    conv.weight.data *= alpha[:, :, None, None]
    return conv


def merge_copied(conv, alpha):
    merged = copy.deepcopy(conv)
    merged.weight.data *= alpha[:, :, None, None]
    return merged


def merge_built(conv, alpha, **other):
    options = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
    given = {name: getattr(conv, name) for name in options} | {"bias": conv.bias is not None} | other
    merged = nn.Conv2d(**given)
    with torch.no_grad():
        merged.weight.copy_(torch.einsum("mn...,mn->mn...", conv.weight, alpha))
        if merged.bias is not None:
            merged.bias.copy_(torch.zeros_like(merged.bias) if conv.bias is None else conv.bias)
    return merged


def merge_in_loops(conv, alpha):
    merged = copy.deepcopy(conv)
    with torch.no_grad():
        for m in range(alpha.shape[0]):
            for n in range(alpha.shape[1]):
                merged.weight[m, n] = conv.weight[m, n] * alpha[m, n]
    return merged


def merge_with_the_base_bias(conv, alpha):
    merged = merge_copied(conv, alpha)
    merged.bias = conv.bias
    return merged


def merge_without_bias(conv, alpha):
    merged = merge_copied(conv, alpha)
    merged.bias = None
    return merged


def merge_transposed(conv, alpha):
    merged = copy.deepcopy(conv)
    merged.weight.data *= alpha.T[:, :, None, None]
    return merged


def closest_in_loops(weight, target):
    result = torch.zeros(weight.shape[:2])
    for m in range(weight.shape[0]):
        for n in range(weight.shape[1]):
            w, t = weight[m, n].flatten(), target[m, n].flatten()
            result[m, n] = w @ t / (w @ w)
    return result


RIGHT = {
    "forward": [
        layer(lambda self, x: self.run(x, self.modulated)),
        layer(lambda self, x: self.run(x, torch.einsum("mnij,mn->mnij", self.conv.weight, self.alpha))),
        layer(lambda self, x: self.conv._conv_forward(x, self.modulated, self.conv.bias)),
        layer(functional),
        layer(lambda self, x: self.run(x, self.modulated).double()),
    ],
    "merge": [merge_copied, merge_built, merge_in_loops],
    "closest": [
        lambda w, t: (w * t).sum((2, 3)) / w.square().sum((2, 3)),
        lambda w, t: torch.einsum("mnij,mnij->mn", w, t) / torch.einsum("mnij,mnij->mn", w, w),
        closest_in_loops,
        lambda w, t: (w * t).sum((2, 3)) / (w.square().sum((2, 3)) + 1e-8),
        lambda w, t: torch.from_numpy((w.double() * t).sum((2, 3)).numpy() / w.double().square().sum((2, 3)).numpy()),
    ],
}

WRONG = {
    "forward": [
        (layer(lambda self, x: self.conv(x)), "α is not used"),
        (layer(of_the_output), "output is wrong"),
        (
            layer(lambda self, x: self.run(x, self.conv.weight * self.alpha.mean(1)[:, None, None, None])),
            "whole filters",
        ),
        (layer(lambda self, x: self.run(x, self.conv.weight + self.alpha[:, :, None, None])), "new layer is wrong"),
        (layer(lambda self, x: self.run(x, self.conv.weight + self.alpha[:, :, None, None] - 1)), "output is wrong"),
        (layer(lambda self, x: self.run(x, self.conv.weight * self.alpha.data[:, :, None, None])), "reaches α"),
        (layer(lambda self, x: F.conv2d(x, self.modulated, self.conv.bias)), "shape"),
        (layer(with_zero_bias), "new layer is wrong"),
        (layer(lambda self, x: self.run(x.detach(), self.modulated)), "reaches the input"),
        (layer(in_place), "filters were changed"),
        (layer(lambda self, x: None), "returned nothing"),
    ],
    "merge": [
        (merge_in_place, "base convolution was changed"),
        (merge_transposed, "merged.weight.data *= alpha.T"),
        (lambda conv, alpha: merge_built(conv, alpha, stride=1), "lost a stride"),
        (lambda conv, alpha: merge_built(conv, alpha, dilation=1), "dilation"),
        (lambda conv, alpha: merge_built(conv, alpha, bias=True), "bias"),
        (merge_without_bias, "bias"),
        (merge_with_the_base_bias, "shares a parameter"),
        (lambda conv, alpha: conv.weight, "Parameter"),
        (lambda conv, alpha: copy.deepcopy(conv), "merged weight is wrong"),
    ],
    "closest": [
        (lambda w, t: t / w, "one number per slice"),
        (lambda w, t: (w * t).sum((2, 3)), "Divide"),
        (lambda w, t: (w * t).sum((2, 3)) / w.square().sum((2, 3)).sqrt(), "by its square"),
        (lambda w, t: (w * (t - w)).sum((2, 3)) / w.square().sum((2, 3)), "α itself"),
        (lambda w, t: (t / w).mean((2, 3)), "closest α is wrong"),
        (lambda w, t: torch.ones(w.shape[:2]), "closest α is wrong"),
    ],
}
