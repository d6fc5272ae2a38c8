"""What data_scripts/fair_page.py reads: a record of the fair table, beside what its grid plans; and words for it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
from fair_grids import GRIDS, files_of, planned

from madlab.errors import MadlabError
from madlab.runs.record import Run, read_runs
from madlab.tables.budgets import stored_forms
from madlab.tables.duel_report import duels_at_budgets
from madlab.tables.duels import Duel, grid_of
from madlab.tables.equal_size import NO_RIVALS, EqualDuels, equal_duels
from madlab.tables.outcomes import Outcome, outcomes
from madlab.tables.report import Table, collect

Cell = tuple[str, int, str, int]
"""Method, epochs, domain and seed of a run."""


@dataclass(frozen=True)
class Recorded:
    """A records file of the fair table, whether it is there or not; told: what it is about, in a sentence."""

    file: Path
    told: str

    @property
    def name(self) -> str:
        return self.file.stem

    @property
    def grid_name(self) -> str:
        """The key of GRIDS whose runs it holds."""
        return next(name for name, grid in GRIDS.items() if self.name in grid.records)

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains that it is to have."""
        return GRIDS[self.grid_name].records[self.name]

    @cached_property
    def every_run(self) -> list[Run]:
        return read_runs(self.file) if self.file.exists() else []

    @property
    def duelists(self) -> list[tuple[str, int]]:
        """Methods and epochs of the rows of the duels: those of the grid that are to have the most seeds."""
        stage = max(GRIDS[self.grid_name].stages, key=lambda one: one.seeds)
        return [(method, stage.recipe["epochs"]) for method in stage.methods]

    @cached_property
    def whole_domains(self) -> list[str]:
        """The domains on which every row of the duels was run."""
        return [d for d in self.domains if all((*row, d, 0) in self.cells for row in self.duelists)]

    @cached_property
    def runs(self) -> list[Run]:
        """The runs on `whole_domains`: on them every row is a mean over the same domains."""
        return [run for run in self.every_run if run.result.domain in self.whole_domains]

    @property
    def on_every_domain(self) -> bool:
        """Whether every row of the duels was run on each of its domains, with one seed at least."""
        return len(self.whole_domains) == len(self.domains)

    @cached_property
    def seeds(self) -> int:
        """With how many seeds every row of the duels was run on each of `whole_domains`."""
        of_cell: dict[tuple[str, int, str], int] = Counter(cell[:3] for cell in self.cells)
        return min((of_cell[*row, domain] for row in self.duelists for domain in self.whole_domains), default=0)

    @property
    def where(self) -> str:
        """What its means are over."""
        part = len(self.whole_domains) < len(self.domains)
        return f"{len(self.whole_domains)} of {self.told}" if part else self.told

    @cached_property
    def found(self) -> list[Outcome]:
        return outcomes(self.runs)

    @cached_property
    def grid(self) -> dict[str, dict[str, dict[int, Outcome]]]:
        return grid_of(self.found)

    @cached_property
    def forms(self) -> pd.DataFrame:
        return stored_forms(self.found)

    @cached_property
    def table(self) -> Table:
        """The table of its one protocol; MadlabError where there are several."""
        tables = collect(self.runs)
        if len(tables) != 1:
            raise MadlabError(f"{self.file} has runs of {len(tables)} protocols: fold one grid into one file.")
        return tables[0]

    @cached_property
    def equal_sizes(self) -> EqualDuels:
        """The duels of MAD with each rival at the nearest bytes and the nearest parameters."""
        whole = self.table.whole
        return equal_duels(
            self.grid,
            {"bytes": self.forms.assign(size=self.forms["stored"]), "numbers": whole.assign(size=whole["parameters"])},
        )

    @cached_property
    def in_budgets(self) -> dict[int, dict[str, Duel]]:
        """Kilobytes -> the duels of MAD's best form within them with the best of each rival, rounded forms too."""
        return duels_at_budgets(self.grid, self.forms, "mad")

    @cached_property
    def against_adapters(self) -> dict[int, dict[str, Duel]]:
        """Those of them with a rival that has an adapter: frozen features and BatchNorm alone have none."""
        budgets = self.in_budgets.items()
        return {size: {r: duel for r, duel in own.items() if r not in NO_RIVALS} for size, own in budgets}

    @property
    def unsteered(self) -> bool:
        """Whether its runs have an earlier recipe: small images first, or steps of any length."""
        return any(run.config.recipe.coarse > 0 or run.config.recipe.polyak == 0 for run in self.runs)

    @property
    def ready(self) -> bool:
        """Whether there is a domain on which every row of the duels was run."""
        return bool(self.runs)

    @cached_property
    def cells(self) -> Counter[Cell]:
        """The runs that are there."""
        return _cells(self.every_run)

    @cached_property
    def planned(self) -> Counter[Cell]:
        """The runs that there are to be."""
        return Counter(
            (f"{run.method} {' '.join(run.stage.options.values())}".strip(), run.epochs, run.domain, run.seed)
            for run in planned(self.grid_name, Path())
            if run.domain in self.domains
        )

    @cached_property
    def begun(self) -> Counter[Cell]:
        """The runs of seeds that are not whole, which wait in a file of their own."""
        file = files_of(self.file)[1]
        return _cells(read_runs(file)) if file.exists() else Counter()

    @property
    def missing(self) -> Counter[Cell]:
        return self.planned - self.cells - self.begun

    @property
    def there(self) -> int:
        """How many of the planned runs there are."""
        return self.planned.total() - self.missing.total()

    def not_yet(self) -> str:
        """A sentence for a section that has nothing to show."""
        state = "holds no domain on which every row of the duels was run" if self.every_run else "is not there"
        return (
            f"`{self.name}.jsonl` {state} yet: missing are {counted(self.missing.total(), 'run')} of "
            f"{self.planned.total():,} (`python data_scripts/fair_table.py --grids {self.grid_name}`, below)."
        )

    def so_far(self) -> list[str]:
        """A sentence that says how much of the domains and rows there is, unless all of it is there."""
        if not self.missing:
            return []
        text = f"So far {self.there:,} of {counted(self.planned.total(), 'run')}."
        if waiting := self.begun.total():
            text += f" {counted(waiting, 'run')} of further seeds wait until every row has them on every domain."
        if lacking := [domain for domain in self.domains if domain not in self.whole_domains]:
            text += f" Not every row of the duels was run on {listed(lacking)} yet, so that no mean has them in it."
        if partly := [str(method) for method in self.table.methods.index if method not in self.table.whole.index]:
            text += f" Left out, because a domain is missing: {listed(partly)}."
        return [text]


def _cells(runs: Iterable[Run]) -> Counter[Cell]:
    return Counter((_label(run), run.result.epochs, run.result.domain, run.result.seed) for run in runs)


def _label(run: Run) -> str:
    form = run.config.options.get("form")
    return f"{run.method} {form}" if form else run.method


def counted(number: int, what: str) -> str:
    """A number and a noun in its grammatical number: "1 run", "1,020 runs"."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def seeds_told(records: Sequence[Recorded]) -> str:
    """With how many seeds the rows of the duels were run: "one seed", or "one seed on the nine domains, 2 on ..."."""
    numbers = ["one seed" if one.seeds == 1 else f"{one.seeds} seeds" for one in records]
    if len(set(numbers)) == 1:
        return numbers[0]
    return listed(f"{number} on {one.where}" for number, one in zip(numbers, records, strict=True))


def listed(names: Iterable[str], nobody: str = "nobody") -> str:
    """Names with commas between them."""
    return ", ".join(names) or nobody
