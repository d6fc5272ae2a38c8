r"""PEFT's own LoRA, LoHa, LoKr and IA3 as methods, so that the rivals of MAD are trained as their users train them.

While a domain trains, the convolution is PEFT's own layer, forward and backward; for merging, PEFT's own merge says
what W_d is. PEFT comes with the extra "peers" and is imported when one of these methods is first asked for.

    peft:lora    W_d = W + B o A                               Hu et al., arXiv 2106.09685
    peft:loha    W_d = W + (A1 B1) * (A2 B2)                   Hyeon-Woo et al., "FedPara", arXiv 2108.06098
    peft:lokr    W_d = W + C (x) (A B)                         Yeh et al., "LyCORIS", arXiv 2309.14859
    peft:ia3     W_d = W * l, one l for each input channel     Liu et al., arXiv 2205.05638

IA3 scales the input of a convolution (PEFT's "feedforward" form): scaling its output would change nothing, because the
BatchNorm that follows takes the scale out again.
"""

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from madlab.adapters.base import Adapter, Method
from madlab.errors import MadlabError


class PeftAdapter(Adapter):
    """One of PEFT's layers around a frozen convolution; size and options are PEFT's.

    kind: "lora", "loha", "lokr" or "ia3". rank: r of the first three. alpha: their scaling is alpha / r; None means r.
    Raises MadlabError without PEFT, and for a convolution that PEFT's layer cannot merge into.
    """

    layer: Any  # PEFT's types are there only with PEFT

    def __init__(self, conv: nn.Conv2d, kind: str, rank: int | None = None, alpha: float | None = None):
        super().__init__(conv)
        try:
            import peft
        except ImportError:
            raise MadlabError(f"The method peft:{kind} needs PEFT: pip install 'madlab[peers]'.") from None
        if kind == "lora" and (conv.groups > 1 or set(conv.dilation) != {1}):
            raise MadlabError(
                "PEFT's LoRA cannot be merged into grouped or dilated convolutions: use lora, or name layers."
            )
        configs: dict[str, tuple[str, dict[str, Any]]] = {
            "lora": ("LoraConfig", {"r": rank, "lora_alpha": alpha or rank}),
            "loha": ("LoHaConfig", {"r": rank, "alpha": alpha or rank}),
            "lokr": ("LoKrConfig", {"r": rank, "alpha": alpha or rank}),
            "ia3": ("IA3Config", {"feedforward_modules": ["conv"]}),
        }
        name, options = configs[kind]
        network = nn.ModuleDict({"conv": conv})
        peft.inject_adapter_in_model(getattr(peft, name)(target_modules=["conv"], **options), network)
        layer = network["conv"]
        del layer.base_layer  # the convolution stays the base's: this layer uses it and does not own it
        object.__setattr__(layer, "base_layer", conv)
        self.layer = layer

    def forward(self, weight: Tensor) -> Tensor:
        layer = copy.deepcopy(self.layer)
        with torch.no_grad():
            layer.get_base_layer().weight.copy_(weight)
            layer.merge()
        return layer.get_base_layer().weight.detach()

    def convolve(self, conv: nn.Conv2d, x: Tensor) -> Tensor:
        return self.layer(x)


EQUATIONS = {"lora": "W + B∘A", "loha": "W + (A1 B1) ⊙ (A2 B2)", "lokr": "W + C ⊗ (A B)", "ia3": "W ⊙ l, l a row"}
RATES = {"lora": 0.3, "loha": 3.0, "lokr": 1.0, "ia3": 3.0}
DOMAIN_RATES = {"lora": 1.0, "loha": 1.0, "lokr": 0.3, "ia3": 0.3}
OPTIONS = {"rank": 8, "alpha": None}
PEERS = [
    Method(
        f"peft:{kind}",
        equation,
        "PEFT, pip install 'madlab[peers]'",
        partial(PeftAdapter, kind=kind),
        {} if kind == "ia3" else OPTIONS,
        learning_rate=RATES[kind],
        domain_learning_rate=DOMAIN_RATES[kind],
    )
    for kind, equation in EQUATIONS.items()
]
