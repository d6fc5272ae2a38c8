"""What adapters cost, from the shapes of a network's convolutions alone. Built in notebook 03.

For a convolution with weights (M, N, k, k), N of them a group, full MAD adds M * N numbers, rank I adds I * (M + N).
Factorising pays where I < M * N / (M + N); that is not the same as I < min(M, N).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import floor

from torch import nn

from madlab.errors import MadlabError


@dataclass(frozen=True)
class ConvShape:
    """The shape of one convolution: M output channels, N input channels of a group, kernels of k x k."""

    name: str
    out_channels: int
    in_channels: int
    kernel: int

    @property
    def weights(self) -> int:
        """M * N * k * k: what fine-tuning trains."""
        return self.slices * self.kernel**2

    @property
    def slices(self) -> int:
        """M * N: what full MAD trains."""
        return self.out_channels * self.in_channels

    def factors(self, rank: int) -> int:
        """I * (M + N): what MAD of this rank trains."""
        return rank * (self.out_channels + self.in_channels)


def conv_shapes(network: nn.Module) -> list[ConvShape]:
    """The convolutions of a network, in its order; the network may lie on the meta device."""
    convs = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    return [ConvShape(name, *conv.weight.shape[:3]) for name, conv in convs]


def mad_parameters(shapes: Iterable[ConvShape], rank: int | None = None) -> int:
    """Numbers that MAD trains for one domain over these convolutions; rank None is the full form."""
    return sum(shape.slices if rank is None else shape.factors(rank) for shape in shapes)


def largest_rank(shapes: Iterable[ConvShape], saving: float) -> int:
    """The largest rank that saves more than this share of full MAD's numbers (0 to 1); 0 if none does.

    Raises MadlabError if there is no convolution.
    """
    shapes = list(shapes)
    if not shapes:
        raise MadlabError("There is no convolution to adapt: choose other layers.")
    limit = (1 - saving) * mad_parameters(shapes) / mad_parameters(shapes, 1)
    return max(0, floor(limit) - (floor(limit) == limit))
