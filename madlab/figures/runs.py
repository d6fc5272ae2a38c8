"""Pictures of runs: how training went, and what came out, method beside method."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from madlab.figures.style import BLACK, BLUE, GREEN, GREY, MARKERS, ORANGE, PALETTE, PINK, RED, SKY

_LOOKS = {
    "frozen": (GREY, "o"),
    "batchnorm": (ORANGE, "s"),
    "finetune": (BLACK, "D"),
    "mad": (BLUE, "^"),
    "mad, rank": (SKY, "v"),
    "piggyback": (RED, "X"),
    "wtpb": (PINK, "P"),
    "parallel": (GREEN, "<"),
    "series": (GREEN, ">"),
    "lora": (RED, "*"),
}


def look(method: str) -> dict[str, Any]:
    """Colour and marker of a method, the same in every figure: options of `Axes.plot`. "mad:8" is MAD with a rank."""
    name = "mad, rank" if method.startswith("mad:") else method.partition(":")[0]
    name = name if name in _LOOKS else method
    if name in _LOOKS:
        colour, marker = _LOOKS[name]
    else:
        place = sum(map(ord, name))
        colour, marker = PALETTE[place % len(PALETTE)], MARKERS[place % len(MARKERS)]
    return {"color": colour, "marker": marker}


def training_curves(
    ax: Axes,
    curves: Mapping[str, Sequence[float]],
    *,
    ylabel: str = "validation accuracy (%)",
    epochs: int | None = None,
) -> None:
    """Draw one line a method: name -> one value an epoch, the first after epoch 1. epochs: how many the axis shows."""
    longest = max((len(values) for values in curves.values()), default=1)
    for method, values in curves.items():
        ax.plot(range(1, len(values) + 1), values, label=method, markevery=max(1, longest // 10), **look(method))
    ax.set(xlabel="epoch", ylabel=ylabel, xlim=(0.5, (epochs or longest) + 0.5))
    if len(curves) > 1:
        ax.legend(loc="best", fontsize=9)


def accuracy_bars(ax: Axes, results: Mapping[str, Sequence[float]], *, xlabel: str = "test accuracy (%)") -> None:
    """Draw one bar a method, the mean of its values, with each value (a seed or a domain) as a dot on it."""
    for place, (method, values) in enumerate(results.items()):
        colour = look(method)["color"]
        mean = float(np.mean(values))
        ax.barh(place, mean, color=colour, alpha=0.35)
        ax.plot(values, [place] * len(values), linestyle="", marker="o", markersize=4, color=colour)
        ax.annotate(f"{mean:.1f}", (max(mean, *values), place), (5, 0), textcoords="offset points", va="center")
    ax.set_yticks(range(len(results)), list(results))
    ax.invert_yaxis()
    ax.set(xlabel=xlabel)
    ax.margins(x=0.12)


def accuracy_against_parameters(
    ax: Axes, points: Mapping[str, tuple[float, float]], *, ylabel: str = "accuracy (%)"
) -> None:
    """Draw one marker a method: name -> (adapter parameters of one domain, accuracy).

    The axis of parameters is linear up to 100, so that a method without any has its place, and logarithmic above.
    """
    for method, (parameters, accuracy) in points.items():
        ax.plot(parameters, accuracy, linestyle="", markersize=9, **look(method))
        # White under the name, below all markers and above a Pareto line.
        ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        options: dict[str, Any] = {"textcoords": "offset points", "fontsize": 9, "bbox": ground, "zorder": 1}
        ax.annotate(method, (parameters, accuracy), (7, -3), **options)
    ax.set_xscale("symlog", linthresh=100)
    ax.margins(x=0.15, y=0.12)
    ax.set(xlabel="adapter parameters of one domain", ylabel=ylabel)


def pareto_line(ax: Axes, points: Sequence[tuple[float, float]]) -> None:
    """Draw the best accuracy that a number of parameters buys, as steps, behind (parameters, accuracy) points."""
    best: list[tuple[float, float]] = []
    for parameters, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or accuracy > best[-1][1]:
            best.append((parameters, accuracy))
    ends = [*best, (max(parameters for parameters, _ in points), best[-1][1])]
    ax.plot(*zip(*ends, strict=True), color=GREY, linewidth=1, drawstyle="steps-post", zorder=0, label="Pareto line")
