"""One domain as a network: the base's modules in the base's order, with the domain's own parts in their places.

Convolutions share the base's weights and run them through the domain's adapters; BatchNorm and head are the domain's
own. Built in notebook 03.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from madlab.adapters import Adapter, Method
from madlab.errors import MadlabError

IMAGES = "images"
"""The place of an adapter that works on the images, in `DomainView.adapters`; the other places are convolutions."""


class AdaptedConv2d(nn.Module):
    """A convolution of the base network that runs with the filter bank its adapter returns.

    conv: the base's own module, shared and frozen; any stride, groups, padding and bias.
    """

    def __init__(self, conv: nn.Conv2d, adapter: Adapter):
        super().__init__()
        self.conv = conv
        self.adapter = adapter

    def forward(self, x: Tensor) -> Tensor:
        return self.adapter.convolve(self.conv, x)

    def merged(self) -> nn.Conv2d:
        """A plain convolution of its own with the adapted weights."""
        conv = copy.deepcopy(self.conv)
        with torch.no_grad():
            conv.weight.copy_(self.adapter(self.conv.weight))
        return conv


class DomainView(nn.Module):
    """What one domain runs: (B, C, H, W) -> (B, number of classes).

    network: the base's structure with the domain's adapters, BatchNorm and head. head_name: the head's place in it.
    prompt: an adapter of the images, or None. facts: what the domain's file says of it besides the tensors.
    """

    def __init__(
        self,
        network: nn.Module,
        method: Method,
        facts: dict[str, Any],
        head_name: str,
        prompt: Adapter | None = None,
    ):
        super().__init__()
        self.network = network
        self.head_name = head_name
        self.method = method
        self.facts = facts
        self.prompt = prompt
        self.train(False)

    def forward(self, images: Tensor, side: int | None = None) -> Tensor:
        """Logits of images (B, C, H, W), which are shrunk to `side` pixels after the prompt, whose frame is of their
        full size."""
        images = images if self.prompt is None else self.prompt(images)
        if side is not None:
            images = F.interpolate(images, (side, side), mode="bilinear", antialias=True)
            images = images.contiguous(memory_format=torch.channels_last)
        return self.network(images)

    def train(self, mode: bool = True) -> "DomainView":
        super().train(mode)
        if not self.method.adapts_batchnorm:
            for norm in batchnorms(self.network):
                norm.eval()
        return self

    @property
    def head(self) -> nn.Module:
        """The domain's own classifier head."""
        return self.network.get_submodule(self.head_name)

    def adapters(self) -> dict[str, Adapter]:
        """Name of the convolution in the base network (or "images") -> its adapter."""
        prompt = {} if self.prompt is None else {IMAGES: self.prompt}
        return prompt | {name: m.adapter for name, m in self.network.named_modules() if isinstance(m, AdaptedConv2d)}

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """What is trained, by kind: "adapter", "batchnorm" and "head"."""
        norms = [p for norm in batchnorms(self.network) for p in norm.parameters() if p.requires_grad]
        adapters = [p for adapter in self.adapters().values() for p in adapter.parameters()]
        return {"adapter": adapters, "batchnorm": norms, "head": list(self.head.parameters())}

    def rate_factors(self) -> dict[nn.Parameter, float]:
        """By what the learning rate of an adapter's parameter is multiplied in its layer; what is left out: by 1."""
        layers = [module for module in self.network.modules() if isinstance(module, AdaptedConv2d)]
        return {p: f for layer in layers for p, f in layer.adapter.rate_factors(layer.conv.weight).items()}

    def own_state(self, packed: bool = False) -> dict[str, Tensor]:
        """Every tensor that belongs to the domain and not to the base, by name.

        packed: as the domain's file stores them (a mask as bits); else as training needs them.
        """
        own = [name for name, module in self.network.named_modules() if isinstance(module, nn.BatchNorm2d)]
        own.append(self.head_name)
        state = {f"{name}.{k}": v for name in own for k, v in self.network.get_submodule(name).state_dict().items()}
        for name, adapter in self.adapters().items():
            state |= {f"{name}.adapter.{k}": v for k, v in (adapter.pack() if packed else adapter.state_dict()).items()}
        return state

    def load_own_state(self, state: dict[str, Tensor], packed: bool = False) -> None:
        """Take back what `own_state` gave; raises MadlabError, and changes nothing, if the tensors do not fit."""
        own = self.own_state(packed)
        expected, given = ({name: tensor.shape for name, tensor in tensors.items()} for tensors in (own, state))
        wrong = sorted(name for name, _ in expected.items() ^ given.items())
        if wrong:
            raise MadlabError(f"The tensors do not fit this domain; the first that differs is {wrong[0]}.")
        for key, tensor in own.items():
            tensor.copy_(state[key])  # what is not packed lies in the modules themselves
        if packed:
            for name, adapter in self.adapters().items():
                start = f"{name}.adapter."
                adapter.unpack({k.removeprefix(start): v for k, v in state.items() if k.startswith(start)})


def batchnorms(network: nn.Module) -> list[nn.BatchNorm2d]:
    """The BatchNorm layers of a network, in its order."""
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def rebuild(
    module: nn.Module,
    substitute: Callable[[str, nn.Module], nn.Module | None],
    path: str = "",
    seen: dict[int, nn.Module] | None = None,
) -> nn.Module:
    """The same tree of modules with some replaced; every other parameter is shared with the original.

    substitute(path, module) returns the replacement, or None to keep the module and look below it.
    """
    seen = {} if seen is None else seen
    if id(module) not in seen:
        replacement = substitute(path, module)
        if replacement is None:
            replacement = copy.copy(module)
            replacement._modules = {
                name: child and rebuild(child, substitute, f"{path}.{name}".lstrip("."), seen)
                for name, child in module._modules.items()
            }
        seen[id(module)] = replacement
    return seen[id(module)]
