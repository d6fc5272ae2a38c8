"""Figures of runs: training curves and results by method."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.transforms import Bbox

from madlab.adapters.base import split_method
from madlab.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    MARKERS,
    OLIVE,
    ORANGE,
    PALETTE,
    PINK,
    RED,
    SKY,
    TEAL,
    WINE,
)

LOOKS = {
    "frozen": (GREY, "o"),
    "batchnorm": (ORANGE, "s"),
    "finetune": (BLACK, "D"),
    "mad": (BLUE, "^"),
    "mad, rank": (SKY, "v"),
    "piggyback": (RED, "X"),
    "wtpb": (PINK, "P"),
    "parallel": (GREEN, "<"),
    "series": (OLIVE, ">"),
    "lora": (WINE, "*"),
    "hira": (SKY, "*"),
    "ksm": (BLUE, "X"),
    "filter-subspace": (GREEN, "P"),
    "mad+wtpb": (PINK, "^"),
    "prompt": (TEAL, "p"),
    "peft:lora": (ORANGE, "*"),
    "peft:loha": (ORANGE, "h"),
    "peft:lokr": (ORANGE, "d"),
    "peft:ia3": (ORANGE, "X"),
    "peft:dora": (ORANGE, "p"),
    "peft:hira": (ORANGE, "8"),
    "peft:oft": (ORANGE, "<"),
    "peft:hra": (ORANGE, ">"),
}


def look(method: str) -> dict[str, Any]:
    """A method's colour and marker, the same in every figure, as options of `Axes.plot`. "mad:8" is MAD of rank 8.

    What follows in brackets or after " in ", as in "mad (3x3)" or "mad in 4 bits", makes no difference.
    """
    name, rank = split_method(re.split(r" \(| in ", method)[0])
    name = "mad, rank" if name == "mad" and rank else name
    if name in LOOKS:
        colour, marker = LOOKS[name]
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
    """Draw one line per method: name -> one value per epoch, from epoch 1 on. epochs: how many the axis shows."""
    longest = max((len(values) for values in curves.values()), default=1)
    for method, values in curves.items():
        ax.plot(range(1, len(values) + 1), values, label=method, markevery=max(1, longest // 10), **look(method))
    ax.set(xlabel="epoch", ylabel=ylabel, xlim=(0.5, (epochs or longest) + 0.5))
    if len(curves) > 1:
        ax.legend(loc="best", fontsize=9)


def accuracy_bars(ax: Axes, results: Mapping[str, Sequence[float]], *, xlabel: str = "test accuracy (%)") -> None:
    """Draw one bar per method, the mean of its values, with each value (of a seed or a domain) as a dot.

    The mean of several values is written inside its bar, because beside a dot it would be taken for that dot's value.
    """
    for place, (method, values) in enumerate(results.items()):
        colour = look(method)["color"]
        mean = float(np.mean(values))
        ax.barh(place, mean, color=colour, alpha=0.35)
        ax.plot(values, [place] * len(values), linestyle="", marker="o", markersize=4, color=colour)
        at = 0 if len(values) > 1 else mean
        ax.annotate(f"{mean:.1f}", (at, place), (5, 0), textcoords="offset points", va="center")
    ax.set_yticks(range(len(results)), list(results))
    ax.invert_yaxis()
    ax.set(xlabel=xlabel)
    ax.margins(x=0.12)


def accuracy_against_parameters(
    ax: Axes, points: Mapping[str, tuple[float, float]], *, ylabel: str = "accuracy (%)"
) -> None:
    """Draw one marker per method: name -> (adapter parameters of one domain, accuracy). A line joins the ranks of MAD.

    The parameter axis is linear up to 1000, which gives a method without parameters a place, and logarithmic above.
    """
    ranks = sorted(points[method] for method in points if split_method(method)[0] == "mad")
    if len(ranks) > 2:
        ax.plot(*zip(*ranks, strict=True), color=SKY, linewidth=1, zorder=0)
    for method, (parameters, accuracy) in points.items():
        ax.plot(parameters, accuracy, linestyle="", markersize=9, **look(method))
    ax.set_xscale("symlog", linthresh=1000, linscale=0.4)
    ax.set_xticks([0, *(10.0**power for power in range(3, 10))])
    ax.autoscale(axis="x")  # set_xticks has widened the limits
    ax.margins(x=0.12, y=0.12)
    ax.set(xlabel="adapter parameters of one domain", ylabel=ylabel)
    name_points(ax, points)


def name_points(ax: Axes, points: Mapping[str, tuple[float, float]], size: float = 9) -> None:
    """Write each method's name beside its marker (x, y), in the marker's colour, `size` points high.

    Each name goes where it covers as little as possible of the other names and markers and stays within the figure.
    """
    if ax.figure.get_layout_engine() is not None:
        ax.figure.draw_without_rendering()  # only then do the axes have their final size
    ax.autoscale_view()
    pixels = ax.transData.transform(list(points.values()))
    taken = {name: Bbox.from_bounds(x - 7, y - 7, 14, 14) for name, (x, y) in zip(points, pixels, strict=True)}
    for name, point in points.items():
        # A white background, below all markers and above a Pareto line.
        ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.7}
        shade = tuple(0.8 * part for part in to_rgb(look(name)["color"]))  # the marker's colour, dark enough to read
        style: dict[str, Any] = {"fontsize": size, "color": shade, "bbox": ground, "zorder": 1}
        text = ax.annotate(name, point, (7, 0), textcoords="offset points", **style)
        others = [box for key, box in taken.items() if key != name]
        taken[f"the name {name}"] = _place_beside(text, others)


def _place_beside(text: Any, others: Sequence[Bbox]) -> Bbox:
    """Put a text where it covers the least of other boxes, and return its own; all in pixels."""
    canvas, least = text.figure.canvas, np.inf
    for across, up, ha, va in _BESIDE:
        text.set(position=(across, up), ha=ha, va=va)
        box = text.get_window_extent(canvas.get_renderer())
        outside = box.width * box.height - _shared(box, canvas.figure.bbox)
        covered = outside + sum(_shared(box, other) for other in others)
        if covered < least:
            least, best, best_box = covered, {"position": (across, up), "ha": ha, "va": va}, box
    text.set(**best)
    return best_box


def _shared(one: Bbox, other: Bbox) -> float:
    """The area that two boxes have in common."""
    both = Bbox.intersection(one, other)
    return both.width * both.height if both else 0.0


_BESIDE = (
    (9, 0, "left", "center"),
    (-9, 0, "right", "center"),
    (5, 5, "left", "bottom"),
    (5, -5, "left", "top"),
    (-5, 5, "right", "bottom"),
    (-5, -5, "right", "top"),
    (0, 8, "center", "bottom"),
    (0, -8, "center", "top"),
    (14, 14, "left", "bottom"),
    (14, -14, "left", "top"),
    (-14, 14, "right", "bottom"),
    (-14, -14, "right", "top"),
    (0, 18, "center", "bottom"),
    (0, -18, "center", "top"),
    (16, 22, "left", "bottom"),
    (16, -22, "left", "top"),
    (-16, 22, "right", "bottom"),
    (-16, -22, "right", "top"),
)
"""Where a name may go, the best place first: points to the right of and above its marker, and its two alignments."""


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (size, accuracy) points that are better than every smaller one, from the smallest on."""
    best: list[tuple[float, float]] = []
    for size, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or accuracy > best[-1][1]:
            best.append((size, accuracy))
    return best


def pareto_line(ax: Axes, points: Sequence[tuple[float, float]]) -> None:
    """Draw the best accuracy reached with at most such a size, as steps behind (size, accuracy) points."""
    best = pareto_front(points)
    ends = [*best, (max(size for size, _ in points), best[-1][1])]
    ax.plot(*zip(*ends, strict=True), color=GREY, linewidth=1, drawstyle="steps-post", zorder=0, label="Pareto line")
