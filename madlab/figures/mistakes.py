"""Figures of one network's answers on a split: which classes it mixes up, how sure it is, and how it came to that.

Lines and areas have the colours of the style's cycle, so that all of these can be drawn on a dark background, too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.ticker import MaxNLocator

from madlab.figures.style import BLUE, GREY, ORANGE, SKY, as_array, axis_names, literal

Curves = tuple[Sequence[float], Sequence[float], Sequence[float]]
"""Of one run, a value per epoch: training losses, validation losses, validation accuracies."""

MOST_NAMES = 40
"""Classes up to which a confusion matrix names each; more names would lie on top of each other."""
MOST_NUMBERS = 15
"""Classes up to which a confusion matrix writes its counts."""


def confusion_map(ax: Axes, counts: Any, names: Sequence[str], numbers: Sequence[int] | None = None) -> None:
    """Draw how many images of each class (rows) were taken for each class (columns).

    counts: int (C, C). names, numbers: of the classes, as in `axis_names`. Colours are shares of a row, on a
    logarithmic scale, because what is wrong is rare. Zero is empty.
    """
    import seaborn  # imported here, because it takes half a second

    counts = np.asarray(counts)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    few, named = len(names) <= MOST_NUMBERS, len(names) <= MOST_NAMES
    shown = axis_names(names, numbers) if named else False
    seaborn.heatmap(
        shares,
        ax=ax,
        mask=counts == 0,
        norm=LogNorm(0.01, 1),
        cmap="mako" if _is_dark() else "mako_r",
        annot=counts if few else None,
        fmt="d",
        xticklabels=shown,
        yticklabels=shown,
        square=True,
        cbar_kws={"shrink": 0.6, "label": "share of the class", "ticks": [0.01, 0.1, 1], "format": "{x:.0%}"},
    )
    for side in ax.spines.values():
        side.set_visible(True)
    ax.tick_params(axis="x", rotation=90)
    ax.tick_params(axis="y", rotation=0)
    ax.set(xlabel="taken for", ylabel="class")


def calibration(ax: Axes, confidence: Sequence[float], accuracy: Sequence[float], counts: Sequence[int]) -> None:
    """Draw accuracy against the probability of the answer, all from 0 to 1, with an area per number of images.

    On the diagonal a network is as often right as it says; below it is too sure of itself.
    """
    area = 20 + 280 * np.asarray(counts) / max(counts)
    ax.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1.2, label="as sure as it is right")
    ax.plot(confidence, accuracy, color="C0", linewidth=1.2)
    ax.scatter(confidence, accuracy, s=area, color="C0", alpha=0.7, label="answers (area: how many)")
    ax.set(xlabel="probability of the answer", ylabel="share that is right", xlim=(0, 1.03), ylim=(0, 1.03))
    ax.legend(loc="upper left", fontsize=8, markerscale=0.4)


def learning_curves(axes: Sequence[Axes], runs: Mapping[str, Curves]) -> None:
    """Draw losses on the first and validation accuracy on the second Axes, by epoch from 1 on.

    Losses are in nats, accuracies in percent.
    """
    for (name, (train, val, accuracy)), colour in zip(runs.items(), ("C0", "C1"), strict=False):
        epochs, mark = range(1, len(train) + 1), {"marker": "o", "markersize": 3} if len(train) < 30 else {}
        prefix = f"{name}, " if len(runs) > 1 else ""
        axes[0].plot(epochs, train, color=colour, linestyle="--", label=f"{prefix}training", **mark)
        axes[0].plot(epochs, val, color=colour, label=f"{prefix}validation", **mark)
        axes[1].plot(epochs, accuracy, color=colour, label=name, **mark)
    for ax, label in zip(axes, ("loss (nats)", "validation accuracy (%)"), strict=True):
        ax.set(xlabel="epoch", ylabel=label)
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes[0].legend(fontsize=8)
    if len(runs) > 1:
        axes[1].legend(fontsize=8)


def change_by_layer(ax: Axes, changes: Sequence[float]) -> None:
    """Draw |W_d - W| / |W| of each adapted layer, from the images to the head, in percent."""
    places = np.arange(1, len(changes) + 1)
    ax.bar(places, 100 * np.asarray(changes), color="C0", width=0.8)
    ax.set(xlabel="adapted layer, from the images to the head", ylabel="change of the filters (%)")
    ax.set(xlim=(0.4, len(changes) + 0.6))
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))


def spectra(ax: Axes, values: Sequence[Any]) -> None:
    """Draw which share of the squared change alpha - 1 the largest singular values hold, one line per layer.

    values: singular values of each layer, falling. A modulation that did not move has no line.
    """
    moved = [array for array in map(as_array, values) if array.any()]
    for place, array in enumerate(moved):
        energy = np.cumsum(np.square(array.astype(np.float64)))
        depth = place / max(1, len(moved) - 1)
        colour = tuple((1 - depth) * np.array(to_rgb(SKY)) + depth * np.array(to_rgb(ORANGE)))
        label = {0: "first layer", len(moved) - 1: "last layer"}.get(place)
        ax.plot(range(1, len(energy) + 1), 100 * energy / energy[-1], color=colour, linewidth=1, label=label)
    ax.axhline(90, color=GREY, linestyle=":", linewidth=1.2)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:.0f}")
    ax.set(xlabel="directions (largest singular values)", ylabel="share of (α − 1)² (%)", ylim=(0, 102))
    if moved:
        ax.legend(fontsize=8, loc="lower right")


def differences(ax: Axes, names: Sequence[str], values: Sequence[float], numbers: Sequence[int] | None = None) -> None:
    """Draw differences in percentage points as horizontal bars around zero, the first at the top.

    names, numbers: of the classes, as in `axis_names`.
    """
    colours = ["C0" if value < 0 else "C1" for value in values]
    ax.barh(range(len(names)), values, color=colours)
    ax.axvline(0, color=GREY, linewidth=1)
    ax.set_yticks(range(len(names)), axis_names(names, numbers), fontsize=8)
    ax.invert_yaxis()
    ax.set(xlabel="difference of the recalls (percentage points)")


def _is_dark() -> bool:
    """Whether this figure's style has a dark background."""
    return sum(to_rgb(rcParams["axes.facecolor"])) < 1.5


def class_bars(ax: Axes, names: Sequence[str], probabilities: Sequence[float], true: int, most: int = 5) -> None:
    """Draw the probabilities of the likeliest classes in percent, largest on top, with the true class in blue.

    true: number of the true class; where it is not among the first `most`, it takes the place of the last of them.
    """
    order = sorted(range(len(names)), key=lambda label: -probabilities[label])
    shown = order[:most]
    if true not in shown:
        shown[-1] = true
    percent = [100 * float(probabilities[label]) for label in shown]
    ax.barh(range(len(shown)), percent, color=[BLUE if label == true else GREY for label in shown])
    for place, value in enumerate(percent):
        ax.annotate(f"{value:.0f} %", (value, place), (4, 0), textcoords="offset points", va="center")
    ax.set_yticks(range(len(shown)), [f"{order.index(n) + 1}. {literal(names[n])}" for n in shown])
    ax.set(xlim=(0, 115), xticks=(0, 25, 50, 75, 100), xlabel="probability (%)")
    ax.invert_yaxis()
