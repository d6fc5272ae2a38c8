"""Fine-tuning as an adapter: the upper end of the scale, one whole network per domain."""

import torch
from torch import Tensor, nn

from madlab.adapters.base import Adapter


class Delta(Adapter):
    """W_d = W + Delta, Delta in R^(M x N x k x k): M * N * k^2 parameters for one convolution. Delta starts at zero."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.delta = nn.Parameter(torch.zeros_like(conv.weight))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.delta
