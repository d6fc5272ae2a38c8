"""What an adapter is: a small module that maps a frozen filter bank to the one a domain runs with."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from madlab.errors import MadlabError

Layer = nn.Conv2d | nn.Linear
"""A layer with a filter bank; an nn.Linear counts as a 1x1 convolution of vectors."""
AnyLayer = TypeVar("AnyLayer", bound=Layer)


class Adapter(nn.Module):
    """A function on one layer's filter bank: forward(W) -> W_d, both of shape (M, N, k, k).

    M: output channels; N: input channels per group; k: kernel size, 1 for an nn.Linear. A new adapter returns W
    itself, bit for bit, unless its source says otherwise. It is built for one layer, and keeps only what the domain
    learns.
    """

    def forward(self, weight: Tensor) -> Tensor:
        raise NotImplementedError

    def adapted_weight(self, layer: Layer) -> Tensor:
        """W_d in the shape of the layer's own weight: (M, N, k, k), or (M, N) for an nn.Linear."""
        adapted = self(filters_of(layer))
        return adapted.flatten(1) if isinstance(layer, nn.Linear) else adapted

    def convolve(self, layer: Layer, x: Tensor) -> Tensor:
        """The layer's output with W_d in place of its weight; x: (B, channels, H, W), or (..., N) for nn.Linear."""
        weight = self.adapted_weight(layer)
        if not is_plain(layer):  # timm's own convolutions pad in their forward
            return run_with(weight, layer, x)
        if isinstance(layer, nn.Conv2d):
            return layer._conv_forward(x, weight, layer.bias)
        return F.linear(x, weight, layer.bias)

    def size(self) -> float:
        """Adapter parameters as the literature counts them; a mask's bit is 1/32 of a parameter."""
        return sum(parameter.numel() for parameter in self.parameters())

    def rate_factors(self, weight: Tensor) -> dict[nn.Parameter, float]:
        """What this layer, with filters `weight`, multiplies the method's learning rate by; 1 if not listed."""
        return {}

    def rest(self) -> dict[str, Tensor]:
        """Where the numbers of `pack` lie that change nothing, as 1 for a factor; what is left out: at zero.

        Rounding keeps the distances from there (`adapters.rounding`), so that what did not learn comes back exactly.
        """
        return {}

    def pack(self) -> dict[str, Tensor]:
        """The tensors that a domain's file stores for this adapter."""
        return self.state_dict()

    def unpack(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `pack`: afterwards forward returns the same W_d."""
        self.load_state_dict(tensors)


def is_plain(layer: Layer) -> bool:
    """Whether calling a layer is nothing but PyTorch's operation: no forward of its own and no hooks."""
    kind = nn.Conv2d if isinstance(layer, nn.Conv2d) else nn.Linear
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return type(layer).forward is kind.forward and "forward" not in vars(layer) and not any(hooks)


def run_with(weight: Tensor, layer: Layer, *inputs: Any, **named: Any) -> Tensor:
    """What a layer with a forward of its own or with hooks makes of its inputs with another weight.

    The weight is that of a twin, made for this call. `functional_call` lends it to the layer itself: a second thread
    then adapts what is adapted already, and so does a forward that was set on the layer and asks for its weight.
    Nothing but the compiler, which cannot follow the twin, and has one thread, goes that way.
    """
    if torch.compiler.is_compiling() and "forward" not in vars(layer):
        return functional_call(layer, {"weight": weight}, inputs, named)
    return _run_twin(weight, layer, *inputs, **named)


@torch.compiler.disable
def _run_twin(weight: Tensor, layer: Layer, *inputs: Any, **named: Any) -> Tensor:
    twin = with_weight(layer, weight)
    output: Tensor = twin(*inputs, **named)
    vars(layer).update(vars(twin) | {"_parameters": layer._parameters})  # what a forward notes, the layer keeps
    return output


def with_weight(layer: AnyLayer, weight: Tensor) -> AnyLayer:
    """A twin of a layer with another weight; it shares everything else with the layer."""
    twin = type(layer).__new__(type(layer))
    twin.__dict__ = vars(layer) | {"_parameters": layer._parameters | {"weight": weight}}
    return twin


def filters_of(layer: Layer) -> Tensor:
    """A layer's filter bank (M, N, k, k); that of an nn.Linear is a view (M, N, 1, 1) of its weight."""
    return layer.weight[:, :, None, None] if isinstance(layer, nn.Linear) else layer.weight


def as_convolution(layer: Layer) -> nn.Conv2d:
    """The layer itself, or an nn.Linear as a 1x1 convolution without bias that shares its weight."""
    if isinstance(layer, nn.Conv2d):
        return layer
    filters = filters_of(layer).detach()
    conv = nn.Conv2d(filters.shape[1], filters.shape[0], 1, bias=False, device="meta")
    conv.weight = nn.Parameter(filters, requires_grad=False)
    return conv


def mean_square(weight: Tensor) -> float:
    """The mean of W^2 over a filter bank, which differs widely between layers; never zero, so that it can divide."""
    return max(weight.detach().square().mean().item(), 1e-8)


@dataclass(frozen=True)
class Rates:
    """Peak learning rates of SGD for one method, tuned by us on validation data (notebooks/site/fair_table.md)."""

    adapter: float = 0.0
    """For the adapter's parameters, before the layer's factor (`Adapter.rate_factors`)."""
    batchnorm: float = 0.3
    """For the normalisation layers."""
    head: float = 0.1
    """For the head, as a share of what is stable for its features and classes (`runs.rates.head_factor`)."""


@dataclass(frozen=True)
class Method:
    """A way to adapt a base network to a domain: an entry of `madlab.METHODS`, which maps names to these.

    name, equation, source: what it is called, its W_d, and the paper. adapter, prompt: build what adapts a layer, or
    the images. options: what `add_domain` takes for it, with defaults. rates, rates_by_rank, rates_by_form: its
    learning rates (`rates_for` finds them). adapts_batchnorm, trains_everything: what else a domain owns. knows_linear:
    whether `adapter` takes an nn.Linear as it is. The text under each field says more.
    """

    name: str
    equation: str
    source: str
    adapter: Callable[..., Adapter] | None = None
    """Builds the adapter of one layer from it and the method's options; None leaves the filters as they are."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The options that `add_domain` passes on to `adapter` or `prompt`, with their defaults; None is not passed on."""
    rates: Rates = field(default_factory=Rates)
    """Its learning rates."""
    rates_by_rank: Mapping[int, Rates] = field(default_factory=dict)
    """Other rates from these ranks on, where the rate depends on the rank."""
    rates_by_form: Mapping[str, Rates] = field(default_factory=dict)
    """Other rates for these values of the option `form`, whatever the rank."""
    prompt: Callable[..., Adapter] | None = None
    """Builds an adapter of the images, (B, C, H, W) -> the same shape, from C and the options; None: there is none."""
    adapts_batchnorm: bool = True
    """Whether the domain trains its normalisation layers and keeps its own running statistics."""
    trains_everything: bool = False
    """Whether the domain has its own copy of all other parameters too: biases, position embeddings, layer scales."""
    knows_linear: bool = False
    """Whether `adapter` takes an nn.Linear as it is; otherwise it is given the equivalent 1x1 convolution."""

    def rates_for(self, options: Mapping[str, Any]) -> Rates:
        """The learning rates for these options; of ranks by layer the largest one counts."""
        rank, form = options.get("rank"), options.get("form")
        if form is not None and form in self.rates_by_form:
            return self.rates_by_form[form]
        if isinstance(rank, Mapping):
            rank = max(rank.values(), default=None)
        reached = [least for least in self.rates_by_rank if rank is not None and least <= rank]
        return self.rates_by_rank[max(reached)] if reached else self.rates

    def rate(self, options: Mapping[str, Any]) -> float:
        """The adapter's learning rate for these options."""
        return self.rates_for(options).adapter

    def build(self, layer: Layer, options: Mapping[str, Any]) -> Adapter:
        """A new adapter for one convolution or nn.Linear, on its device and in its number format."""
        assert self.adapter is not None
        adapter = self.adapter(layer if self.knows_linear else as_convolution(layer), **options)
        weight = filters_of(layer)
        return adapter.to(weight.device, weight.dtype)


def split_method(text: str) -> tuple[str, int | None]:
    """The name and the rank, or None, of a method as it is written: "mad:8", "peft:lora:8" or "mad"."""
    found = re.fullmatch(r"(.+):(-?[0-9]{1,9})", text)
    return (found[1], int(found[2])) if found else (text, None)


def join_method(name: str, rank: int | None) -> str:
    """The inverse of `split_method`: ("mad", 8) is written "mad:8"."""
    return name if rank is None else f"{name}:{rank}"


def whole_number(value: Any) -> int | None:
    """A whole number from Python or NumPy as an int; None for anything else, including True and 2.0."""
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else None


def check_rank(rank: Any, largest: int, where: str, least: int = 1) -> int:
    """The rank as an int; MadlabError unless least <= rank <= largest, the limit of the layer that `where` names."""
    number = whole_number(rank)
    if number is None or not least <= number <= largest:
        raise MadlabError(
            f"Rank {rank!r} is not possible: choose a whole number from {least} to {largest}, the limit of {where}."
        )
    return number


def checked_ranks(options: Mapping[str, Any], adapted: Mapping[str, Layer]) -> int | dict[str, int]:
    """One rank or one for each layer, as int; raises MadlabError for what the layers cannot have."""
    rank, least = options["rank"], 0 if options.get("form") == "residual" else 1  # W * (1 + nothing) is W
    largest = {name: min(filters_of(layer).shape[:2]) for name, layer in adapted.items()}
    if isinstance(rank, Mapping):
        if rank.keys() != largest.keys():
            raise MadlabError("A rank for each layer must name exactly the adapted layers.")
        return {name: check_rank(rank[name], largest[name], f"layer {name}", least) for name in adapted}
    widest = max(largest, key=largest.__getitem__)
    return check_rank(rank, largest[widest], f"the widest layer, {widest}", least)
