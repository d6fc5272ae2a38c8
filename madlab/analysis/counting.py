"""What adapters cost, computed from the shapes of a network's convolutions alone. Built in notebook 03.

For a convolution with weights (M, N, k, k), where N counts the input channels per group, full MAD adds M * N parameters
and rank I adds I * (M + N). Factorising pays where I < M * N / (M + N), which is not the same as I < min(M, N).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

from torch import nn

from madlab.errors import MadlabError

NUMBER = 4
"""Bytes of a number in float32."""


@dataclass(frozen=True)
class ConvShape:
    """The shape of one convolution: M output channels, N input channels per group, kernels of `kernel` x `width`."""

    name: str
    out_channels: int
    in_channels: int
    kernel: int
    width: int

    @property
    def weights(self) -> int:
        """M * N * k * k: what fine-tuning trains."""
        return self.slices * self.kernel * self.width

    @property
    def slices(self) -> int:
        """M * N, the number of k x k slices: what full MAD trains."""
        return self.out_channels * self.in_channels

    def mad_parameters(self, rank: int | None = None) -> int:
        """What MAD trains here: M * N in the full form (rank None), otherwise I * (M + N)."""
        return self.slices if rank is None else rank * (self.out_channels + self.in_channels)


def conv_shapes(network: nn.Module) -> list[ConvShape]:
    """The convolutions of a network, in its order; the network may be on the meta device."""
    convs = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    return [ConvShape(name, *conv.weight.shape) for name, conv in convs]


def batchnorm_parameters(network: nn.Module) -> int:
    """Gains and shifts of all BatchNorm layers of a network."""
    norms = (module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    return sum(parameter.numel() for norm in norms for parameter in norm.parameters())


def layer_choices(shapes: Sequence[ConvShape]) -> dict[str, list[ConvShape]]:
    """Which convolutions may be adapted: all, those of one kernel size, or one dense block with both of its kinds."""
    choices = {"all": list(shapes)}
    for kernel in (3, 1):
        choices[f"{kernel}x{kernel}"] = [shape for shape in shapes if shape.kernel == shape.width == kernel]
    blocks = dict.fromkeys(part for shape in shapes for part in shape.name.split(".") if part.startswith("denseblock"))
    for block in blocks:
        name = block.replace("denseblock", "dense block ")
        choices[name] = [shape for shape in shapes if f".{block}." in shape.name]
    return choices


def mad_parameters(shapes: Iterable[ConvShape], rank: int | None = None) -> int:
    """How many parameters MAD trains for one domain over these convolutions; rank None is the full form."""
    return sum(shape.mad_parameters(rank) for shape in shapes)


def break_even(shapes: Sequence[ConvShape]) -> float:
    """The rank from which MAD over these convolutions is no smaller than in the full form; there must be at least one.

    For a single convolution it is M * N / (M + N).
    """
    return mad_parameters(shapes) / mad_parameters(shapes, 1)


def rank_limit(shapes: Iterable[ConvShape]) -> int:
    """The largest rank that `add_domain` accepts for these convolutions: the largest min(M, N); 0 if there are none."""
    return max((min(shape.out_channels, shape.in_channels) for shape in shapes), default=0)


def largest_rank(shapes: Iterable[ConvShape], saving: float) -> int:
    """The largest rank that saves more than this share of full MAD's parameters (0 to 1); 0 if none does.

    Raises MadlabError if there is no convolution.
    """
    shapes = list(shapes)
    if not shapes:
        raise MadlabError("There is no convolution to adapt: choose other layers.")
    limit = (1 - saving) * mad_parameters(shapes) / mad_parameters(shapes, 1)
    return max(0, ceil(limit) - 1)
