"""One cell of a sweep's grid, and how its run is finished."""

import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from madlab.errors import MadlabError, kind_and_reason
from madlab.files.plain import write_bytes
from madlab.runs.evaluate import round_run
from madlab.runs.folder import CHECKPOINT, FAILURE
from madlab.runs.record import METRICS, RESULT, Result
from madlab.runs.train import train


@dataclass(frozen=True)
class Cell:
    """One run of a grid; options: what `train` is called with besides domain and folder; bits: for `round_run`."""

    folder: Path
    domain: str
    options: dict[str, Any]
    epochs: int
    bits: tuple[int, ...] = ()

    @property
    def trained(self) -> bool:
        """Whether the run has its result, and nothing that a process which was killed after writing it left behind."""
        return (self.folder / RESULT).exists() and not (self.folder / CHECKPOINT).exists()

    @property
    def finished(self) -> bool:
        """Whether it is trained, and measured in all the numbers of bits that were asked for."""
        return self.trained and (not self.bits or {*map(str, self.bits)} <= Result.read(self.folder).rounded.keys())

    def epochs_done(self) -> int:
        """How many epochs it has logged, as far as that can be read: on a network disk it may just be replaced."""
        metrics = self.folder / METRICS
        try:
            return len(metrics.read_bytes().splitlines()) if metrics.is_file() else 0
        except OSError:
            return 0


def finish(cell: Cell, on_epoch: Callable[[Any], None] | None = None) -> str | None:
    """Finish one run, from wherever it stands; returns what went wrong, in a sentence, or None."""
    try:
        train(cell.domain, out=cell.folder, resume=True, progress=False, on_epoch=on_epoch, **cell.options)
        if cell.bits:
            round_run(cell.folder, cell.bits, base=cell.options["base"], device=cell.options["device"])
    except MadlabError as error:
        return str(error)
    except Exception as error:  # a defect of ours: it is told at the end, and the other runs go on
        return _told(cell, error)
    return None


def finish_in_worker(cell: Cell, folder: str) -> str | None:
    """`finish` in a worker process: with one thread, and in the folder from which relative paths start."""
    os.chdir(folder)
    torch.set_num_threads(1)
    return finish(cell)


def _told(cell: Cell, error: Exception) -> str:
    """A sentence for an error that is not a MadlabError; its traceback goes into the run folder."""
    file = cell.folder / FAILURE
    told = kind_and_reason(error)
    try:
        write_bytes(file, "".join(traceback.format_exception(error)).encode())
    except MadlabError as unwritten:
        return f"{told}; its traceback is lost. {unwritten}"
    return f"{told}; the traceback is in {file}."
