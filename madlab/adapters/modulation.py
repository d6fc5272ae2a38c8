r"""Modulation Adapters (MAD), the idea that madlab is about.

Iakovleva, Alahari, Verbeek, "Multi-Domain Learning with Modulation Adapters", arXiv 2307.08528. A domain scales each
k x k slice of the filter bank by one number:

    full         W_d = W * alpha                alpha in R^(M x N)
    factorised   W_d = W * (beta gamma)         beta in R^(M x I), gamma in R^(I x N)
    residual     W_d = W * (1 + beta gamma)     the same shapes; not in the paper

The paper's initialisation is not known; all forms here start at exactly one, which is our choice.
Built from nothing in notebooks 02 (full) and 05 (factorised).
"""

import math

import torch
from torch import Tensor, nn

from madlab.adapters.base import Adapter, mean_square
from madlab.errors import MadlabError

FORMS = ("product", "residual")
"""What a rank limits: alpha itself, or its distance from one."""


class Modulation(Adapter):
    """What all forms share: alpha (M, N), and the unit in which their learning rate is given."""

    def modulation(self) -> Tensor:
        """alpha (M, N), by which the slices are multiplied."""
        raise NotImplementedError

    def forward(self, weight: Tensor) -> Tensor:
        return modulate(weight, self.modulation())

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
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(conv.weight.shape[:2]))

    def modulation(self) -> Tensor:
        return self.alpha

    def rest(self) -> dict[str, Tensor]:
        return {"alpha": torch.ones_like(self.alpha)}


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
        super().__init__()
        out_channels, in_channels = conv.weight.shape[:2]
        self.beta = nn.Parameter(torch.randn(out_channels, rank) / math.sqrt(rank))
        self.gamma = nn.Parameter(torch.zeros(rank, in_channels))
        with torch.no_grad():
            self.beta[:, 0] = 1
            self.gamma[0] = 1

    def modulation(self) -> Tensor:
        return self.beta @ self.gamma

    def rest(self) -> dict[str, Tensor]:
        beta, gamma = torch.zeros_like(self.beta), torch.zeros_like(self.gamma)
        beta[:, 0] = 1
        gamma[0] = 1
        return {"beta": beta, "gamma": gamma}


class ResidualModulation(Modulation):
    """W_d[m, n] = (1 + (beta gamma)[m, n]) * W[m, n]: I * (M + N) parameters; with rank 0 none, and W_d is W.

    The one needs no direction here, so that all I of them are free. They start as the free ones of the factorised form:
    a random column of beta, of variance 1 / I, times a row of zeros.
    """

    def __init__(self, conv: nn.Conv2d, rank: int):
        super().__init__()
        out_channels, in_channels = conv.weight.shape[:2]
        self.beta = nn.Parameter(torch.randn(out_channels, rank) / math.sqrt(max(rank, 1)))
        self.gamma = nn.Parameter(torch.zeros(rank, in_channels))

    def modulation(self) -> Tensor:
        return 1 + self.beta @ self.gamma


def build_modulation(conv: nn.Conv2d, rank: int | None = None, form: str | None = None) -> Modulation:
    """The full form, or with `rank` one of FORMS, the product unless told otherwise.

    Raises MadlabError for a form without a rank: without one there is nothing to tell them apart.
    """
    if rank is None:
        if form is not None:
            raise MadlabError(f"The form {form!r} says what a rank limits: give a rank, or leave the form out.")
        return FullModulation(conv)
    return ResidualModulation(conv, rank) if form == "residual" else FactorisedModulation(conv, rank)


def modulate(weight: Tensor, alpha: Tensor) -> Tensor:
    """Scale each k x k slice: weight (M, N, k, k), alpha (M, N) -> (M, N, k, k), in weight's memory format.

    Its speed comes from the memory format: `MultiDomainNet` lays the base's filters out in channels_last, as
    (M, k, k, N). This product and, in the backward pass, the sum over the kernel then run over whole vectors of N
    values instead of k * k neighbours, which takes two thirds of the time. Because W is frozen, autograd saves only W
    and computes only sum(gradient * W). A hand-written autograd Function was tried and took longer
    (tests/test_fast_path.py holds what this relies on).
    """
    return weight * alpha[:, :, None, None]
