"""How equal the comparison of the fair table is: trials, rates, seeds, heads, and what is still missing."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fair_records import Recorded, counted, listed
from fair_table import DUELS
from tune import NEAR, START, WIDE, best_of, edges, read_trials

from madlab.adapters import METHODS
from madlab.adapters.base import split_method
from madlab.runs.record import Run
from madlab.tables.frame import label
from madlab.tables.output import markdown

TRIALS = 1 + WIDE + NEAR
"""That every family gets at least."""


def care(records: Sequence[Recorded], trials: Path) -> list[str]:
    """What all runs have in common, and how many trials their rates come from. records: of one grid."""
    runs = [run for one in records for run in one.runs]
    return [*_common(records[0], runs), *_trials(runs, trials)]


def _common(one: Recorded, runs: Sequence[Run]) -> list[str]:
    if not one.runs:
        return [one.not_yet()]
    images = {run.result.domain: run.result.test_images for run in runs}
    return [
        "Each run adapts one frozen base network to one domain. `frozen` is a linear head, fitted to convergence on "
        "frozen features; every other method starts from such a head and then trains the head, a BatchNorm of its own "
        "and its adapter together, with the same images in the same order for the same seed. The best epoch is chosen "
        f"on validation images, and test images are read once, at the end. The protocol is {one.table.protocol}.",
        "Test images: " + ", ".join(f"{domain} {count:,}" for domain, count in images.items()) + ".",
    ]


def _trials(runs: Sequence[Run], file: Path) -> list[str]:
    lines = _lines(file)
    counts = {family: len(own) for family, own in lines.items()}
    equal, duels = equal_trials(lines, START), equal_trials(lines, duel_families())
    parts = [
        "**Trials.** Rates of adapter, BatchNorm and head are tried together, on validation images of two domains, at "
        f"least {TRIALS} times for each of {len(START)} methods and families of ranks (`data_scripts/tune.py`). The "
        "ranks of a family have its rates. "
        f"{counted(sum(counts.values()), 'trial')} are in `madlab/records/trials.jsonl`"
    ]
    if equal:
        parts[0] += f": **{equal} for every one of them**."
    elif duels:
        parts[0] += f": **{duels} for every row that takes part in duels**. They are not complete for the others yet:"
    else:
        parts[0] += ", so that **they are not equal yet**:"
    if not equal:
        parts.append(_counts(counts))
    whole = {family: own for family, own in lines.items() if len(own) >= TRIALS}
    if at_edge := [family for family, own in whole.items() if edges(own)]:
        parts.append(f"Of {listed(at_edge)} the best trial lies at the edge of what was tried.")
    return [*parts, *_origin(runs, {family: best_of(own) for family, own in whole.items()})]


def _lines(file: Path) -> dict[str, list[dict[str, Any]]]:
    """Family -> its trials, of all families of tune.START."""
    every = read_trials(file)
    return {family: [line for line in every if line["family"] == family] for family in START}


def equal_trials(lines: dict[str, list[dict[str, Any]]], families: Iterable[str]) -> int:
    """How many trials each of some families has had; 0 if some had more than others, or fewer than TRIALS."""
    counts = {len(lines[family]) for family in families}
    return counts.pop() if len(counts) == 1 and min(counts) >= TRIALS else 0


def duels_tried(file: Path) -> int:
    """How many trials every row of the duels has had; 0 if they are not equal."""
    return equal_trials(_lines(file), duel_families())


def duel_families() -> set[str]:
    """The families of the rows that take part in duels."""
    return {family for method in DUELS if (family := family_of(method)) is not None}


def _counts(counts: dict[str, int]) -> str:
    by_count = sorted(set(counts.values()), reverse=True)
    families = [listed(family for family, own in counts.items() if own == count) for count in by_count]
    return markdown(["trials", "families"], [[str(count) for count in by_count], families])


def _origin(runs: Sequence[Run], best: dict[str, dict[str, float]]) -> list[str]:
    """Which rows were run with the best rates of complete trials, and which with others."""
    tried: dict[bool, dict[str, None]] = {True: {}, False: {}}
    for run in runs:
        form = run.config.options.get("form")
        if (family := family_of(run.method, str(form) if form else None)) is not None:
            own, found = run.result.rates, best.get(family)
            equal = found is not None and all(own[k] == found[f"{k}_lr"] for k in ("adapter", "batchnorm", "head"))
            tried[equal][label(run)] = None
    parts = []
    if tried[True]:
        parts.append(f"With the best rates of all these trials were run: {listed(tried[True])}.")
    if tried[False]:
        parts.append(
            "With rates of earlier, unequal trials of one rate at a time (`madlab/records/trials.json`), from which "
            f"the new trials start, were run: {listed(tried[False])}."
        )
    return parts


def family_of(method: str, form: str | None = None) -> str | None:
    """The family of tune.START whose rates a method has, "mad:13" for example; None for `frozen`, which has no rate."""
    name, rank = split_method(method)
    if name == "frozen":
        return None
    if name != "mad" or form or rank is None:
        return f"{method} {form}" if form else method
    tuned = [split_method(family)[1] for family in START if family.startswith("mad:") and " " not in family]
    return next(f"mad:{own}" for own in tuned if own is not None and _least(own) == _least(rank))


def _least(rank: int) -> int:
    """The rank of `mad` from which on the rates of this one hold."""
    return max(least for least in METHODS["mad"].rates_by_rank if least <= rank)


def completeness(records: Sequence[Recorded]) -> list[str]:
    """How many of the planned runs each record holds, and how many of its rows are complete."""
    rows = [_counted_rows(one) for one in records]
    heads = ["record", "runs", "rows with a seed on every domain", "rows with all their seeds", "missing runs"]
    return [
        markdown(heads, zip(*rows, strict=True)),
        "A row is a method; in the study of epochs, a method with one number of epochs. Rows that take part in duels "
        "are to have three seeds, the others one. The domains that are in the nine and in the five are the same runs.",
    ]


def _counted_rows(one: Recorded) -> tuple[str, ...]:
    rows = {(method, epochs) for method, epochs, _, _ in one.planned}
    without_first = {(method, epochs) for method, epochs, _, seed in one.missing if seed == 0}
    without_any = {(method, epochs) for method, epochs, _, _ in one.missing}
    return (
        f"`{one.name}.jsonl`",
        f"{one.there:,} of {one.planned.total():,}",
        f"{len(rows - without_first)} of {len(rows)}",
        f"{len(rows - without_any)} of {len(rows)}",
        f"{one.missing.total():,}",
    )
