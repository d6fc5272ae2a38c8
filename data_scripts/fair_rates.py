"""The control of the fair table: what the ranks of MAD owe to the rates of their family, which were drawn at random."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from fair_records import Recorded, listed
from tune import family_of

from madlab.adapters.base import split_method
from madlab.runs.record import Run
from madlab.tables.duel_report import bases_of, told
from madlab.tables.duels import MEAN, Duel, duels, grid_of
from madlab.tables.equal_size import Pair
from madlab.tables.frame import label
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
    own = [run for run in one.runs if label(run) in ranks and run.result.seed in seeds]
    families = {_rates(run): str(family_of(run.method)) for run in own}
    runs = [*own, *(run for run in swapped.every_run if run.result.domain in one.whole_domains)]
    named = [
        replace(outcome, method=_name(outcome.method, _rates(run)))
        for run in runs
        for outcome in outcomes([run])
        if outcome.bits is None
    ]
    grid, (first, *others) = grid_of([*named, *one.found]), ranks
    own_rates = {run.method: _rates(run) for run in own}
    swaps = {
        rank: (_name(rank, rates), _name(rank, own_rates[rank]))
        for rank in ranks
        for rates in families
        if rates != own_rates[rank]
    }
    rivals = [(swaps[mad][0], rival) for mad, rival in one.equal_sizes.at["bytes"] if mad in swaps]
    pairs = [(_name(rank, rates), _name(first, rates)) for rates in families for rank in others]
    found = duels(grid, [*pairs, *swaps.values(), *rivals])
    fought = {(duel.first, duel.second): duel for duel in found if duel.kind == MEAN}
    columns = {"rates: adapter, BatchNorm, head": [f"of {family}: {rates}" for rates, family in families.items()]}
    for rank in ranks:
        cells = [grid[_name(rank, rates)] for rates in families]
        columns[rank] = [f"{fmean(own[0].test_accuracy for own in by_domain.values()):.1f}" for by_domain in cells]
    for rank in others:
        columns[f"{rank} against {first}"] = [told(fought[_name(rank, r), _name(first, r)], 1) for r in families]
    return [
        "The ranks of a family share the rates that won its trials, which were drawn at random, so that a family may "
        "have been lucky or not: a larger rank may be behind a smaller one for its rates alone. The control: the same "
        "ranks with the rates of either family, everything else the same but for a repair of the statistics from which "
        "heads start, which moved single runs by up to two points (CHANGELOG, committed numbers), first seed. Mean "
        f"test accuracy in percent on {one.where}, and points with intervals:",
        markdown(list(columns), columns.values()),
        f"So with the other rates {listed(f'{rank} is at {told(fought[pair], 1)}' for rank, pair in swaps.items())}, "
        f"against itself with its own. {_rivals(fought, rivals, swaps)}The table above keeps the rates that the trials "
        "chose: to change them for what test images say would be no comparison any more.",
        f"Verdicts after Holm's correction over all of these; the intervals come from {bases_of(found)}.",
    ]


def _rivals(fought: Mapping[Pair, Duel], rivals: Sequence[Pair], swaps: Mapping[str, Pair]) -> str:
    """How ranks with the other rates stand against the rivals of their bytes."""
    ranks = {swapped: rank for rank, (swapped, _) in swaps.items()}
    told_of = [f"{ranks[pair[0]]} against {pair[1]} {told(fought[pair], 1)}" for pair in rivals]
    return f"At equal bytes it would then be {listed(told_of)}. " if told_of else ""


def _rates(run: Run) -> str:
    return ", ".join(f"{run.result.rates[group]:g}" for group in ("adapter", "batchnorm", "head"))


def _name(method: str, rates: str) -> str:
    return f"{method} at {rates}"
