"""How far a sweep is: a table that fills while it runs, on a terminal; elsewhere a progress bar."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from madlab.adapters.base import join_method
from madlab.benchmarks import short_name
from madlab.errors import MadlabError, printable
from madlab.progress import progress_bar
from madlab.runs.cell import Cell
from madlab.runs.record import Result


@dataclass
class State:
    """Of a sweep's runs, those that have ended: settled, well or not; failures: why some did not."""

    settled: set[Path] = field(default_factory=set)
    failures: dict[Path, str] = field(default_factory=dict)

    def epochs_done(self, cell: Cell) -> int:
        return cell.epochs if cell.folder in self.settled else cell.epochs_done()

    def summary(self, cells: Sequence[Cell]) -> str:
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"{len(self.settled)}/{len(cells)} runs{failed}"


@contextmanager
def watched(cells: Sequence[Cell], images: Mapping[str, int], state: State, show: bool) -> Iterator[Callable[[], None]]:
    """Show the state of the cells for as long as this lasts; yields what to call when it may have changed.

    images: in the training split of each domain, by its source. show: False shows nothing.
    """
    total = sum(images[cell.domain] * cell.epochs for cell in cells)

    def done() -> int:
        return sum(images[cell.domain] * state.epochs_done(cell) for cell in cells)

    if show and sys.stderr.isatty() and not os.environ.get("TQDM_DISABLE"):
        with _live(cells, state, total, done) as update:
            yield update
        return
    with progress_bar("sweep", total, "images", done=done(), show=show) as bar:

        def moved() -> None:
            bar.n = done()
            bar.set_postfix_str(state.summary(cells))

        yield moved


@contextmanager
def _live(cells: Sequence[Cell], state: State, total: int, done: Callable[[], int]) -> Iterator[Callable[[], None]]:
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    progress = Progress(*columns)
    task = progress.add_task("sweep", total=total, completed=done())
    with Live(console=Console(stderr=True), auto_refresh=False) as live:

        def update() -> None:
            progress.update(task, completed=done(), description=state.summary(cells))
            live.update(Group("Test accuracy in percent", grid(cells, state), progress), refresh=True)

        yield update


def grid(cells: Sequence[Cell], state: State) -> Table:
    """A row per method and a column per domain; in each cell the mean test accuracy, or how far its runs are."""
    domains = list(dict.fromkeys(short_name(cell.domain) for cell in cells))
    groups: dict[str, dict[str, list[Cell]]] = {}
    for cell in cells:
        rank = cell.options["options"].get("rank")
        own = groups.setdefault(join_method(cell.options["method"], rank if isinstance(rank, int) else None), {})
        own.setdefault(short_name(cell.domain), []).append(cell)
    table = Table("method")
    for name in domains:
        table.add_column(Text(printable(name)), justify="right")
    for method, own in groups.items():
        table.add_row(Text(printable(method)), *(Text(_told(own.get(name, []), state)) for name in domains))
    return table


def _told(cells: Sequence[Cell], state: State) -> str:
    """The runs of one method on one domain, one per seed."""
    if failed := sum(cell.folder in state.failures for cell in cells):
        return f"{failed} failed"
    accuracies = [_accuracy(cell) for cell in cells if cell.folder in state.settled]
    found = [accuracy for accuracy in accuracies if accuracy is not None]
    if len(found) == len(cells):
        return f"{mean(found):.2f}"
    epochs = f"{sum(map(state.epochs_done, cells))}/{sum(cell.epochs for cell in cells)} epochs"
    return f"{mean(found):.2f} ({epochs})" if found else epochs


def _accuracy(cell: Cell) -> float | None:
    try:
        return Result.read(cell.folder).test_accuracy
    except MadlabError:  # whoever damaged it is told of when the sweep reads all results
        return None
