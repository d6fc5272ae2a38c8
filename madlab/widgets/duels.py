"""The duel explorer: one method against all others at equal bytes, with intervals; used in notebook 07."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from matplotlib.figure import Figure

from madlab import figures
from madlab.figures.style import name_rows
from madlab.tables.budgets import best_forms, stored_forms
from madlab.tables.duels import DOMAIN, MEAN, UNKNOWN, Duel, Resampling, grid_of
from madlab.tables.outcomes import Outcome
from madlab.widgets.panel import Panel, choice, offer, switch

ANY = float("inf")
LIMITS = (("any number of bytes", ANY), ("at most 220 kB", 220.0), ("at most 100 kB", 100.0), ("at most 60 kB", 60.0))
ALL = "mean of all domains"


def duel_explorer(tables: Mapping[str, Sequence[Outcome]], method: str = "mad") -> Panel:
    """Choose a method, a budget and a domain, and see by how much it leads every other method, with intervals.

    tables: name -> the outcomes of one protocol, as `madlab.tables.outcomes.outcomes` makes them. Within the budget
    each method sends the form that is best on validation images: its ranks, and bits where they were recorded. method:
    the one that is chosen at first, a key of METHODS. The panel's `state` has own (the chosen method's form), leads
    (form of a rival -> points), intervals (form -> (low, high), for those that have one) and verdicts (form -> as in
    `Duel`).
    """
    rows = {name: list(outcomes) for name, outcomes in tables.items()}
    resampled = {name: Resampling(grid := grid_of(outcomes), list(grid)) for name, outcomes in rows.items()}
    forms = {name: stored_forms(outcomes) for name, outcomes in rows.items()}
    for name, table in forms.items():
        if table["stored"].isna().any():  # where the norms of one row are not known, adapters alone are compared
            forms[name] = table.assign(stored=table["adapter_bytes"], norm_bytes=None)

    def families(table: str) -> list[str]:
        return list(dict.fromkeys(forms[table]["family"]))

    def places(table: str) -> list[str]:
        return [ALL, *dict.fromkeys(one.domain for one in rows[table])]

    @cache
    def fought(table: str, method: str, budget: float) -> tuple[str | None, tuple[Duel, ...]]:
        best = best_forms(forms[table], budget)
        own = best.get(method)
        pairs = [(own, form) for family, form in best.items() if own is not None and family != method]
        return own, tuple(resampled[table].duels(pairs)) if pairs else ()

    def draw(figure: Figure, table: str, method: str, budget: float, where: str, holm: bool) -> dict[str, Any]:
        own, found = fought(table, method, budget)
        kind = MEAN if where == ALL else DOMAIN
        shown = [duel for duel in found if duel.kind == kind and where in (ALL, duel.where)]
        shown.sort(key=lambda duel: duel.difference)
        ax = figure.add_axes((0.3, 0.15, 0.67, 0.74))
        ax.axvline(0, color="0.4", linewidth=1)
        for row, duel in enumerate(shown):
            style = figures.look(duel.second.split(" in ")[0])
            ax.plot(duel.difference, row, linestyle="", markersize=7, **style)
            if duel.interval is not None:
                ax.plot((duel.interval.low, duel.interval.high), (row, row), color=style["color"], linewidth=1.5)
        name_rows(ax, [f"{duel.second} · {_kilobytes(forms[table], duel.second)}" for duel in shown])
        ax.set(xlabel=f"points by which {own or method} is ahead", ylim=(max(1, len(shown)) - 0.5, -0.5))
        verdicts = {duel.second: _verdict(duel, holm) for duel in shown}
        count = {word: sum(v == word for v in verdicts.values()) for word in ("leads", "ties", "loses")}
        told = f"leads {count['leads']}, ties {count['ties']}, loses {count['loses']}"
        ax.set_title(f"{own}: {told}" if shown else f"no form of {method} is that small")
        state = {
            "own": own,
            "leads": {duel.second: duel.difference for duel in shown},
            "intervals": {d.second: (d.interval.low, d.interval.high) for d in shown if d.interval is not None},
            "verdicts": verdicts,
        }
        together = sum(duel.kind == kind and duel.interval is not None for duel in found)
        return state | {"note": _note(shown, own, forms[table], together if holm else 0)}

    def before(panel: Panel, moved: str) -> None:
        if moved == "table":  # which has its own methods and domains
            offer(panel.method, families(panel.table.value), method)
            offer(panel.where, places(panel.table.value))

    first = next(iter(tables))
    controls = {
        "table": choice("table", list(tables)),
        "method": choice("method", families(first), method),
        "budget": choice("budget", list(LIMITS)),
        "where": choice("on", places(first)),
        "holm": switch("count all duels together (Holm)", True),
    }
    states = {"method": families(first)[:6], "where": places(first)[:3]}
    return Panel(draw, controls, size=(9.5, 4.6), before=before, states=states)


def _verdict(duel: Duel, holm: bool) -> str:
    """As `Duel.verdict`, or by the duel's own interval alone."""
    if holm or duel.interval is None:
        return duel.verdict
    if duel.interval.low <= 0 <= duel.interval.high:
        return "ties"
    return "leads" if duel.difference > 0 else "loses"


def _kilobytes(forms: Any, form: str) -> str:
    return f"{forms.loc[form, 'stored'] / 1000:,.0f} kB"


def _note(shown: Sequence[Duel], own: str | None, forms: Any, together: int) -> str:
    if not shown:
        return "Choose a larger budget or another method."
    seeds, bases = sorted({duel.seeds for duel in shown}), sorted({duel.basis for duel in shown} - {UNKNOWN})
    parts = "adapter alone, since not all norms are known" if forms["norm_bytes"].isna().all() else "adapter and norms"
    which = f"<b>{own}</b> takes {_kilobytes(forms, own)} for a domain, {parts}. " if own else ""
    family = f"verdicts after Holm's correction over {together} duels" if together else "verdicts duel by duel"
    drawn = f"intervals of 95 % over {' or '.join(bases)}" if bases else "no interval: one seed, one domain"
    return f"{which}Seeds in common: {' or '.join(map(str, seeds))}; {drawn}; {family}."
