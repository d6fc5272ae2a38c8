"""The classifier head of a network: the layer that turns features into logits, which every domain replaces.

timm's networks name theirs. In all others the head is what is called last: a small forward shows from which layer the
logits come through nothing but operations without parameters (pooling, flatten, dropout, log_softmax). A network may
have several, whose logits it adds up or averages, as distilled networks do; then a domain replaces all of them.
"""

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from madlab.adapters.base import is_plain
from madlab.adapters.layer import rebuild, without_parametrization
from madlab.device import no_modes
from madlab.errors import MadlabError, kind_and_reason, remark
from madlab.forward import SIDES, leaves, sides_to_try


def find_heads(network: nn.Module, name: str | None = None) -> dict[str, nn.Module]:
    """Name -> module of a network's classifier head, nearly always one: an nn.Linear or an nn.Conv2d of 1x1.

    name: the head, where the network's author knows better. The network is left as it is; what runs is a copy.
    Raises MadlabError if there is no head, or if it cannot be told; the sentence lists what could be passed as `name`.
    """
    candidates = {path: module for path, module in network.named_modules() if _could_be_head(module)}
    if not candidates:
        raise MadlabError("The network has no nn.Linear and no 1x1 nn.Conv2d that could be its classifier head.")
    if name is None:
        declared = _declared(network, candidates)
        return {path: candidates[path] for path in declared or _called_last(network, candidates)}
    if name not in candidates:
        raise MadlabError(
            f"The network has no nn.Linear or 1x1 nn.Conv2d named {name!r} to be its head: {_advice(candidates)}"
        )
    return {name: candidates[name]}


def heads_to_replace(network: nn.Module, name: str) -> list[str]:
    """The head that its user names; MadlabError where the logits come from others as well, which would stay."""
    named = find_heads(network, name)
    try:
        found = find_heads(network)
    except Exception:  # the network's own code may raise anything; the user knows better
        return list(named)
    if name in found and len(found) > 1:
        raise MadlabError(
            f"The logits come from {' and '.join(found)} together: do not name a head, so that all are replaced."
        )
    return list(named)


def new_head(head: nn.Module, num_classes: int) -> nn.Module:
    """A freshly initialised head for another number of classes: of the same kind, features, bias, device and dtype.

    It is a plain layer, also where `head` has a forward of its own or hooks (`tell_if_unusual`).
    """
    assert isinstance(head, nn.Linear | nn.Conv2d)
    options: dict[str, Any] = {"bias": head.bias is not None, "device": head.weight.device, "dtype": head.weight.dtype}
    if isinstance(head, nn.Conv2d):
        return nn.Conv2d(head.in_channels, num_classes, 1, **options)
    return nn.Linear(head.in_features, num_classes, **options)


def tell_if_unusual(name: str, head: nn.Module) -> None:
    """Warn of a base's head that computes anything but its layer, such as a cosine or a temperature."""
    assert isinstance(head, nn.Linear | nn.Conv2d)
    if not is_plain(head) and not _answers_like_a_plain_one(without_parametrization(head)):
        remark(
            f"The base's head {name} ({type(head).__name__}) does more than its layer, in a forward of its own or in a "
            "hook; a domain's own head is a plain layer."
        )


@torch.no_grad()
def _answers_like_a_plain_one(head: nn.Linear | nn.Conv2d) -> bool:
    """As timm's Linear does, which has a forward of its own for TorchScript."""
    if head.weight.is_meta:
        return True
    shape = (2, *head.weight.shape[1:])  # of two images' features
    features = torch.linspace(-1, 2, math.prod(shape), dtype=head.weight.dtype, device=head.weight.device).view(shape)
    operation = F.conv2d if isinstance(head, nn.Conv2d) else F.linear
    try:
        return torch.allclose(head(features), operation(features, head.weight, head.bias), rtol=1e-3, atol=1e-4)
    except Exception:  # the head's own code may ask for anything else than features
        return False


def classes_of(head: nn.Module) -> int:
    """The number of classes that a head distinguishes."""
    assert isinstance(head, nn.Linear | nn.Conv2d)
    return head.out_channels if isinstance(head, nn.Conv2d) else head.out_features


def _could_be_head(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return (module.kernel_size, module.stride, module.groups) == ((1, 1), (1, 1), 1) and not any(_padding(module))
    return isinstance(module, nn.Linear)


def _padding(conv: nn.Conv2d) -> tuple[int, ...]:
    return (0,) if isinstance(conv.padding, str) else conv.padding  # "same" and "valid" pad nothing at 1x1


def _declared(network: nn.Module, candidates: dict[str, nn.Module]) -> list[str] | None:
    """The head that timm's `get_classifier` names, unless it is not alone: then only a forward tells."""
    get_classifier = getattr(network, "get_classifier", None)
    if not callable(get_classifier):
        return None
    try:
        classifier = get_classifier()
    except TypeError:  # one that wants arguments is not timm's
        return None
    parts = classifier if isinstance(classifier, tuple | list) else (classifier,)
    if not all(isinstance(part, nn.Module) for part in parts):
        return None
    if all(isinstance(part, nn.Identity) for part in parts):
        raise MadlabError("The network was made without a classifier head (num_classes=0): make it with one.")
    within = {module for part in parts for module in part.modules()}
    named = [path for path, module in candidates.items() if module in within]
    if len(named) != 1:
        return None
    # An auxiliary head has as many outputs as the head; VOLO adds its own to the logits without naming it.
    classes = classes_of(candidates[named[0]])
    alone = sum(classes_of(module) == classes for module in candidates.values()) == 1
    return named if alone else None


def _called_last(network: nn.Module, candidates: dict[str, nn.Module]) -> list[str]:
    """The candidates from which the logits come through operations without parameters, as the network orders them."""
    with no_modes(network):
        logits, sources = _trace(network, candidates)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        shape = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise MadlabError(f"The network must return logits of shape (B, classes), but in eval mode it returns {shape}.")
    heads = [path for path in candidates if path in sources]
    if not heads or None in sources or any(classes_of(candidates[path]) != logits.shape[1] for path in heads):
        raise MadlabError(
            "The network's classifier head cannot be told: its logits do not come straight from an nn.Linear or 1x1 "
            f"nn.Conv2d; {_advice(candidates)}"
        )
    return heads


def _trace(network: nn.Module, candidates: dict[str, nn.Module]) -> tuple[Any, set[str | None]]:
    """What a copy of the network returns for a small batch, and which candidates that comes from.

    The graph of autograd is cut behind every candidate, so that the logits lead back to no further than the last ones;
    a None among them stands for any parameter of another layer.
    """
    twin = rebuild(network, {})
    twin.eval()
    for parameter in twin.parameters():
        parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
    cuts: dict[Tensor, str] = {}

    def cut_behind(path: str) -> Callable[[nn.Module, Any, Any], Tensor | None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> Tensor | None:
            if not isinstance(output, Tensor):
                return None
            leaf = output.detach().requires_grad_()
            cuts[leaf] = path
            return leaf.clone()  # a leaf must not be changed in place, as the activation behind it might

        return hook

    for path in candidates:
        twin.get_submodule(path).register_forward_hook(cut_behind(path))
    returned = _small_forward(twin, candidates, cuts)
    ends = leaves(returned) if isinstance(returned, Tensor) else set()
    return returned, {cuts.get(end) for end in ends}


def _small_forward(network: nn.Module, candidates: dict[str, nn.Module], cuts: dict[Tensor, str]) -> Any:
    """What the network returns for two images of the first size that it can run on; `cuts` are of that forward."""
    like = next(p for p in network.parameters() if p.is_floating_point())
    sides = dict.fromkeys((*sides_to_try(network), *SIDES))
    defined_first = next((m.in_channels for m in network.modules() if isinstance(m, nn.Conv2d)), 3)
    failures = []
    for channels, side in product(dict.fromkeys((defined_first, 3, 1)), sides):
        cuts.clear()
        images = torch.linspace(-1, 1, 2 * channels * side * side, device=like.device, dtype=like.dtype)
        try:
            with torch.random.fork_rng([like.device] if like.is_cuda else []):
                return network(images.view(2, channels, side, side))
        except Exception as error:  # the network's own code may raise anything; the sentence below passes it on
            failures.append(kind_and_reason(error))
    raise MadlabError(
        f"To find its head madlab ran the network on images of {', '.join(map(str, sides))} pixels, and it failed at "
        f"each size, at first with {failures[0]}: set network.crop to the size that it takes, or {_advice(candidates)}"
    )


def _advice(candidates: dict[str, nn.Module]) -> str:
    names = list(candidates)
    listed = ("" if len(names) <= 8 else "..., ") + ", ".join(names[-8:])
    return f'pass head="name", one of {listed}.'
