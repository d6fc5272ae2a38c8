"""Lower rates for layers whose scale counts: what a rate must not exceed where no normalisation takes a step out again.

Filters in front of a normalisation may grow by any factor without a change of the logits, and a step that is too long
only makes the next ones shorter. All rates of `METHODS` were found on such layers. Where nothing normalises, as in a
network whose BatchNorm was folded into its filters, most methods end at chance with them: there the curvature is
measured.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from madlab.adapters import METHODS
from madlab.adapters.base import Adapter, Layer
from madlab.adapters.layer import AdaptedConv2d
from madlab.benchmarks.domain import Domain
from madlab.runs.rates import first_batches, left_as_it_is
from madlab.runs.recipe import Recipe
from madlab.runs.step import entropy
from madlab.view import DomainView

MOVES = 0.01
"""Relative change of the logits per relative change of the scale of a layer's filters, above which that counts. What
epsilon leaves of it behind a norm is below 0.0001 on the networks that come with madlab."""
LIMIT = 1.0
"""Of fine-tuning's rate times the curvature: about what the networks have on which the rates of METHODS were found (1.0
on pocket-resnet26, untrained on 200 signs). At 4, near the stable limit, most methods do better in six epochs
(notebooks/site/results.md, "Networks without norms"), and masks ended at chance in runs of 50 steps, not recorded."""
FEW, MOST = 16, 64
"""Images at most for the scale, which everybody's memory has to hold in float32, and for the curvature."""
PROBES = 4
"""Of random products; the chance that none of them is a tenth of what it should be is below one in 10,000."""
ITERATIONS = 6
"""Of the power method, which needs few: a factor of two in the result matters little."""
SMALL = 1e-3
"""Length of a step to take a derivative by, beside the length of all filters together."""


def filter_factors(view: DomainView, domain: Domain, recipe: Recipe, crop: int) -> dict[str, float]:
    """What the learning rates are multiplied by in adapted layers whose scale counts: name in the base -> 0 to 1.

    crop: side of the images in pixels. What a rate may be is a matter of its product with the largest curvature of the
    loss: with momentum m, gradient descent is stable on a parabola below 2 (1 + m) (Polyak, "Some methods of speeding
    up the convergence of iteration methods", 1964). Here the curvature is that in the filters of these layers, on the
    first batch, and the rate that of fine-tuning, whose parameters are filters. Every adapter changes those, so that
    the rates of all are lowered by as much as brings this product to LIMIT. Empty where the factor would be 1. The
    domain is left as it was.
    """
    layers = view.adapted_layers()
    if not layers:
        return {}
    with left_as_it_is(view):
        images, labels = (own[:MOST] for own in next(first_batches(domain, recipe, crop)))
        counting = scale_counts(view, images[:FEW])
        if not counting:
            return {}

        def loss() -> Tensor:
            return entropy(_forward(view, images), labels, None, recipe.smoothing)

        rate = METHODS["finetune"].rates.adapter
        steepest = rate * largest_curvature([layers[name] for name in counting], loss)
    return dict.fromkeys(counting, LIMIT / steepest) if LIMIT < steepest < float("inf") else {}


def scale_counts(view: DomainView, images: Tensor) -> list[str]:
    """Names of the adapted layers whose filters' scale the logits depend on, with the view in the mode that it is in.

    Filters are multiplied by s = 1: behind a norm the derivative of the logits by s is zero. For all layers together it
    takes one forward and PROBES times one backward, of the logits' products with random numbers, whose mean square is
    that of the derivative. images: normalised (B, C, H, W).
    """
    layers = view.adapted_layers()
    with _replaced(layers.values(), _Scaled) as scaled, torch.enable_grad():
        logits = _forward(view, images)
        generator, squares = torch.Generator().manual_seed(0), torch.zeros(len(scaled), device="cpu")
        for _ in range(PROBES):
            drawn = torch.randn(logits.shape, generator=generator, device="cpu").to(logits)
            products, scales = (drawn * logits).sum(), [own.scale for own in scaled]
            found = torch.autograd.grad(products, scales, None, True, allow_unused=True, materialize_grads=True)
            squares += torch.stack(found).cpu().square() / PROBES
        counts: dict[Adapter, Tensor] = dict(
            zip(scaled, squares.sqrt() > MOVES * logits.detach().norm().cpu(), strict=True)
        )
        return [name for name, layer in layers.items() if counts[layer.adapter]]


def largest_curvature(layers: list[AdaptedConv2d], loss: Callable[[], Tensor]) -> float:
    """The largest eigenvalue, in size, of the Hessian of a loss in the filters that these layers run with.

    By the power method; products with the Hessian are differences of gradients, since not every operation of every
    network can be differentiated twice. NaN where a loss is.
    """
    with _replaced(layers, _Free) as free:
        filters = [own.free for own in free]
        start = [own.detach().clone() for own in filters]
        length = SMALL * _length(start)
        generator = torch.Generator().manual_seed(0)
        direction = [torch.randn(own.shape, generator=generator, device="cpu").to(own) for own in filters]

        def gradients(sign: int) -> tuple[Tensor, ...]:
            with torch.no_grad():
                for own, before, along in zip(filters, start, direction, strict=True):
                    own.copy_(before + sign * length * along)
            with torch.enable_grad():
                return torch.autograd.grad(loss(), filters, allow_unused=True, materialize_grads=True)

        size = filters[0].new_ones(())
        for _ in range(ITERATIONS):
            by = _length(direction)
            direction = [along / by for along in direction]
            ahead, behind = gradients(+1), gradients(-1)
            direction = [(one - other) / (2 * length) for one, other in zip(ahead, behind, strict=True)]
            size = _length(direction)
            if not size > 0:
                break
        return size.item()


class _Free(Adapter):
    """Filters of their own in place of an adapter's, in the shape of the layer's: what the loss is derived by."""

    def __init__(self, conv: Layer, weight: Tensor):
        super().__init__()
        self.free = nn.Parameter(weight.detach().clone())

    def adapted_weight(self, layer: Layer) -> Tensor:
        return self.free


class _Scaled(Adapter):
    """An adapter's filters times one number, which is 1: what the logits are derived by."""

    def __init__(self, conv: Layer, weight: Tensor):
        super().__init__()
        self.scale, self.held = nn.Parameter(weight.new_ones(())), weight.detach()

    def adapted_weight(self, layer: Layer) -> Tensor:
        return self.scale * self.held


Replacement = TypeVar("Replacement", _Free, _Scaled)


@contextmanager
def _replaced(layers: Iterable[AdaptedConv2d], kind: type[Replacement]) -> Iterator[list[Replacement]]:
    """Adapters of another kind while this lasts, and which; layers that share an adapter share what replaces it."""
    layers = list(layers)
    before = [layer.adapter for layer in layers]
    made: dict[Adapter, Replacement] = {}
    try:
        for layer in layers:
            if layer.adapter not in made:
                made[layer.adapter] = kind(layer.conv, layer.weight)
            layer.adapter = made[layer.adapter]
        yield list(made.values())
    finally:
        for layer, adapter in zip(layers, before, strict=True):
            layer.adapter = adapter


def _forward(view: DomainView, images: Tensor) -> Tensor:
    """Logits in float32 precision, with the same dropout every time."""
    with torch.random.fork_rng([images.device] if images.is_cuda else []):
        torch.manual_seed(0)
        return view(images.clone()).float()  # which the network may change in place


def _length(tensors: Iterable[Tensor]) -> Tensor:
    return torch.stack([tensor.square().sum() for tensor in tensors]).sum().sqrt()
