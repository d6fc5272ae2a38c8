"""The results explorer: published rows and recorded runs by method, budget and domain; used in notebook 08."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from madlab import figures
from madlab.benchmarks.score import domain_scores
from madlab.figures.rankings import ranking
from madlab.figures.style import name_rows
from madlab.runs.record import Record, accuracy_table, shared_domains
from madlab.tables.comparison import BASELINES, budget, compare
from madlab.widgets.panel import Panel, choice, slider

SCORE, MEAN = "score S", "mean accuracy (%)"
NO_LIMIT = 10.0
"""The budget slider's right end: ten networks, and rows whose budget is not known."""


@dataclass(frozen=True)
class Result:
    """A row to explore: accuracies and points (of 1000) by domain, as far as known; networks: its whole budget."""

    method: str
    networks: float | None
    accuracies: dict[str, float]
    points: dict[str, float]
    mean: float | None
    score: float | None

    def value(self, show: str) -> float | None:
        return {SCORE: self.score, MEAN: self.mean}.get(show, self.accuracies.get(show))


def published_results(benchmark: str = "decathlon") -> list[Result]:
    """The published rows of a benchmark, their points against its own baseline."""
    found = []
    for entry in compare([], benchmark).entries:
        points = domain_scores(entry.accuracies, BASELINES[benchmark]) if entry.accuracies else {}
        found.append(Result(entry.method, budget(entry.params), entry.accuracies, points, entry.mean, entry.score))
    return found


def recorded_results(records: Sequence[Record]) -> list[Result]:
    """Methods that were recorded on every domain that fine-tuning was, their points against that fine-tuning.

    Empty where fine-tuning is missing or makes no error on a domain, because points have no meaning then.
    """
    table = accuracy_table(records)
    domains = shared_domains(table, ["finetune"])
    baseline = {domain: table["finetune"][domain] for domain in domains}
    if not domains or max(baseline.values()) >= 100:
        return []
    found = []
    for method in (method for method in table if set(domains) <= set(table[method])):
        accuracies = {domain: table[method][domain] for domain in domains}
        runs = [record.result for record in records if record.method == method]
        size = statistics.fmean(run.adapter_parameters / run.base_parameters for run in runs)
        points = domain_scores(accuracies, baseline)
        mean = statistics.fmean(accuracies.values())
        found.append(Result(method, 1 + len(domains) * size, accuracies, points, mean, sum(points.values())))
    return found


def results_explorer(tables: Mapping[str, Sequence[Result]]) -> Panel:
    """Rank the rows of a table within a budget, by score, mean or one domain, and open one of them by domain.

    tables: name -> rows; empty ones are left out. The panel's `state` has order: method -> value, the best first, and
    points: domain -> points of the chosen method.
    """
    tables = {name: list(rows) for name, rows in tables.items() if rows}

    def domains(table: str) -> list[str]:
        return list(dict.fromkeys(domain for row in tables[table] for domain in row.accuracies))

    def methods(table: str) -> list[str]:
        return [row.method for row in tables[table] if row.points]

    def moved(panel: Panel, name: str) -> None:
        if name == "table":  # its own methods and domains
            panel.method.options, panel.show.options = methods(panel.table.value), shows(panel.table.value)

    def shows(table: str) -> list[str]:
        return [SCORE, MEAN, *domains(table)]

    def draw(figure: Figure, table: str, show: str, limit: float, method: str) -> dict[str, Any]:
        rows = [row for row in tables[table] if row.value(show) is not None]
        fitting = [row for row in rows if limit >= NO_LIMIT or (row.networks is not None and row.networks <= limit)]
        left, right = figure.add_axes((0.24, 0.13, 0.3, 0.77)), figure.add_axes((0.7, 0.13, 0.28, 0.77))
        values = {row.method: row.value(show) or 0.0 for row in fitting}
        order = sorted(values, key=values.__getitem__, reverse=True)
        ranking(left, order, [values[m] for m in order], [m == method for m in order], digits=0 if show == SCORE else 1)
        left.set(xlabel=show if show in (SCORE, MEAN) else f"test accuracy on {show} (%)")
        left.set_title(f"{order[0]} is ahead" if order else "nothing is that small")
        row = next(row for row in tables[table] if row.method == method)
        places = range(len(row.points))
        right.barh(places, list(row.points.values()), color=figures.PALETTE[0], alpha=0.6)
        right.axvline(250, color="black", linestyle="--", linewidth=1)
        name_rows(right, list(row.points))
        right.invert_yaxis()
        right.set(xlabel="points; dashed: fine-tuning", xlim=(0, max(700, 1.05 * max(row.points.values()))))
        right.set_title("where its points are")
        hidden = len(rows) - len(fitting)
        size = "an unknown number of" if row.networks is None else f"{row.networks:.2f}"
        note = f"<b>{method}</b>: {size} networks for all domains"
        note += f", mean {row.mean:.1f} %" if row.mean is not None else ""
        note += f", S {row.score:.0f}" if row.score is not None else ""
        allowed = "any number of" if limit >= NO_LIMIT else f"at most {limit:.2f}"
        note += f". With {allowed} networks {len(fitting)} of {len(rows)} rows are shown"
        note += f"; {hidden} are larger or do not tell." if hidden else "."
        return {"note": note, "order": {m: values[m] for m in order}, "points": row.points, "hidden": hidden}

    first = next(iter(tables))
    controls = {
        "table": choice("table", list(tables)),
        "show": choice("rank by", shows(first)),
        "limit": slider("networks at most", 1.0, NO_LIMIT, NO_LIMIT, 0.05),
        "method": choice("open", methods(first)),
    }
    return Panel(draw, controls, size=(9.5, 4.4), before=moved)
