"""Figures of smaller adapters: where a budget of ranks is spent, and what accuracy a given size buys."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from madlab.figures.style import BLUE, GREEN, GREY, SKY, ring

_LOOKS = {"uniform": ("0.3", "s", "--"), "greedy": (BLUE, "^", "-")}
"""Allocation -> colour, marker and line style, the same in every figure."""
_OTHER = (GREEN, "o", "-")


def values_by_layer(
    ax: Axes, values: Mapping[str, Sequence[float]], *, ylabel: str = "rank I", legend: bool = True
) -> None:
    """Draw one value per convolution, from input to output, for each allocation: "uniform" as a line, others filled."""
    for name, heights in values.items():
        edges = np.arange(len(heights) + 1) + 0.5
        colour, _, _ = _LOOKS.get(name, _OTHER)
        filled = name != "uniform"
        # `stairs` is one artist for all convolutions; one bar per convolution would take 20 ms.
        look: dict[str, Any] = {"baseline": 0, "zorder": 2} if filled else {"baseline": None, "zorder": 3}
        ax.stairs(heights, edges, fill=filled, color=colour, linewidth=2, label=name, **look)
    count = max(len(heights) for heights in values.values())
    ax.set_xticks([1, *range(5, count + 1, 5)])
    ax.yaxis.set_major_locator(MaxNLocator(4))
    ax.set(xlabel="convolution, from input to output", ylabel=ylabel, xlim=(0.3, count + 0.7))
    if legend:
        ax.legend(fontsize=8, loc="upper right")


def accuracy_by_budget(
    ax: Axes,
    curves: Mapping[str, Mapping[float, float]],
    *,
    full: float | None = None,
    chosen: float | None = None,
    ylabel: str = "held-out accuracy (%)",
) -> None:
    """Draw accuracy against what is spent: allocation -> {kilobytes: accuracy in %}.

    full: accuracy of the full alpha, drawn as a horizontal line. chosen: a budget to mark.
    """
    if full is not None:
        ax.axhline(full, color=GREY, linewidth=1.2, label="full α")
    for name, points in curves.items():
        colour, marker, line = _LOOKS.get(name, _OTHER)
        budgets = sorted(points)
        values = [points[budget] for budget in budgets]
        ax.plot(budgets, values, color=colour, marker=marker, linestyle=line, markersize=5, label=name)
        if chosen is not None and chosen in points:
            ring(ax, chosen, points[chosen], size=12)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.yaxis.set_major_locator(MaxNLocator(4))
    ax.set(xlabel="one domain's adapter (kB)", ylabel=ylabel)
    ax.legend(fontsize=8, loc="lower right")


def accuracy_by_kilobytes(
    ax: Axes, families: Mapping[str, Mapping[str, tuple[float, float]]], *, ylabel: str = "held-out accuracy (%)"
) -> None:
    """Draw families of compressed adapters: family -> {compression: (kilobytes, accuracy in %)}."""
    all_sizes: list[float] = []
    for points, (colour, marker, line) in zip(families.values(), _FAMILIES, strict=False):
        sizes, accuracies = zip(*sorted(points.values()), strict=True)
        all_sizes += sizes
        ax.plot(sizes, accuracies, color=colour, marker=marker, linestyle=line, markersize=6)
    ticks = [size for size in _KILOBYTES if min(all_sizes) <= size <= max(all_sizes)]
    ax.set_xscale("log")
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()
    ax.yaxis.set_major_locator(MaxNLocator(6))
    ax.set(xlabel="size of one domain's adapter (kilobytes)", ylabel=ylabel)
    ax.legend(list(families), fontsize=8, loc="lower right")


_FAMILIES = ((BLUE, "o", "-"), (SKY, "s", "-"), (SKY, "^", "--"), ("0.3", "D", ":"))
"""All are forms of MAD, in its two colours and a grey: colour, marker and line style."""
_KILOBYTES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
