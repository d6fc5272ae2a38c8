"""The methods of multi-domain learning, by name: each is one line of mathematics and one short class.

`METHODS` maps a name to its `Method`. Parameter counts are for one convolution with weights W of shape (M, N, k, k);
an nn.Linear is a convolution with k = 1. Start with base.py, then read modulation.py.

Scale and shift of features (SSF, arXiv 2210.08823; FiLM without its condition, arXiv 1709.07871) are no entry of their
own: y = g x + b for each channel is what the affine part of a BatchNorm computes, so behind one they are `batchnorm`,
and before one its statistics take them out again. Where no norm follows they would change a bias, which is no function
on a filter bank.
"""

from madlab.adapters.base import Adapter, Method, Rates
from madlab.adapters.finetune import Delta
from madlab.adapters.hira import HadamardLowRank
from madlab.adapters.hybrid import ModulatedTransform
from madlab.adapters.ksm import KernelMask
from madlab.adapters.lora import LowRankDelta
from madlab.adapters.masks import BinaryTransform, Piggyback
from madlab.adapters.modulation import (
    FactorisedModulation,
    FullModulation,
    Modulation,
    ResidualModulation,
    build_modulation,
    modulate,
)
from madlab.adapters.peers import PEER_METHODS
from madlab.adapters.prompt import Frame
from madlab.adapters.residual import ParallelAdapter, SeriesAdapter
from madlab.adapters.subspace import FilterSubspace

RANK = {"rank": None}
MAD = {"rank": None, "form": None}
HIRA = {"rank": 8}
LORA = {"rank": 8, "alpha": None}
FRAME = {"frame": 4, "size": None}

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("frozen", "W", "feature extraction", rates=Rates(batchnorm=0.0), adapts_batchnorm=False),
        Method("batchnorm", "W", "Bilen & Vedaldi, arXiv 1701.07275", rates=Rates(0.0, 3.91, 0.771)),
        Method(
            "finetune", "W + Δ", "one network per domain", Delta, rates=Rates(0.3, 0.3, 0.1), trains_everything=True
        ),
        Method(
            "mad",
            "W ⊙ α, or W ⊙ (βγ) with rank I",
            "arXiv 2307.08528",
            build_modulation,
            MAD,
            rates=Rates(0.143, 0.0998, 0.0267),
            rates_by_rank={
                1: Rates(0.0404, 1.97, 0.124),
                3: Rates(0.0212, 0.673, 0.141),
                11: Rates(0.0756, 0.238, 0.05),
                27: Rates(0.0557, 0.283, 0.0426),
            },
            rates_by_form={"residual": Rates(0.0238, 0.189, 0.0397)},
        ),
        Method("piggyback", "W ⊙ 1[m > τ]", "arXiv 1801.06519", Piggyback, rates=Rates(0.00326, 0.352, 0.159)),
        Method(
            "wtpb",
            "k0 W + k1 1 + k2 B + k3 W ⊙ B",
            "arXiv 1805.11119",
            BinaryTransform,
            rates=Rates(6.17, 0.245, 0.0515),
        ),
        Method("mad+wtpb", "wtpb of W ⊙ α", "arXiv 2307.08528", ModulatedTransform, RANK, Rates(0.05, 0.476, 0.1)),
        Method(
            "parallel",
            "W + A on the central tap",
            "arXiv 1803.10082",
            ParallelAdapter,
            rates=Rates(3.19, 0.146, 0.0293),
        ),
        Method("series", "(Id + A) W", "arXiv 1705.08045", SeriesAdapter, rates=Rates(0.849, 1.35, 0.283)),
        Method("lora", "W + B∘A", "arXiv 2106.09685, as in PEFT", LowRankDelta, LORA, Rates(1.77, 0.178, 0.0267)),
        Method("hira", "W ⊙ (1 + B∘A)", "ICLR 2025, as in PEFT", HadamardLowRank, HIRA, Rates(0.292, 1.99, 0.548)),
        Method("ksm", "W ⊙ (1[m > τ] ⊙ A)", "arXiv 2009.05668", KernelMask, rates=Rates(0.0521, 0.801, 0.0477)),
        Method(
            "filter-subspace",
            "C (D + Δ), W = C D",
            "arXiv 2403.00269",
            FilterSubspace,
            rates=Rates(0.247, 4.5, 0.218),
        ),
        Method("prompt", "W; x + frame", "arXiv 2203.17274", None, FRAME, Rates(18.9, 0.756, 0.063), prompt=Frame),
        *PEER_METHODS,
    )
}

__all__ = [
    "METHODS",
    "Adapter",
    "BinaryTransform",
    "Delta",
    "FactorisedModulation",
    "FilterSubspace",
    "Frame",
    "FullModulation",
    "HadamardLowRank",
    "KernelMask",
    "LowRankDelta",
    "Method",
    "ModulatedTransform",
    "Modulation",
    "ParallelAdapter",
    "Piggyback",
    "Rates",
    "ResidualModulation",
    "SeriesAdapter",
    "build_modulation",
    "modulate",
]
