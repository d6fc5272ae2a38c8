"""What trained domains reached, in each form in which they were stored: the rows that intervals are computed from.

A run gives one outcome as it was trained, and one for each number of bits that its result holds as `rounded`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from madlab.runs.record import Run, unpack_correct
from madlab.tables.frame import as_frame


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
    runs = list(runs)
    names = [field.name for field in fields(Outcome) if field.name != "correct"]
    rows = as_frame(runs, rounded=True)[names].astype(object)
    known = rows.where(rows.notna(), None).to_dict("records")
    marks = [one for run in runs for one in _marks(run)]
    return [Outcome(**row, correct=correct) for row, correct in zip(known, marks, strict=True)]


def _marks(run: Run) -> Iterator[NDArray[np.bool_] | None]:
    """Right or wrong for each test image, of every form of a run in the order of `as_frame`."""
    for packed in (run.result.test_correct, *(form.test_correct for form in run.result.rounded.values())):
        yield unpack_correct(packed, run.result.test_images) if packed else None
