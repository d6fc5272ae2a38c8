r"""PEFT's own LoRA, LoHa, LoKr and IA3 as methods, so that MAD's rivals are trained exactly as their users train them.

While a domain trains, the convolution or nn.Linear is PEFT's own layer, forward and backward; W_d, for merging and for
networks that read a layer's weight, is what PEFT's own merge gives. PEFT is installed with the extra "peers", and is
imported when one of these methods is first used.

    peft:lora    W_d = W + B o A                               Hu et al., arXiv 2106.09685
    peft:loha    W_d = W + (A1 B1) * (A2 B2)                   Hyeon-Woo et al., "FedPara", arXiv 2108.06098
    peft:lokr    W_d = W + C (x) (A B)                         Yeh et al., "LyCORIS", arXiv 2309.14859
    peft:ia3     W_d = W * l, one l for each input channel     Liu et al., arXiv 2205.05638

IA3 scales the input of a layer (PEFT's "feedforward" form): scaling its output would change nothing, because the
BatchNorm that follows takes the scale out again.
"""

from functools import partial
from typing import Any

from torch import Tensor, nn

from madlab.adapters.base import Adapter, Layer, Method, Rates
from madlab.errors import MadlabError


class PeftAdapter(Adapter):
    """One of PEFT's layers around a frozen convolution or nn.Linear; its size and options are PEFT's.

    kind: "lora", "loha", "lokr" or "ia3". rank: r of the first three. alpha: they are scaled by alpha / r; None means
    r. Raises MadlabError if PEFT is not installed, and for a convolution that PEFT's layer cannot be merged into.
    """

    layer: Any  # PEFT's types exist only where PEFT is installed

    def __init__(self, layer: Layer, kind: str, rank: int | None = None, alpha: float | None = None):
        super().__init__(layer)
        try:
            import peft
        except ImportError:
            raise MadlabError(f"The method peft:{kind} needs PEFT: pip install 'madlab[peers]'.") from None
        if kind == "lora" and isinstance(layer, nn.Conv2d) and (layer.groups > 1 or set(layer.dilation) != {1}):
            raise MadlabError(
                "PEFT's LoRA cannot be merged into grouped or dilated convolutions: use lora, or name layers."
            )
        configs: dict[str, tuple[str, dict[str, Any]]] = {
            "lora": ("LoraConfig", {"r": rank, "lora_alpha": alpha or rank}),
            "loha": ("LoHaConfig", {"r": rank, "alpha": alpha or rank}),
            "lokr": ("LoKrConfig", {"r": rank, "alpha": alpha or rank}),
            "ia3": ("IA3Config", {"feedforward_modules": ["layer"]}),
        }
        name, options = configs[kind]
        network = nn.ModuleDict({"layer": layer})
        peft.inject_adapter_in_model(getattr(peft, name)(target_modules=["layer"], **options), network)
        self.layer = network["layer"]
        del self.layer.base_layer
        self._surround(layer)

    def forward(self, weight: Tensor) -> Tensor:
        if "ia3_l" not in dict(self.layer.named_children()):
            return weight + self.layer.get_delta_weight("default").view_as(weight)
        # One scale for each input channel; the filters see those of their own group.
        groups = getattr(self.layer.base_layer, "groups", 1)
        scales = self.layer.ia3_l["default"].view(groups, 1, -1, 1, 1)
        return (weight.unflatten(0, (groups, -1)) * scales).flatten(0, 1)

    def adapted_weight(self, layer: Layer) -> Tensor:
        self._surround(layer)
        return super().adapted_weight(layer)

    def convolve(self, layer: Layer, x: Tensor) -> Tensor:
        self._surround(layer)
        return self.layer(x)

    def _surround(self, layer: Layer) -> None:
        """Have PEFT's layer wrap this one without owning it: not as a submodule, so that no parameters are added."""
        if self.layer.__dict__.get("base_layer") is not layer:
            object.__setattr__(self.layer, "base_layer", layer)


EQUATIONS = {"lora": "W + B∘A", "loha": "W + (A1 B1) ⊙ (A2 B2)", "lokr": "W + C ⊗ (A B)", "ia3": "W ⊙ l, l a row"}
RATES = {
    "lora": Rates(0.3, batchnorm=1.0),
    "loha": Rates(3.0, batchnorm=1.0),
    "lokr": Rates(1.0),
    "ia3": Rates(3.0),
}
OPTIONS = {"rank": 8, "alpha": None}
PEERS = [
    Method(
        f"peft:{kind}",
        equation,
        "PEFT, pip install 'madlab[peers]'",
        partial(PeftAdapter, kind=kind),
        {} if kind == "ia3" else OPTIONS,
        RATES[kind],
        knows_linear=True,
    )
    for kind, equation in EQUATIONS.items()
]
