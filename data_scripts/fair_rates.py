"""The control of the fair table: what the ranks of MAD owe to the rates of their family, which were drawn at random."""

from dataclasses import replace
from statistics import fmean

from fair_care import TRIALS, family_of
from fair_records import Recorded

from madlab.adapters.base import split_method
from madlab.runs.record import Run
from madlab.tables.duel_report import bases_of, told
from madlab.tables.duels import MEAN, duels, grid_of
from madlab.tables.outcomes import outcomes
from madlab.tables.output import markdown


def rank_or_rates(one: Recorded, swapped: Recorded) -> list[str]:
    """Some ranks of MAD, each with the rates of its own family and with those of another, and what rank changes.

    one: the runs with their own rates. swapped: the same ranks with the rates of others.
    """
    if swapped.missing or not one.ready:
        return [swapped.not_yet()]
    ranks = sorted({run.method for run in swapped.every_run}, key=lambda method: split_method(method)[1] or 0)
    seeds = {run.result.seed for run in swapped.every_run}
    own = [run for run in one.runs if run.method in ranks and run.result.seed in seeds]
    families = {_rates(run): str(family_of(run.method)) for run in own}
    runs = [*own, *(run for run in swapped.every_run if run.result.domain in one.whole_domains)]
    named = [replace(o, method=_name(o.method, _rates(r))) for r, o in zip(runs, outcomes(runs), strict=True)]
    grid, (first, *others) = grid_of(named), ranks
    pairs = [(_name(rank, rates), _name(first, rates)) for rates in families for rank in others]
    fought = {(duel.first, duel.second): duel for duel in duels(grid, pairs) if duel.kind == MEAN}
    columns = {"rates: adapter, BatchNorm, head": [f"of {family}: {rates}" for rates, family in families.items()]}
    for rank in ranks:
        cells = [grid[_name(rank, rates)] for rates in families]
        columns[rank] = [f"{fmean(own[0].test_accuracy for own in by_domain.values()):.1f}" for by_domain in cells]
    for rank in others:
        columns[f"{rank} against {first}"] = [told(fought[_name(rank, r), _name(first, r)], 1) for r in families]
    return [
        f"The ranks of a family share the rates that won its {TRIALS} random trials, and what is drawn at random may "
        "be a better or a worse hand, so that a larger rank may be behind a smaller one for its rates alone. The "
        "control: the same ranks with the rates of either family, everything else the same, first seed. Mean test "
        f"accuracy in percent on {one.where}, and points with intervals:",
        markdown(list(columns), columns.values()),
        f"The intervals come from {bases_of(list(fought.values()))}. The table above keeps the rates that the trials "
        "chose: to change them for what test images say would be no comparison any more.",
    ]


def _rates(run: Run) -> str:
    return ", ".join(f"{run.result.rates[group]:g}" for group in ("adapter", "batchnorm", "head"))


def _name(method: str, rates: str) -> str:
    return f"{method} at {rates}"
