"""Figures of ranks: the spectrum of a modulation, what accuracy a rank or a budget buys, and ranks by layer."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from madlab.figures.runs import look
from madlab.figures.style import AROUND_ONE, AROUND_ZERO, BLUE, GREEN, GREY, RED, SKY, ring

_LOOKS = {"uniform": ("0.3", "s", "--"), "greedy": (BLUE, "^", "-")}
"""Allocation -> colour, marker and line style, the same in every figure."""
_OTHER = (GREEN, "o", "-")
_FAMILIES = ((BLUE, "o", "-"), (SKY, "s", "-"), (SKY, "^", "--"), ("0.3", "D", ":"))
"""All are forms of MAD, in its two colours and a grey: colour, marker and line style."""
_KILOBYTES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)


def singular_values(ax: Axes, values: Any, rank: int | None = None, noise: Any = None) -> None:
    """Draw singular values on a logarithmic axis, the largest first. rank: how many are kept, drawn in colour.

    noise: the singular values of a table of the same size without any structure, drawn as a grey line behind them.
    """
    values = np.asarray(values, dtype=np.float64)
    kept = len(values) if rank is None else min(rank, len(values))
    places = np.arange(1, len(values) + 1)
    if noise is not None:
        ax.semilogy(places, np.asarray(noise, dtype=np.float64), color=GREY, linewidth=1.5, zorder=0)
    ax.semilogy(places[kept:], values[kept:], linestyle="", marker=".", color=SKY)
    ax.semilogy(places[:kept], values[:kept], linestyle="", marker=".", color=BLUE)
    if rank is not None:
        ax.axvline(kept + 0.5, color=BLUE, linewidth=1)
    ax.set(xlabel="number of the direction", ylabel="singular value")
    if not values.max(initial=0):  # nothing that a logarithmic axis could show
        return
    low, high = max(values.max() * 1e-4, values.min() / 2, 1e-12), values.max() * 2
    decades = [10.0**power for power in range(int(np.ceil(np.log10(low))), int(np.log10(high)) + 1)]
    ax.set_yticks(decades, [f"{decade:g}" for decade in decades])
    ax.minorticks_off()  # drawing them would take as long as all the rest of the figure
    ax.set_xticks([1, len(values) // 2, len(values)])
    ax.set_ylim(low, high)


Accuracies = float | Sequence[float]
"""Percent: one number, or one for each seed."""


def accuracy_by_rank(
    ax: Axes,
    cut: Mapping[int, Accuracies],
    *,
    fresh: Mapping[int, Accuracies] | None = None,
    trained: Mapping[int, Accuracies] | None = None,
    full: Accuracies | None = None,
    floor: Accuracies | None = None,
    marked: tuple[int, float] | None = None,
    limit: int | None = None,
    ylabel: str = "accuracy (%)",
    legend: bool = True,
) -> None:
    """Draw accuracy against the rank I; of several seeds the mean, with their standard deviation as bars.

    cut: rank -> accuracy of the full alpha cut to that rank. fresh: the same after BatchNorm's statistics were measured
    anew. trained: rank -> accuracy of factors trained at that rank. full, floor: accuracies of full alpha and of
    BatchNorm alone, drawn as horizontal lines. marked: a point (rank, accuracy) to circle. limit: the largest rank on
    the axis. legend: at the bottom, below everything that is drawn; without one there is no room for it.
    """
    drawn = []
    for level, name, method in ((full, "full α", "mad"), (floor, "BatchNorm alone", "batchnorm")):
        if level is not None:
            ax.axhline(float(np.mean(level)), color=look(method)["color"], linewidth=1.2, label=name)
            drawn.append(float(np.mean(level)))
    series: tuple[tuple[Mapping[int, Accuracies] | None, dict[str, Any]], ...] = (
        (cut, {"color": GREY, "marker": ".", "linestyle": ":", "label": "full α, cut"}),
        (fresh, {"color": BLUE, "marker": ".", "linestyle": "--", "label": "cut, fresh statistics"}),
        (trained, {"linestyle": "-", "label": "βγ trained at rank I", **look("mad:1")}),
    )
    for points, style in series:
        if points:
            ranks = sorted(points)
            means = [float(np.mean(points[i])) for i in ranks]
            spreads = [float(np.std(points[i], ddof=1)) if np.size(points[i]) > 1 else 0.0 for i in ranks]
            ax.errorbar(ranks, means, spreads if any(spreads) else None, elinewidth=1, capsize=2, **style)
            drawn += [mean + side * spread for mean, spread in zip(means, spreads, strict=True) for side in (-1, 1)]
    if marked is not None:
        ring(ax, *marked)

    ax.set_xscale("log", base=2)
    widest = limit or max([*cut, *(trained or {})])
    places = [4**power for power in range(int(np.log2(widest) / 2) + 1)]
    ax.set_xticks(places, [str(place) for place in places])
    ax.minorticks_off()
    ax.yaxis.set_major_locator(MaxNLocator(5))
    low, high = min(drawn), max(drawn)
    unit = max(high - low, 1.0)
    room = 0.55 if legend else 0.06
    ax.set(xlabel="rank I", ylabel=ylabel, xlim=(0.8, 1.25 * widest), ylim=(low - room * unit, high + 0.06 * unit))
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}" if value >= 0 else "")  # below is the legend's room
    if legend:
        ax.legend(loc="lower right", fontsize=8, labelspacing=0.25, borderaxespad=0.2)


def factors(axes: Sequence[Axes], beta: Any, gamma: Any, alpha: Any, span: float = 1.0) -> None:
    """Draw beta (M, I), gamma (I, N) and a target alpha (M, N) in their true proportions, in the order of the product.

    Row m is an output and column n an input. axes: three Axes. Alpha has the colours of a modulation, the two factors
    have those of weights.
    """
    limit = max(float(np.abs(beta).max()), float(np.abs(gamma).max()))
    for ax, matrix, title in zip(axes[:2], (beta, gamma), ("β", "γ"), strict=True):
        ax.imshow(np.asarray(matrix), cmap=AROUND_ZERO, vmin=-limit, vmax=limit)
        ax.set_title(f"{title}: {matrix.shape[0]} × {matrix.shape[1]}")
    axes[2].imshow(np.asarray(alpha), cmap=AROUND_ONE, vmin=1 - span, vmax=1 + span)
    axes[2].set_title(f"α = βγ: {alpha.shape[0]} × {alpha.shape[1]}")
    names = (("direction i", "output m"), ("input n", "direction i"), ("input n", "output m"))
    for ax, (across, down) in zip(axes, names, strict=True):
        ax.set(xticks=[], yticks=[], xlabel=across, ylabel=down)


def spectrum_history(ax: Axes, history: Any, title: str) -> None:
    """Draw how singular values change during training: history (steps, I), one line per value."""
    history = np.maximum(np.asarray(history, dtype=np.float64), 1e-9)
    for place in range(history.shape[1]):
        ax.semilogy(history[:, place], color=(BLUE, SKY, RED, GREY)[place % 4], label=f"σ{place + 1}")
    ax.set(xlabel="training step", ylabel="singular value of α", ylim=(1e-9, history.max() * 10))
    ax.set_title(title)
    ax.legend(fontsize=8, loc="center right")


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
