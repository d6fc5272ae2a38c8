r"""Modulation Adapters (MAD), the idea that madlab is about.

Iakovleva, Alahari, Verbeek, "Multi-Domain Learning with Modulation Adapters", arXiv 2307.08528. A domain scales each
k x k slice of the filter bank by one number:

    full         W_d = W * alpha            alpha in R^(M x N)
    factorised   W_d = W * (beta gamma)     beta in R^(M x I), gamma in R^(I x N)

The paper's initialisation is not known; both forms here start at exactly one, which is our choice.
Built from nothing in notebooks 02 (full) and 05 (factorised).
"""

import math

import torch
from torch import Tensor, nn

from madlab.adapters.base import Adapter, mean_square


class Modulation(Adapter):
    """What both forms share: the unit in which their learning rate is given."""

    def rate_factors(self, weight: Tensor) -> dict[nn.Parameter, float]:
        """1 / mean(W^2) for every parameter: our choice, since the paper's learning rates are not known.

        The gradient of alpha is that of the filters times W, and a step of alpha moves the filters by W times that
        step. Together these scale the move of the filters in a step of SGD by W^2, whose mean differs by a factor of
        250 between the stem and the last layers of pocket-resnet26. Divided by that mean, one rate suits all layers,
        and it is of the order of fine-tuning's.
        """
        return dict.fromkeys(self.parameters(), 1 / mean_square(weight))


class FullModulation(Modulation):
    """W_d[m, n] = alpha[m, n] * W[m, n]: M * N parameters for one convolution."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__(conv)
        self.alpha = nn.Parameter(torch.ones(conv.weight.shape[:2]))

    def forward(self, weight: Tensor) -> Tensor:
        return modulate(weight, self.alpha)


class FactorisedModulation(Modulation):
    """W_d[m, n] = (beta gamma)[m, n] * W[m, n]: I * (M + N) parameters for one convolution.

    beta = 1, gamma = 1 / I would start at one as well, but all I directions would receive the same gradient for ever,
    and the product would stay at rank 1. Here the first direction carries the one (a column of ones times a row of
    ones), and every other direction is a random column of beta times a row of zeros, as in LoRA: the product is exactly
    one, and the rows of gamma move apart in the first step. The random columns have variance 1 / I: on average they add
    (I - 1) / I of the identity matrix to beta beta^T, so that alpha's first step does not grow with the rank. `rank`
    may exceed min(M, N) of a layer, as the paper's I = 36 does in a stem with 3 input channels; the product then has at
    most rank min(M, N).
    """

    def __init__(self, conv: nn.Conv2d, rank: int):
        super().__init__(conv)
        out_channels, in_channels = conv.weight.shape[:2]
        self.beta = nn.Parameter(torch.randn(out_channels, rank) / math.sqrt(rank))
        self.gamma = nn.Parameter(torch.zeros(rank, in_channels))
        with torch.no_grad():
            self.beta[:, 0] = 1
            self.gamma[0] = 1

    def forward(self, weight: Tensor) -> Tensor:
        return modulate(weight, self.beta @ self.gamma)


def build_modulation(conv: nn.Conv2d, rank: int | None = None) -> Adapter:
    """The full form, or the factorised one if a rank is given."""
    return FullModulation(conv) if rank is None else FactorisedModulation(conv, rank)


def modulate(weight: Tensor, alpha: Tensor) -> Tensor:
    """Scale each k x k slice: weight (M, N, k, k), alpha (M, N) -> (M, N, k, k), in weight's memory format.

    Its speed comes from the memory format: `train` keeps the base network in channels_last, where a filter bank lies as
    (M, k, k, N). This product and, in the backward pass, the sum over the kernel then run over whole vectors of N
    values instead of k * k neighbours, which takes two thirds of the time. Because W is frozen, autograd saves only W
    and computes only sum(gradient * W). A hand-written autograd Function was tried and took longer
    (tests/test_fast_path.py holds what this relies on).
    """
    return weight * alpha[:, :, None, None]
