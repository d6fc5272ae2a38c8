"""Where the epochs of a run are written besides its metrics.jsonl, for programs that draw them."""

import csv
import io
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from madlab.errors import MadlabError
from madlab.files.plain import write_bytes
from madlab.runs.record import Epoch, read_log

LOGS = ("jsonl", "csv", "tensorboard")
"""jsonl is metrics.jsonl, which every run folder has; the others come on top."""

CSV, TENSORBOARD = "metrics.csv", "tensorboard"


def make_log(kind: str, folder: Path | None) -> Callable[[Epoch], None]:
    """What to call with every epoch after it was stored; MadlabError for what cannot be written."""
    if kind not in LOGS:
        raise MadlabError(f"There is no log {kind!r:.60}: choose one of {', '.join(LOGS)}.")
    if kind == "jsonl":
        return lambda epoch: None
    if folder is None:
        raise MadlabError(f"A log as {kind} needs a run folder to lie in: give one (out=...).")
    return (lambda epoch: write_csv(folder)) if kind == "csv" else _tensorboard(folder)


def write_csv(folder: Path) -> None:
    """Write all epochs that are in metrics.jsonl to metrics.csv, one row each."""
    rows = [asdict(epoch) for epoch in read_log(folder)]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(folder / CSV, text.getvalue().encode())


def _tensorboard(folder: Path) -> Callable[[Epoch], None]:
    """Event files in the run folder. A run that goes on adds a file; what was logged of an epoch twice counts once."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MadlabError("TensorBoard is not installed: pip install 'madlab[log]', or choose another log.") from None
    writers: list[Any] = []

    def log(epoch: Epoch) -> None:
        if not writers:  # not before there is something to log, for until then the run may be refused
            writers.append(SummaryWriter(str(folder / TENSORBOARD), purge_step=epoch.epoch))
        scalars = {"loss/train": epoch.train_loss, "loss/val": epoch.val_loss, "accuracy/val": epoch.val_accuracy}
        for name, value in scalars.items():
            if value is not None:  # there is no validation where its images are trained on
                writers[0].add_scalar(name, value, epoch.epoch)
        writers[0].flush()

    return log
