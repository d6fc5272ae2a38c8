"""Ticks in less than matplotlib's time, for pictures that a slider waits for.

matplotlib builds every tick of five objects and lays its label out twice. Here an axis is one line of marks and one
text for each label, in the same places: the pictures of notebooks 09 and 11 take 119 and 103 ms instead of 136 and 112.
And every new Axes begins with four ticks that nobody sees; those of a `QuickFigure` begin with none.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis, YAxis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import TICKDOWN, TICKLEFT
from matplotlib.text import Text
from matplotlib.ticker import AutoLocator, FixedFormatter, FixedLocator, MaxNLocator

_PLAIN = {"bottom": True, "top": False, "labelbottom": True, "labeltop": False, "gridOn": False}
_PLAIN |= {"left": True, "right": False, "labelleft": True, "labelright": False}
_SIZES = {"length", "pad", "labelsize"}


def place_ticks(axis: Axis, places: Sequence[float], names: Sequence[str] | None = None) -> None:
    """Ticks at these places, with these names, within whatever limits the axis has.

    `set_xticks` does the same, but builds every tick at once: a tenth of the time of a slider's picture.
    """
    axis.set_major_locator(FixedLocator(places))
    if names is not None:
        axis.set_major_formatter(FixedFormatter(names))


class QuickFigure(Figure):
    """A figure whose Axes build no tick before one is drawn; all else is matplotlib's."""

    def add_axes(self, *place: Any, **options: Any) -> Axes:
        return super().add_axes(*place, axes_class=_QuickAxes, **options)


class _NoTicksYet:
    """The ticks of an axis, an empty list that grows when ticks are drawn. matplotlib's own begins with one tick."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, axis: Axis | None, owner: type) -> Any:
        if axis is None:
            return self
        ticks: list[Any] = []
        axis.__dict__[self.name] = ticks
        return ticks


class _LateTicks:
    """An axis that makes its ticks when they are drawn, and not while a new Axes sets their looks."""

    majorTicks = _NoTicksYet()
    minorTicks = _NoTicksYet()

    def _get_tick(self, major: bool) -> Any:
        tick = super()._get_tick(major)  # type: ignore[misc]
        tick.set_clip_path(self.axes.patch)  # type: ignore[attr-defined]  # as a new Axes does with its first ticks
        return tick


class _QuickXAxis(_LateTicks, XAxis):
    pass


class _QuickYAxis(_LateTicks, YAxis):
    pass


class _QuickAxes(Axes):
    def _init_axis(self) -> None:
        """As in matplotlib, with the axes above."""
        self.xaxis, self.yaxis = _QuickXAxis(self, clear=False), _QuickYAxis(self, clear=False)
        for axis, sides in ((self.xaxis, ("bottom", "top")), (self.yaxis, ("left", "right"))):
            for side in sides:
                self.spines[side].register_axis(axis)


def quick_axes(figure: Figure) -> None:
    """Replace the ticks and labels of every plain axis, after all else is on the figure; it can be drawn, not changed.

    An axis that chooses its own ticks gets five at most. One that has more than major ticks at the left or the bottom
    (minor ticks, a grid, turned or coloured labels, a common factor as in 1e6) stays as matplotlib draws it.
    """
    for ax in figure.axes:
        ax.apply_aspect()  # a picture's axes shrink to its shape
        for axis in (ax.xaxis, ax.yaxis):
            if ax.axison and axis.get_visible():
                _few_ticks(axis)
                if _plain(axis):
                    _replace(figure, ax, axis)


def _few_ticks(axis: Axis) -> None:
    if isinstance(axis.get_major_locator(), AutoLocator):
        axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))


def _plain(axis: Axis) -> bool:
    looks = {name: value for name, value in axis.get_tick_params().items() if name not in _SIZES}
    formatter = axis.get_major_formatter()
    formatter.set_locs(list(axis.get_majorticklocs()))  # only then it knows its common factor
    return looks.items() <= _PLAIN.items() and not len(axis.get_minorticklocs()) and not formatter.get_offset()


def _replace(figure: Figure, ax: Axes, axis: Axis) -> None:
    low, high = sorted(axis.get_view_interval())
    slack = 1e-9 * (high - low)  # 3 * 0.1 is a tick of an axis that ends at 0.3
    low, high = low - slack, high + slack
    names = axis.get_major_formatter().format_ticks(list(axis.get_majorticklocs()))
    ticks = [(at, name) for at, name in zip(axis.get_majorticklocs(), names, strict=True) if low <= at <= high]
    flat = axis is ax.xaxis
    own, usual = axis.get_tick_params(), matplotlib.rcParams
    kind = "xtick" if flat else "ytick"
    length, pad = (own.get(name, usual[f"{kind}.major.{key}"]) for name, key in (("length", "size"), ("pad", "pad")))
    if length:
        places, zeros = [at for at, _ in ticks], [0] * len(ticks)
        marks = Line2D(*((places, zeros) if flat else (zeros, places)), linestyle="none", clip_on=False)
        marks.set(marker=TICKDOWN if flat else TICKLEFT, markersize=length, color=usual[f"{kind}.color"])
        marks.set(markeredgewidth=usual[f"{kind}.major.width"])
        marks.set(transform=ax.get_xaxis_transform() if flat else ax.get_yaxis_transform())
        ax.add_artist(marks)
    where, vertical, horizontal = (ax.get_xaxis_text1_transform if flat else ax.get_yaxis_text1_transform)(length + pad)
    look = {"va": vertical, "ha": horizontal, "fontsize": own.get("labelsize", usual[f"{kind}.labelsize"])}
    labels = [ax.text(*((at, 0) if flat else (0, at)), name, transform=where, **look) for at, name in ticks if name]
    _name(figure, ax, axis, labels)
    axis.set_visible(False)


def _name(figure: Figure, ax: Axes, axis: Axis, labels: list[Text]) -> None:
    """The axis's own name, as far from its labels as matplotlib puts it."""
    text = axis.get_label_text()
    if not text:
        return
    renderer = figure.canvas.get_renderer()
    boxes = [ax.bbox, *(label.get_window_extent(renderer) for label in labels)]
    gap = axis.labelpad * figure.dpi / 72
    look = {"transform": None, "fontsize": axis.label.get_fontsize(), "color": axis.label.get_color()}
    if axis is ax.xaxis:
        middle, below = (ax.bbox.x0 + ax.bbox.x1) / 2, min(box.y0 for box in boxes) - gap
        ax.text(middle, below, text, ha="center", va="top", **look)
    else:
        left, middle = min(box.x0 for box in boxes) - gap, (ax.bbox.y0 + ax.bbox.y1) / 2
        ax.text(left, middle, text, ha="right", va="center", rotation=90, **look)
