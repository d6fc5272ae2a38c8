"""Accuracy against what is stored for a domain, with the Pareto front of all methods."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D

from madlab.adapters.base import split_method
from madlab.figures.runs import look, pareto_front, pareto_line

ROUNDED = " in "
"""Between the method and the bits in the name of a rounded form, "mad:8 in 4 bits"."""
GAP, LIFT = 0.032, 1.04
"""Between two names above the axes, and how high these stand, as shares of the axes."""
TICKS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 200_000)


@dataclass(frozen=True)
class FormPoint:
    """A method in one stored form: kilobytes, accuracy in percent, and the ends of its interval or None."""

    kilobytes: float
    accuracy: float
    interval: tuple[float, float] | None = None


def accuracy_against_bytes(ax: Axes, points: Mapping[str, FormPoint]) -> None:
    """Draw one marker with its interval per stored form, "mad:8" or "mad:8 in 4 bits", smaller for rounded ones.

    A thin line joins the forms of a method, which the legend names. The Pareto front, the forms that are better than
    every smaller one, is named above the axes. The axis of bytes is linear up to a kilobyte, which gives nothing a
    place, and logarithmic above.
    """
    methods: dict[str, list[tuple[float, float]]] = {}
    for name, point in points.items():
        method, _, rounded = name.partition(ROUNDED)
        methods.setdefault(method, []).append((point.kilobytes, point.accuracy))
        low, high = point.interval or (point.accuracy, point.accuracy)
        reach = [[point.accuracy - low], [high - point.accuracy]]
        style = look(method) | {"markersize": 5 if rounded else 9, "linestyle": "", "elinewidth": 0.8}
        ax.errorbar(point.kilobytes, point.accuracy, yerr=reach, zorder=2, **style)
    for method, own in methods.items():
        ax.plot(*zip(*sorted(own), strict=True), color=look(method)["color"], linewidth=0.6, alpha=0.5, zorder=1)
    places = [place for own in methods.values() for place in own]
    pareto_line(ax, places)
    _scale(ax, [kilobytes for kilobytes, _ in places])
    _legend(ax, methods)
    first_names: dict[tuple[float, float], str] = {}
    for name, point in points.items():  # a mask and its rounded forms may share a place
        first_names.setdefault((point.kilobytes, point.accuracy), name)
    _name_above(ax, {first_names[place]: place for place in pareto_front(places)})


def _scale(ax: Axes, kilobytes: Sequence[float]) -> None:
    ax.set_xscale("symlog", linthresh=1, linscale=0.3)
    ticks = [tick for tick in TICKS if min(kilobytes) / 2 <= tick <= 2 * max(kilobytes)]
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.minorticks_off()
    ax.autoscale(axis="x")  # set_xticks has widened the limits
    ax.margins(x=0.05, y=0.06)


def _legend(ax: Axes, methods: Iterable[str]) -> None:
    """One entry per colour and marker: all ranks of MAD share theirs."""
    entries: dict[str, Any] = {}
    for method in methods:
        name, rank = split_method(method)
        entries.setdefault("mad of a rank" if name == "mad" and rank else method, look(method))
    handles = [Line2D([], [], linestyle="", label=name, **style) for name, style in entries.items()]
    ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, frameon=False)


def _name_above(ax: Axes, places: Mapping[str, tuple[float, float]]) -> None:
    """Write names above the axes, slanted and so far apart that none meets another, each with a line to its marker."""
    ax.autoscale_view()
    to_axes = ax.transData + ax.transAxes.inverted()
    wanted = [float(to_axes.transform(place)[0]) for place in places.values()]
    across, count = list(wanted), len(wanted)
    for i in range(1, count):
        across[i] = max(across[i], across[i - 1] + GAP)
    for i in reversed(range(count)):  # what was pushed beyond the right end goes back
        across[i] = min(across[i], 1 - GAP * (count - 1 - i))
    ax.set(xlim=ax.get_xlim(), ylim=ax.get_ylim())  # the lines to the names do not move them
    top = ax.get_ylim()[1]
    for (name, (kilobytes, accuracy)), start, x in zip(places.items(), wanted, across, strict=True):
        shade = tuple(0.8 * part for part in to_rgb(look(name)["color"]))  # dark enough to read
        ax.plot((kilobytes, kilobytes), (accuracy, top), color=shade, linewidth=0.4, zorder=0)
        ax.plot((start, x), (1, LIFT), transform=ax.transAxes, color=shade, linewidth=0.4, clip_on=False)
        style: dict[str, Any] = {"rotation": 45, "rotation_mode": "anchor", "fontsize": 7, "color": shade}
        ax.text(x, LIFT, name, transform=ax.transAxes, ha="left", va="bottom", **style)
