"""The budget slider: one trained modulation, cut layer by layer to fit a total budget; used in notebook 10."""

from collections.abc import Callable, Mapping
from typing import Any

from matplotlib.figure import Figure

from madlab import figures
from madlab.analysis.allocation import ALLOCATIONS, Spectrum, total_size
from madlab.widgets.panel import Panel, choice, slider

SHOWN = ("rank", "share of α's squared size left out (%)", "numbers spent")


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
    domain -> accuracy of the whole alpha. percents: budgets in percent of full alpha's numbers. The panel's `state` has
    budget (in numbers), and by allocation ranks, spent (numbers) and accuracy.
    """
    wholes = {domain: sum(s.shape[0] * s.shape[1] for s in own.values()) for domain, own in spectra.items()}
    ranks_by_budget = {
        (domain, name): {p: allocate(own, wholes[domain] * p // 100) for p in percents}
        for domain, own in spectra.items()
        for name, allocate in ALLOCATIONS.items()
    }
    curves_of: dict[str, dict[str, dict[float, float]]] = {
        domain: {
            name: {p: measure(domain, ranks) for p, ranks in ranks_by_budget[domain, name].items()}
            for name in ALLOCATIONS
        }
        for domain in spectra
    }

    def draw(figure: Figure, percent: int, domain: str, show: str) -> dict[str, Any]:
        own = spectra[domain]
        curves = curves_of[domain]
        ranks = {name: ranks_by_budget[domain, name][percent] for name in ALLOCATIONS}
        spent = {name: total_size(own, chosen) for name, chosen in ranks.items()}
        accuracy = {name: curves[name][percent] for name in ALLOCATIONS}
        budget = wholes[domain] * percent // 100
        left, right = figure.add_axes((0.065, 0.15, 0.5, 0.75)), figure.add_axes((0.65, 0.15, 0.335, 0.75))
        quantity: dict[str, Callable[[str, int], float]] = {
            SHOWN[0]: lambda layer, rank: rank,
            SHOWN[1]: lambda layer, rank: 100 * max(0.0, 1 - float(own[layer].energy()[:rank].sum())),
            SHOWN[2]: lambda layer, rank: own[layer].size(rank),
        }
        values = {n: [quantity[show](layer, rank) for layer, rank in r.items()] for n, r in ranks.items()}
        figures.values_by_layer(left, values, ylabel=show, legend=False)
        left.set_title(f"{domain}, {percent} % of full α: {budget:,} numbers")
        figures.accuracy_by_budget(right, curves, full=full[domain], chosen=percent)
        ahead = accuracy["greedy"] - accuracy["uniform"]
        right.set_title(f"greedy {ahead:+.1f} points" if ahead else "both the same")
        note = (
            f"uniform: {spent['uniform']:,} numbers, <b>{accuracy['uniform']:.1f} %</b>; "
            f"greedy: {spent['greedy']:,} numbers, <b>{accuracy['greedy']:.1f} %</b>; full α {full[domain]:.1f} %."
        )
        return {"note": note, "budget": budget, "ranks": ranks, "spent": spent, "accuracy": accuracy}

    controls = {
        "percent": slider("budget (% of full α)", percents[0], percents[-1], percent, step=percents.step),
        "domain": choice("domain", list(spectra)),
        "show": choice("show", list(SHOWN)),
    }
    return Panel(draw, controls, size=(9.5, 3.8))
