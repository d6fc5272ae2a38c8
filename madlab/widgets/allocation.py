"""The budget slider: one trained modulation, cut layer by layer to fit a total budget; used in notebook 11."""

from collections.abc import Callable, Mapping
from typing import Any

from matplotlib.figure import Figure

from madlab import figures
from madlab.analysis.allocation import ALLOCATIONS, Spectrum, total_size
from madlab.widgets.panel import Panel, choice, slider

SHOWN = ("rank", "share of α's squared size left out (%)", "parameters spent")


def shown_value(show: str, spectrum: Spectrum, rank: int) -> float:
    """What is drawn for a layer that is cut to a rank; show: one of SHOWN."""
    if show == "rank":
        return rank
    return spectrum.size(rank) if show == "parameters spent" else 100 * spectrum.left_out(rank)


def budget_slider(
    spectra: Mapping[str, Mapping[str, Spectrum]],
    measure: Callable[[str, Mapping[str, int]], float],
    *,
    full: Mapping[str, float],
    percents: range = range(4, 41, 4),
    percent: int = 12,
) -> Panel:
    """Spend a total budget on the ranks of all layers, uniformly and greedily, and see both accuracies.

    spectra: domain -> layer -> spectrum of its trained alpha. measure(domain, ranks): held-out accuracy in percent with
    every layer cut to its rank; it is called once for each budget, here and not when a control moves. full:
    domain -> accuracy of the whole alpha. percents: budgets in percent of full alpha's parameters. The panel's `state`
    has budget (in parameters) and, for each allocation, ranks, spent (parameters) and accuracy.
    """
    budgets, ranks_by_budget = {}, {}
    curves: dict[str, dict[str, dict[float, float]]] = {
        domain: {name: {} for name in ALLOCATIONS} for domain in spectra
    }
    for domain, own in spectra.items():
        whole = sum(spectrum.full_size for spectrum in own.values())
        for share in percents:
            budgets[domain, share] = whole * share // 100
            for name, allocate in ALLOCATIONS.items():
                ranks = allocate(own, budgets[domain, share])
                ranks_by_budget[domain, share, name] = ranks
                curves[domain][name][share] = measure(domain, ranks)

    def draw(figure: Figure, percent: int, domain: str, show: str) -> dict[str, Any]:
        own, budget = spectra[domain], budgets[domain, percent]
        ranks = {name: ranks_by_budget[domain, percent, name] for name in ALLOCATIONS}
        spent = {name: total_size(own, chosen) for name, chosen in ranks.items()}
        accuracy = {name: curves[domain][name][percent] for name in ALLOCATIONS}

        left, right = figure.add_axes((0.065, 0.15, 0.5, 0.75)), figure.add_axes((0.65, 0.15, 0.335, 0.75))
        values = {
            name: [shown_value(show, own[layer], rank) for layer, rank in chosen.items()]
            for name, chosen in ranks.items()
        }
        figures.values_by_layer(left, values, ylabel=show, legend=False)
        left.set_title(f"{domain}, {percent} % of full α: {budget:,} parameters")
        figures.accuracy_by_budget(right, curves[domain], full=full[domain], chosen=percent)
        ahead = accuracy["greedy"] - accuracy["uniform"]
        right.set_title(f"greedy {ahead:+.1f} points" if ahead else "both the same")
        note = (
            f"uniform: {spent['uniform']:,} parameters, <b>{accuracy['uniform']:.1f} %</b>; "
            f"greedy: {spent['greedy']:,} parameters, <b>{accuracy['greedy']:.1f} %</b>; full α {full[domain]:.1f} %."
        )
        return {"note": note, "budget": budget, "ranks": ranks, "spent": spent, "accuracy": accuracy}

    controls = {
        "percent": slider("budget (% of full α)", percents[0], percents[-1], percent, step=percents.step),
        "domain": choice("domain", list(spectra)),
        "show": choice("show", list(SHOWN)),
    }
    return Panel(draw, controls, size=(9.5, 3.8))
