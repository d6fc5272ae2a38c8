r"""Kernel-wise soft mask (KSM), the nearest published relative of MAD: which slices to keep, and how strongly.

    W_d = W * (B * A)        B = 1[m > tau], m in R^(M x N); A in R^(M x N)

Yang, He, Zhang, Fan, "KSM: Fast Multiple Task Adaption via Kernel-wise Soft Mask Learning", arXiv 2009.05668: one soft
mask value for each k x k kernel, binary and real at once. Without B it is full MAD, and B adds a gate that closes. The
paper computes B and A from one real tensor and gets the gradient of B from a softmax; here both are learned apart, and
B as Piggyback's is, straight through.
"""

import torch
from torch import Tensor, nn

from madlab.adapters.base import mean_square
from madlab.adapters.masks import MaskAdapter
from madlab.adapters.modulation import modulate


class KernelMask(MaskAdapter):
    """W_d[m, n] = B[m, n] A[m, n] W[m, n]: M * N numbers and as many bits. A starts at one, m above tau: as W."""

    threshold = 5e-3
    margin = 5e-3

    def __init__(self, conv: nn.Conv2d):
        shape = conv.weight.shape[:2]
        super().__init__(torch.full(shape, 1e-2))
        self.scale = nn.Parameter(torch.ones(shape))

    def forward(self, weight: Tensor) -> Tensor:
        return modulate(weight, self.binary() * self.scale)

    def rate_factors(self, weight: Tensor) -> dict[nn.Parameter, float]:
        """That of MAD's alpha for the scale, 0.06 of it for m, as Piggyback's rate was to MAD's in the first trials."""
        factor = 1 / mean_square(weight)
        return {self.scale: factor, self.mask: 0.06 * factor}

    def rest(self) -> dict[str, Tensor]:
        return {"scale": torch.ones_like(self.scale)}
