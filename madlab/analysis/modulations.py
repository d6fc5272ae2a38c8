"""What trained modulations show: how sparse alpha is, how many directions it has, and how alike two domains are.

A domain's modulations are a mapping: name of the convolution in the base network -> alpha (M, N).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from madlab.adapters import ModulatedTransform, Modulation
from madlab.errors import MadlabError
from madlab.network import MultiDomainNet

Modulations = Mapping[str, Tensor]


def of_domain(net: MultiDomainNet, domain: str) -> dict[str, Tensor]:
    """Copies of a domain's modulations; its method must be "mad", with or without a rank, or "mad+wtpb".

    Raises MadlabError for a domain of another method.
    """
    return {name: _alpha(adapter).detach().clone() for name, adapter in net.view(domain).adapters().items()}


def reset(alpha: Tensor, threshold: float, value: float = 1.0) -> Tensor:
    """alpha (M, N), with every entry that is nearer than `threshold` to `value` set to `value`.

    One leaves the base's slice as it is; zero removes the slice.
    """
    return torch.where((alpha - value).abs() < threshold, torch.full_like(alpha, value), alpha)


def kept_count(alphas: Modulations, threshold: float, value: float = 1.0) -> int:
    """How many entries of all modulations `reset` leaves as they are: those that a sparse file has to store."""
    return sum(int(((alpha - value).abs() >= threshold).sum()) for alpha in alphas.values())


def kept_share(alphas: Modulations, threshold: float, value: float = 1.0) -> float:
    """`kept_count` as a share (0 to 1) of all entries."""
    return kept_count(alphas, threshold, value) / sum(alpha.numel() for alpha in alphas.values())


def effective(alphas: Modulations, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One plus what of each change reaches beyond BatchNorm, in units of the weights: name -> (M, N).

    weights: name -> W (M, N, k, k) of the base, of a convolution without groups. A number matters as far as its slice
    does, so each change alpha - 1 is taken times the norm of its slice. And what all slices of an output have in common
    is one scale of its filter, which the BatchNorm behind the layer takes out again; it is subtracted. What is left has
    the norm of the change of the filters, alpha W - W, without its part along W.
    """
    kept = {}
    for name, alpha in alphas.items():
        norms = weights[name].detach().flatten(2).norm(dim=2)
        change = (alpha - 1) * norms
        along = (change * norms).sum(1, keepdim=True) / norms.square().sum(1, keepdim=True).clamp(min=1e-30)
        kept[name] = 1 + change - along * norms
    return kept


def similarity(one: Modulations, other: Modulations) -> float:
    """Cosine similarity (-1 to 1) of the two changes alpha - 1, over all layers; 0 if either is no change at all.

    The entries of alpha themselves lie near one in every domain, so that their cosine is always near one.
    Raises MadlabError if the two have different layers.
    """
    if one.keys() != other.keys():
        raise MadlabError("These modulations have different layers: compare domains of one base network.")
    a, b = (torch.cat([(alphas[name] - 1).flatten() for name in one]) for alphas in (one, other))
    length = a.norm() * b.norm()
    return float(a @ b / length) if length > 0 else 0.0


def directions(alpha: Tensor, share: float = 0.9) -> int:
    """The smallest rank that keeps `share` (0 to 1) of the squared change alpha - 1.

    A modulation that is one everywhere needs none.
    """
    energy = torch.linalg.svdvals((alpha - 1).double()).square().cumsum(0)
    if energy[-1] == 0:
        return 0
    return int((energy < share * energy[-1] * (1 - 1e-9)).sum()) + 1


def shuffled(alpha: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The same entries (M, N) in another order: as large and as sparse as alpha, but without rows and columns.

    This is what a structure has to be held against: any table has singular values, and some of its rows are larger than
    others.
    """
    order = torch.randperm(alpha.numel(), generator=generator)
    return alpha.flatten()[order.to(alpha.device)].view_as(alpha)


def singular_values(alpha: Tensor) -> Tensor:
    """Singular values (min(M, N),) of the change alpha - 1, the largest first.

    Those of alpha itself begin with the table of ones, however alpha was trained.
    """
    return torch.linalg.svdvals(alpha.detach() - 1)


def _alpha(adapter: nn.Module) -> Tensor:
    if isinstance(adapter, ModulatedTransform):
        adapter = adapter.mad
    if isinstance(adapter, Modulation):
        return adapter.modulation()
    raise MadlabError(f"A {type(adapter).__name__} is not a modulation: train the domain with mad.")
