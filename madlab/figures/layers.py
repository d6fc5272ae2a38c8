"""Pictures of which layers are adapted: what a dense block is made of, where its weights are, what a choice brings."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from madlab.figures.budgets import KERNELS
from madlab.figures.style import BLACK, GREEN, GREY, RED, SKY

_LAYERS = {"3x3": KERNELS[3], "1x1": KERNELS[1]}
"""Choice of layers -> colour; any other choice is green."""


def dense_block(ax: Axes, channels: int, growth: int, layers: int) -> None:
    """Draw the first layers of a dense block: heights are channels, arrows are convolutions.

    Each layer squeezes all channels so far to 4 * growth with a 1x1, makes `growth` new ones with a 3x3, and appends
    them. channels: what enters the block.
    """
    place, stack = 0.0, [channels]
    top = channels + layers * growth
    for _ in range(layers):
        total = sum(stack)
        _column(ax, place, stack)
        _arrow(ax, place, total, 1, f"1 × 1\n{total} → {4 * growth}")
        _column(ax, place + 2, [4 * growth], KERNELS[1])
        _arrow(ax, place + 2, 4 * growth, 3, f"3 × 3\n{4 * growth} → {growth}")
        _column(ax, place + 4, [growth], SKY)
        ax.text(place + 5.15, growth / 2, "append", ha="center", va="center", fontsize=8)
        stack.append(growth)
        place += 5.9
    _column(ax, place, stack)
    ax.set(xlim=(-0.2, place + 1), ylim=(-0.08 * top, 1.25 * max(top, 4 * growth)))
    ax.set_axis_off()


def adapted_by_depth(
    ax: Axes, kernels: Sequence[int], filters: Sequence[int], adapters: Sequence[int], *, legend: bool = True
) -> None:
    """Draw each convolution's filters (light) and its adapter (dark) in thousand numbers, from input to output.

    kernels: kernel sizes, which choose the colours. filters, adapters: numbers, in the same order; 0 is not adapted.
    """
    edges, sizes = np.arange(len(kernels) + 1) + 0.5, np.asarray(kernels)
    for kernel in sorted(set(kernels)):
        for numbers, strength in ((filters, 0.3), (adapters, 1.0)):
            heights = np.where(sizes == kernel, np.asarray(numbers) / 1e3, 0)
            # One artist for all convolutions: as many bars would take 100 ms.
            ax.stairs(heights, edges, fill=True, color=KERNELS[kernel], alpha=strength, linewidth=0)
    if legend:
        names = [Patch(color=KERNELS[kernel], label=f"{kernel} × {kernel}") for kernel in sorted(set(kernels))]
        ax.legend(handles=[*names, Patch(color=GREY, alpha=0.3, label="light: filters")], fontsize=8, loc="upper left")
    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.yaxis.set_major_locator(MaxNLocator(3))
    ax.set(xlabel="convolution, from input to output", ylabel="thousand numbers", xlim=(0, len(kernels) + 1))


def accuracy_by_layers(
    ax: Axes,
    points: Mapping[tuple[str, str], tuple[float, Sequence[float]]],
    chosen: tuple[str, str] | None = None,
    *,
    ylabel: str = "test accuracy (%)",
) -> None:
    """Draw what choices of layers cost and reach: (layers, method) -> (share of the filters in %, one accuracy a seed).

    Full forms are upright triangles, factorised ones stand on their tip, fine-tuning is a black diamond. Small dots are
    seeds. chosen: a key of `points` to mark.
    """
    for (layers, method), (share, values) in points.items():
        mean, colour = float(np.mean(values)), _LAYERS.get(layers, GREEN)
        marker = "v" if ":" in method else "^"
        if not method.startswith("mad"):
            colour, marker = (BLACK, "D") if method == "finetune" else (GREY, "s")
        ax.plot(share, mean, linestyle="", marker=marker, markersize=8, color=colour)
        if len(values) > 1:
            ax.plot([share] * len(values), values, linestyle="", marker=".", markersize=4, color=colour)
        if (layers, method) == chosen:
            ring = {"markersize": 16, "markerfacecolor": "none", "markeredgewidth": 2}
            ax.plot(share, mean, marker="o", color=RED, **ring)
        right = share > 45
        ax.annotate(
            label_of(layers, method),
            (share, mean),
            (-9 if right else 9, -3),
            textcoords="offset points",
            ha="right" if right else "left",
            fontsize=8,
        )
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.yaxis.set_major_locator(MaxNLocator(4))
    ax.margins(y=0.15)
    ax.set(xlabel="adapter, in % of the network's filters", ylabel=ylabel, xlim=(-4, 104))


def label_of(layers: str, method: str) -> str:
    """How a choice is written in pictures and tables: "3 × 3, I = 8" for ("3x3", "mad:8")."""
    if not method.startswith("mad"):
        return method
    rank = method.partition(":")[2]
    return layers.replace("x", " × ") + (f", I = {rank}" if rank else "")


def _column(ax: Axes, x: float, parts: Sequence[int], colour: str = GREY) -> None:
    """One bar of channels, its parts on top of each other, the first in `colour` and appended ones in sky blue."""
    bottom = 0
    for number, part in enumerate(parts):
        face = SKY if number else colour
        ax.add_patch(Rectangle((x, bottom), 0.7, part, facecolor=face, alpha=0.55, edgecolor="white", linewidth=1.5))
        bottom += part
    ax.text(x + 0.35, bottom, f"{bottom}", ha="center", va="bottom", fontsize=9, fontweight="bold")


def _arrow(ax: Axes, x: float, height: float, kernel: int, text: str) -> None:
    middle = min(height, 64) / 2
    style = {"arrowstyle": "-|>", "color": KERNELS[kernel], "linewidth": 2.5}
    ax.annotate("", (x + 1.95, middle), (x + 0.75, middle), arrowprops=style)
    ax.text(x + 1.3, middle + 5, text, ha="center", va="bottom", fontsize=8, color=KERNELS[kernel], fontweight="bold")
