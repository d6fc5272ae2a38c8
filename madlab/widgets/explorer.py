"""The results explorer: published rows and recorded runs by method, budget and domain; used in notebook 09."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from matplotlib.figure import Figure

from madlab import figures
from madlab.figures.rankings import ranking
from madlab.figures.style import name_rows
from madlab.tables.entries import Entry
from madlab.widgets.panel import Panel, choice, offer, slider

SCORE, MEAN = "score S", "mean accuracy (%)"
NO_LIMIT = 10.0
"""The right end of the budget slider, where rows of more than ten networks and of unknown budgets are shown too."""
SHOWN_METHODS = 12
"""Rows of each table that can be opened on the site."""


def results_explorer(tables: Mapping[str, Sequence[Entry]]) -> Panel:
    """Rank the rows of a table within a budget, by score, mean or one domain, and see one of them domain by domain.

    tables: name -> rows, as madlab.tables.entries makes them; empty tables are left out. The panel's `state` has order:
    method -> value, the best first; points: domain -> points of the chosen method; and hidden: how many rows do not fit
    the budget.
    """
    tables = {name: _told_apart(rows) for name, rows in tables.items() if rows}

    def methods(table: str) -> list[str]:
        return [row.method for row in tables[table] if row.points]

    def quantities(table: str) -> list[str]:
        domains = dict.fromkeys(domain for row in tables[table] for domain in row.accuracies)
        return [SCORE, MEAN, *domains]

    def before(panel: Panel, moved: str) -> None:
        if moved == "table":  # which has its own methods and domains
            offer(panel.method, methods(panel.table.value))
            offer(panel.show, quantities(panel.table.value))

    def draw(figure: Figure, table: str, show: str, limit: float, method: str) -> dict[str, Any]:
        rows = [row for row in tables[table] if value_of(row, show) is not None]
        fitting = [row for row in rows if fits(row, limit)]
        values = {row.method: value_of(row, show) or 0.0 for row in fitting}
        values = dict(sorted(values.items(), key=lambda item: item[1], reverse=True))

        left, right = figure.add_axes((0.24, 0.13, 0.3, 0.77)), figure.add_axes((0.7, 0.13, 0.28, 0.77))
        chosen = [name == method for name in values]
        ranking(left, list(values), list(values.values()), chosen, digits=0 if show == SCORE else 1)
        left.set(xlabel=show if show in (SCORE, MEAN) else f"test accuracy on {show} (%)")
        left.set_title(f"{next(iter(values))} is ahead" if values else "nothing is that small")
        row = next(row for row in tables[table] if row.method == method)
        right.barh(range(len(row.points)), list(row.points.values()), color=figures.PALETTE[0], alpha=0.6)
        right.axvline(250, color="black", linestyle="--", linewidth=1)
        name_rows(right, list(row.points))
        right.invert_yaxis()
        right.set(xlabel="points; dashed: fine-tuning", xlim=(0, max(700, 1.05 * max(row.points.values()))))
        right.set_title("where its points come from")

        hidden = len(rows) - len(fitting)
        size = "an unknown number of" if row.networks is None else f"{row.networks:.2f}"
        note = f"<b>{method}</b>: {size} networks for all domains"
        note += f", mean {row.mean:.1f} %" if row.mean is not None else ""
        note += f", S {row.score:.0f}" if row.score is not None else ""
        allowed = "any number of" if limit >= NO_LIMIT else f"at most {limit:.2f}"
        note += f". With {allowed} networks {len(fitting)} of {len(rows)} rows are shown"
        note += f"; {hidden} are larger, or of unknown size." if hidden else "."
        return {"note": note, "order": values, "points": row.points, "hidden": hidden}

    first = next(iter(tables))
    controls = {
        "table": choice("table", list(tables)),
        "show": choice("rank by", quantities(first)),
        "limit": slider("networks at most", 1.0, NO_LIMIT, NO_LIMIT, 0.05),
        "method": choice("open", methods(first)),
    }
    opened = [method for table in tables for method in methods(table)[:SHOWN_METHODS]]
    states = {"show": quantities(first)[:2], "limit": (1.3, NO_LIMIT), "method": opened}
    return Panel(draw, controls, size=(9.5, 4.4), before=before, states=states)


def value_of(row: Entry, show: str) -> float | None:
    """What a row is ranked by: S, its mean, or the accuracy on the domain `show`, in percent; None if unknown."""
    if show == SCORE:
        return row.score
    return row.mean if show == MEAN else row.accuracies.get(show)


def fits(row: Entry, limit: float) -> bool:
    """Whether a row takes at most `limit` networks; without a limit, rows of unknown size fit as well."""
    return limit >= NO_LIMIT or (row.networks is not None and row.networks <= limit)


def _told_apart(rows: Sequence[Entry]) -> list[Entry]:
    """Rows of which several have one method name, as it was run on several networks, with the network behind it."""
    count = Counter(row.method for row in rows)
    return [row if count[row.method] == 1 else replace(row, method=f"{row.method} ({row.network})") for row in rows]
