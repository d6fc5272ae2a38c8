"""Where a domain's filters moved away from the base's, and how many bytes that takes."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from madlab.adapters import ModulatedTransform, Modulation
from madlab.adapters.base import filters_of
from madlab.analysis.modulations import directions, kept_share, of_domain
from madlab.runs.loaded import LoadedRun
from madlab.view import DomainView

MOVED = 0.1
"""How far from one an alpha counts as moved."""
FULL = "exact, with running statistics"
FORMS: dict[str, tuple[int | None, str]] = {
    FULL: (None, "full"),
    "exact, norms folded": (None, "folded"),
    "8 bits": (8, "folded"),
    "4 bits": (4, "folded"),
    "2 bits": (2, "folded"),
}
"""Ways to store a domain: what they are called, bits of the adapter, form of the norms."""


@dataclass(frozen=True)
class LayerChange:
    """One adapted layer. change: |W_d - W| / |W|. moved: share (0 to 1) of alphas farther than MOVED from one.

    directions: how many singular values hold 90 % of (alpha - 1)^2, of `rank` there could be. Without alphas: None.
    """

    name: str
    shape: tuple[int, ...]
    change: float
    moved: float | None = None
    directions: int | None = None
    rank: int | None = None


@torch.no_grad()
def by_layer(view: DomainView, alphas: dict[str, Tensor]) -> list[LayerChange]:
    """The change of each adapted layer, from the images to the head; alphas: as `alphas_of` returns them."""
    found = []
    for name, layer in view.adapted_layers().items():
        weight = filters_of(layer.conv).double()
        change = float(
            (layer.adapter(filters_of(layer.conv)).double() - weight).norm() / weight.norm().clamp(min=1e-300)
        )
        if (alpha := alphas.get(name)) is None:
            found.append(LayerChange(name, tuple(weight.shape), change))
        else:
            moved = kept_share({name: alpha}, MOVED)
            found.append(LayerChange(name, tuple(weight.shape), change, moved, directions(alpha), min(alpha.shape)))
    return found


def alphas_of(run: LoadedRun) -> dict[str, Tensor]:
    """A run's modulations by layer; none for a method that has no alpha."""
    view = run.net.view(run.domain)
    adapters = view.adapters().values()
    if not adapters or not all(isinstance(adapter, Modulation | ModulatedTransform) for adapter in adapters):
        return {}
    return {name: alpha.cpu() for name, alpha in of_domain(run.net, run.domain).items()}


def stored(run: LoadedRun) -> dict[str, dict[str, int]]:
    """What a domain takes in each of FORMS: name -> bytes of "adapter", "norms", "head", and their "sum".

    A domain whose norms were stored folded has no running statistics any more.
    """
    forms = {name: form for name, form in FORMS.items() if name != FULL or not run.net.view(run.domain).folded}
    sizes = {name: asdict(run.net.stored_bytes(run.domain, *form)) for name, form in forms.items()}
    return {name: own | {"sum": sum(own.values())} for name, own in sizes.items()}
