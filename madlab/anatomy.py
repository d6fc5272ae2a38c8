"""What a base network is made of, as one small forward shows it: filter banks, normalisation layers and the rest."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from madlab.adapters.base import Layer, filters_of, is_plain
from madlab.errors import MadlabError
from madlab.forward import used_by_forward

LAYERS = ("all", "conv", "3x3", "1x1")
"""Kinds of filter banks that can be adapted; an nn.Linear is a "1x1", but not a "conv"."""


@dataclass(frozen=True)
class Anatomy:
    """The parts of a base network that its forward in eval mode uses, by name.

    channels, sides: of images it runs on, in pixels; no sides on the meta device, where nothing runs. channels_last:
    whether it runs on images in that memory format, too.
    layers: its filter banks: convolutions and every nn.Linear, the head among them. norms: its normalisation layers.
    others: all parameters besides those two, such as biases, position embeddings and the packed projection of
    nn.MultiheadAttention.
    """

    channels: int
    sides: tuple[int, ...]
    layers: dict[str, Layer]
    norms: dict[str, nn.Module]
    others: dict[str, nn.Parameter]
    channels_last: bool

    def body(self, heads: Collection[str]) -> dict[str, Layer]:
        """The filter banks without the heads."""
        return {name: layer for name, layer in self.layers.items() if name not in heads}

    def choose(self, layers: str | Sequence[str], heads: Collection[str]) -> dict[str, Layer]:
        """The filter banks of the body that are meant: an entry of LAYERS, or a list of names."""
        body = self.body(heads)
        if layers not in LAYERS if isinstance(layers, str) else not isinstance(layers, Collection):
            raise MadlabError(f"Unknown layers {layers!r}: choose one of {', '.join(LAYERS)}, or list layers.")
        for name in [] if isinstance(layers, str) else layers:
            if name not in body:
                raise MadlabError(
                    f"The base network has no convolution or nn.Linear {name!r} that runs and is not its head; it has "
                    f"{', '.join(body)}."
                )
        found = {n: m for n, m in body.items() if (_is_of_kind(m, layers) if isinstance(layers, str) else n in layers)}
        if not found:
            what = f"layers of the kind {layers!r}" if isinstance(layers, str) else "layer that the list names"
            raise MadlabError(f"The base network has no {what} to adapt: choose other layers.")
        return found


def anatomy_of(base: nn.Module) -> Anatomy:
    """Freeze a base network, lay out its filters, run it once, as a copy that shares its tensors, and see what it uses.

    Auxiliary heads, which eval mode skips, are not part of it. Raises MadlabError if the network has no convolution,
    cannot run, does not return logits (B, classes), or does something that would let its domains change each other.
    """
    layers = {n: m for n, m in base.named_modules() if isinstance(m, Layer) and not _is_inner(n)}
    norms = {n: m for n, m in base.named_modules() if is_norm(m) and not _is_inner(n)}
    _refuse_unusual_weights(base)
    convs = [layer for layer in layers.values() if isinstance(layer, nn.Conv2d)]
    if not convs:
        raise MadlabError("The base network has no nn.Conv2d: madlab adapts convolutional networks.")
    with _as_brought_if_refused(base):
        return _taken_in(base, layers, norms, convs)


@contextmanager
def _as_brought_if_refused(base: nn.Module) -> Iterator[None]:
    """A network that is refused is not frozen and keeps its modes: whoever brought it may go on with it."""
    modes = [(module, module.training) for module in base.modules()]
    trained = [parameter for parameter in base.parameters() if parameter.requires_grad]
    try:
        yield
    except BaseException:
        for module, mode in modes:
            module.training = mode
        for parameter in trained:
            parameter.requires_grad_(True)
        raise


def _taken_in(
    base: nn.Module, layers: dict[str, Layer], norms: dict[str, nn.Module], convs: Sequence[nn.Conv2d]
) -> Anatomy:
    """The network frozen and laid out, and of its layers and norms those that its forward uses."""
    base.requires_grad_(False).eval()
    as_brought = _lay_out(convs)
    parameters = [p for p in base.parameters() if p.is_floating_point()]
    channels, sides, channels_last = convs[0].in_channels, tuple[int, ...](), True
    used = set[Tensor | nn.Module](parameters) | set(base.modules())
    if not any(parameter.is_meta for parameter in parameters):
        try:
            channels, sides, used = used_by_forward(base, channels, parameters, channels_last)
        except MadlabError:  # the network's code may count on PyTorch's default format, as Tensor.view does
            for weight, data in as_brought.items():
                weight.data = data
            channels_last = False
            channels, sides, used = used_by_forward(base, channels, parameters, channels_last)

    def runs(module: nn.Module) -> bool:
        return module in used or any(parameter in used for parameter in module.parameters())

    layers = {name: layer for name, layer in layers.items() if runs(layer)}
    norms = {name: norm for name, norm in norms.items() if runs(norm)}
    taken = {parameter for norm in norms.values() for parameter in norm.parameters()}
    taken |= {parameter for layer in layers.values() for parameter in filter_parameters(layer)}
    others = {n: p for n, p in base.named_parameters() if p in used and p not in taken}
    return Anatomy(channels, sides, layers, norms, others, channels_last)


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a normalisation layer, PyTorch's or anybody else's.

    Those of others are recognised by their name or by running statistics, if the parameters and buffers that they hold
    are their own and not those of layers inside, as in a block that begins with a norm, and if no parameter is larger
    than one number per channel, as the filters of a layer are that normalises them.
    """
    if isinstance(module, _NormBase | nn.GroupNorm | nn.LayerNorm | nn.RMSNorm):
        return True
    if isinstance(module, _ConvNd | nn.Linear):
        return False
    buffers = dict(module.named_buffers(recurse=False))
    parameters = list(module.parameters(recurse=False))
    if any(sum(side > 1 for side in parameter.shape) > 1 for parameter in parameters):
        return False
    own = [*parameters, *buffers]
    all_held = [*module.parameters(), *module.buffers()]
    named = "norm" in type(module).__name__.lower() or any(name.startswith("running_") for name in buffers)
    return named and bool(own) and len(own) == len(all_held)


def _is_of_kind(layer: Layer, kind: str) -> bool:
    if kind in ("all", "conv"):
        return kind == "all" or isinstance(layer, nn.Conv2d)
    size = int(kind[0])
    return tuple(filters_of(layer).shape[2:]) == (size, size)


def filter_parameters(layer: Layer) -> list[nn.Parameter]:
    """The parameters that make a layer's filter bank: its weight, or what a parametrization computes it from."""
    if parametrize.is_parametrized(layer, "weight"):
        parametrization = layer.get_submodule("parametrizations.weight")
        return list(parametrization.parameters())
    return [layer.get_parameter("weight")]


def _is_inner(name: str) -> bool:
    """Whether a module is a part of a parametrization, which belongs to its layer."""
    return "parametrizations" in name.split(".")


def _lay_out(convs: Iterable[nn.Conv2d]) -> dict[nn.Parameter, Tensor]:
    """Put filter banks into channels_last memory, where they lie as (M, k, k, N); returns them as they lay before.

    There W * alpha and its gradient run over whole vectors of N values (`adapters.modulate`), and PyTorch computes all
    convolutions of the network so, whatever the memory format of the images. Layers with a forward of their own keep
    their format: their code may count on it. No value changes.
    """
    weights = [conv._parameters.get("weight") for conv in convs if is_plain(conv)]
    before = {weight: weight.data for weight in weights if weight is not None}  # a parametrised layer has none
    for weight, data in before.items():
        weight.data = data.contiguous(memory_format=torch.channels_last)
    return before


def _refuse_unusual_weights(base: nn.Module) -> None:
    """Refuse layers that cannot run with another weight: computed in a hook, not created yet, or TorchScript."""
    old = (WeightNorm, SpectralNorm, BasePruningMethod)
    for name, module in base.named_modules():
        if any(isinstance(hook, old) for hook in module._forward_pre_hooks.values()):
            raise MadlabError(
                f"Layer {name} computes its weight in a hook (torch.nn.utils.weight_norm, spectral_norm or prune): "
                "remove that, or use torch.nn.utils.parametrizations instead."
            )
        if any(map(is_lazy, (*module._parameters.values(), *module._buffers.values()))):
            raise MadlabError(f"Layer {name} has no weight yet: run the network once before you hand it over.")
        parametrised = parametrize.is_parametrized(module, "weight")
        if isinstance(module, Layer) and not parametrised and module._parameters.get("weight") is None:
            raise MadlabError(
                f"Layer {name} has no parameter `weight`, but computes it from something else (in a hook, as for an "
                "equalised learning rate): use torch.nn.utils.parametrize for that."
            )
        if isinstance(module, torch.jit.ScriptModule) and any(True for _ in module.parameters()):
            raise MadlabError(f"Layer {name or 'of the network'} is TorchScript: hand over the network that it was.")
        held = [tensor for tensor in (*module._parameters.values(), *module._buffers.values()) if tensor is not None]
        if any(tensor.layout != torch.strided for tensor in held):
            raise MadlabError(f"Layer {name} holds a sparse tensor: make it dense (to_dense).")
        if any(tensor is not None and tensor.is_inference() for tensor in module._parameters.values()):
            raise MadlabError(
                f"Layer {name} was made in inference mode, which keeps gradients away for ever: make it outside."
            )
