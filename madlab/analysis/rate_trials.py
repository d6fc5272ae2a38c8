"""Recorded runs at multiples of their method's learning rate, and what one says beside the others.

The simple rule of notebook 12; `madlab diagnose` judges a run folder by the turn of its filters (`analysis.diagnosis`).
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from pydantic.dataclasses import dataclass

from madlab.adapters.base import join_method
from madlab.errors import MadlabError
from madlab.files.schemas import STRICT, validated
from madlab.runs.config import RunConfig
from madlab.runs.record import RECORDS, Epoch, Result, read_lines

MOVED_LESS, MOVED_MORE = 0.05, 2.0
"""Below and above which a rate is called wrong: change of the filters / that at the method's own rate."""
LOSS_GAP = 0.3
"""Nats of training loss above the lowest of all trials, beyond which the capacity is called too small."""
AHEAD = 5.0
"""Points of validation accuracy by which another rate of the method must be ahead for a rate to be called wrong."""


@dataclass(frozen=True, config=STRICT)
class Trial:
    """A recorded run at a multiple of its method's own learning rate: one line of a trials file.

    factor: the adapter's rate / the method's own. moved: `filter_change` in the best epoch. Where the loss became NaN,
    result and moved are None, `failure` says so, and log has the epochs before it.
    """

    config: RunConfig
    result: Result | None
    log: tuple[Epoch, ...]
    factor: float
    moved: float | None
    failure: str = ""

    @property
    def method(self) -> str:
        """The method as it is written for the command line, "mad:8" for MAD of rank 8."""
        return join_method(self.config.method, self.config.rank)

    @property
    def test_accuracy(self) -> float | None:
        """In percent."""
        return None if self.result is None else self.result.test_accuracy

    def to_json(self) -> dict[str, Any]:
        """As a line of a trials file holds it."""
        return asdict(self)


TOO_LARGE, TOO_SMALL = "the rate is too large", "the rate is too small"
ANOTHER, CAPACITY, NONE = "another rate is better", "the capacity is too small", "no failure"
VERDICTS = (TOO_SMALL, TOO_LARGE, ANOTHER, CAPACITY, NONE)
"""What `judged` can find."""


class Verdict(NamedTuple):
    """What the numbers of a trial say: one of VERDICTS, and what it rests on, in a sentence."""

    kind: str
    sentence: str


def judged(trial: Trial, trials: Sequence[Trial]) -> Verdict:
    """What the numbers of a trial say when compared with the other trials.

    The rate comes first, because a wrong one imitates every other failure: the change of the filters is compared with
    that at the method's own rate (factor 1), and the last validation accuracy with those at its other rates. Then the
    capacity: the last training loss is compared with the lowest of all.
    """
    same_method = [other for other in trials if other.method == trial.method]
    usual = next(other for other in same_method if other.factor == 1)
    if trial.moved is None or usual.moved is None:
        return Verdict(TOO_LARGE, "The rate is too large: the loss became NaN.")
    ratio = trial.moved / usual.moved
    if ratio < MOVED_LESS:
        how_far = f"{ratio:.2g} times as far as at the method's own rate"
        return Verdict(TOO_SMALL, f"The filters hardly moved, {how_far}: this is BatchNorm and head.")
    if ratio > MOVED_MORE:
        told = f"The rate is too large: the filters moved {ratio:.2g} times as far as at the method's own rate."
        return Verdict(TOO_LARGE, told)
    best = max((other for other in same_method if other.moved is not None), key=_last_accuracy)
    if _last_accuracy(best) - _last_accuracy(trial) >= AHEAD:
        told = f"The filters moved, but × {best.factor:g} does better on validation images: look for the rate first."
        return Verdict(ANOTHER, told)
    lowest = min((other for other in trials if other.log), key=_last_train_loss)
    gap = _last_train_loss(trial) - _last_train_loss(lowest)
    if gap > LOSS_GAP:
        told = f"The rate moved the filters well; its training loss is {gap:.2f} above {lowest.method}'s: capacity."
        return Verdict(CAPACITY, told)
    return Verdict(NONE, "No failure: the filters moved, and the training loss is near the lowest.")


def by_rate(trials: Sequence[Trial]) -> dict[tuple[str, int], Trial]:
    """The trials by method and by the power of ten that is nearest to their factor."""
    return {(trial.method, round(math.log10(trial.factor))): trial for trial in trials}


def read_rate_trials(file: Path | str = RECORDS / "diagnosis.jsonl") -> list[Trial]:
    """The trials of a file, in its order; MadlabError if there is none or a line is damaged."""
    trials = read_lines(file, lambda facts, where: validated(Trial, facts, where))
    if not trials:
        raise MadlabError(f"There are no trials in {file}: make them with data_scripts/diagnosis.py.")
    return trials


def _last_accuracy(trial: Trial) -> float:
    """Validation accuracy of the last epoch, in percent."""
    reached = trial.log[-1].val_accuracy
    assert reached is not None, "trials are validated"
    return reached


def _last_train_loss(trial: Trial) -> float:
    """Mean training loss of the last epoch, in nats."""
    return trial.log[-1].train_loss
