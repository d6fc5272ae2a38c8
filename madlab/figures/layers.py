"""Figures of which layers are adapted: what a dense block consists of, where its weights are, what a choice reaches."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from madlab.figures.budgets import KERNELS
from madlab.figures.runs import look
from madlab.figures.style import BLACK, GREEN, GREY, SKY, name_rows, ring

_LAYERS = {"3x3": KERNELS[3], "1x1": KERNELS[1]}
"""Choice of layers -> colour. Any other choice is green."""


def dense_block(ax: Axes, channels: int, growth: int, layers: int) -> None:
    """Draw the first layers of a dense block: heights are channels, arrows are convolutions.

    Each layer reduces all channels so far to 4 * growth with a 1x1, computes `growth` new ones with a 3x3, and appends
    them. channels: the number of channels that enter the block.
    """
    place, stack = 0.0, [channels]
    top = channels + layers * growth
    for _ in range(layers):
        total = sum(stack)
        _column(ax, place, stack)
        _arrow(ax, place, total, 1, f"1 × 1\n{total} → {4 * growth}")
        _column(ax, place + 2.3, [4 * growth], KERNELS[1])
        _arrow(ax, place + 2.3, 4 * growth, 3, f"3 × 3\n{4 * growth} → {growth}")
        _column(ax, place + 4.6, [growth], SKY)
        ax.text(place + 5.8, growth / 2, "append", ha="center", va="center", fontsize=8)
        stack.append(growth)
        place += 6.6
    _column(ax, place, stack)
    ax.set(xlim=(-0.2, place + 1), ylim=(-0.08 * top, 1.25 * max(top, 4 * growth)))
    ax.set_axis_off()


def adapted_by_depth(ax: Axes, kernels: Sequence[int], filters: Sequence[int], adapters: Sequence[int]) -> None:
    """Draw the size of each convolution's filters (light) and adapter (dark) in thousands, from input to output.

    kernels: kernel sizes, which determine the colours. filters, adapters: counts in the same order; an adapter of 0
    means that the convolution is not adapted. The sums per kernel size are written above.
    """
    edges = np.arange(len(kernels) + 1) + 0.5
    for row, kernel in enumerate(sorted(set(kernels))):
        here = np.asarray(kernels) == kernel
        weights, adapted = np.where(here, filters, 0), np.where(here, adapters, 0)
        for heights, strength in ((weights, 0.3), (adapted, 1.0)):
            # One polygon for all convolutions; single bars would take 100 ms, `stairs` 50 ms.
            steps = np.append(heights, 0) / 1e3
            ax.fill_between(edges, steps, step="post", color=KERNELS[kernel], alpha=strength, linewidth=0)
        text = f"{kernel} × {kernel}: {adapted.sum():,} for {weights.sum():,} weights"
        ax.text(0.03, 0.97 - 0.09 * row, text, transform=ax.transAxes, va="top", fontsize=9, color=KERNELS[kernel])
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.yaxis.set_major_locator(MaxNLocator(3))
    ax.set(
        xlabel="convolution, from input to output",
        ylabel="thousands (dark: adapter)",
        xlim=(0, len(kernels) + 1),
    )
    ax.set_ylim(0, max(filters) / 1e3 / (0.94 - 0.09 * len(set(kernels))))  # room for the sums above the data


def accuracy_by_layers(
    ax: Axes,
    points: Mapping[tuple[str, str], tuple[float, Sequence[float]]],
    chosen: tuple[str, str] | None = None,
    *,
    xlabel: str = "test accuracy (%)",
) -> None:
    """Draw the accuracy of choices of layers: (layers, method) -> (share of the filters in %, one accuracy per seed).

    There is one row per choice, the smallest on top. Full forms are upright triangles, factorised ones point down.
    Small dots are seeds. chosen: a key of `points` to mark.
    """
    rows = sorted(points, key=lambda key: points[key][0])
    for row, (layers, method) in enumerate(rows):
        _, values = points[layers, method]
        mean = float(np.mean(values))
        if method.startswith("mad"):
            colour, marker = _LAYERS.get(layers, GREEN), "v" if ":" in method else "^"
        else:
            colour, marker = BLACK if method == "finetune" else GREY, look(method)["marker"]
        if len(values) > 1:
            ax.plot(values, [row] * len(values), linestyle="", marker=".", markersize=4, color=colour)
        ax.plot(mean, row, linestyle="", marker=marker, markersize=8, color=colour)
        if (layers, method) == chosen:
            ring(ax, mean, row, size=15)
        end = (max(mean, *values), row)
        ax.annotate(f"{mean:.1f}", end, (11, 0), textcoords="offset points", va="center", fontsize=8)

    name_rows(ax, [f"{label_of(*key)}: {points[key][0]:.0f} %" for key in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.margins(x=0.2)
    ax.set(xlabel=xlabel)


def label_of(layers: str, method: str) -> str:
    """A choice of layers and method as figures and tables write it: "3 × 3, I = 8" for ("3x3", "mad:8")."""
    if not method.startswith("mad"):
        return method
    rank = method.partition(":")[2]
    return layers.replace("x", " × ") + (f", I = {rank}" if rank else "")


def _column(ax: Axes, x: float, parts: Sequence[int], colour: str = GREY) -> None:
    """A bar of channels, its parts on top of each other: the first in `colour`, appended ones in sky blue."""
    bottom = 0
    for number, part in enumerate(parts):
        face = SKY if number else colour
        ax.add_patch(Rectangle((x, bottom), 0.7, part, facecolor=face, alpha=0.55, edgecolor="white", linewidth=1.5))
        bottom += part
    ax.text(x + 0.35, bottom, f"{bottom}", ha="center", va="bottom", fontsize=9, fontweight="bold")


def _arrow(ax: Axes, x: float, height: float, kernel: int, text: str) -> None:
    middle = min(height, 64) / 2
    style = {"arrowstyle": "-|>", "color": KERNELS[kernel], "linewidth": 2.5}
    ax.annotate("", (x + 2.25, middle), (x + 0.75, middle), arrowprops=style)
    ax.text(x + 1.5, middle + 5, text, ha="center", va="bottom", fontsize=8, color=KERNELS[kernel], fontweight="bold")
