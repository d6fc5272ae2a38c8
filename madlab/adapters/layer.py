"""A layer of the base that runs with a domain's filters, and how a network is copied around such layers."""

import copy
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import FunctionType, ModuleType
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.nn.utils import parametrize

from madlab.adapters import Adapter
from madlab.adapters.base import Layer, run_with, with_weight
from madlab.errors import MadlabError, reason

AnyModule = TypeVar("AnyModule", bound=nn.Module)


class AdaptedConv2d(nn.Module):
    """A convolution of the base network that runs with the filter bank its adapter returns.

    conv: the layer, whose weight is shared with the base; any stride, groups, padding and bias. It may be an nn.Linear,
    which is a 1x1 convolution of vectors. Code that reads the layer's attributes instead of calling it, as
    nn.MultiheadAttention does with its output projection, sees the adapted `weight`; all others are the layer's own,
    also where code sets one (a padding that follows the image's size).
    """

    conv: Layer
    adapter: Adapter

    def __init__(self, conv: Layer, adapter: Adapter):
        super().__init__()
        self.conv = conv
        self.adapter = adapter

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """The layer's output for its input, as `Adapter.convolve`; more inputs than one are for its own forward."""
        if len(inputs) == 1 and not named:
            return self.adapter.convolve(self.conv, inputs[0])
        return run_with(self.weight, self.conv, *inputs, **named)

    @property
    def weight(self) -> Tensor:
        """The adapted weight, in the shape of the layer's own."""
        return self.adapter.adapted_weight(self.conv)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "conv" or name.startswith("__"):  # asked for while a copy of this module is being made
                raise
            return getattr(self.conv, name)

    def __setattr__(self, name: str, value: Any) -> None:
        layer = self.__dict__.get("_modules", {}).get("conv")
        own = name in vars(self) or name in ("conv", "adapter") or hasattr(type(self), name)
        if layer is not None and not own:
            setattr(layer, name, value)
        else:
            super().__setattr__(name, value)

    def merged(self, weight: nn.Parameter) -> Layer:
        """The plain layer with the adapted weight; everything but the weight is shared with `conv`."""
        return with_weight(self.conv, weight)


def without_parametrization(module: AnyModule) -> AnyModule:
    """The module itself; for one that is parametrised (weight norm, spectral norm), a twin that holds what it computes.

    In a frozen network the computed tensors are constants. Everything else is shared with the module. PyTorch's own
    remove_parametrizations does not help: it removes the property from the class, and so from every copy of the module.
    """
    if not parametrize.is_parametrized(module):
        return module
    kind: Any = parametrize.type_before_parametrizations(module)
    twin = kind.__new__(kind)
    twin.__dict__ = dict(vars(module))
    twin._modules = {name: child for name, child in module._modules.items() if name != "parametrizations"}
    computed = {
        name: getattr(module, name).detach().clone() for name in module.get_submodule("parametrizations")._modules
    }
    twin._parameters = module._parameters | {n: nn.Parameter(t, requires_grad=False) for n, t in computed.items()}
    return twin


def uncompiled(network: nn.Module) -> nn.Module:
    """The network, and every part of it, without the wrappers of torch.compile, which hold what no copy can follow."""
    if "_orig_mod" in network._modules:  # TorchScript's _modules have no get
        network = network.get_submodule("_orig_mod")
    for module in list(network.modules()):
        for name, child in module._modules.items():
            if child is not None and "_orig_mod" in child._modules:
                module._modules[name] = child._modules["_orig_mod"]
    return network


def rebuild(network: nn.Module, replacements: Mapping[Any, Any], shared: Iterable[Tensor] = ()) -> nn.Module:
    """A copy of a network in which some modules and parameters are replaced and some tensors are shared.

    replacements: module or parameter -> what takes its place. shared: tensors that the copy does not copy. It is a deep
    copy, so that whatever refers to a module (a bound method, a plain list, a hook) then refers to the copy or the
    replacement. What a replacement refers to is copied as well. Raises MadlabError if the network cannot be copied.
    """
    memo: dict[int, Any] = {id(tensor): tensor for tensor in shared}
    memo |= {id(old): new for old, new in replacements.items()}
    # A tensor that the last forward left behind (a recorded feature) has a history; deepcopy refuses such tensors.
    seen: set[int] = set()
    left = {id(tensor): tensor.detach() for module in network.modules() for tensor in _computed(vars(module), seen)}
    memo |= left
    try:
        copied = copy.deepcopy(network, memo)
        for new in replacements.values():
            if isinstance(new, nn.Module):
                new.__dict__ = copy.deepcopy(vars(new), memo)
    except Exception as error:  # an attribute of a foreign network may raise anything when it is copied
        raise MadlabError(
            f"The network cannot be copied, which its domains require ({reason(error)}): remove whatever cannot be "
            "copied from its attributes."
        ) from error
    return copied


def _computed(value: Any, seen: set[int]) -> Iterator[Tensor]:
    """The tensors with a history among a module's attributes, also inside containers and plain objects.

    seen: the ids of the containers that were looked into.
    """
    if isinstance(value, Tensor):
        if not value.is_leaf:
            yield value
        return
    parts: Iterable[Any] = ()
    if isinstance(value, dict):
        parts = [part for key, part in value.items() if key != "_modules"]
    elif isinstance(value, list | tuple | set | frozenset | deque):
        parts = value
    elif is_dataclass(value) and not hasattr(value, "__dict__"):
        parts = [getattr(value, each.name) for each in fields(value)]
    elif hasattr(value, "__dict__") and not isinstance(value, type | nn.Module | FunctionType | ModuleType):
        parts = [vars(value)]
    if id(value) not in seen:
        seen.add(id(value))
        for part in parts:
            yield from _computed(part, seen)
