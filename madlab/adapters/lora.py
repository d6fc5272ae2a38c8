r"""LoRA for convolutions: a low-rank change of the filters.

    W_d = W + (alpha / I) B o A        A in R^(I x N x k x k), B in R^(M x I)

(B o A)[m] = sum over i of B[m, i] A[i]: first I filters of the base's kernel size, then a 1x1 convolution. Hu et al.,
"LoRA", arXiv 2106.09685; the shapes and the start (A random, B zero) are those of PEFT's LoRA for Conv2d.
"""

import math

import torch
from torch import Tensor, nn

from madlab.adapters.base import Adapter


class LowRankDelta(Adapter):
    """W_d = W + (alpha / I) B o A: I * (k^2 * N + M) parameters for one convolution.

    alpha: None means I, a factor of one. In a grouped convolution every group uses the same A.
    """

    def __init__(self, conv: nn.Conv2d, rank: int, alpha: float | None = None):
        super().__init__()
        self.a = nn.Parameter(torch.empty(rank, *conv.weight.shape[1:]))
        self.b = nn.Parameter(torch.zeros(conv.out_channels, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))
        self.factor = 1.0 if alpha is None else alpha / rank

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.factor * (self.b @ self.a.flatten(1)).view(weight.shape)
