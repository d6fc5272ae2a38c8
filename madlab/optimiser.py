"""The optimiser of a run: which learning rate each of a domain's parameters gets, and how it rises and falls."""

import math
from collections import defaultdict

import torch

from madlab.heads import classes_of, features_of
from madlab.network import MultiDomainNet
from madlab.recipe import Recipe
from madlab.view import DomainView

MANY_CLASSES = 32
"""From so many classes on, a head learns at the full rate; chosen on validation images (results/trials.json)."""

FEW_FEATURES = 128
"""Up to so many features, too: those of pocket-resnet26, with which the rates of METHODS were tuned."""


def learning_rate(progress: float, warmup: float) -> float:
    """The share of the peak rate at a point of the training (0 to 1): a straight rise, then a cosine to zero."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def peak_rates(view: DomainView, recipe: Recipe) -> dict[str, float]:
    """Peak learning rates of "adapter", "batchnorm" and "head": the recipe's, or where it has none the method's own.

    The head's own rate falls with its number of classes C below MANY_CLASSES: at the start the loss is curved by 1 / C
    in the logits, so that with few classes the usual rate throws the head about, and the features after it. It also
    falls with the number of features above FEW_FEATURES, because a step of SGD moves the logits by a sum over them:
    the rate of an output layer of muP (Yang et al., arXiv 2203.03466, table 8). Without this, a head of twice as many
    features cost full MAD four points on flowers (results/trials-full-width-head.json).
    """
    method, head = view.method, view.head
    calm = min(1.0, classes_of(head) / MANY_CLASSES) * min(1.0, FEW_FEATURES / features_of(head))
    own = {
        "adapter": method.rate(view.facts.options),
        "batchnorm": method.rates.batchnorm,
        "head": calm * (method.rates.head or method.rates.batchnorm),
    }
    asked = {"adapter": recipe.adapter_lr, "batchnorm": recipe.batchnorm_lr, "head": recipe.head_lr}
    return own | {kind: rate for kind, rate in asked.items() if rate is not None}


def make_optimiser(net: MultiDomainNet, name: str, recipe: Recipe) -> torch.optim.SGD:
    """SGD over what the domain owns: rates and decays for adapter, BatchNorm and head, the adapter's by layer.

    Fused: one kernel for all tensors of a rate, and there is a rate for every layer. It reads memory in order, so a
    gradient must lie as its parameter does, which is what PyTorch's backward() makes.
    """
    view = net.view(name)
    rates = peak_rates(view, recipe)
    decays = {"adapter": recipe.adapter_decay, "batchnorm": 0.0, "head": recipe.head_decay}
    factors, alike = view.rate_factors(), defaultdict(list)
    for kind, parameters in view.parameter_groups().items():
        for parameter in parameters:
            factor = factors.get(parameter, 1.0)
            # Weight decay is a share of the rate: without the factor it would differ by layer.
            alike[rates[kind] * factor, decays[kind] / factor].append(parameter)
    groups = [{"params": p, "peak": peak, "lr": 0.0, "weight_decay": decay} for (peak, decay), p in alike.items()]
    return torch.optim.SGD(groups, lr=0.0, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=True)
