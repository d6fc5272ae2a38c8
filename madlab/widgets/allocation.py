"""The budget slider: one trained modulation, cut layer by layer to fit a budget of bytes; used in notebook 11."""

from collections.abc import Callable, Mapping
from typing import Any

from matplotlib.figure import Figure

from madlab import figures
from madlab.analysis.allocation import Spectrum
from madlab.analysis.counting import NUMBER
from madlab.analysis.cutting import auto_ranks, spending, uniform_rank
from madlab.widgets.panel import Panel, choice, slider, switch

SHOWN = ("rank", "share of the layer's change left out (%)", "bytes spent")


def shown_value(show: str, spectrum: Spectrum, rank: int) -> float:
    """What is drawn for a layer that is cut to a rank; show: one of SHOWN."""
    if show == "rank":
        return rank
    return NUMBER * rank * sum(spectrum.shape) if show == "bytes spent" else 100 * spectrum.left_out(rank)


def allocations(spectra: Mapping[str, Spectrum], budget: int) -> dict[str, dict[str, int]]:
    """Two ways to spend at most `budget` bytes on ranks, and both spend the same: the highest common rank, and greedy.

    spectra: layer -> spectrum of alpha - 1. Returns "uniform" and "greedy" -> layer -> rank.
    """
    uniform = uniform_rank(spectra, budget // NUMBER)
    return {"uniform": uniform, "greedy": auto_ranks(spectra, spending(spectra, uniform))}


def budget_slider(
    spectra: Mapping[str, Mapping[str, Spectrum]],
    measure: Callable[[str, Mapping[str, int], bool], float],
    *,
    full: Mapping[str, float],
    kilobytes: range,
) -> Panel:
    """Spend a budget of bytes on the ranks of all layers, uniformly and greedily, and see both accuracies.

    spectra: domain -> layer -> spectrum of its trained alpha - 1. measure(domain, ranks, fresh): held-out accuracy in
    percent with every layer cut to its rank, with BatchNorm statistics measured anew or with those of the uncut
    filters; it is called for each budget, here and not when a control moves. full: domain -> accuracy of the whole
    alpha. kilobytes: the budgets. Of each, both ways spend exactly what the highest uniform rank that fits costs. The
    panel's `state` has spent (bytes), and ranks and accuracy of each way.
    """
    chosen = {(d, k): allocations(own, 1000 * k) for d, own in spectra.items() for k in kilobytes}
    spent = {place: NUMBER * spending(spectra[place[0]], ranks["uniform"]) for place, ranks in chosen.items()}
    curves: dict[tuple[str, bool], dict[str, dict[float, float]]] = {
        (domain, fresh): {
            name: {spent[domain, k] / 1000: measure(domain, chosen[domain, k][name], fresh) for k in kilobytes}
            for name in ("uniform", "greedy")
        }
        for domain in spectra
        for fresh in (True, False)
    }

    def draw(figure: Figure, budget: int, domain: str, fresh: bool, show: str) -> dict[str, Any]:
        own, ranks, size = spectra[domain], chosen[domain, budget], spent[domain, budget]
        accuracy = {name: points[size / 1000] for name, points in curves[domain, fresh].items()}

        left, right = figure.add_axes((0.065, 0.15, 0.5, 0.75)), figure.add_axes((0.65, 0.15, 0.335, 0.75))
        values = {
            name: [shown_value(show, own[layer], rank) for layer, rank in by_layer.items()]
            for name, by_layer in ranks.items()
        }
        figures.values_by_layer(left, values, ylabel=show, legend=False)
        left.set_title(f"{domain}: both spend {size:,} bytes")
        figures.accuracy_by_budget(right, curves[domain, fresh], full=full[domain], chosen=size / 1000)
        ahead = accuracy["greedy"] - accuracy["uniform"]
        right.set_title(f"greedy {ahead:+.1f} points" if ahead else "both the same")
        statistics = "statistics measured anew" if fresh else "statistics of the uncut filters"
        note = (
            f"{statistics}: uniform <b>{accuracy['uniform']:.1f} %</b>, greedy <b>{accuracy['greedy']:.1f} %</b>, "
            f"full α {full[domain]:.1f} %."
        )
        return {"note": note, "ranks": ranks, "spent": size, "accuracy": accuracy}

    controls = {
        "budget": slider("budget (kB)", kilobytes[0], kilobytes[-1], kilobytes[0], kilobytes.step, continuous=True),
        "domain": choice("domain", list(spectra)),
        "fresh": switch("fresh BatchNorm statistics", True),
        "show": choice("show", list(SHOWN)),
    }
    return Panel(draw, controls, size=(9.5, 3.8))
