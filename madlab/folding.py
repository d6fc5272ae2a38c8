"""A normalisation layer as the scale and shift that it is at inference, where it is nothing else."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm

FORWARDS = (_BatchNorm.forward, nn.SyncBatchNorm.forward, _InstanceNorm.forward)
"""Of the norms whose running statistics fold into scale and shift."""

KEPT = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
"""What the norms of PyTorch keep."""


def fold(norm: nn.Module) -> dict[str, Tensor] | None:
    """Scale and shift that a norm multiplies by and adds in eval mode; None for one that computes anything else.

    A norm that keeps more than these and its running statistics, as one that holds its activation's slopes, is none.
    """
    if norm.state_dict().keys() - KEPT:
        return None
    if isinstance(norm, nn.GroupNorm | nn.LayerNorm | nn.RMSNorm):
        return {name: parameter.detach() for name, parameter in norm.named_parameters()}
    if not isinstance(norm, _NormBase) or norm.running_mean is None or norm.running_var is None:
        return None
    if not {"running_mean", "running_var"} <= norm.state_dict().keys():  # which a file could not make neutral
        return None
    if norm._parameters.get("weight") is None or norm._parameters.get("bias") is None:  # or they are parametrised
        return None
    as_pytorch = type(norm).forward in FORWARDS and "forward" not in vars(norm)
    return _scale_and_shift(norm) if as_pytorch or _is_affine(norm) else None


def _scale_and_shift(norm: _NormBase) -> dict[str, Tensor]:
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return {"weight": scale.detach(), "bias": (norm.bias - norm.running_mean * scale).detach()}


@torch.no_grad()
def _is_affine(norm: _NormBase) -> bool:
    """Whether a norm with a forward of its own does to its input what scale and shift would, as timm's BatchNorms do.

    A copy of it is tried with made-up weights and statistics, so that the answer does not depend on its own.
    """
    if norm.weight.is_meta or "forward" in vars(norm):  # which may be bound to the norm itself, and not to its copy
        return False
    generator, size = torch.Generator().manual_seed(0), norm.num_features
    twin = copy.deepcopy(norm).to("cpu", torch.float32).eval()
    weight, bias, mean, root = torch.randn(4, size, generator=generator, device="cpu")
    _set(twin, weight, bias, mean, 0.1 + root.square())
    sides = (4,) if isinstance(norm, nn.BatchNorm1d) else (2, 2, 2) if isinstance(norm, nn.BatchNorm3d) else (3, 3)
    images, folded = torch.randn(2, size, *sides, generator=generator, device="cpu"), _scale_and_shift(twin)
    try:
        before = twin(images)
        _set(
            twin,
            folded["weight"],
            folded["bias"],
            torch.zeros_like(mean),
            torch.full_like(mean, neutral_variance(norm)),
        )
        return torch.allclose(before, twin(images), rtol=1e-4, atol=1e-4)
    except Exception:  # the norm's own code may raise anything; then it is stored as it is, which is always right
        return False


def _set(norm: _NormBase, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    norm.weight.copy_(weight)
    norm.bias.copy_(bias)
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)


def neutral_variance(norm: Any) -> float:
    """The running variance with which a norm that keeps statistics divides by one."""
    return 1 - norm.eps
