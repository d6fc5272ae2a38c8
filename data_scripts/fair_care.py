"""How equal the comparison of the fair table is: trials, rates, seeds, heads, and what is still missing."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from fair_grids import DUELS, FIRST_ROUND
from fair_records import Recorded, counted, listed
from finals import FOUR, LEAST
from tune import KINDS, NEAR, START, WIDE, best_of, edges, family_of, read_trials

from madlab.runs.record import Run
from madlab.tables.output import markdown

TRIALS = 1 + WIDE + NEAR
"""That every family gets at least, in the first round."""
SECOND_ROUND = "trials-finals.jsonl"
Lines = dict[str, list[dict[str, Any]]]
"""Family -> its trials."""


def care(records: Sequence[Recorded], every: Sequence[Recorded]) -> list[str]:
    """What all runs of some records have in common, how many trials there were, and whose rates they gave.

    records: of one grid. every: all that there are.
    """
    folder = records[0].file.parent
    first, second = (_lines(folder / name) for name in (FIRST_ROUND.name, SECOND_ROUND))
    return [*_common(records), *_trials(first, second), *_origin(every, first, second)]


def _common(records: Sequence[Recorded]) -> list[str]:
    one, runs = records[0], [run for record in records for run in record.runs]
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


def _trials(first: Lines, second: Lines) -> list[str]:
    tried = {family: own for family, own in second.items() if own}
    at_edge = [family for family, own in tried.items() if edges([*first[family], *own], best_of(own))]
    at_edge += [family for family, own in first.items() if family not in tried and own and edges(own)]
    parts = [
        "**Trials.** Rates of adapter, BatchNorm and head are tried together, on validation images of two domains, for "
        f"each of {len(START)} methods and families of ranks; the ranks of a family have its rates. The first round "
        f"(`data_scripts/tune.py`) has at least {TRIALS} places at random with the earlier recipe, small images first: "
        f"{_count(first, FIRST_ROUND.name, TRIALS)}. The second (`data_scripts/finals.py`) has the best {FOUR} of the "
        "first again, with today's recipe, and then pairs: all rates lower and higher than the best so far or, where "
        "that moved it, further on in that direction: "
        f"{_count(second, SECOND_ROUND, LEAST)}.",
    ]
    for lines, least in ((first, TRIALS), (second, LEAST)):
        if any(lines.values()) and not equal_trials(lines, START, least):
            parts.append(_counts({family: len(own) for family, own in lines.items()}))
    if tried:
        parts += _moved(first, tried)
    if at_edge:
        parts.append(f"Of {listed(at_edge)} the best rates lie at the edge of what was tried.")
    return parts


def _moved(first: Lines, second: Lines) -> list[str]:
    """What the second round made of the best rates of the first: both, and the accuracies that they have there."""
    before = [best_of(first[family]) for family in second]
    after = [max(own, key=lambda line: line["mean"]) for own in second.values()]
    pairs = zip(second.values(), before, strict=True)
    kept = [[line["mean"] for line in own if line["rates"] == rates] for own, rates in pairs]
    return [
        "Rates of adapter, BatchNorm and head that were best in either round, and the mean accuracies on validation "
        "images of both with today's recipe. The later ones are the highest of their family, so that chance flatters "
        f"them: a mean has a standard error of about {_error(second):.1f} points, and a place may have won by that. "
        "In the pairs all three rates move together, few images and epochs may favour high rates, and the ranks of MAD "
        "are several families, where a rival has one:",
        markdown(
            ["family", "best of the first round", "%", "best of the second", "%"],
            [
                list(second),
                [_rates(rates) for rates in before],
                [f"{means[0]:.1f}" if means else "–" for means in kept],
                [_rates(line["rates"]) for line in after],
                [f"{line['mean']:.1f}" for line in after],
            ],
        ),
    ]


def _error(second: Lines) -> float:
    """The standard error, in points, of the mean accuracy of one trial, as that of a share of its validation images."""
    every = [line for own in second.values() for line in own]
    shares = [list(line["val_accuracy"].values()) for line in every]
    images = every[0]["most_images"]["val"]
    return fmean(sum(p * (100 - p) / images for p in own) ** 0.5 / len(own) for own in shares)


def _rates(rates: dict[str, float]) -> str:
    return ", ".join(f"{rates[kind]:g}" for kind in KINDS)


def _count(lines: Lines, file: str, least: int) -> str:
    """How many trials a round has had, and whether every family had as many."""
    text = f"{counted(sum(map(len, lines.values())), 'trial')} are in `madlab/records/{file}`"
    if equal := equal_trials(lines, START, least):
        return f"{text}, **{equal} for every one of them**"
    if duels := equal_trials(lines, duel_families(), least):
        return f"{text}, **{duels} for every row that takes part in duels**, and not yet as many for the others"
    return f"{text}, so that **they are not equal yet**"


def _lines(file: Path) -> Lines:
    """Of all families of tune.START."""
    every = read_trials(file)
    return {family: [line for line in every if line["family"] == family] for family in START}


def equal_trials(lines: Lines, families: Iterable[str], least: int = TRIALS) -> int:
    """How many trials each of some families has had; 0 if some had more than others, or fewer than `least`."""
    counts = {len(lines[family]) for family in families}
    return counts.pop() if len(counts) == 1 and min(counts) >= least else 0


def duels_tried(file: Path, least: int = TRIALS) -> int:
    """How many trials every row of the duels has had in a round; 0 if they are not equal."""
    return equal_trials(_lines(file), duel_families(), least)


def duel_families() -> set[str]:
    """The families of the rows that take part in duels."""
    return {family for method in DUELS if (family := family_of(method)) is not None}


def _counts(counts: dict[str, int]) -> str:
    by_count = sorted(set(counts.values()), reverse=True)
    families = [listed(family for family, own in counts.items() if own == count) for count in by_count]
    return markdown(["trials", "families"], [[str(count) for count in by_count], families])


def _origin(every: Sequence[Recorded], first: Lines, second: Lines) -> list[str]:
    """Which records were run with the best rates of which round, and which with others."""
    early = {family: best_of(own) for family, own in first.items() if own}
    late = early | {family: best_of(own) for family, own in second.items() if own}
    kinds: tuple[list[str], ...] = ([], [], [])
    for one in every:
        if one.every_run:
            matches = (all(_has(run, best) for run in one.every_run) for best in (early, late))
            kinds[next((kind for kind, same in enumerate(matches) if same), 2)].append(f"`{one.name}.jsonl`")
    told = ("the best rates of the first round", "the best of each family's last", "others, as the page says of them")
    return [f"Run with {what}: {listed(names)}." for what, names in zip(told, kinds, strict=True) if names]


def _has(run: Run, best: dict[str, dict[str, float]]) -> bool:
    """Whether a run was made with the best rates of its family, or has none."""
    form = run.config.options.get("form")
    family = family_of(run.method, str(form) if form else None)
    if family is None:
        return True
    return family in best and all(run.result.rates[kind.removesuffix("_lr")] == best[family][kind] for kind in KINDS)


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
