r"""PEFT's own layers as methods, so that MAD's rivals are trained exactly as their users train them.

While a domain trains, the convolution or nn.Linear is PEFT's own layer, forward and backward; W_d, for merging and for
networks that read a layer's weight, is what PEFT's own merge gives. PEFT is installed with the extra "peers", and is
imported when one of these methods is first used.

    peft:lora    W_d = W + B o A                               Hu et al., arXiv 2106.09685
    peft:dora    W_d = m (W + B o A) / |W + B o A|, by filter  Liu et al., arXiv 2402.09353
    peft:hira    W_d = W * (1 + B o A)                         Huang et al., ICLR 2025 (see hira.py)
    peft:loha    W_d = W + (A1 B1) * (A2 B2)                   Hyeon-Woo et al., "FedPara", arXiv 2108.06098
    peft:lokr    W_d = W + C (x) (A B)                         Yeh et al., "LyCORIS", arXiv 2309.14859
    peft:ia3     W_d = W * l, one l for each input channel     Liu et al., arXiv 2205.05638
    peft:oft     W_d = W R, R block-diagonal and orthogonal    Qiu et al., arXiv 2306.07280
    peft:hra     W_d = W H1 ... HI, Householder reflections    Yuan et al., arXiv 2405.17484

In the last two, filters are rows of k^2 N numbers, and R and H mix those numbers. There the layer runs with W_d, in
training too: for kernels above 1x1 the forward of PEFT's OFT (0.21) sums overlapping patches and is not what its merge
gives, nor the base's at the start, and that of its HRA takes a stride or padding from one side alone.

IA3 scales the input of a layer (PEFT's "feedforward" form): scaling its output would change nothing, because the
BatchNorm that follows takes the scale out again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from madlab.adapters.base import Adapter, Layer, Method, Rates, is_plain, mean_square
from madlab.errors import MadlabError


@dataclass(frozen=True)
class Peer:
    """What madlab has to know of one of PEFT's methods."""

    equation: str
    rates: Rates
    config: str
    """The name of PEFT's class of configurations."""
    fields: Callable[..., dict[str, Any]]
    """rank, alpha, block and target_modules, by name -> the fields of that class."""
    filters: Callable[["PeftAdapter", Tensor], Tensor]
    """(adapter, W) -> W_d, both (M, N, k, k)."""
    options: Mapping[str, Any] = field(default_factory=dict)
    by_layer: tuple[str, ...] = ()
    """The fields in which PEFT takes one value per layer."""
    limits: tuple[str, ...] = ()
    """The convolutions that PEFT's layers cannot adapt or merge."""
    through_filters: bool = False
    """Whether the layer runs with W_d in training too, because PEFT's forward is not what its merge gives."""


class PeftAdapter(Adapter):
    """One of PEFT's layers around a frozen convolution or nn.Linear; its size and options are PEFT's.

    kind: a key of PEERS. rank: r of those that have one; HRA's is even, so that its reflections undo each other at
    the start. alpha: their scaling is alpha / r; None means r. block: the largest side of OFT's blocks; a layer takes
    the largest divisor of k^2 N up to it. Raises MadlabError without PEFT or with one too old for the method, and for
    a convolution that PEFT's layer cannot adapt.
    """

    layer: Any  # PEFT's types exist only where PEFT is installed
    norms: Tensor

    def __init__(
        self, layer: Layer, kind: str, rank: int | None = None, alpha: float | None = None, block: int | None = None
    ):
        super().__init__()
        peft = _peft(kind)
        _check_fits(kind, layer, rank)
        block = None if block is None else _divisor(layer.weight[0].numel(), block)
        config = peft_config(kind, ["layer"], rank, alpha, block)
        network = nn.ModuleDict({"layer": _as_plain(layer)})
        peft.inject_adapter_in_model(config, network)
        self.kind, self.layer = kind, network["layer"]
        del self.layer.base_layer
        self._surround(layer)
        # Taken now: in a network that is copied, base_layer may become what adapts it, whose norms are the magnitudes.
        self.register_buffer("norms", _norms(layer.weight.detach()), persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        return PEERS[self.kind].filters(self, weight)

    def change(self) -> Tensor:
        """What PEFT's layer computes of its parameters: a change of W, or the matrix that turns its rows."""
        change: Tensor = self.layer.get_delta_weight("default")
        return change

    def rest(self) -> dict[str, Tensor]:
        """One for the scales of IA3, the norms of W for the magnitudes of DoRA."""
        state = self.state_dict()
        if self.kind == "ia3":
            return {name: torch.ones_like(tensor) for name, tensor in state.items()}
        return {name: self.norms.view_as(tensor) for name, tensor in state.items() if "magnitude" in name}

    def rate_factors(self, weight: Tensor) -> dict[nn.Parameter, float]:
        """For HiRA those of our own (hira.py): what it learns is relative to W."""
        return dict.fromkeys(self.parameters(), 1 / mean_square(weight)) if self.kind == "hira" else {}

    def adapted_weight(self, layer: Layer) -> Tensor:
        self._surround(layer)
        return super().adapted_weight(layer)

    def convolve(self, layer: Layer, x: Tensor) -> Tensor:
        self._surround(layer)
        # PEFT adds its change to the output: with a forward of the layer's own, that would not be the merged layer, nor
        # with another padding than zeros, which PEFT's layers do not know.
        alike = is_plain(layer) and getattr(layer, "padding_mode", "zeros") == "zeros"
        return self.layer(x) if alike and not PEERS[self.kind].through_filters else super().convolve(layer, x)

    def _surround(self, layer: Layer) -> None:
        """Have PEFT's layer wrap this one without owning it: not as a submodule, so that no parameters are added."""
        if self.layer.__dict__.get("base_layer") is not layer:
            object.__setattr__(self.layer, "base_layer", layer)


def peft_config(
    kind: str,
    target_modules: list[str] | str,
    rank: int | None = None,
    alpha: float | None = None,
    block: int | None = None,
    **more: Any,
) -> Any:
    """PEFT's configuration for a method of madlab. kind: a key of PEERS; the others as in `PeftAdapter`.

    block: of OFT, a divisor of k^2 N in every layer. target_modules: names of layers, or a regular expression for the
    whole name. more: other fields of PEFT's class. Raises MadlabError without PEFT or with one too old for the method.
    """
    name = PEERS[kind].config
    options = PEERS[kind].fields(rank=rank, alpha=alpha, block=block, target_modules=target_modules)
    peft = _peft(kind)
    if not hasattr(peft, name):
        raise MadlabError(f"The method peft:{kind} needs a newer PEFT: pip install -U peft.")
    return getattr(peft, name)(target_modules=target_modules, **options, **more)


def _peft(kind: str) -> Any:
    try:
        import peft
    except ImportError:
        raise MadlabError(f"The method peft:{kind} needs PEFT: pip install 'madlab[peers]'.") from None
    return peft


def _check_fits(kind: str, layer: Layer, rank: int | None) -> None:
    if kind == "hra" and rank is not None and rank % 2:
        raise MadlabError(f"peft:hra starts at the base's filters only with an even rank: choose {rank + 1}.")
    limits = PEERS[kind].limits
    if not isinstance(layer, nn.Conv2d):
        return
    height, width = layer.kernel_size
    traits = {"grouped": layer.groups > 1, "dilated": set(layer.dilation) != {1}, "oblong": height != width}
    if any(traits[limit] for limit in limits):
        raise MadlabError(
            f"PEFT's layer of peft:{kind} cannot adapt {' or '.join(limits)} convolutions and merge into them: name "
            "other layers with layers=[...], or use another method."
        )


def _divisor(number: int, most: int) -> int:
    """The largest divisor of a number up to `most`."""
    return max(divisor for divisor in range(1, min(number, most) + 1) if number % divisor == 0)


def _norms(weight: Tensor) -> Tensor:
    """The length of each filter, (M,)."""
    return weight.detach().flatten(1).norm(dim=1)


def _as_plain(layer: Layer) -> Layer:
    """The layer as one of PyTorch's own classes: PEFT makes its parts of the class that it is given."""
    kind: type[Layer] = nn.Conv2d if isinstance(layer, nn.Conv2d) else nn.Linear
    plain: Layer = kind.__new__(kind)
    plain.__dict__ = dict(vars(layer))
    return plain


def _added(adapter: PeftAdapter, weight: Tensor) -> Tensor:
    return weight + adapter.change().view_as(weight)


def _relative(adapter: PeftAdapter, weight: Tensor) -> Tensor:
    return weight * (1 + adapter.change().view_as(weight))


def _decomposed(adapter: PeftAdapter, weight: Tensor) -> Tensor:
    """The paper of DoRA holds the norm constant in the backward pass, and PEFT does."""
    changed, magnitude = _added(adapter, weight), adapter.layer.lora_magnitude_vector["default"].weight
    return (magnitude.flatten() / _norms(changed).detach())[:, None, None, None] * changed


def _scaled(adapter: PeftAdapter, weight: Tensor) -> Tensor:
    """One scale for each input channel; the filters see those of their own group."""
    groups = getattr(adapter.layer.base_layer, "groups", 1)
    scales = adapter.layer.ia3_l["default"].view(groups, 1, -1, 1, 1)
    return (weight.unflatten(0, (groups, -1)) * scales).flatten(0, 1)


def _turned(adapter: PeftAdapter, weight: Tensor, transposed: bool) -> Tensor:
    """The filters as rows, times PEFT's matrix; OFT's stands on their left there."""
    matrix = adapter.change()
    return (weight.flatten(1) @ (matrix.T if transposed else matrix)).view(weight.shape)


def _low_rank(alpha_is: str, rank: int, alpha: float | None, **_: Any) -> dict[str, Any]:
    return {"r": rank, alpha_is: alpha or rank}


RANK = {"rank": 8}
SCALED = RANK | {"alpha": None}
BY_LAYER = ("rank_pattern", "alpha_pattern")
PEERS = {
    "lora": Peer(
        "W + B∘A",
        Rates(1.25, 0.126, 0.0189),
        "LoraConfig",
        partial(_low_rank, "lora_alpha"),
        _added,
        SCALED,
        BY_LAYER,
        limits=("grouped", "dilated"),
    ),
    "dora": Peer(
        "m (W + B∘A) / |W + B∘A|",
        Rates(1.1, 0.193, 0.0361),
        "LoraConfig",
        lambda **given: _low_rank("lora_alpha", **given) | {"use_dora": True},
        _decomposed,
        SCALED,
        BY_LAYER,
        limits=("grouped", "dilated"),
    ),
    "hira": Peer(
        "W ⊙ (1 + B∘A)",
        Rates(0.146, 0.997, 0.274),
        "HiraConfig",
        lambda rank, **_: {"r": rank},
        _relative,
        RANK,
        by_layer=("rank_pattern",),
        limits=("grouped",),
    ),
    "loha": Peer(
        "W + (A1 B1) ⊙ (A2 B2)",
        Rates(1.13, 0.663, 0.028),
        "LoHaConfig",
        partial(_low_rank, "alpha"),
        _added,
        SCALED,
        BY_LAYER,
    ),
    "lokr": Peer(
        "W + C ⊗ (A B)",
        Rates(1.71, 0.462, 0.0908),
        "LoKrConfig",
        partial(_low_rank, "alpha"),
        _added,
        SCALED,
        BY_LAYER,
    ),
    "ia3": Peer(
        "W ⊙ l, l a row",
        Rates(2.72, 1.75, 0.183),
        "IA3Config",
        lambda target_modules, **_: {"feedforward_modules": target_modules},
        _scaled,
    ),
    "oft": Peer(
        "W R, R orthogonal",
        Rates(0.03, 0.3, 0.1),
        "OFTConfig",
        lambda block, **_: {"r": 0, "oft_block_size": block},
        partial(_turned, transposed=True),
        {"block": 32},
        limits=("grouped", "dilated", "oblong"),
        through_filters=True,
    ),
    "hra": Peer(
        "W H1 ... HI, reflections",
        Rates(0.164, 1.1, 0.0305),
        "HRAConfig",
        lambda rank, **_: {"r": rank},
        partial(_turned, transposed=False),
        RANK,
        limits=("grouped", "oblong"),
        through_filters=True,
    ),
}
"""PEFT's methods, by the name that follows "peft:"."""
PEER_METHODS = [
    Method(
        f"peft:{kind}",
        peer.equation,
        "PEFT, pip install 'madlab[peers]'",
        partial(PeftAdapter, kind=kind),
        peer.options,
        peer.rates,
        knows_linear=True,
    )
    for kind, peer in PEERS.items()
]
