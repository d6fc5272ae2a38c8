"""The results explorer: published rows and recorded runs by method, budget and domain; used in notebook 08."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from madlab import figures
from madlab.figures.rankings import ranking
from madlab.figures.style import name_rows
from madlab.tables.entries import Entry
from madlab.widgets.panel import Panel, choice, slider

SCORE, MEAN = "score S", "mean accuracy (%)"
NO_LIMIT = 10.0
"""The budget slider's right end: ten networks, and rows whose budget is not known."""


def results_explorer(tables: Mapping[str, Sequence[Entry]]) -> Panel:
    """Rank the rows of a table within a budget, by score, mean or one domain, and open one of them by domain.

    tables: name -> rows, as madlab.tables.entries makes them; empty ones are left out. The panel's `state` has order:
    method -> value, the best first, and points: domain -> points of the chosen method.
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

    def value(row: Entry, show: str) -> float | None:
        return {SCORE: row.score, MEAN: row.mean}.get(show, row.accuracies.get(show))

    def draw(figure: Figure, table: str, show: str, limit: float, method: str) -> dict[str, Any]:
        rows = [row for row in tables[table] if value(row, show) is not None]
        fitting = [row for row in rows if limit >= NO_LIMIT or (row.networks is not None and row.networks <= limit)]
        left, right = figure.add_axes((0.24, 0.13, 0.3, 0.77)), figure.add_axes((0.7, 0.13, 0.28, 0.77))
        values = {row.method: value(row, show) or 0.0 for row in fitting}
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
