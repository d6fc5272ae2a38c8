"""Accuracies with their spread over seeds, and shares of a change layer by layer."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from madlab.figures.runs import look
from madlab.figures.style import BLACK, GREY


def accuracy_by_domain(ax: Axes, results: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Draw the mean over seeds of each method on each domain, with a bar of one standard deviation up and down.

    results: method -> domain -> accuracies in percent, one per seed. The domains stand in the order of the last method.
    """
    last = list(results.values())[-1]
    domains = sorted(last, key=lambda name: float(np.mean(last[name])))
    for place, (method, values) in enumerate(results.items()):
        shift = 0.16 * (place - (len(results) - 1) / 2)  # side by side, so that no bar hides another
        means = [np.mean(values[name]) for name in domains]
        spread = [np.std(values[name], ddof=1) if len(values[name]) > 1 else 0.0 for name in domains]
        x = np.arange(len(domains)) + shift
        ax.errorbar(x, means, spread, linestyle="", markersize=5, elinewidth=1, label=method, **look(method))
    ax.set_xticks(range(len(domains)), domains, rotation=45, ha="right", rotation_mode="anchor")
    ax.set(ylabel="test accuracy (%)", ylim=(0, 100))
    ax.legend(fontsize=8, loc="lower right")


def shares_by_layer(
    ax: Axes, shares: Mapping[str, Sequence[Sequence[float]]], chance: float, *, ylabel: str = "share of the change (%)"
) -> None:
    """Draw shares in percent by layer, one line per name: the mean over runs, with a band from the least to the most.

    shares: name -> one list per run, with a value for each layer. chance: what a random change would have, in percent.
    """
    for (name, runs), (colour, marker) in zip(shares.items(), ((BLACK, "D"), (GREY, "s")), strict=False):
        values = np.asarray(runs, dtype=float)
        layers = np.arange(1, values.shape[1] + 1)
        ax.fill_between(layers, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
        ax.plot(layers, values.mean(0), marker=marker, markersize=4, color=colour, label=name)
    ax.axhline(chance, color=BLACK, linestyle=":", linewidth=1)
    ax.annotate("chance", (1, chance), (0, -4), textcoords="offset points", fontsize=9, va="top")
    ax.set(xlabel="convolution, from the images to the head", ylabel=ylabel)
    ax.set_ylim(bottom=0)
    ax.legend(fontsize=9)
