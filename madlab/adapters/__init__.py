"""Every method of multi-domain learning here, by name: one line of mathematics each, one short class each.

`METHODS` maps a name to its `Method`. Parameter counts are for one convolution with weights W of shape (M, N, k, k).
"""

from madlab.adapters.base import Adapter, Method
from madlab.adapters.finetune import Delta
from madlab.adapters.hybrid import ModulatedTransform
from madlab.adapters.lora import LowRankDelta
from madlab.adapters.masks import BinaryTransform, Piggyback
from madlab.adapters.modulation import FactorisedModulation, FullModulation, build_modulation, modulate
from madlab.adapters.peers import PEERS
from madlab.adapters.prompt import Frame
from madlab.adapters.residual import ParallelAdapter, SeriesAdapter

RANK = {"rank": None}
LORA = {"rank": 8, "alpha": None}
FRAME = {"frame": 4, "size": None}

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("frozen", "W", "feature extraction", adapts_batchnorm=False),
        Method("batchnorm", "W", "Bilen & Vedaldi, arXiv 1701.07275", domain_learning_rate=1.0),
        Method("finetune", "W + Δ", "one network a domain", Delta, learning_rate=0.3, head_learning_rate=0.1),
        Method(
            "mad",
            "W ⊙ α, or W ⊙ (βγ) with rank I",
            "arXiv 2307.08528",
            build_modulation,
            RANK,
            learning_rate=0.05,
            # An entry of beta moves a whole row of alpha, one of gamma a whole column: the rate is smaller.
            rank_learning_rate=0.015,
        ),
        Method("piggyback", "W ⊙ 1[m > τ]", "arXiv 1801.06519", Piggyback, learning_rate=0.003),
        Method(
            "wtpb",
            "k0 W + k1 1 + k2 B + k3 W ⊙ B",
            "arXiv 1805.11119",
            BinaryTransform,
            learning_rate=3.0,
            head_learning_rate=0.1,
        ),
        Method(
            "mad+wtpb",
            "wtpb of W ⊙ α",
            "arXiv 2307.08528",
            ModulatedTransform,
            RANK,
            learning_rate=0.05,
            head_learning_rate=0.1,
        ),
        Method(
            "parallel",
            "W + A on the central tap",
            "arXiv 1803.10082",
            ParallelAdapter,
            learning_rate=1.0,
            head_learning_rate=0.1,
        ),
        Method("series", "(Id + A) W", "arXiv 1705.08045", SeriesAdapter, learning_rate=0.3),
        Method(
            "lora",
            "W + B∘A",
            "arXiv 2106.09685, as in PEFT",
            LowRankDelta,
            LORA,
            learning_rate=0.3,
            domain_learning_rate=1.0,
        ),
        Method(
            "prompt",
            "W; x + frame",
            "arXiv 2203.17274",
            None,
            FRAME,
            prompt=Frame,
            learning_rate=30.0,
            domain_learning_rate=1.0,
        ),
        *PEERS,
    )
}

__all__ = [
    "METHODS",
    "Adapter",
    "BinaryTransform",
    "Delta",
    "FactorisedModulation",
    "Frame",
    "FullModulation",
    "LowRankDelta",
    "Method",
    "ModulatedTransform",
    "ParallelAdapter",
    "Piggyback",
    "SeriesAdapter",
    "build_modulation",
    "modulate",
]
