"""What a base network is made of, as one small forward shows it: filter banks, normalisation layers and the rest."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from madlab.adapters.base import Layer, filters_of, is_plain
from madlab.adapters.layer import rebuild
from madlab.errors import MadlabError

LAYERS = ("all", "conv", "3x3", "1x1")
"""Kinds of filter banks that can be adapted; an nn.Linear is a "1x1", but not a "conv"."""

SIDES = (64, 224, 299, 32, 28)
"""Pixels of the images that are tried on a network that does not say its `crop`."""


@dataclass(frozen=True)
class Anatomy:
    """The parts of a base network that its forward in eval mode uses, by name.

    channels, sides: of images it runs on, in pixels; no sides on the meta device, where nothing runs.
    layers: its filter banks: convolutions and every nn.Linear, the head among them. norms: its normalisation layers.
    others: all parameters besides those two, such as biases, position embeddings and the packed projection of
    nn.MultiheadAttention.
    """

    channels: int
    sides: tuple[int, ...]
    layers: dict[str, Layer]
    norms: dict[str, nn.Module]
    others: dict[str, nn.Parameter]

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
            raise MadlabError(f"The base network has no layers of the kind {layers!r} to adapt: choose other layers.")
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
    base.requires_grad_(False).eval()
    as_brought = _lay_out(convs)
    parameters = [p for p in base.parameters() if p.is_floating_point()]
    channels, sides = convs[0].in_channels, tuple[int, ...]()
    used = set[Tensor | nn.Module](parameters) | set(base.modules())
    if not any(parameter.is_meta for parameter in parameters):
        try:
            channels, sides, used = _try_out(base, channels, parameters)
        except MadlabError:  # the network's code may count on PyTorch's default format, as Tensor.view does
            for weight, data in as_brought.items():
                weight.data = data
            channels, sides, used = _try_out(base, channels, parameters)

    def runs(module: nn.Module) -> bool:
        return module in used or any(parameter in used for parameter in module.parameters())

    layers = {name: layer for name, layer in layers.items() if runs(layer)}
    norms = {name: norm for name, norm in norms.items() if runs(norm)}
    taken = {p for norm in norms.values() for p in norm.parameters()} | {p for m in layers.values() for p in filters(m)}
    others = {n: p for n, p in base.named_parameters() if p in used and p not in taken}
    return Anatomy(channels, sides, layers, norms, others)


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a normalisation layer, PyTorch's or anybody else's.

    Those of others are recognised by their name or by running statistics, if the parameters and buffers that they hold
    are their own and not those of layers inside, as in a block that begins with a norm.
    """
    if isinstance(module, _NormBase | nn.GroupNorm | nn.LayerNorm | nn.RMSNorm):
        return True
    if isinstance(module, _ConvNd | nn.Linear):
        return False
    buffers = dict(module.named_buffers(recurse=False))
    own = [*module.parameters(recurse=False), *buffers]
    all_held = [*module.parameters(), *module.buffers()]
    named = "norm" in type(module).__name__.lower() or any(name.startswith("running_") for name in buffers)
    return named and bool(own) and len(own) == len(all_held)


def _is_of_kind(layer: Layer, kind: str) -> bool:
    if kind in ("all", "conv"):
        return kind == "all" or isinstance(layer, nn.Conv2d)
    size = int(kind[0])
    return tuple(filters_of(layer).shape[2:]) == (size, size)


def filters(layer: Layer) -> list[nn.Parameter]:
    """The parameters that make a layer's filter bank: its weight, or what a parametrization computes it from."""
    if parametrize.is_parametrized(layer, "weight"):
        parametrization = layer.get_submodule("parametrizations.weight")
        return list(parametrization.parameters())
    return [layer.get_parameter("weight")]


def sample(channels: int, side: int, like: Tensor) -> Tensor:
    """Two images of noise (2, channels, side, side), always the same, in the number format of a network's tensor."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, channels, side, side, generator=generator).to(like.device, like.dtype)


@contextmanager
def aside(device: torch.device) -> Iterator[set[nn.Module]]:
    """Run networks without changing the state of the random numbers; gives the set of all modules that are called."""
    called: set[nn.Module] = set()
    handle = register_module_forward_pre_hook(lambda module, _: called.add(module))
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield called
    finally:
        handle.remove()


def leaves(output: Tensor) -> set[Tensor]:
    """Every tensor that asks for a gradient and gets one from `output`: those at the ends of its graph."""
    found, waiting, seen = set(), [output.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            if hasattr(node, "variable"):
                found.add(node.variable)
            waiting += [before for before, _ in node.next_functions]
    return found


def same(logits: Tensor, others: Tensor, rounding: float = 1e-4) -> bool:
    """Whether a network gave the same twice, but for the order in which a GPU adds numbers up.

    rounding: the share of the largest logit that may come of it, for 32-bit numbers.
    """
    tolerance = rounding + 10 * torch.finfo(logits.dtype).eps
    largest = logits.abs().nan_to_num(0, posinf=0).max().item()
    return torch.allclose(logits, others, rtol=0, atol=tolerance * largest, equal_nan=True)


def unchanged(tensor: Tensor, before: Tensor) -> bool:
    """Whether a tensor holds what it held; a NaN is what it was."""
    if torch.equal(tensor, before):
        return True
    return bool(((tensor == before) | ((tensor != tensor) & (before != before))).all())


def first_line(error: Exception) -> str:
    """An exception as a part of a sentence."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


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
        if any(is_lazy(parameter) for parameter in module._parameters.values()):
            raise MadlabError(f"Layer {name} has no weight yet: run the network once before you hand it over.")
        if isinstance(module, torch.jit.ScriptModule) and any(True for _ in module.parameters()):
            raise MadlabError(f"Layer {name or 'of the network'} is TorchScript: hand over the network that it was.")
        if any(tensor is not None and tensor.is_inference() for tensor in module._parameters.values()):
            raise MadlabError(
                f"Layer {name} was made in inference mode, which keeps gradients away for ever: make it outside."
            )


def _try_out(
    base: nn.Module, channels: int, parameters: list[nn.Parameter]
) -> tuple[int, tuple[int, ...], set[Tensor | nn.Module]]:
    """Channels and sides of images that the network runs on, and the parameters and modules that it uses."""
    twin = rebuild(base, {}, [*base.parameters(), *base.buffers()])
    tensors = dict(base.named_parameters()) | dict(base.named_buffers())
    before = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    crop = getattr(base, "crop", None)
    sides = (crop,) if crop else SIDES
    failures = []
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        for side, planes in product(sides, dict.fromkeys((channels, 3, 1))):
            with aside(parameters[0].device) as called:
                try:
                    logits = twin(sample(planes, side, parameters[0]))
                except Exception as error:  # the network's own code may raise anything; the sentence passes it on
                    failures.append(first_line(error))
                    continue
            check_logits(logits)
            break
        else:
            raise MadlabError(
                f"The base network does not run on images of {', '.join(map(str, sides))} pixels ({failures[0]}): set "
                "its attribute `crop` to the size that it takes."
            )
        with aside(parameters[0].device):
            again = twin(sample(planes, side, parameters[0]))
    finally:
        base.requires_grad_(False)
    _refuse_moving_tensors(tensors, before)
    if not same(logits, again):
        raise MadlabError(
            "The base network gives the same images other logits when it runs again, in eval mode: whatever it keeps "
            "from one forward to the next must change in training mode only."
        )
    _refuse_what_a_copy_does_not_reach(base, twin, called)
    names = {module: name for name, module in twin.named_modules()}
    used: set[Tensor | nn.Module] = {base.get_submodule(names[module]) for module in called if module in names}
    used |= leaves(logits)
    _refuse_hidden_use(base, used, sample(planes, side, parameters[0]), logits)
    return planes, sides[sides.index(side) :], used


def check_logits(logits: object, num_classes: int | None = None) -> None:
    """Raise MadlabError unless a network returned logits (2, classes) that lead back to its parameters."""
    if not isinstance(logits, Tensor):
        raise MadlabError(f"The network returns a {type(logits).__name__}: madlab needs the logits (B, classes) alone.")
    if logits.ndim != 2 or logits.shape[0] != 2 or num_classes not in (None, logits.shape[1]):
        raise MadlabError(
            f"For two images the network returns the shape {tuple(logits.shape)}: madlab needs logits "
            f"(B, {num_classes or 'classes'})."
        )
    if not logits.requires_grad:
        raise MadlabError(
            "The network runs without gradients (torch.no_grad or detach), so no adapter could be trained."
        )


@torch.no_grad()
def _refuse_moving_tensors(tensors: dict[str, Tensor], before: dict[str, Tensor]) -> None:
    moved = [name for name, tensor in tensors.items() if not unchanged(tensor, before[name])]
    for name in moved:
        tensors[name].copy_(before[name])
    if moved:
        raise MadlabError(
            f"The base network changes its own {moved[0]} even in eval mode, so that its domains would change each "
            "other: let it do so in training mode only."
        )


def _refuse_hidden_use(base: nn.Module, used: set[Tensor | nn.Module], images: Tensor, logits: Tensor) -> None:
    """Refuse layers that look unused, as an auxiliary head does, and yet change the logits."""
    unused = {
        f"{name}.{key}".removeprefix("."): parameter
        for name, module in base.named_modules()
        for key, parameter in module.named_parameters(recurse=False)
        if module not in used and parameter not in used and parameter.is_floating_point()
    }
    if not unused:
        return
    other = rebuild(base, {})
    with torch.no_grad():
        for name in unused:
            parameter = other.get_parameter(name)
            parameter.add_(torch.ones_like(parameter))
    with aside(images.device):
        stirred = other.train().eval()(images)  # through train(), where a weight kept for eval mode is made anew
    if not same(logits, stirred):
        raise MadlabError(
            f"The network uses {' or '.join(unused)} in eval mode without a gradient (a detached or cached copy), so "
            "that no domain could change it: let eval mode compute with the parameter itself."
        )


def _refuse_what_a_copy_does_not_reach(base: nn.Module, twin: nn.Module, called: set[nn.Module]) -> None:
    originals = {module: name for name, module in base.named_modules()}
    for name in dict(twin.named_modules()).keys() - set(originals.values()):
        raise MadlabError(
            f"The network makes its layer {name} when it first runs: run it once before you hand it over."
        )
    for module in called & originals.keys():
        raise MadlabError(
            f"Layer {originals[module] or 'of the whole network'} is called through a function that holds the network "
            "itself (a lambda, a closure, a global), which no copy can follow: use methods or registered modules."
        )
    for module in called - set(twin.modules()):
        if any(True for _ in module.parameters()):
            raise MadlabError(
                f"The network runs a {type(module).__name__} that it does not own (kept in a plain list, dict or "
                "function): register it, for example in an nn.ModuleList."
            )
