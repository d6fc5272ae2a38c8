"""Smaller adapters: which rank each layer gets under a total budget, and how many bits each parameter gets.

A trained modulation alpha (M, N) is cut by its singular value decomposition, which gives the nearest matrix of each
rank (Eckart and Young, 1936). A layer cut to rank I needs I * (M + N) parameters or M * N, whichever is less: from the
break-even on, alpha itself is kept. Built in notebook 11.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from madlab.adapters.rounding import quantise as quantise
from madlab.adapters.rounding import quantised_bits as quantised_bits
from madlab.errors import MadlabError


@dataclass(frozen=True)
class Spectrum:
    """A trained modulation, taken apart: alpha = (u * sigma) @ v, the largest singular value first.

    u: (M, K), sigma: (K,), v: (K, N), with K = min(M, N).
    """

    u: Tensor
    sigma: Tensor
    v: Tensor

    @staticmethod
    def of(alpha: Tensor) -> "Spectrum":
        """The spectrum of alpha (M, N)."""
        return Spectrum(*torch.linalg.svd(alpha.detach(), full_matrices=False))

    @property
    def shape(self) -> tuple[int, int]:
        """(M, N) of alpha."""
        return self.u.shape[0], self.v.shape[1]

    @property
    def full_size(self) -> int:
        """M * N: the parameters of alpha itself."""
        m, n = self.shape
        return m * n

    def size(self, rank: int) -> int:
        """Parameters of alpha cut to this rank, in the cheaper of its two forms."""
        return min(rank * sum(self.shape), self.full_size)

    def paid(self, rank: int) -> int:
        """The rank that the parameters of this rank pay for: the same rank, or alpha's own from the break-even on."""
        m, n = self.shape
        return min(m, n) if rank * (m + n) >= m * n else rank

    def cut(self, rank: int) -> Tensor:
        """The matrix of this rank that is nearest to alpha, (M, N)."""
        return (self.u[:, :rank] * self.sigma[:rank]) @ self.v[:rank]

    def factors(self, rank: int) -> tuple[Tensor, Tensor]:
        """beta (M, rank) and gamma (rank, N) whose product is `cut(rank)`; each takes the root of the size."""
        root = self.sigma[:rank].sqrt()
        return self.u[:, :rank] * root, root[:, None] * self.v[:rank]

    def energy(self) -> Tensor:
        """Share of alpha's squared size in each direction, (K,), in double precision; the sum is one."""
        squares = self.sigma.double().square()
        return squares / squares.sum()

    def left_out(self, rank: int) -> float:
        """Share (0 to 1) of alpha's squared size that is lost when it is cut to this rank."""
        return max(0.0, 1 - float(self.energy()[:rank].sum()))


def total_size(spectra: Mapping[str, Spectrum], ranks: Mapping[str, int]) -> int:
    """Parameters of all layers, each cut to its rank."""
    return sum(spectrum.size(ranks[name]) for name, spectrum in spectra.items())


def uniform_ranks(spectra: Mapping[str, Spectrum], budget: int) -> dict[str, int]:
    """The same rank for every layer, the largest that the budget allows; a layer beyond its break-even keeps alpha.

    budget: parameters of all layers together. Raises MadlabError if not even rank 1 fits.
    """
    _check(spectra, budget)
    best = {name: spectrum.paid(1) for name, spectrum in spectra.items()}
    for rank in range(2, max(len(spectrum.sigma) for spectrum in spectra.values()) + 1):
        ranks = {name: spectrum.paid(rank) for name, spectrum in spectra.items()}
        if total_size(spectra, ranks) <= budget:
            best = ranks
    return best


def greedy_ranks(spectra: Mapping[str, Spectrum], budget: int) -> dict[str, int]:
    """A rank for each layer: the next direction always goes where it explains most of a layer's alpha for its price.

    Every layer starts at rank 1 (rank 0 would switch it off). Then, while the budget allows, one layer at a time gains
    a direction, or at its break-even all that are left: the layer in which the gain, as a share of its energy, is
    highest per parameter. Shares rather than squares, because the BatchNorm after a layer removes its scale: each
    layer's error counts relative to that layer. The result never exceeds the budget. Raises MadlabError if not even
    rank 1 fits.
    """
    _check(spectra, budget)
    explained = {name: [0.0, *spectrum.energy().cumsum(0).tolist()] for name, spectrum in spectra.items()}
    ranks = {name: spectrum.paid(1) for name, spectrum in spectra.items()}
    left = budget - total_size(spectra, ranks)
    while True:
        offers = []
        for name, spectrum in spectra.items():
            rank = ranks[name]
            after = spectrum.paid(rank + 1)
            price = spectrum.size(after) - spectrum.size(rank)
            if rank < len(spectrum.sigma) and price <= left:
                gain = explained[name][after] - explained[name][rank]
                offers.append((gain / price, name, after, price))
        if not offers:
            return ranks
        _, name, after, price = max(offers, key=lambda offer: offer[0])
        ranks[name] = after
        left -= price


ALLOCATIONS: dict[str, Callable[[Mapping[str, Spectrum], int], dict[str, int]]] = {
    "uniform": uniform_ranks,
    "greedy": greedy_ranks,
}
"""The ways to spend a budget, by name."""


def _check(spectra: Mapping[str, Spectrum], budget: int) -> None:
    least = total_size(spectra, dict.fromkeys(spectra, 1))
    if budget < least:
        raise MadlabError(f"A budget of {budget:,} parameters is too small: rank 1 in every layer takes {least:,}.")
