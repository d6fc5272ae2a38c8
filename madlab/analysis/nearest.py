"""How near each method could come to given filters, without training: projections in closed form."""

import torch
from torch import Tensor

from madlab.errors import MadlabError

NEAREST = ("mad", "piggyback", "parallel", "series", "lora")
"""The methods for which `nearest` has a closed form."""


def nearest(method: str, weight: Tensor, target: Tensor, rank: int | None = None) -> Tensor:
    """The filter bank nearest to `target` (squared distance) among those that a method can make from `weight`.

    weight, target: (M, N, k, k), of a convolution without groups. method: one of `NEAREST`. rank: of "lora", which
    needs it. Raises MadlabError for another method or a missing rank.
    """
    if method not in NEAREST:
        raise MadlabError(f"No closed form is known for {method!r}: choose one of {', '.join(NEAREST)}.")
    change = target - weight
    if method == "mad":  # slice by slice: the target's projection onto it
        alpha = (weight * target).sum((2, 3)) / weight.square().sum((2, 3)).clamp(min=1e-30)
        return weight * alpha[:, :, None, None]
    if method == "piggyback":  # weight by weight: W or nothing
        return torch.where(change.abs() < target.abs(), weight, torch.zeros_like(weight))
    if method == "parallel":
        row, column = weight.shape[2] // 2, weight.shape[3] // 2
        near = weight.clone()
        near[:, :, row, column] = target[:, :, row, column]
        return near
    if method == "series":  # least squares: rows of the target from rows of W
        filters, wanted = weight.flatten(1), target.flatten(1)
        mixing = torch.linalg.lstsq(filters.T.double(), wanted.T.double(), driver="gelsd").solution.T
        return (mixing @ filters.double()).to(weight.dtype).view_as(weight)
    if rank is None:
        raise MadlabError("LoRA's nearest filters depend on its rank: give one.")
    u, sigma, v = torch.linalg.svd(change.flatten(1), full_matrices=False)
    return weight + ((u[:, :rank] * sigma[:rank]) @ v[:rank]).view_as(weight)


def explained(weight: Tensor, target: Tensor, near: Tensor) -> float:
    """Share (0 to 1) of the squared change from `weight` to `target` that `near` achieves; all three of one shape."""
    change = (target - weight).square().sum()
    return 1 - float((target - near).square().sum() / change) if change > 0 else 1.0
