"""What an adapter is: a small module that maps a frozen filter bank to the one a domain runs with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from madlab.errors import MadlabError


class Adapter(nn.Module):
    """A function on one convolution's filter bank: forward(W) -> W_d, both of shape (M, N, k, k).

    M: output channels; N: input channels of a group; k: kernel size. A new adapter returns W itself, bit for bit,
    unless its source says otherwise. Built for one convolution, it keeps only what the domain learns.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__()

    def forward(self, weight: Tensor) -> Tensor:
        raise NotImplementedError

    def convolve(self, conv: nn.Conv2d, x: Tensor) -> Tensor:
        """What conv gives for x (B, channels, H, W) with the adapted filters instead of its own."""
        weight = self(conv.weight)
        if type(conv).forward is nn.Conv2d.forward:
            return conv._conv_forward(x, weight, conv.bias)
        return functional_call(conv, {"weight": weight}, (x,))  # timm's own convolutions pad in their forward

    def size(self) -> float:
        """Adapter parameters as the literature counts them; a mask's bit is 1/32 of a parameter."""
        return sum(parameter.numel() for parameter in self.parameters())

    def rate_factors(self, weight: Tensor) -> dict[nn.Parameter, float]:
        """By what this layer, with filters `weight`, multiplies the method's learning rate; what is left out: by 1."""
        return {}

    def pack(self) -> dict[str, Tensor]:
        """What a domain file stores of this adapter."""
        return self.state_dict()

    def unpack(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `pack` gave: afterwards forward returns the same W_d."""
        self.load_state_dict(tensors)


def mean_square(weight: Tensor) -> float:
    """The mean of W^2 over a filter bank, in which layers differ most; never zero, so that one can divide by it."""
    return max(weight.detach().square().mean().item(), 1e-8)


@dataclass(frozen=True)
class Method:
    """A way to adapt a base network to a domain: an entry of `madlab.METHODS`."""

    name: str
    equation: str
    source: str
    adapter: Callable[..., Adapter] | None = None
    """Builds the adapter of one convolution from it and the method's options; None leaves the filters as they are."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The options that `add_domain` passes on to `adapter` or `prompt`, each with its default; None leaves it out."""
    prompt: Callable[..., Adapter] | None = None
    """Builds an adapter of the images instead, (B, C, H, W) -> the same shape, from base and options."""
    adapts_batchnorm: bool = True
    """Whether the domain trains its BatchNorm and keeps its own running statistics."""
    learning_rate: float = 0.0
    """SGD learning rate of the adapter's parameters, before the layer's factor (`Adapter.rate_factors`); tuned by us on
    validation data (records/trials.json)."""
    rank_learning_rate: float | None = None
    """The same with a rank, where the factorised form wants another."""

    domain_learning_rate: float = 0.3
    """That of BatchNorm and head, which every domain owns; a head of few classes or many features gets less
    (optimiser.peak_rates)."""
    head_learning_rate: float | None = None
    """That of the head, where it wants another."""

    def rate(self, options: Mapping[str, Any]) -> float:
        """The adapter's learning rate for these options."""
        if self.rank_learning_rate is not None and options.get("rank") is not None:
            return self.rank_learning_rate
        return self.learning_rate


def check_rank(rank: int, largest: int, where: str) -> None:
    """Raise MadlabError unless 1 <= rank <= largest; `where` names the layer that has the largest rank."""
    if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= largest:
        raise MadlabError(
            f"Rank {rank} is not possible: choose a whole number from 1 to {largest}, the limit of {where}."
        )
