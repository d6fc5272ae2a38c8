"""Figures of trained modulations: where they moved, how much of them is kept, and what accuracy that leaves."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from madlab.figures.style import BLACK, BLUE, GREY, MARKERS, ORANGE, PALETTE, RED, as_array, ring

STYLES = ("-", "--", "-.", ":", (0, (1, 3)))
"""Of lines: as many as no number of colours divides, so that both together tell forty apart."""


def alpha_by_layer(ax: Axes, alphas: Sequence[Any]) -> None:
    """Draw the distribution of alpha in each layer, from the images to the head: its median, middle half and 98 %."""
    levels = np.array([np.quantile(as_array(alpha), (0.01, 0.25, 0.5, 0.75, 0.99)) for alpha in alphas]).T
    places = np.arange(1, len(alphas) + 1)
    if len(alphas) == 1:  # which would have no width
        levels, places = levels.repeat(2, axis=1), np.array([0.75, 1.25])
    ax.axhline(1, color=GREY, linewidth=1)
    ax.fill_between(places, levels[0], levels[4], color="C0", alpha=0.18, linewidth=0, label="98 % of the entries")
    ax.fill_between(places, levels[1], levels[3], color="C0", alpha=0.45, linewidth=0, label="the middle half")
    ax.plot(places, levels[2], color="C0", label="median")
    ax.set(xlabel="convolution, from the images to the head", ylabel="α", xlim=places[[0, -1]])


def alpha_histograms(ax: Axes, alphas: Mapping[str, Any], *, low: float = -0.5, high: float = 2.5) -> None:
    """Draw the distribution of alpha's entries on a logarithmic axis: name -> all entries."""
    edges = np.linspace(low, high, 76)
    for (name, alpha), colour, style in zip(alphas.items(), cycle(PALETTE), cycle(STYLES), strict=False):
        counts, _ = np.histogram(np.clip(as_array(alpha).ravel(), low, high), edges)
        share = 100 * np.maximum(counts, 0.1) / counts.sum()
        ax.stairs(share, edges, color=colour, linestyle=style, label=name, linewidth=1.4)
    ax.set_yscale("log")
    ax.set(xlabel="α (first and last step: everything beyond)", ylabel="share of the entries (%)")
    ax.set(xlim=(low, high), ylim=(1e-3, 100))
    ax.legend(fontsize=8)


def kept_by_layer(ax: Axes, shares: Sequence[float], chosen: int | None = None) -> None:
    """Draw the share of entries kept in each layer, 0 to 1, as a stem. chosen: a layer to mark, counted from 0."""
    places = np.arange(1, len(shares) + 1)
    percent = 100 * np.asarray(shares)
    ax.vlines(places, 0, percent, color=BLUE, linewidth=4)
    if chosen is not None:
        ax.vlines(places[chosen], 0, percent[chosen], color=RED, linewidth=4)
        ax.plot(places[chosen], percent[chosen], color=RED, marker="o", markersize=4)
    ax.set(xticks=[1, len(shares)], yticks=[0, 50, 100], xlabel="layer", ylabel="kept (%)")
    ax.set(xlim=(0, len(shares) + 1), ylim=(0, 105))


def accuracy_by_kept(
    ax: Axes,
    curves: Mapping[str, Mapping[float, tuple[float, float]]],
    *,
    levels: Mapping[str, float] | None = None,
    marked: tuple[float, float] | None = None,
    ylabel: str = "accuracy (%)",
) -> None:
    """Draw accuracy against the share of entries kept: name -> threshold -> (kept share 0 to 1, accuracy in percent).

    levels: name -> accuracy, drawn as horizontal lines: of the whole alpha, then of BatchNorm alone, in their colours.
    marked: a point (kept, accuracy) to circle.
    """
    for (name, value), colour in zip((levels or {}).items(), (BLUE, ORANGE, GREY), strict=False):
        ax.axhline(value, color=colour, linewidth=1.2, label=name)
    for (name, points), colour, marker in zip(curves.items(), (BLUE, BLACK, GREY, *PALETTE[2:]), MARKERS, strict=False):
        if not points:  # nothing was measured yet
            continue
        kept, accuracy = zip(*sorted(points.values()), strict=True)
        ax.plot(100 * np.array(kept), accuracy, color=colour, marker=marker, markersize=3.5, label=name)
    if marked is not None:
        ring(ax, 100 * marked[0], marked[1])
    ax.set_xticks([0, 50, 100])
    ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.set(xlabel="entries kept (%)", ylabel=ylabel, xlim=(-4, 104))
    ax.legend(loc="lower right", fontsize=8, frameon=True, facecolor="white", edgecolor="none", framealpha=0.8)
