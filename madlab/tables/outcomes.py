"""What trained domains reached, in each form in which they were stored: the rows that intervals are computed from.

A run gives one outcome as it was trained, and one for each number of bits that its result holds as `rounded`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from madlab.backbones import WEIGHTS, load_base
from madlab.guard import fingerprint
from madlab.network import MultiDomainNet
from madlab.runs.config import BaseUsed
from madlab.runs.marks import unpack_correct
from madlab.runs.record import Result, Rounded, Run
from madlab.tables.frame import label, protocol

NUMBER = 4
"""Bytes of a number in float32."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """One trained domain in one stored form.

    method: as `label` writes it, followed by the bits of a rounded form: "mad:8 in 4 bits". family: its key in METHODS,
    whatever its rank. bits: of a form that was rounded after training; None for the run's own. adapter_bytes,
    norm_bytes: stored for the domain besides its head; the second is None where the run is older than that record and
    its base does not ship with madlab. val_accuracy, test_accuracy: percent; the first is None where validation images
    were trained on. correct: bool (N,), right or wrong for each test image; None where it was not recorded.
    """

    protocol: str
    method: str
    family: str
    bits: int | None
    domain: str
    seed: int
    adapter_bytes: int
    norm_bytes: int | None
    val_accuracy: float | None
    test_accuracy: float
    correct: NDArray[np.bool_] | None

    @property
    def stored(self) -> int | None:
        """Bytes of adapter and norms."""
        return None if self.norm_bytes is None else self.adapter_bytes + self.norm_bytes


def outcomes(runs: Iterable[Run]) -> list[Outcome]:
    """All stored forms of some runs, each run's own form first."""
    found = []
    for run in runs:
        found.append(_outcome(run, None, run.result))
        found += [_outcome(run, int(bits), rounded) for bits, rounded in run.result.rounded.items()]
    return found


def adapter_and_norm_bytes(result: Result, base: BaseUsed) -> tuple[int, int | None]:
    """Bytes that a run stores for its domain, without the head.

    base: of its config. An older run does not say them: a number of its adapter took four bytes (of a mask, whose bits
    count 1/32, this is exact up to the last byte of each layer), and norms are those of its base.
    """
    if result.stored_bytes:
        return result.stored_bytes["adapter"], result.stored_bytes["norms"]
    return NUMBER * result.adapter_parameters, _norm_bytes(base.source, result.base.sha256)


@cache
def _norm_bytes(source: str | None, sha256: str) -> int | None:
    """Bytes of a base's norms with their running statistics; None for a base that does not ship with madlab.

    A records file may be a stranger's: it gets no other file read.
    """
    if source not in {path.stem for path in WEIGHTS.glob("*.safetensors")}:
        return None
    network = load_base(str(source))
    if fingerprint(network) != sha256:
        return None
    net = MultiDomainNet(network)
    net.add_domain("any", 2, "frozen")
    return net.stored_bytes("any").norms


def _outcome(run: Run, bits: int | None, form: Result | Rounded) -> Outcome:
    sizes: tuple[int, int | None]
    if isinstance(form, Rounded):
        sizes, method = (form.stored_bytes["adapter"], form.stored_bytes["norms"]), f"{label(run)} in {bits} bits"
    else:
        sizes, method = adapter_and_norm_bytes(form, run.config.base), label(run)
    packed = form.test_correct
    return Outcome(
        protocol=protocol(run),
        method=method,
        family=run.result.method,
        bits=bits,
        domain=run.result.domain,
        seed=run.result.seed,
        adapter_bytes=sizes[0],
        norm_bytes=sizes[1],
        val_accuracy=form.val_accuracy,
        test_accuracy=form.test_accuracy,
        correct=unpack_correct(packed, run.result.test_images) if packed else None,
    )
