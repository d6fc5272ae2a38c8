"""Frozen features need no training: their head, a linear probe, is fitted to convergence.

A domain that trains nothing but a linear head has one minimum, which steps of SGD are slow to reach: after six epochs
they were eight to thirteen points below it on textures and characters. So an epoch is one pass over the augmented
images, whose features are kept, and L-BFGS then carries the head to the minimum on them. The protocol is that of
Kornblith, Shlens, Le, "Do Better ImageNet Models Transfer Better?", arXiv 1805.08974: multinomial logistic regression,
with the weight decay chosen on validation. The epochs go from a strong decay to a weak one, each from where the last
ended (a regularisation path), and the best epoch is chosen on validation as with every other method. Where validation
images are trained on, there is nothing to choose by, and every epoch has the decay in the middle.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from madlab.benchmarks.domain import Domain
from madlab.benchmarks.loader import batches
from madlab.device import autocast
from madlab.runs.epoch import Diverged
from madlab.runs.rates import head_inputs
from madlab.runs.recipe import Recipe
from madlab.view import DomainView

STRONGEST, WEAKEST = 1e-2, 1e-6
"""Weight decay of the first and of the last epoch, for features of unit variance in all. On flowers, dtd10 and gtsrb
the best value is from 1e-5 to 1e-3."""
ITERATIONS = 300
"""Of L-BFGS in an epoch, at most; where they are not enough, the next epoch goes on from there."""


def decay_of(epoch: int, epochs: int) -> float:
    """The weight decay of an epoch, counted from 0: evenly spaced in the exponent; their middle, if it is the only one.

    It multiplies half the squared weights of a head whose features are divided by the root of their summed variance,
    so that the same value means the same for all networks.
    """
    share = epoch / (epochs - 1) if epochs > 1 else 0.5
    return float(STRONGEST * (WEAKEST / STRONGEST) ** share)


def probed_head(view: DomainView, images: Tensor) -> nn.Module | None:
    """The head of a domain that trains nothing else, where its outputs are the logits; else None.

    None stands for a method that trains more, and for the rare heads whose outputs are not yet the logits: several of
    them, or one in front of a pooling. They are trained by SGD. images: a normalised batch, to see that on.
    """
    groups = view.parameter_groups()
    if groups["adapter"] or groups["batchnorm"] or len(view.heads()) > 1:
        return None
    with head_inputs(view) as features, torch.no_grad():
        logits = view.eval()(images)
    own, flat = view.head.get_parameter("weight"), features[0].flatten(1)
    if len(features) > 1 or flat.shape != (len(images), own[0].numel()):
        return None
    with torch.no_grad():
        return view.head if torch.equal(logits, view.head(features[0]).flatten(1)) else None


def fit_epoch(
    view: DomainView,
    domain: Domain,
    recipe: Recipe,
    crop: int,
    epoch: int,
    on_step: Callable[[Tensor], None] | None = None,
) -> float:
    """One pass over the training images, and the head fitted to their features; returns its mean loss in nats.

    view: one that has a `probed_head`. crop: side of the window in pixels. epoch counts from 0 and decides, with the
    recipe's seed, the windows. on_step is called with each batch's features. Raises Diverged for a loss that is no
    number.
    """
    view.eval()
    generator = torch.Generator().manual_seed(recipe.seed * 10007 + epoch)
    train, labels = domain.train, []
    loader = batches(train.images, train.labels, recipe.batch_size, crop, domain.flip, generator, domain.normalization)
    with head_inputs(view) as features, torch.no_grad():
        for images, own in loader:
            with autocast(images.device):
                view(images)
            labels.append(own)
            if on_step is not None:
                on_step(features[-1])
    flat = torch.cat([batch.flatten(1).float() for batch in features])
    decay = decay_of(0, 1) if recipe.trainval else decay_of(epoch, recipe.epochs)
    loss = fit(view.head, flat, torch.cat(labels), decay, recipe.smoothing)
    if not math.isfinite(loss):
        raise Diverged(f"The loss became {loss} in epoch {epoch + 1}: the features are no numbers.")
    return loss


def fit(head: nn.Module, features: Tensor, labels: Tensor, decay: float, smoothing: float) -> float:
    """Carry a linear head to the minimum of its loss; returns the mean cross-entropy there, in nats.

    features: float (N, F); labels: int64 (N,). The loss is the mean cross-entropy with label smoothing and half the
    decay times the squared weights, of features that are centred, where the head has a bias, and divided by the root
    of their summed variance.
    """
    own, offset = head.get_parameter("weight"), getattr(head, "bias", None)
    mean = features.mean(0) if offset is not None else torch.zeros_like(features[0])
    centred = features - mean
    scale = centred.square().sum(1).mean().sqrt().clamp_min(1e-8)
    centred /= scale
    flat = own.detach().flatten(1).float()
    weight = (flat * scale).requires_grad_()
    bias = flat @ mean if offset is None else (offset.detach().float() + flat @ mean).requires_grad_()
    learned = [tensor for tensor in (weight, bias) if tensor.requires_grad]
    optimiser = torch.optim.LBFGS(
        learned, max_iter=ITERATIONS, tolerance_grad=1e-5, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )

    def entropy() -> Tensor:
        return F.cross_entropy(centred @ weight.T + bias, labels, label_smoothing=smoothing)

    def step() -> Tensor:
        optimiser.zero_grad()
        loss = entropy() + decay / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(step)
    with torch.no_grad():
        own.copy_((weight / scale).view_as(own))
        if offset is not None:
            offset.copy_(bias - weight @ mean / scale)
        return entropy().item()
