r"""Filter subspace: the spatial atoms are learned, the mixing of channels is kept. MAD's complement.

    W_d[m, n] = sum over a of C[m, n, a] (D[a] + Delta[a])        C fixed, D and Delta in R^(k^2 x k x k)

Chen, Miao, Qiu, "Large Convolutional Model Tuning via Filter Subspace", arXiv 2403.00269. Every slice of W is a mixture
of the layer's atoms D; a domain moves the atoms and keeps the coefficients C, so that all M * N slices move together.
MAD does the opposite: it keeps each slice's shape and learns the mixing.

The atoms are k^2, as many as the authors take (nine for 3x3), so that they span all slices and W_d starts at exactly W.
With so many, every choice of D gives the same W_d = W (1 + Delta), and the same steps of SGD if D is orthogonal. Here D
is the k^2 single taps, which makes C the filters themselves and needs no dictionary learning.
"""

import torch
from torch import Tensor, nn

from madlab.adapters.base import Adapter, mean_square


class FilterSubspace(Adapter):
    """W_d[m, n, q] = W[m, n, q] + sum over p of W[m, n, p] Delta[p, q] over the taps of a slice: k^4 parameters.

    A 1x1 layer has a single atom of one tap: its Delta is one number, which scales the whole layer, and a BatchNorm
    behind takes the scale out again. In networks of 1x1 layers the method so trains little more than `batchnorm`.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        taps = conv.weight[0, 0].numel()
        self.delta = nn.Parameter(torch.zeros(taps, taps))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (weight.flatten(2) @ self.delta).view(weight.shape)

    def rate_factors(self, weight: Tensor) -> dict[nn.Parameter, float]:
        """1 / (M N mean(W^2)): each number moves all slices at once; with it, a step moves the filters by about as much
        as one of fine-tuning does in the directions that Delta can move them."""
        slices = weight.shape[0] * weight.shape[1]
        return {self.delta: 1 / (slices * mean_square(weight))}
