"""One domain as a network: the base's modules in the base's order, with the domain's own parts in their places.

Filter banks share the base's weights and run them through the domain's adapters; normalisation layers and head are the
domain's own. `assemble` makes one of the base's parts. Built in notebook 03.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from madlab.adapters import METHODS, Adapter
from madlab.adapters.base import Layer, filters_of
from madlab.adapters.layer import AdaptedConv2d, rebuild, without_parametrization
from madlab.anatomy import Anatomy
from madlab.errors import MadlabError
from madlab.facts import DomainFacts
from madlab.forward import laid_out, shrink
from madlab.guard import Guard
from madlab.heads import new_head

Anything = TypeVar("Anything")

IMAGES = "images"
"""The place of an adapter that works on the images, in `DomainView.adapters`; the other places are layers."""
NO_BATCHES = -1
"""`num_batches_tracked` of a norm that was stored as scale and shift: its statistics are none, and it must not gather
any. A whole number, because no change of the number format rounds it and every file and state holds it."""
TOLD: dict[str, Any] = {
    "class_names": (list, tuple, np.ndarray),
    "normalization": Mapping,
    "resize": Integral,
    "crop": Integral,
}
"""What a merged network says of its images, by attribute, and of which kind that is."""


class DomainView(nn.Module):
    """What one domain runs: (B, C, H, W) -> (B, number of classes).

    network: the base's structure with the domain's adapters, norms and head. facts: what the domain's file says of it
    besides the tensors. norms: names of the normalisation layers. own: the domain's copies of the base's other
    parameters, by their name there (only `finetune` has any). guard: of the base. channels: of the images.
    channels_last: whether these may lie in that memory format. prompt: an adapter of the images, or None. folded: names
    of norms that were stored as scale and shift, and stay that.
    """

    def __init__(
        self,
        network: nn.Module,
        facts: DomainFacts,
        norms: Sequence[str],
        own: Mapping[str, nn.Parameter],
        guard: Guard,
        channels: int,
        channels_last: bool,
        prompt: Adapter | None = None,
    ):
        super().__init__()
        self.network = network
        self.facts = facts
        self.method = METHODS[facts.method]
        self.norms = list(norms)
        self.own = dict(own)
        self.guard = guard
        self.channels = channels
        self.channels_last = channels_last
        self.prompt = prompt
        self.folded: frozenset[str] = frozenset()
        self.register_load_state_dict_pre_hook(refuse_assigned)
        self.register_load_state_dict_post_hook(_after_loading)
        self.train(False)

    def forward(self, images: Tensor, side: int | None = None) -> Tensor:
        """Logits (B, classes) of images (B, C, H, W), normalised, in any floating-point format.

        side: shrink the images to this many pixels, anti-aliased, after a prompt has laid on its frame at full size.
        Raises MadlabError for images of another kind, and if the base was changed.
        """
        images = self._checked(images)
        if not torch.compiler.is_compiling() and not torch.jit.is_tracing():
            self.guard.check_before_forward(images)
        if self.prompt is not None:
            images = self.prompt(images)
        return self.network(laid_out(images if side is None else shrink(images, side), self))

    def _checked(self, images: Tensor) -> Tensor:
        if not isinstance(images, Tensor):
            raise MadlabError(
                f"Images must be a tensor, but this is a {type(images).__name__}: make it one with torch.as_tensor, or "
                "call predict, which takes pictures of any kind."
            )
        if images.ndim != 4 or images.shape[1] != self.channels:
            raise MadlabError(
                f"Images must have the shape (B, {self.channels}, H, W), but this is {tuple(images.shape)}: give a "
                f"batch of images with {self.channels} channels."
            )
        if not images.is_floating_point():
            raise MadlabError(
                f"Images must be floating-point numbers, but these are {images.dtype}: divide pixels by 255, then "
                "normalise them."
            )
        return images.to(self.like.dtype)

    @property
    def like(self) -> Tensor:
        """A tensor on the device of the domain, in the number format of its images: that of its first layer."""
        found = next((p for p in self.network.parameters() if p.is_floating_point()), None)
        if found is None:
            raise MadlabError(
                "This copy of a domain has no parameters, as nn.DataParallel makes copies: use one process per GPU."
            )
        return found

    @property
    def head(self) -> nn.Module:
        """The domain's classifier head, an nn.Linear or a 1x1 nn.Conv2d; the first, where the network has several."""
        return self.network.get_submodule(self.facts.heads[0])

    def heads(self) -> dict[str, nn.Module]:
        """Name in the base network -> the domain's own classifier head; several, where the network adds them up."""
        return {name: self.network.get_submodule(name) for name in self.facts.heads}

    def train(self, mode: bool = True) -> "DomainView":
        """Training mode for what the domain owns; all other modules stay in eval mode, as the base is.

        So the auxiliary outputs of some networks stay off, and no running statistics of the base change. Modules
        without state, such as dropout, follow the mode: they belong to training, and have nothing to keep. A block that
        asks for its own mode, as in F.dropout(x, p, self.training), does not: it stays in eval mode. Norms that
        were stored as scale and shift (`stored.NORMS`) stay that: their statistics are gone, and those of a batch would
        be applied on top.
        """
        super().train(False)
        self.training = mode
        learners: list[nn.Module] = [*self.heads().values(), *self.adapters().values()]
        learners += [m for m in self.network.modules() if not m._modules and not m._parameters and not m._buffers]
        learners += [m for m in self.network.modules() if isinstance(m, nn.RNNBase)]  # cuDNN trains through no other
        if self.method.adapts_batchnorm:
            learners += [norm for name, norm in self.norm_layers().items() if name not in self.folded]
        for module in learners:
            module.train(mode)
        return self

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "DomainView":
        """What `to`, `half` and the like do: another number format or device is for a whole MultiDomainNet alone."""
        shared = next(tensor for tensor in self.guard.tensors if tensor.is_floating_point())
        moved = fn(shared)
        if not self.guard.moving and (moved.dtype, moved.device) != (shared.dtype, shared.device):
            raise MadlabError(
                f"Domain {self.facts.name!r} shares its filters with the base and with all domains, so that it cannot "
                "have a number format or a device of its own: convert or move the MultiDomainNet, or what its merge "
                "returns."
            )
        return super()._apply(fn, recurse)

    def adapted_layers(self) -> dict[str, AdaptedConv2d]:
        """Name of the layer in the base network -> the adapted layer."""
        # Looked up by name: a layer inside of an adapted one has another path here.
        found = ((name, self.network.get_submodule(name)) for name in self.facts.layers)
        return {name: layer for name, layer in found if isinstance(layer, AdaptedConv2d)}

    def adapters(self) -> dict[str, Adapter]:
        """Name of the layer in the base network (or "images") -> its adapter; the first name, where layers share it."""
        prompt = {} if self.prompt is None else {IMAGES: self.prompt}
        return prompt | _by_first_name({name: layer.adapter for name, layer in self.adapted_layers().items()})

    def norm_layers(self) -> dict[str, nn.Module]:
        """Name in the base network -> the domain's own normalisation layer."""
        return {name: self.network.get_submodule(name) for name in self.norms}

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """What is trained, by kind: "adapter" (with own copies), "batchnorm" (norms of every kind) and "head"."""
        norms = {p: None for norm in self.norm_layers().values() for p in norm.parameters() if p.requires_grad}
        adapters = [p for adapter in self.adapters().values() for p in adapter.parameters()]
        return {
            "adapter": [*adapters, *self.own.values()],
            "batchnorm": list(norms),
            "head": [p for head in self.heads().values() for p in head.parameters()],
        }

    def adapter_size(self) -> int:
        """Adapter parameters and own copies, without norms and head.

        A bit of a mask counts as 1/32, as in WTPB (Mancini et al., arXiv 2103.13894).
        """
        adapters = sum(adapter.size() for adapter in self.adapters().values())
        return round(adapters + sum(parameter.numel() for parameter in self.own.values()))

    def rate_factors(self) -> dict[nn.Parameter, float]:
        """What the learning rate of an adapter's parameter is multiplied by in its layer; 1 if it is not listed."""
        layers = self.adapted_layers().values()
        return {p: f for layer in layers for p, f in layer.adapter.rate_factors(filters_of(layer.conv)).items()}

    def own_state(self, packed: bool = False) -> dict[str, Tensor]:
        """Every tensor that belongs to the domain and not to the base, by name; by the first, where modules share it.

        packed: as the domain's file stores them (a mask as bits); else as training needs them.
        """
        whole = self.norm_layers() | self.heads()
        held = {f"{name}.{k}": v for name, m in whole.items() for k, v in m.state_dict(keep_vars=True).items()}
        state = {name: tensor.detach() for name, tensor in (_by_first_name(held) | self.own).items()}
        for name, adapter in self.adapters().items():
            state |= {f"{name}.adapter.{k}": v for k, v in (adapter.pack() if packed else adapter.state_dict()).items()}
        return state

    def load_own_state(self, state: dict[str, Tensor], packed: bool = False) -> None:
        """Take back what `own_state` gave; raises MadlabError, and changes nothing, if the tensors do not fit."""
        own = self.own_state(packed)
        expected, given = ({name: _kind(tensor) for name, tensor in tensors.items()} for tensors in (own, state))
        wrong = sorted(name for name, _ in expected.items() ^ given.items())
        if wrong:
            raise MadlabError(f"The tensors do not fit this domain; the first that differs is {wrong[0]}.")
        for key, tensor in own.items():
            tensor.copy_(state[key])  # what is not packed lies in the modules themselves
        if packed:
            for name, adapter in self.adapters().items():
                start = f"{name}.adapter."
                adapter.unpack({k.removeprefix(start): v for k, v in state.items() if k.startswith(start)})
        self.see_folded()

    def see_folded(self) -> None:
        """Find the norms that are stored as scale and shift: their count of batches is `NO_BATCHES`."""
        self.folded = frozenset(name for name, norm in self.norm_layers().items() if _is_folded(norm))
        self.train(self.training)

    def merged(self, shared: bool = False) -> nn.Module:
        """A plain network of its own with the adapted weights, in eval mode, with what one must know of its images.

        Its attributes `normalization`, `class_names`, `resize` and `crop` are the domain's, unless it has something
        else of that name, as a layer; all its parameters can be trained. shared: let it hold the domain's own tensors
        where nothing adapts them, only to be run and forgotten.
        """
        modules = self.network.modules()
        replacements = {m: without_parametrization(m) for m in modules if parametrize.is_parametrized(m)}
        weights: dict[Adapter, nn.Parameter] = {}  # layers that share one go on sharing it
        for layer in self.adapted_layers().values():
            replacements[layer] = layer.merged(weights.setdefault(layer.adapter, nn.Parameter(layer.weight.detach())))
        plain = rebuild(self.network, replacements, [*self.parameters(), *self.buffers()] if shared else ())
        for key, kind in TOLD.items():
            held, fact = getattr(plain, key, None), getattr(self.facts, key)
            free = (held is None or isinstance(held, kind)) and not isinstance(
                getattr(type(plain), key, None), property
            )
            if fact is not None and free:
                setattr(plain, key, copy.deepcopy(fact))
        if not self.channels_last:
            setattr(plain, "channels_last", False)  # noqa: B010 - no tensor, as types take it for
        plain.eval()  # whose return value some networks forget
        if shared:
            return plain
        for name in self.folded:
            plain.get_buffer(f"{name}.num_batches_tracked").zero_()
        for parameter in plain.parameters():
            parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
        return plain


def assemble(
    base: nn.Module, anatomy: Anatomy, guard: Guard, facts: DomainFacts, adapted: Mapping[str, Layer]
) -> DomainView:
    """A new domain as its facts say, untrained. adapted: its layers by name. anatomy, guard: of the base."""
    method, heads = METHODS[facts.method], [base.get_submodule(name) for name in facts.heads]
    # Heads are drawn first, so that with one seed they are the same whatever numbers an adapter draws.
    replacements: dict[Any, Any] = {h: new_head(without_parametrization(h), facts.num_classes) for h in heads}
    adapters: dict[Tensor, Adapter] = {}  # layers that share a filter bank share its adapter
    for name, layer in adapted.items():
        options = {k: v[name] if isinstance(v, Mapping) else v for k, v in facts.options.items()}
        plain = without_parametrization(layer)
        # A shallow copy of the layer: it stands inside of what takes the layer's own place.
        if plain.weight not in adapters:
            adapters[plain.weight] = method.build(plain, options)
        replacements[layer] = AdaptedConv2d(copy.copy(plain), adapters[plain.weight])
    own: dict[str, nn.Parameter] = {}
    if method.trains_everything:
        if any(parameter.is_complex() for parameter in base.parameters()):
            raise MadlabError(
                f"The base network has complex parameters, which {facts.method!r} cannot train: choose another method."
            )
        of_heads = {parameter for head in heads for parameter in head.parameters()}
        others = {n: p for n, p in anatomy.others.items() if p not in of_heads}
        own = {name: nn.Parameter(parameter.detach().clone()) for name, parameter in others.items()}
    for name, norm in anatomy.norms.items():
        if odd := [key for key, value in norm.state_dict().items() if not isinstance(value, Tensor)]:
            raise MadlabError(
                f"The norm {name} keeps a {odd[0]} that is not a tensor, which no file of a domain holds."
            )
    of_norms = {t for norm in anatomy.norms.values() for t in (*norm.parameters(), *norm.buffers())}
    shared = [t for t in (*base.parameters(), *base.buffers()) if t not in of_norms]
    replacements |= {base.get_parameter(name): parameter for name, parameter in own.items()}
    network = rebuild(base, replacements, shared)
    for name in anatomy.norms:
        network.get_submodule(name).requires_grad_(method.adapts_batchnorm)
    channels, prompt = anatomy.channels, None
    if method.prompt is not None:
        like = next(heads[0].parameters())
        options = {"size": facts.crop or 32} | facts.options
        prompt = method.prompt(channels, **options).to(like.device, like.dtype)
    return DomainView(network, facts, list(anatomy.norms), own, guard, channels, anatomy.channels_last, prompt)


def _by_first_name(named: Mapping[str, Anything]) -> dict[str, Anything]:
    """The entries whose values no earlier entry has."""
    first: dict[Anything, str] = {}
    for name, value in named.items():
        first.setdefault(value, name)
    return {name: value for value, name in first.items()}


def _kind(tensor: Tensor) -> tuple[torch.Size, bool | torch.dtype]:
    """What must be equal for one tensor to take another's values; floats of all lengths count as one kind."""
    return tensor.shape, tensor.is_floating_point() or tensor.dtype


def _is_folded(norm: nn.Module) -> bool:
    batches = getattr(norm, "num_batches_tracked", None)
    return batches is not None and not batches.is_meta and int(batches) == NO_BATCHES


def refuse_domains(base: nn.Module) -> None:
    """Raise MadlabError for a base that is, or contains, a domain of another base."""
    if any(isinstance(module, DomainView | AdaptedConv2d) for module in base.modules()):
        raise MadlabError("This network is a domain of another base network: hand over what its `merge` returns.")


@contextmanager
def buffers_shared(base: nn.Module, views: nn.Module) -> Iterator[None]:
    """Afterwards the views hold the base's buffers where they did, though PyTorch moves each by itself."""
    places = {id(b): (m, key) for m in base.modules() for key, b in m._buffers.items() if b is not None}
    shared = [(m, key, places[id(b)]) for m in views.modules() for key, b in m._buffers.items() if id(b) in places]
    yield
    for module, key, (owner, name) in shared:
        module._buffers[key] = owner._buffers[name]


def refuse_assigned(net: nn.Module, state: dict[str, Any], prefix: str, how: dict[str, Any], *_: Any) -> None:
    """Refuse `assign=True`: the base's tensors belong to all views at once, and a view knows its own."""
    if how.get("assign_to_params_buffers"):
        raise MadlabError("A MultiDomainNet keeps its tensors, which its domains share: load without assign=True.")


def _after_loading(view: DomainView, _: Any) -> None:
    view.see_folded()
