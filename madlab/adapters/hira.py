r"""HiRA: a low-rank change of the filters, in units of the filters themselves.

    W_d = W * (1 + B o A)        A in R^(I x N x k x k), B in R^(M x I)

Huang et al., "HiRA: Parameter-Efficient Hadamard High-Rank Adaptation for Large Language Models", ICLR 2025
(openreview.net/forum?id=TwJrTz9cRS). B o A is that of LoRA (lora.py); shapes and start (A random, B zero) are those of
PEFT's HiRA for Conv2d. Where k = 1 it is MAD with rank in its residual form; elsewhere each tap has its own factor.
"""

import math

import torch
from torch import Tensor, nn

from madlab.adapters.base import Adapter, mean_square


class HadamardLowRank(Adapter):
    """W_d = W * (1 + B o A): I * (k^2 * N + M) parameters. In a grouped convolution every group uses the same A."""

    def __init__(self, conv: nn.Conv2d, rank: int):
        super().__init__()
        self.a = nn.Parameter(torch.empty(rank, *conv.weight.shape[1:]))
        self.b = nn.Parameter(torch.zeros(conv.out_channels, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        return weight * (1 + (self.b @ self.a.flatten(1)).view(weight.shape))

    def rate_factors(self, weight: Tensor) -> dict[nn.Parameter, float]:
        """1 / mean(W^2), for the reason that MAD has (modulation.py)."""
        return dict.fromkeys(self.parameters(), 1 / mean_square(weight))
