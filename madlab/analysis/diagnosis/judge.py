"""From the numbers of a run, and of other runs beside it, to the signature of a failure.

First what a run says alone. Then what others say that differ from it in one respect: the one that is ahead decides, and
those that are not ahead acquit. What the verdicts are worth on runs that were made to fail is recorded
(`read_failures`).
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from math import inf

from madlab.adapters import METHODS
from madlab.analysis.diagnosis.evidence import Evidence
from madlab.analysis.diagnosis.signatures import (
    ASLEEP,
    AWAY,
    BASE,
    BATCHNORM,
    BETTER,
    CLEAR,
    DIVERGED,
    EPOCHS,
    EXPLODED,
    FEW_EPOCHS,
    FORM,
    GAP,
    HARDLY,
    HEAD,
    LITTLE,
    LOUD,
    MISFIT,
    NOTHING,
    OVERFITTING,
    RANK,
    RATES,
    RUINED,
    TOO_HIGH,
    TOO_LOW,
    UNFINISHED,
    WILDLY,
)
from madlab.analysis.diagnosis.wording import commands, compared, measured


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong with a run.

    signatures: of SIGNATURES, one if the evidence decides, else all that it leaves. because: the numbers with their
    yardsticks, and what runs beside it say. next: commands that try a remedy or, of several signatures, find out.
    """

    signatures: tuple[str, ...]
    because: tuple[str, ...]
    next: tuple[str, ...]


def judge(run: Evidence, others: Sequence[Evidence] = ()) -> Diagnosis:
    """The signature of a run, from its own numbers and from comparable ones among `others` (`respect` says which)."""
    known = [(what, other) for other in others if (what := respect(run, other)) is not None]
    best = {what: max((o for w, o in known if w == what), key=_accuracy) for what in dict(known)}
    ahead = {what: other for what, other in best.items() if _accuracy(other) - _accuracy(run) >= BETTER}
    acquitted = {what for what, other in best.items() if what not in ahead and _suspects(other)[0][0] not in CLEAR}
    if FORM in acquitted:  # what fine-tuning does not better, a higher rank does not either
        acquitted.add(RANK)
    left = next(rest for group in _suspects(run) if (rest := tuple(s for s in group if s not in acquitted)))
    if ahead and not set(left) <= set(CLEAR):
        left = _remedy(run, ahead, acquitted)
    told = tuple(compared(what, run, other, what in ahead or what in acquitted) for what, other in best.items())
    return Diagnosis(left, measured(run) + told, commands(run, left))


def _remedy(run: Evidence, ahead: Mapping[str, Evidence], acquitted: Set[str]) -> tuple[str, ...]:
    """What is wrong with a run that clears itself or names several causes, where others are ahead of it.

    A wrong rate imitates a lack of capacity, and a rank that is too low shows beside fine-tuning as well as beside the
    whole alpha: of several that are ahead, those with the smaller change speak.
    """
    for first in (set(RATES), set(ahead) - {FORM}):
        ahead = {what: other for what, other in ahead.items() if what in first} or ahead
    winner = max(ahead, key=lambda what: _accuracy(ahead[what]))
    untried = winner == FORM and run.rank != inf and RANK not in acquitted
    return (RANK, FORM) if untried else (winner,)


def respect(run: Evidence, other: Evidence) -> str | None:
    """The signature that `run` has if `other` is ahead of it, by the one respect in which their configs differ.

    None if they cannot be compared: another domain, more than one difference, or no result. A method brings its own
    rates with it; seeds, and how a step is compiled, do not count.
    """
    if not (run.finished and other.finished and run.classes == other.classes and run.path != other.path):
        return None
    changed = set(run.config.differences(other.config)) - {"seed", "compile", "head"}
    if {"method", "options"} & changed:
        return _capacity(run, other) if changed <= {"method", "options", "adapter_lr"} else None
    rate = TOO_LOW if other.rates["adapter"] > run.rates["adapter"] else TOO_HIGH
    longer = EPOCHS if other.config.recipe.epochs > run.config.recipe.epochs else None
    known = {"adapter_lr": rate, "head_lr": HEAD, "batchnorm_lr": BATCHNORM, "epochs": longer, "base": BASE}
    return known.get(changed.pop()) if len(changed) == 1 else None


def _capacity(run: Evidence, other: Evidence) -> str | None:
    """What a run with another adapter tests: the rank, the form of the adapter, or nothing if it can do less."""
    if run.config.method == other.config.method:
        if isinstance(run.rank, Mapping) or isinstance(other.rank, Mapping):  # more in one layer and less in another
            return None
        return RANK if run.rank < other.rank else None
    if METHODS[other.config.method].trains_everything:
        return FORM
    return None


def _suspects(run: Evidence) -> list[tuple[str, ...]]:
    """What a run's own numbers say: groups of signatures between which they cannot decide, the first one first."""
    if not run.finished:
        return [(DIVERGED if run.failure and not run.crashed else UNFINISHED,)]
    fits, few = run.misfit <= MISFIT, run.config.recipe.epochs <= FEW_EPOCHS
    turn, head, batchnorm = run.turn, run.head, run.batchnorm
    if run.fitted:  # to convergence: it has no rates and no number of steps
        return [(FORM,) if not fits else (OVERFITTING,) if run.gap > GAP else (NOTHING,), (NOTHING,)]
    slow = (TOO_LOW,) if turn is not None and turn < LITTLE else ()
    signs = [
        ((HEAD,), run.loudest > LOUD),
        ((BATCHNORM,), run.stale or (batchnorm is not None and batchnorm > AWAY)),
        ((TOO_HIGH,), turn is not None and (turn > WILDLY or run.peak > EXPLODED)),
        ((EPOCHS,), not fits and few),
        # What is kept of a run that was ruined early is an adapter that had no time to move.
        ((TOO_LOW,), turn is not None and turn < HARDLY and (run.peak < RUINED or 2 * run.best.epoch > len(run.log))),
        ((HEAD, BASE), not fits and head is not None and head < ASLEEP),
        ((*slow, OVERFITTING), fits and run.gap > GAP),
        ((*slow, *_too_small(run), EPOCHS), not fits),
        ((NOTHING,), True),
    ]
    return [group for group, shown in signs if shown]


def _accuracy(run: Evidence) -> float:
    return run.reached


def _too_small(run: Evidence) -> tuple[str, ...]:
    """What may lack capacity where a run does not fit."""
    if METHODS[run.config.method].trains_everything:
        return (BASE,)
    return (FORM, BASE) if run.rank == inf else (RANK, FORM, BASE)
