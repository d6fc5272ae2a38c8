"""The optimiser of a run: which learning rate each of a domain's parameters gets, and how it rises and falls."""

import math
from collections import defaultdict

import torch

from madlab.heads import classes_of, features_of
from madlab.runs.recipe import Recipe
from madlab.view import DomainView

MANY_CLASSES = 32
"""A head with at least so many classes learns at the full rate; chosen on validation images (records/trials.json)."""

FEW_FEATURES = 128
"""A head with at most so many features does: pocket-resnet26, with which the rates of METHODS were tuned, has 128."""


def warmup_cosine(progress: float, warmup: float) -> float:
    """Share of the peak rate at a point of the training: a linear warm-up, then a cosine that falls to zero.

    progress, warmup: shares of the whole training, from 0 to 1. Loshchilov & Hutter, "SGDR", arXiv 1608.03983, without
    restarts; the warm-up is that of Goyal et al., arXiv 1706.02677.
    """
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def peak_rates(view: DomainView, recipe: Recipe) -> dict[str, float]:
    """Peak learning rates of "adapter", "batchnorm" and "head": those of the recipe, else those of the method.

    The head's rate is proportional to its number of classes C where that is below MANY_CLASSES: at the start the
    curvature of the loss in the logits is about 1 / C, so with few classes the usual rate makes the head oscillate, and
    the features with it. It is inversely proportional to the number of features above FEW_FEATURES, because one step
    of SGD changes the logits by a sum over the features; muP gives output layers the same rate (Yang et al., arXiv
    2203.03466, table 8). Without this, a head of twice as many features cost full MAD four points on flowers
    (records/trials-full-width-head.json).
    """
    method, head = view.method, next(iter(view.heads().values()))
    calm = min(1.0, classes_of(head) / MANY_CLASSES) * min(1.0, FEW_FEATURES / features_of(head))
    own = {
        "adapter": method.rate(view.facts.options),
        "batchnorm": method.rates.batchnorm,
        "head": calm * (method.rates.head or method.rates.batchnorm),
    }
    asked = {"adapter": recipe.adapter_lr, "batchnorm": recipe.batchnorm_lr, "head": recipe.head_lr}
    return own | {kind: rate for kind, rate in asked.items() if rate is not None}


def make_optimiser(view: DomainView, recipe: Recipe) -> torch.optim.SGD:
    """SGD over what a domain trains: adapter, BatchNorm and head at their own peak rates, the adapter's layer by layer.

    Each parameter group holds its peak rate as "peak"; `train_epoch` sets "lr" to a share of it at every step.

    It is PyTorch's fused SGD: one kernel for all tensors of one rate, and nearly every layer has a rate of its own. The
    kernel reads memory in order, so gradient and momentum must have their parameter's strides. PyTorch's backward()
    makes gradients that do, and `folder.Checkpoint` restores momentum that does.
    """
    rates = peak_rates(view, recipe)
    decays = {"adapter": recipe.adapter_decay, "batchnorm": 0.0, "head": recipe.head_decay}
    factors, alike = view.rate_factors(), defaultdict(list)
    for kind, parameters in view.parameter_groups().items():
        for parameter in parameters:
            factor = factors.get(parameter, 1.0)
            # SGD multiplies the decay by the rate: divided by the factor, it is the same share of the weights per step
            # in all layers.
            alike[rates[kind] * factor, decays[kind] / factor].append(parameter)
    groups = [{"params": p, "peak": peak, "lr": 0.0, "weight_decay": decay} for (peak, decay), p in alike.items()]
    return torch.optim.SGD(groups, lr=0.0, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=True)
