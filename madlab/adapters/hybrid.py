"""MAD and binary masks together, a combination that the MAD paper (arXiv 2307.08528) tries.

We do not know how the paper combines them; here the masks transform the modulated filters:

    W_d = k0 V + s (k1 1 + k2 B) + k3 V * B    with V = W * alpha
"""

from torch import Tensor, nn

from madlab.adapters.base import Adapter
from madlab.adapters.masks import BinaryTransform
from madlab.adapters.modulation import build_modulation


class ModulatedTransform(Adapter):
    """Masks on modulated filters; size and start are those of `mad` (with or without `rank`) and `wtpb` together."""

    def __init__(self, conv: nn.Conv2d, rank: int | None = None):
        super().__init__()
        self.mad = build_modulation(conv, rank)
        self.wtpb = BinaryTransform(conv)

    def forward(self, weight: Tensor) -> Tensor:
        return self.wtpb(self.mad(weight))

    def rate_factors(self, weight: Tensor) -> dict[nn.Parameter, float]:
        """The factors of both, with the masks' multiplied by 60, the ratio of the best rates of the first trials."""
        masks = {parameter: 60 * factor for parameter, factor in self.wtpb.rate_factors(weight).items()}
        return self.mad.rate_factors(weight) | masks

    def size(self) -> float:
        return self.mad.size() + self.wtpb.size()

    def rest(self) -> dict[str, Tensor]:
        return {f"{name}.{k}": v for name in ("mad", "wtpb") for k, v in getattr(self, name).rest().items()}

    def pack(self) -> dict[str, Tensor]:
        return {f"{name}.{k}": v for name in ("mad", "wtpb") for k, v in getattr(self, name).pack().items()}

    def unpack(self, tensors: dict[str, Tensor]) -> None:
        for name in ("mad", "wtpb"):
            own = {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}
            getattr(self, name).unpack(own)
