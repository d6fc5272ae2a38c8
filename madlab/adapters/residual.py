r"""Residual adapters: a 1x1 convolution A beside or behind each frozen convolution, folded into its filters.

    parallel    y = W x + A x           W_d = W + A on the central tap        Rebuffi et al., arXiv 1803.10082
    series      y = (Id + A) (W x)      W_d = (Id + A) W                      Rebuffi et al., arXiv 1705.08045

Here A starts at zero, so that a domain starts at the base network's function; the authors' code (srebuffi/
residual_adapters) starts it at random. Their series adapter has its own BatchNorm between W and A, which is not a
function on the filter bank and is left out: the domain's BatchNorm follows anyway. In a grouped convolution A mixes the
channels within each group. A bias of the convolution is added after both.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from madlab.adapters.base import Adapter


class ParallelAdapter(Adapter):
    """W_d = W + A on the central tap, A in R^(M x N): M * N parameters for one convolution.

    It equals a second branch, a 1x1 convolution A of the same stride, wherever the padding is half the kernel.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.a = nn.Parameter(torch.zeros(conv.weight.shape[:2]))

    def forward(self, weight: Tensor) -> Tensor:
        height, width = weight.shape[2:]
        before, above = width // 2, height // 2
        return weight + F.pad(self.a[:, :, None, None], (before, width - 1 - before, above, height - 1 - above))


class SeriesAdapter(Adapter):
    """W_d[m] = W[m] + sum over m' of A[m, m'] W[m'], A in R^(M x M): M * M parameters for one convolution.

    In a grouped convolution A is (groups, M / groups, M / groups).
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        size = conv.out_channels // conv.groups
        self.a = nn.Parameter(torch.zeros(conv.groups, size, size))

    def forward(self, weight: Tensor) -> Tensor:
        filters = weight.reshape(*self.a.shape[:2], -1)
        return weight + (self.a @ filters).view(weight.shape)
