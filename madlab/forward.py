"""One small forward of a network: what it runs on, what it uses, and what would let its domains change each other."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from threading import get_ident
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_pre_hook

from madlab.adapters.layer import rebuild
from madlab.errors import MadlabError, kind_and_reason
from madlab.sizes import image_size, said

SIDES = (64, 224, 299, 32, 28)
"""Pixels of the images that are tried on a network that does not say its own; then comes what timm declares."""


def sample(channels: int, side: int, like: Tensor) -> Tensor:
    """Two images of noise (2, channels, side, side), always the same, in the number format of a network's tensor.

    They lie in channels_last memory, as the images of a training do.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, channels, side, side, generator=generator, device=generator.device)
    return noise.to(like.device, like.dtype, memory_format=torch.channels_last)


def laid_out(images: Tensor, network: nn.Module) -> Tensor:
    """The images in a memory format that a network takes: in any, unless it says `channels_last = False`.

    A network that joins channels with height and width by Tensor.view runs in PyTorch's default format alone.
    """
    return images if getattr(network, "channels_last", True) is not False else images.contiguous()


def shrink(images: Tensor, side: int) -> Tensor:
    """float (B, C, H, W) -> (B, C, side, side), anti-aliased, in channels_last memory."""
    small = F.interpolate(images, (side, side), mode="bilinear", antialias=True)
    return small.contiguous(memory_format=torch.channels_last)


@contextmanager
def aside(device: torch.device) -> Iterator[set[nn.Module]]:
    """Run networks without changing the state of the random numbers; gives the set of all modules that are called."""
    called: set[nn.Module] = set()
    own = get_ident()  # another thread may train another network meanwhile

    def note(module: nn.Module, _: object) -> None:
        if get_ident() == own:
            called.add(module)

    handle = register_module_forward_pre_hook(note)
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield called
    finally:
        handle.remove()


def leaves(output: Tensor) -> set[Tensor]:
    """Every tensor that asks for a gradient and gets one from `output`: those at the ends of its graph."""
    return {node.variable for node in nodes(output) if hasattr(node, "variable")}


def nodes(output: Tensor) -> set[Any]:
    """Every operation in the graph that autograd kept of `output`."""
    waiting, seen = [output.grad_fn], set[Any]()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [before for before, _ in node.next_functions]
    return seen


def same(logits: Tensor, others: Tensor, rounding: float = 1e-4) -> bool:
    """Whether a network gave the same twice, but for the order in which a GPU adds numbers up.

    rounding: the share of the largest logit that may come of it, for 32-bit numbers.
    """
    tolerance = rounding + 10 * torch.finfo(logits.dtype).eps
    largest = logits.abs().nan_to_num(0, posinf=0).max().item()
    return torch.allclose(logits, others, rtol=0, atol=tolerance * largest, equal_nan=True)


def unchanged(tensor: Tensor, before: Tensor) -> bool:
    """Whether a tensor holds what it held; a NaN is what it was."""
    if tensor.shape != before.shape:
        return False
    if torch.equal(tensor, before):
        return True
    return bool(((tensor == before) | ((tensor != tensor) & (before != before))).all())


def sides_to_try(network: nn.Module) -> tuple[int, ...]:
    """Sides, in pixels, of images to run a network on: its own, where an attribute says it; else SIDES, then timm's."""
    size = image_size(network)
    if not size.declared:
        return SIDES
    by_attribute = said(network, "resize") is not None or said(network, "crop") is not None
    return (size.crop,) if by_attribute else tuple(dict.fromkeys((*SIDES, size.crop)))


class Used(NamedTuple):
    """What a small forward shows of a network."""

    channels: int
    sides: tuple[int, ...]
    """Of images that it runs on, in pixels, from the first that worked."""
    parts: set[Tensor | nn.Module]
    """The parameters and modules that it uses."""


def used_by_forward(base: nn.Module, channels: int, parameters: list[nn.Parameter], channels_last: bool) -> Used:
    """What the network uses when it runs on two images of noise; MadlabError for what would spoil its domains.

    channels: how many its first layer takes, tried after three. channels_last: whether the images lie in that memory
    format.
    """
    twin = rebuild(base, {}, [*base.parameters(), *base.buffers()])
    twin.eval()  # a graph of torch.fx is in training mode when it was copied
    tensors = dict(base.named_parameters()) | dict(base.named_buffers())
    before = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    sides, device = sides_to_try(base), parameters[0].device
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        images, logits, called = _first_forward(twin, sides, channels, parameters[0], channels_last)
        with aside(device):
            _reseed(device)
            again = twin(images.clone())
            _check_one_image(twin, images[:1].clone(), logits.shape[1])
    finally:
        base.requires_grad_(False)
    _refuse_moving_tensors(tensors, before)
    if not same(logits, again):
        raise MadlabError(
            "The base network gives the same images other logits when it runs again, in eval mode: whatever it keeps "
            "from one forward to the next, and whatever it draws at random (F.dropout wants training=self.training), "
            "must change in training mode only."
        )
    if logits.shape[1] > 1 and (logits >= 0).all() and same(logits.sum(1), torch.ones_like(logits[:, 0])):
        raise MadlabError(
            "The base network returns probabilities, not logits, and every loss would take the softmax of a softmax: "
            "leave its last softmax out."
        )
    _refuse_what_a_copy_does_not_reach(base, twin, called)
    names = {module: name for name, module in twin.named_modules()}
    parts: set[Tensor | nn.Module] = {base.get_submodule(names[module]) for module in called if module in names}
    parts |= leaves(logits)
    _refuse_hidden_use(base, parts, images, logits)
    _, planes, side, _ = images.shape
    return Used(planes, sides[sides.index(side) :], parts)


def _first_forward(
    network: nn.Module, sides: tuple[int, ...], channels: int, like: Tensor, channels_last: bool
) -> tuple[Tensor, Tensor, set[nn.Module]]:
    """The first images that the network runs on, its logits, and the modules that it called for them."""
    failures: dict[int, str] = {}  # by channels; no errors, whose tracebacks would keep all that the forwards made
    wrong: str | None = None
    # Of colour first: what makes grey of it by itself would run on one channel as well.
    for side, planes in product(sides, dict.fromkeys((3, channels, 1))):
        images = sample(planes, side, like)
        images = images if channels_last else images.contiguous()
        with aside(like.device) as called:
            try:
                logits = network(images.clone())
                check_logits(logits)
            except MadlabError as error:
                wrong = wrong or str(error)
            except Exception as error:  # the network's own code may raise anything; the sentence passes it on
                failures.setdefault(planes, kind_and_reason(error))
            else:
                return images, logits, called
    raise MadlabError(
        wrong
        or f"The base network does not run on images of {', '.join(map(str, sides))} pixels ({failures[channels]}): "
        "set its attribute `crop` to the size that it takes."
    )


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


def _reseed(device: torch.device) -> None:
    """Other random numbers on one device; torch.manual_seed would seed all of them."""
    own = torch.default_generator if device.type != "cuda" else torch.cuda.default_generators[device.index or 0]
    own.manual_seed(1)


def _check_one_image(network: nn.Module, image: Tensor, num_classes: int) -> None:
    """Refuse a network that gives a single image's logits another shape."""
    try:
        shape = tuple(network(image).shape)
    except Exception as error:  # the network's own code may raise anything
        raise MadlabError(
            f"The base network does not run on a single image ({kind_and_reason(error)}), in eval mode."
        ) from error
    if shape != (1, num_classes):
        raise MadlabError(
            f"For a single image the base network returns the shape {shape}, not (1, {num_classes}): where it "
            "squeezes, let it name the axes, as in squeeze((2, 3)) or flatten(1)."
        )


@torch.no_grad()
def _refuse_moving_tensors(tensors: dict[str, Tensor], before: dict[str, Tensor]) -> None:
    moved = [name for name, tensor in tensors.items() if not unchanged(tensor, before[name])]
    for name in moved:
        tensors[name].resize_(before[name].shape).copy_(before[name])
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
    other.train()  # where a weight that is kept for eval mode is made anew
    other.eval()
    with aside(images.device):
        stirred = other(images)
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
