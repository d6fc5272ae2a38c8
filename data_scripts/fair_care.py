"""How equal the comparison of the fair table is: trials, rates, seeds, heads, and what is still missing."""

from collections.abc import Sequence

from fair_records import Recorded, listed
from fair_trials import Rounds
from tune import KINDS, family_of

from madlab.runs.record import Run
from madlab.tables.output import markdown


def care(records: Sequence[Recorded], every: Sequence[Recorded]) -> list[str]:
    """What all runs of some records have in common, how many trials there were, and whose rates they gave.

    records: of one grid. every: all that there are.
    """
    rounds = Rounds.read(records[0].file.parent)
    return [*_common(records), *rounds.told(), *_origin(every, rounds)]


def _common(records: Sequence[Recorded]) -> list[str]:
    one, runs = records[0], [run for record in records for run in record.runs]
    if not one.runs:
        return [one.not_yet()]
    images = {run.result.domain: run.result.test_images for run in runs}
    return [
        "Each run adapts one frozen base network to one domain. `frozen` is a linear head, fitted to convergence on "
        "frozen features; every other method starts from such a head and then trains the head, a BatchNorm of its own "
        "and its adapter together, with the same images in the same order for the same seed. The best epoch is chosen "
        "on validation images, and test images are read once, at the end. Each table names its protocol.",
        "Test images: " + ", ".join(f"{domain} {count:,}" for domain, count in images.items()) + ".",
    ]


def _origin(every: Sequence[Recorded], rounds: Rounds) -> list[str]:
    """Which records were run with the rates of the first round, which with those of the last, and which with others."""
    told: dict[tuple[bool, ...], str] = {
        (True, False): "the best rates of the first round",
        (False, True): "those of each family's last",
        (True, True): "rates in which the first round and the last agree",
        (False, False): "others, as the page says of them",
    }
    kinds: dict[tuple[bool, ...], list[str]] = {kind: [] for kind in told}
    for one in every:
        if one.every_run:
            both = (rounds.of_first, rounds.of_last)
            kinds[tuple(all(_has(run, best) for run in one.every_run) for best in both)].append(f"`{one.name}.jsonl`")
    return [f"Run with {told[kind]}: {listed(names)}." for kind, names in kinds.items() if names]


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
        "A row is a method; in the study of epochs, a method with one number of epochs. In the tables, rows that take "
        "part in duels are to have three seeds; all others, the controls and the study of epochs one. Domains that "
        "are in several records have the same runs in them.",
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
