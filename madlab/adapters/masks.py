r"""Binary masks: one bit for each weight of the base network says what the domain makes of it.

    piggyback    W_d = W * B                               Mallya et al., "Piggyback", arXiv 1801.06519
    wtpb         W_d = k0 W + k1 1 + k2 B + k3 W * B       Mancini et al., "Adding New Tasks to a Single Network with
                                                           Weight Transformations using Binary Masks", 1805.11119

B = 1[m > threshold] has no useful gradient, so m is learned with the straight-through gradient: the gradient of B is
used as that of m. A domain's file stores the bits, not m. The code of both papers keeps BatchNorm frozen by default;
here a domain has its own, as with every other method (data_scripts/frozen_batchnorm.py measures what that changes).
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from madlab.adapters.base import Adapter, mean_square
from madlab.errors import MadlabError


class MaskAdapter(Adapter):
    """An adapter with one binary mask, counted and stored as one bit for each of its numbers.

    mask: the real-valued m, of W's shape (M, N, k, k) or, in ksm.py, (M, N). threshold: of m. margin: how far from it m
    restarts when a file, which knows only the bits, is loaded.
    """

    threshold: float
    margin: float

    def __init__(self, mask: Tensor):
        super().__init__()
        self.mask = nn.Parameter(mask)

    def binary(self) -> Tensor:
        """B, zeros and ones of the mask's shape, with the straight-through gradient."""
        return _Step.apply(self.mask, self.threshold)

    def rate_factors(self, weight: Tensor) -> dict[nn.Parameter, float]:
        """1 / mean(W^2) for the mask, as for MAD's alpha: m, too, acts relative to W, and so does its gradient.

        This is our choice: the authors train m with Adam, which brings all layers to one scale in its own way.
        """
        return {self.mask: 1 / mean_square(weight)}

    def size(self) -> float:
        return super().size() - self.mask.numel() + self.mask.numel() / 32

    def pack(self) -> dict[str, Tensor]:
        if self.mask.isnan().any():  # which is above no threshold, so that its bit would hide it
            raise MadlabError("A mask holds NaN, which cannot be stored: train with lower learning rates.")
        state = super().pack()
        return {name: value for name, value in state.items() if name != "mask"} | {"bits": pack_bits(self.binary())}

    def unpack(self, tensors: dict[str, Tensor]) -> None:
        bits = unpack_bits(tensors["bits"], self.mask.numel()).view(self.mask.shape)
        others = {name: value for name, value in tensors.items() if name != "bits"}
        super().unpack(others | {"mask": self.threshold + self.margin * (2.0 * bits - 1)})


class Piggyback(MaskAdapter):
    """W_d = W * B: M * N * k^2 bits. m starts at 0.01 everywhere, above the threshold, so that W_d starts as W."""

    threshold = 5e-3
    margin = 5e-3

    def __init__(self, conv: nn.Conv2d):
        super().__init__(torch.full_like(conv.weight, 1e-2))

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.binary()


class BinaryTransform(MaskAdapter):
    """W_d = k0 W + s (k1 1 + k2 B) + k3 W * B: M * N * k^2 bits and four scalars, k = (1, 0, 0, 0) at the start.

    m starts between 1e-5 and 2e-5, as in the authors' code (fcdl94/RobotChallenge), where the threshold is 0 and k0
    stays at 1. s is fixed, the root mean square of W: it measures k1 and k2 in W's own size, so that one learning rate
    suits all four scalars. The authors have no s and train with Adam, which does not care.
    """

    threshold = 0.0
    margin = 1.5e-5

    def __init__(self, conv: nn.Conv2d):
        super().__init__(torch.empty_like(conv.weight).uniform_(1e-5, 2e-5))
        self.k = nn.Parameter(torch.tensor([1.0, 0, 0, 0]))
        self.register_buffer("scale", conv.weight.detach().square().mean().sqrt(), persistent=False)

    def rate_factors(self, weight: Tensor) -> dict[nn.Parameter, float]:
        """For k 1 / sum(W^2), since each of its numbers moves all filters at once: one rate suits k and all layers."""
        return super().rate_factors(weight) | {self.k: 1 / (weight.numel() * mean_square(weight))}

    def rest(self) -> dict[str, Tensor]:
        return {"k": self.k.new_tensor([1.0, 0, 0, 0])}

    def forward(self, weight: Tensor) -> Tensor:
        binary, (k0, k1, k2, k3) = self.binary(), self.k
        return weight * (k0 + k3 * binary) + self.scale * (k1 + k2 * binary)


def pack_bits(bits: Tensor) -> Tensor:
    """Zeros and ones of any shape -> uint8 (ceil(n / 8),), the first in the highest bit."""
    return torch.from_numpy(np.packbits(bits.flatten().to("cpu", torch.uint8).numpy())).to(bits.device)


def unpack_bits(packed: Tensor, count: int) -> Tensor:
    """The first `count` bits of what `pack_bits` gave: uint8 (count,) of zeros and ones."""
    return torch.from_numpy(np.unpackbits(packed.cpu().numpy(), count=count)).to(packed.device)


class _Step(torch.autograd.Function):
    """1[m > threshold] with the gradient of the identity (straight-through)."""

    generate_vmap_rule = True  # gradients per image (torch.func) work as with all other methods

    @staticmethod
    def forward(mask: Tensor, threshold: float) -> Tensor:
        return (mask > threshold).to(mask.dtype)

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Tensor, float], output: Tensor) -> None:
        """Nothing: the gradient asks for neither."""

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None
