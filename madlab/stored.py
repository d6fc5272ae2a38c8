"""How a domain is stored in few bytes: its adapters rounded and packed, its norms as the scale and shift they are.

Both are blobs, one for all layers. Which numbers a blob holds, and where they rest, the view itself says
(`DomainView.own_state`, `Adapter.rest`).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from madlab.adapters.base import Adapter
from madlab.adapters.layer import AdaptedConv2d
from madlab.adapters.rounding import check_bits, rounded, rounded_numbers
from madlab.blobs import check_finite, pack_blob, unpack_blob
from madlab.errors import MadlabError
from madlab.folding import fold, neutral_variance
from madlab.view import NO_BATCHES, DomainView

NORMS = ("full", "folded")
"""With running statistics, for further training; or as scale and shift, all that inference needs."""
NORM_BITS = 8
"""Of the numbers of folded norms, once an adapter is rounded."""
ADAPTER, FOLDED = "packed:adapter", "packed:norms"
CONSTANT = 1e-3
"""Of a BatchNorm's eps: a channel whose variance is below that is the same in all images and at all places."""
RUINED = 0.1
"""A norm that rounding would spoil by more than this, a share of each channel's own output in root mean square over the
channels, is stored exactly. One channel with a scale of tens or hundreds sets the unit of its whole layer: a DenseNet
on flowers lost 38 points so in its first norm, which by the outputs of all channels together had lost one per cent."""
UNCHANGED = 1e-5
"""The same for a norm whose statistics are gone: it is rounded only where that changes nothing."""


@dataclass(frozen=True)
class StoredBytes:
    """Bytes of a domain's file by what they hold, without the file's header and names."""

    adapter: int
    norms: int
    head: int


@dataclass(frozen=True)
class Form:
    """How a domain is stored. bits: of the adapter's numbers, None for exact ones. norms: one of NORMS.

    exact: names of folded norms that are not rounded although the adapter is (`settled`). Raises MadlabError for
    another number of bits or form of norms.
    """

    bits: int | None = None
    norms: str = "full"
    exact: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.bits is not None:
            object.__setattr__(self, "bits", check_bits(self.bits))  # NumPy's number as Python's
        if self.norms not in NORMS:
            raise MadlabError(f"Norms cannot be stored as {self.norms!r}: choose one of {', '.join(NORMS)}.")

    @staticmethod
    def from_json(stored: Any) -> "Form":
        """The form that a domain's file tells; a file that tells none is exact and full."""
        if stored is None:
            return Form()
        exact = stored.get("exact", []) if isinstance(stored, dict) else None
        if not isinstance(exact, list) or not all(isinstance(name, str) for name in exact):
            raise MadlabError("it does not say how it is stored.")
        if stored.keys() - {"exact"} != {"bits", "norms"}:
            raise MadlabError("it does not say how it is stored.")
        return Form(**stored | {"exact": tuple(exact)})

    def to_json(self) -> dict[str, Any]:
        """What a domain's file tells of it."""
        return {"bits": self.bits, "norms": self.norms} | ({"exact": list(self.exact)} if self.exact else {})


def settled(view: DomainView, form: Form) -> Form:
    """The form in which this domain can be stored: folded norms that rounding would ruin are left exact.

    So are those that came from a file as scale and shift, unless they were rounded there: their running statistics are
    gone, which say what an error in a scale does.
    """
    if form.bits is None or form.norms != "folded":
        return form
    spoiled = {
        name: float((error / power.clamp(min=torch.finfo(power.dtype).tiny)).clamp(max=1).mean().sqrt())
        for name, error, power in _errors_of_norms(view, form)
    }
    ruined = [name for name, share in spoiled.items() if share > (UNCHANGED if name in view.folded else RUINED)]
    return replace(form, exact=tuple(ruined))


def numbers(view: DomainView) -> dict[str, tuple[nn.Parameter, Tensor]]:
    """What is rounded, and no mask is: name, as in `own_state(packed=True)` -> parameter and where it rests."""
    found = {name: (parameter, view.guard.base.get_parameter(name).detach()) for name, parameter in view.own.items()}
    for place, adapter in view.adapters().items():
        found |= {f"{place}.adapter.{name}": pair for name, pair in _numbers_of(adapter).items()}
    return found


def encode(view: DomainView, form: Form) -> dict[str, Tensor]:
    """A domain's tensors as its file holds them; form: `settled`."""
    adapter, norms, head = _parts(view)
    if form.bits is not None:
        adapter = {ADAPTER: pack_blob(adapter, _rests(view), form.bits)}
    if form.norms == "folded":
        for name, tensor in norms.items():
            check_finite(name, tensor)  # an infinite variance would be a scale of zero
        rests, weights = _norm_rests(view, form), _mean_squares(view)
        norms = {FOLDED: pack_blob(_to_round(view, rests, weights), rests, NORM_BITS, weights)}
    return adapter | norms | head


def decode(view: DomainView, tensors: Mapping[str, Tensor], form: Form) -> dict[str, Tensor]:
    """The other way: what `DomainView.load_own_state(packed=True)` takes. MadlabError if a blob does not fit."""
    adapter, norms, _ = _parts(view)
    state = {name: tensor for name, tensor in tensors.items() if name not in (ADAPTER, FOLDED)}
    if form.bits is not None:
        state |= unpack_blob(tensors.get(ADAPTER), adapter, _rests(view), form.bits)
    if form.norms == "folded":
        folded = unpack_blob(tensors.get(FOLDED), _folded(view, view.network), _norm_rests(view, form), NORM_BITS)
        state |= {name: folded[name] if name in folded else _neutral(view, name, norms[name]) for name in norms}
    return state


def stored_bytes(view: DomainView, form: Form) -> StoredBytes:
    """Bytes that the domain takes in this form, once it is settled."""
    tensors = encode(view, settled(view, form))
    sizes = {name: tensor.numel() * tensor.element_size() for name, tensor in tensors.items()}
    adapter, norms, head = (set(part) for part in _parts(view))
    return StoredBytes(*(sum(sizes.get(n, 0) for n in p) for p in (adapter | {ADAPTER}, norms | {FOLDED}, head)))


def lost(view: DomainView, form: Form) -> dict[str, float]:
    """What rounding took, by layer, of what a network that loads the file runs with; nothing from exact numbers.

    form: `settled`.

    Adapted layer (or "images", or own copy): |W_r - W_d| / |W_d - W|, a share of the change, of filters that became
    W_r. Norm that was folded and rounded: the same of its outputs, in root mean square over the domain's images, of
    which its running statistics tell. 0 where nothing was lost or nothing had changed.
    """
    if form.bits is None:
        return {}
    bits, layers, errors = form.bits, view.adapted_layers(), {}
    for place, adapter in view.adapters().items():
        change = partial(_change, layers.get(place), adapter)
        errors[place] = _lost(change, _numbers_of(adapter).values(), bits)
    for name, parameter in view.own.items():
        rest = view.guard.base.get_parameter(name)
        errors[name] = _lost(partial(torch.sub, parameter, rest), [(parameter, rest)], bits)
    return errors | (_lost_in_norms(view, form) if form.norms == "folded" else {})


def _numbers_of(adapter: Adapter) -> dict[str, tuple[nn.Parameter, Tensor]]:
    parameters, rest = dict(adapter.named_parameters()), adapter.rest()
    names = [name for name in adapter.pack() if name in parameters]
    return {n: (parameters[n], rest.get(n, torch.zeros_like(parameters[n])).detach()) for n in names}


@torch.no_grad()
def _lost(change: Callable[[], Tensor], pairs: Iterable[tuple[nn.Parameter, Tensor]], bits: int) -> float:
    exact = change().clone()
    with rounded(pairs, bits):
        error, whole = (change() - exact).cpu().double().norm().item(), exact.cpu().double().norm().item()
    return error / whole if whole > 0 else inf if error > 0 else 0.0


def _lost_in_norms(view: DomainView, form: Form) -> dict[str, float]:
    errors = {}
    for name, error, power in _errors_of_norms(view, form):
        off, whole = float(error.sum()), float(power.sum())
        errors[name] = (off / whole) ** 0.5 if whole > 0 else inf if off > 0 else 0.0
    return errors


@torch.no_grad()
def _errors_of_norms(view: DomainView, form: Form) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name of a folded norm, the mean squares of what rounding changes in its outputs, and those of the outputs, (C,).

    Over the domain's images, of which the running statistics tell.
    """
    exact, stored = _folded(view, view.network), decode(view, encode(view, form), form)
    for name, norm in _foldable(view).items():
        if f"{name}.weight" not in exact:
            continue
        scale, weight = exact[f"{name}.weight"].cpu().double(), stored[f"{name}.weight"].cpu().double()
        shift, bias = (own.get(f"{name}.bias", torch.zeros_like(scale)).cpu().double() for own in (exact, stored))
        mean, variance = torch.zeros_like(scale), torch.ones_like(scale)  # of what a GroupNorm has normalised
        if isinstance(norm, _NormBase) and norm.running_mean is not None and norm.running_var is not None:
            mean, variance = norm.running_mean.cpu().double(), norm.running_var.cpu().double().clamp(min=0)

        def power(by: Tensor, plus: Tensor, mean: Tensor = mean, variance: Tensor = variance) -> Tensor:
            """Mean squares of by * x + plus."""
            return by.square() * variance + (by * mean + plus).square()

        yield name, power(weight - scale, bias - shift), power(scale, shift)


def _change(layer: AdaptedConv2d | None, adapter: Adapter) -> Tensor:
    """What an adapter adds: to a layer's filters, or a prompt to the images."""
    if layer is not None:
        return layer.weight - layer.conv.weight
    return torch.cat([parameter.flatten() for parameter in adapter.parameters()])


def _parts(view: DomainView) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """The domain's tensors, packed: of adapters and own copies, of norms, of the head."""
    adapter = view.own_state(packed=True)
    norms: dict[str, Tensor] = {}
    for name, norm in view.norm_layers().items():
        of_norm = [f"{name}.{key}" for key in norm.state_dict()]
        norms |= {key: adapter.pop(key) for key in of_norm if key in adapter}  # a norm of two names is stored once
    of_heads = [f"{name}.{key}" for name, head in view.heads().items() for key in head.state_dict()]
    head = {name: adapter.pop(name) for name in of_heads}
    return adapter, norms, head


def _rests(view: DomainView) -> dict[str, Tensor]:
    return {name: rest for name, (_, rest) in numbers(view).items()}


def _norm_rests(view: DomainView, form: Form) -> dict[str, Tensor]:
    """Where folded norms rest: at the base's own. Nothing is rounded with exact adapters, nor what cannot be folded."""
    if form.bits is None:
        return {}
    rounded_ones = _foldable(view).keys() - set(form.exact)
    rests = _folded(view, view.guard.base)
    return {name: rest for name, rest in rests.items() if name.rpartition(".")[0] in rounded_ones}


def _foldable(view: DomainView) -> dict[str, nn.Module]:
    """The norms that can be folded, but for those that share scale and shift and not their statistics."""
    layers = view.norm_layers()
    owners = Counter(parameter for norm in set(layers.values()) for parameter in norm.parameters())
    alone = {name: norm for name, norm in layers.items() if all(owners[p] == 1 for p in norm.parameters())}
    return {name: norm for name, norm in alone.items() if fold(norm) is not None}


def _folded(view: DomainView, network: nn.Module) -> dict[str, Tensor]:
    """The norms of a network, folded; those that cannot be, as they are."""
    folded: dict[str, Tensor] = {}
    foldable = _foldable(view)
    for name in view.norms:
        norm = network.get_submodule(name)
        own = fold(norm) if name in foldable else None
        folded |= {f"{name}.{key}": tensor for key, tensor in (norm.state_dict() if own is None else own).items()}
    return folded


def _to_round(view: DomainView, rests: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The folded norms, with the shift of a channel that is constant in this domain made to fit its rounded scale.

    Such a channel has a scale of hundreds, and unless it is zero a shift of hundreds, too, which would set the unit of
    all shifts. Only their sum at the channel's one value has a meaning, and any scale can have that.
    """
    folded = _folded(view, view.network)
    for name, norm in view.norm_layers().items():
        scale, shift = f"{name}.weight", f"{name}.bias"
        if scale in weights and {scale, shift} <= rests.keys():
            mean, variance, eps = cast(tuple[Tensor, Tensor, float], (norm.running_mean, norm.running_var, norm.eps))
            away = folded[scale] - rounded_numbers(folded[scale], rests[scale], NORM_BITS, weights[scale])
            folded[shift] = folded[shift] + torch.where(variance < CONSTANT * eps, mean * away, 0)
    return folded


def _mean_squares(view: DomainView) -> dict[str, Tensor]:
    """Scale of a folded norm -> the mean square of what each of its numbers is multiplied with.

    A channel that is silent in this domain has a variance near zero and so a scale of hundreds, which means nothing: if
    it counted like the others, its scale would set their unit. Of norms that are folded already nothing is known.
    """
    found = {}
    for name, norm in view.norm_layers().items():
        if name in view.folded:
            continue
        if isinstance(norm, _NormBase) and norm.running_mean is not None and norm.running_var is not None:
            constant = norm.running_var < CONSTANT * norm.eps  # their shifts will make up for it (`_to_round`)
            found[f"{name}.weight"] = norm.running_var + norm.running_mean.square().masked_fill(constant, 0)
    return found


def _neutral(view: DomainView, name: str, like: Tensor) -> Tensor:
    """The running statistics with which a norm computes nothing but scale and shift, and the mark that says so."""
    module, _, key = name.rpartition(".")
    if key == "running_var":
        return torch.full_like(like, neutral_variance(view.network.get_submodule(module)))
    return torch.full_like(like, NO_BATCHES if key == "num_batches_tracked" else 0)
