"""Smaller adapters: a trained modulation taken apart, and how many bits each of its numbers gets.

A matrix (M, N) is cut by its singular value decomposition, which gives the nearest matrix of each rank (Eckart and
Young, 1936). Which rank each layer gets under a budget is decided in cutting.py. Built in notebook 11.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from madlab.adapters.rounding import quantise as quantise


@dataclass(frozen=True)
class Spectrum:
    """A trained modulation or its change alpha - 1, taken apart: (u * sigma) @ v, the largest singular value first.

    u: (M, K), sigma: (K,), v: (K, N), with K = min(M, N).
    """

    u: Tensor
    sigma: Tensor
    v: Tensor

    @staticmethod
    def of(alpha: Tensor) -> "Spectrum":
        """The spectrum of alpha (M, N), at least in float32: of shorter formats PyTorch has no decomposition."""
        wide = alpha.detach().to(torch.promote_types(alpha.dtype, torch.float32))
        return Spectrum(*torch.linalg.svd(wide, full_matrices=False))

    @property
    def shape(self) -> tuple[int, int]:
        """(M, N) of alpha."""
        return self.u.shape[0], self.v.shape[1]

    @property
    def full_size(self) -> int:
        """M * N: the parameters of alpha itself."""
        m, n = self.shape
        return m * n

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
