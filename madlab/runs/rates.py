"""The optimiser of a run: which learning rate each of a domain's parameters gets, and how it rises and falls."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from madlab.adapters.base import Method
from madlab.benchmarks.domain import Domain
from madlab.benchmarks.loader import batches
from madlab.device import autocast
from madlab.errors import MadlabError
from madlab.runs.recipe import Recipe
from madlab.view import DomainView

MEASURED = 4
"""Batches on which the features of a head are measured before the training."""
LONGEST = 1e9
"""Root mean square length of features that a head can learn from. Of `frozen`, `batchnorm` and `mad` all learned at 1e6
and none at 1e12; between these nothing was tried."""


def warmup_cosine(progress: float, warmup: float) -> float:
    """Share of the peak rate at a point of the training: a linear warm-up, then a cosine that falls to zero.

    progress, warmup: shares of the whole training, from 0 to 1. Loshchilov & Hutter, "SGDR", arXiv 1608.03983, without
    restarts; the warm-up is that of Goyal et al., arXiv 1706.02677.
    """
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def peak_rates(method: Method, options: Mapping[str, Any], recipe: Recipe) -> dict[str, float]:
    """Peak learning rates of "adapter", "batchnorm" and "head": those of the recipe, else those of the method.

    options: the method's own. Adapter and head have theirs in units of their layers, `Adapter.rate_factors` and
    `head_factor`.
    """
    rates = method.rates_for(options)
    own = {"adapter": rates.adapter, "batchnorm": rates.batchnorm, "head": rates.head}
    asked = {"adapter": recipe.adapter_lr, "batchnorm": recipe.batchnorm_lr, "head": recipe.head_lr}
    return own | {kind: rate for kind, rate in asked.items() if rate is not None}


def head_factor(view: DomainView, domain: Domain, recipe: Recipe, crop: int) -> float:
    """What the head's learning rate is multiplied by: 1 / (E|f|^2 (1 / C + 1 / 2B)).

    f: a head's features, and a one for its bias; C: classes; B: images per step; crop: side of the images in pixels.

    It makes the rate a share of the largest stable one. The curvature of the cross-entropy of one image in the head's
    weights is (diag(p) - p p^T) x (f f^T), which is at most |f|^2 / 2 (Boehning, "Multinomial logistic regression
    algorithm", 1992). On average over images whose predictions are spread over the classes it is at most E|f|^2 / C,
    because diag(p) averages to 1 / C. A step on B images sees that average, and beside it a 1 / B of what is a single
    image's own; gradient descent is stable below 2 / curvature, and SGD below that of the sum. So few classes, small
    batches, many features and large ones all lower the rate, without a constant to choose.

    E|f|^2 is measured on the first MEASURED batches of the untrained domain, in training mode and with the dropout of
    the seed, so that a run that is taken up has the rate that it had; the domain is left as it was. Several heads,
    whose logits a network adds up, count together. A head that is not called, because the network reads its weights, is
    taken to have features of length one, as a cosine classifier has them. Raises MadlabError for features that are no
    numbers or longer than LONGEST.
    """
    squares, count, device = 0.0, 0, domain.train.images.device
    channels = 1 if isinstance(view.head, nn.Conv2d) else -1
    dropout = torch.random.fork_rng([device] if device.type == "cuda" else [])
    with head_inputs(view) as features, left_as_it_is(view), torch.no_grad(), dropout:
        torch.manual_seed(recipe.seed)
        for images, _ in islice(first_batches(domain, recipe, crop), MEASURED):
            with autocast(images.device):
                view(images)
            squares += sum(mean_square_length(own, channels) for own in features) if features else 1.0
            features.clear()
            count += 1
    heads = view.heads().values()
    biases = sum(getattr(head, "bias", None) is not None for head in heads)
    together = min(recipe.batch_size * recipe.accumulate, len(domain.train))
    return 1 / ((max(squares / count, 1e-8) + biases) * (1 / domain.num_classes + 1 / (2 * together)))


def first_batches(domain: Domain, recipe: Recipe, crop: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Training images, normalised, and their labels, in an order of the recipe's seed, to measure a rate on."""
    generator, train = torch.Generator().manual_seed(recipe.seed), domain.train
    augment = "crop" if recipe.augment == "trivial" else recipe.augment  # colours move no rate, and take long
    how = domain.flip, generator, domain.normalization, augment
    return batches(train.images, train.labels, recipe.batch_size, crop, *how)


@contextmanager
def left_as_it_is(view: DomainView) -> Iterator[None]:
    """Training mode while this lasts; afterwards the view is in eval mode and has the state that it had before."""
    before = {name: tensor.clone() for name, tensor in view.own_state().items()}
    try:
        view.train()
        yield
    finally:
        view.eval()
        view.load_own_state(before)


@contextmanager
def head_inputs(view: DomainView) -> Iterator[list[Tensor]]:
    """What reaches the heads of a view while this lasts, call by call: (B, F), or (B, F, H, W) for an nn.Conv2d."""
    found: list[Tensor] = []
    hooks = [
        head.register_forward_pre_hook(
            lambda _, inputs, named: found.append((inputs or tuple(named.values()))[0].detach()), with_kwargs=True
        )
        for head in view.heads().values()
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def mean_square_length(features: Tensor, channels: int = -1) -> float:
    """E|f|^2 of what reaches a head, whose channels are along that axis; over positions it is averaged, as logits are.

    Raises MadlabError for features that are no numbers or longer than LONGEST.
    """
    square = features.float().square().sum(channels).mean().item()
    if not square <= LONGEST**2:
        raise MadlabError(
            f"The features that reach the head have a root mean square length of {math.sqrt(square):.3g}, from which "
            "no head can learn: the base network has weights that are no numbers, or lacks a normalisation; choose "
            "another one."
        )
    return square


def make_optimiser(
    view: DomainView, recipe: Recipe, of_head: float = 1.0, of_filters: Mapping[str, float] | None = None
) -> torch.optim.SGD:
    """SGD over what a domain trains: adapter, BatchNorm and head at their own peak rates, layer by layer.

    of_head: the `head_factor`. of_filters: `curvature.filter_factors`; own copies of biases and the like have the
    lowest of them. Each parameter group holds its peak rate as "peak"; a `runs.step.Step` sets "lr" to a share of it.

    It is PyTorch's fused SGD: one kernel for all tensors of one rate, and nearly every layer has a rate of its own. The
    kernel reads memory in order, so gradient and momentum must have their parameter's strides. PyTorch's backward()
    makes gradients that do, and `folder.Checkpoint` restores momentum that does.
    """
    rates = peak_rates(view.method, view.facts.options, recipe)
    decays = {"adapter": recipe.adapter_decay, "batchnorm": 0.0, "head": recipe.head_decay}
    factors, alike, of_filters = view.rate_factors(), defaultdict(list), of_filters or {}
    factors |= dict.fromkeys(view.own.values(), min(of_filters.values(), default=1.0))
    lowered = {view.adapted_layers()[name].adapter: factor for name, factor in of_filters.items()}
    for adapter, factor in lowered.items():
        factors |= {parameter: factor * factors.get(parameter, 1.0) for parameter in adapter.parameters()}
    for kind, parameters in view.parameter_groups().items():
        for parameter in parameters:
            factor = of_head if kind == "head" else factors.get(parameter, 1.0)
            # SGD multiplies the decay by the rate: divided by the factor, it is the same share of the weights per step
            # in all layers, and for heads a penalty that means the same for features of any size.
            alike[rates[kind] * factor, decays[kind] / factor].append(parameter)
    groups = [{"params": p, "peak": peak, "lr": 0.0, "weight_decay": decay} for (peak, decay), p in alike.items()]
    return torch.optim.SGD(groups, lr=0.0, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=True)
