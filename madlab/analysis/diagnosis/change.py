"""How far a domain is from its base network: filters, BatchNorm and head, each with a measure of its own."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from madlab.adapters.base import filters_of
from madlab.errors import MadlabError
from madlab.heads import classes_of
from madlab.view import DomainView


@torch.no_grad()
def filter_change(view: DomainView) -> float:
    """||W_d - W|| / ||W|| over all adapted layers together: 0 for a new adapter, 1 for as much as the filters.

    Raises MadlabError for a domain that adapts no layer.
    """
    pairs = list(_filters(view))
    change = sum(float((adapted - weight).square().sum()) for weight, adapted in pairs)
    return math.sqrt(change / sum(float(weight.square().sum()) for weight, _ in pairs))


@torch.no_grad()
def filter_turn(view: DomainView) -> float:
    """By what sine the filters are turned, root mean square over all of them: 0 for none, 1 where nothing is left.

    A filter is a row m of W, N * k * k numbers. Its sine is min over c of ||W_d,m - c W_m|| / ||W_d,m||, so that no
    scaling of a filter, of either sign, counts: the BatchNorm behind a convolution can undo one, and hides it from the
    loss. `filter_change` counts it, which is why a rank of 4 with a change of 4.3 can be as healthy as full alpha with
    0.9. Every filter weighs the same, whatever its size. One that became zero counts as 1, one of zeros in the base not
    at all.

    Raises MadlabError for a domain that adapts no layer.
    """
    squares = []
    for weight, adapted in _filters(view):
        # Unit vectors first: the square of a wildly wrong weight may not fit even into double precision.
        one, other = (nn.functional.normalize(w.flatten(1), dim=1, eps=1e-300) for w in (weight, adapted))
        along = (one * other).sum(1, keepdim=True)
        # Not 1 - cos^2, which loses all digits for small angles.
        sine = torch.where(other.any(1), (other - along * one).norm(dim=1), 1.0)
        squares.append(sine[one.any(1)].square())
    return math.sqrt(float(torch.cat(squares).mean()))


@torch.no_grad()
def batchnorm_change(view: DomainView, base: nn.Module) -> float | None:
    """||g_d - g|| / ||g|| of the scales of all normalisation layers together; None if the domain learns none."""
    if not view.method.adapts_batchnorm:
        return None
    pairs = [(base.get_submodule(name).weight, norm.weight) for name, norm in view.norm_layers().items()]
    known = [(g.double(), own.double()) for g, own in pairs if isinstance(g, Tensor) and isinstance(own, Tensor)]
    if not known:
        return None
    change = sum(float((own - g).square().sum()) for g, own in known)
    return math.sqrt(change / max(sum(float(g.square().sum()) for g, _ in known), 1e-300))


@torch.no_grad()
def has_statistics_of_base(view: DomainView, base: nn.Module) -> bool:
    """Whether the running averages are still the base's own, bit for bit, in a domain that should have its own."""
    pairs = [
        (getattr(base.get_submodule(name), "running_mean", None), getattr(norm, "running_mean", None))
        for name, norm in view.norm_layers().items()
    ]
    known = [(old, own) for old, own in pairs if isinstance(old, Tensor) and isinstance(own, Tensor)]
    return view.method.adapts_batchnorm and bool(known) and all(torch.equal(old, own) for old, own in known)


@torch.no_grad()
def head_growth(view: DomainView) -> float:
    """Length of the head's weights by that of PyTorch's start, whose numbers have the variance 1 / (3 features).

    A head that has not learned has 1, within a few percent.
    """
    return float(view.head.get_parameter("weight").double().norm()) / math.sqrt(classes_of(view.head) / 3)


def _filters(view: DomainView) -> Iterator[tuple[Tensor, Tensor]]:
    """W and W_d, (M, N, k, k), of each adapted layer in double precision: wild weights have squares beyond single."""
    layers = view.adapted_layers()
    if not layers:
        raise MadlabError(f"Method {view.method.name!r} leaves the filters as they are: there is no change to measure.")
    for layer in layers.values():
        weight = filters_of(layer.conv)
        yield weight.double(), layer.adapter(weight).double()
