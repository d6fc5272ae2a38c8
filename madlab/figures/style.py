"""One look for all figures: a white background, and colours with markers that colour-blind readers can tell apart.

Figures are made without pyplot, so that none is shown twice and none stays in memory.
"""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import matplotlib
import matplotlib.font_manager
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import AutoLocator, MaxNLocator
from PIL import Image

# The palette of Okabe and Ito, "Color Universal Design" (2008).
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PINK, GREY, BLACK = "#56B4E9", "#CC79A7", "#7F7F7F", "#000000"
WINE, OLIVE, TEAL = "#882255", "#999933", "#44AA99"
"""Further colours that go with them: of the muted scheme of Tol, "Colour Schemes" (2021)."""
PALETTE = (BLUE, ORANGE, GREEN, RED, PINK, SKY, BLACK, GREY)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

AROUND_ZERO = "PuOr_r"
"""Colour map for weights: orange is positive, purple is negative, white is zero."""
AROUND_ONE = "RdBu_r"
"""Colour map for modulations: red amplifies, blue weakens, white (one) leaves the filter unchanged."""
BRIGHTNESS = "gray"
"""Colour map for feature maps and other images of one channel."""

STYLE: dict[str, Any] = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.dpi": 100,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titley": 1.0,  # to find a height itself matplotlib lays out every tick: a third of the drawing time
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.prop_cycle": matplotlib.cycler(color=PALETTE),
    "legend.frameon": False,
    "image.interpolation": "nearest",
    "text.hinting": "none",  # hinting is a seventh of the drawing time of a figure with many labels
}

DARK: dict[str, Any] = {
    "figure.facecolor": "#16191d",
    "axes.facecolor": "#16191d",
    "savefig.facecolor": "#16191d",
    "text.color": "#d8dce2",
    "axes.labelcolor": "#d8dce2",
    "axes.edgecolor": "#d8dce2",
    "xtick.color": "#d8dce2",
    "ytick.color": "#d8dce2",
    "axes.prop_cycle": matplotlib.cycler(color=(SKY, ORANGE, GREEN, RED, PINK, BLUE, GREY)),
}
"""Laid over STYLE: for pages that are read on a dark background."""


LONGEST_NAME = 24
"""Letters of a class's name beside an axis."""


def literal(name: str) -> str:
    """A name as matplotlib shows it whatever it holds: between two dollars it would read mathematics."""
    return name.replace("$", r"\$")


def axis_names(names: Sequence[str], numbers: Sequence[int] | None = None) -> list[str]:
    """Names of classes as they fit beside an axis: long ones shortened.

    numbers: of the classes, in whose place "class 7" is written where the font has not all letters of a name; 0, 1, 2
    ... if it is None.
    """
    numbers = range(len(names)) if numbers is None else numbers
    font = matplotlib.font_manager.get_font(matplotlib.font_manager.findfont(matplotlib.font_manager.FontProperties()))
    letters = font.get_charmap()
    shown = []
    for name, number in zip(names, numbers, strict=True):
        short = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
        shown.append(literal(short) if all(ord(letter) in letters for letter in short) else f"class {number}")
    return shown


def use_style() -> None:
    """Make the course's style the default of this process, so that it also applies to what a notebook adds itself."""
    matplotlib.rcParams.update(STYLE)


def new(rows: int = 1, columns: int = 1, size: tuple[float, float] = (8, 3), **options: Any) -> tuple[Figure, Any]:
    """An empty figure in the course's style: (figure, axes), with axes as `plt.subplots` returns them.

    size: width and height in inches, at 100 dots per inch. options: those of `Figure.subplots`, e.g. width_ratios.
    """
    with matplotlib.rc_context(STYLE):
        figure = blank(size, layout="constrained")
        return figure, figure.subplots(rows, columns, **options)


def blank(size: tuple[float, float], layout: str | None = None) -> Figure:
    """A figure without axes. Layout "constrained" makes room for every label but takes 30 ms or more; None is fast."""
    figure = Figure(figsize=size, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def few_ticks(figure: Figure) -> None:
    """At most five ticks on every axis that places its own: each takes a millisecond, for which a slider waits."""
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            if isinstance(axis.get_major_locator(), AutoLocator):
                axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))


def say_cut_axes(figure: Figure) -> None:
    """Say it in the label where a linear axis of accuracies in percent does not begin at zero."""
    for ax in figure.axes:
        for axis, ends in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
            label = axis.label.get_text()
            if "accuracy" in label and label.endswith("(%)") and min(ends) > 0 and axis.get_scale() == "linear":
                axis.set_label_text(f"{label}; axis cut")


def png(figure: Figure) -> bytes:
    """The figure as an opaque PNG of exactly its size, only lightly compressed, because sliders wait for it."""
    data, canvas = BytesIO(), FigureCanvasAgg(figure)
    with matplotlib.rc_context(STYLE):
        canvas.draw()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").save(data, "png", compress_level=1)
    return data.getvalue()


def show(figure: Figure, alt: str) -> None:
    """Show a figure in a notebook. alt: one or two sentences with what a reader who cannot see it needs to know."""
    from IPython.display import publish_display_data

    say_cut_axes(figure)
    publish_display_data({"image/png": png(figure), "text/plain": alt}, metadata={"image/png": {"alt": alt}})


def as_array(data: Any) -> np.ndarray:
    """Numbers as float32, from lists, arrays or tensors, which may require gradients or be on a GPU."""
    if hasattr(data, "detach"):
        data = data.detach().cpu()
    return np.asarray(data, dtype=np.float32)


def name_rows(ax: Axes, names: Sequence[str], *, fontsize: float = 8, colours: Sequence[str] | None = None) -> None:
    """Write names to the left of rows 0, 1, 2 ... in place of tick labels, optionally each in its own colour.

    Plain text is faster than ticks, because matplotlib builds each tick from five objects.
    """
    ax.yaxis.set_visible(False)
    beside = ax.get_yaxis_transform()
    for row, (name, colour) in enumerate(zip(names, colours or [BLACK] * len(names), strict=True)):
        ax.text(-0.02, row, name, transform=beside, ha="right", va="center", fontsize=fontsize, color=colour)


def ring(ax: Axes, x: float, y: float, *, size: float = 11, colour: str = RED) -> None:
    """Draw a circle, `size` points wide, around a point that is chosen at the moment."""
    ax.plot(x, y, marker="o", color=colour, markersize=size, markerfacecolor="none", markeredgewidth=2)


def mosaic(pictures: Any, gap: int = 1) -> np.ndarray:
    """Tile images of one channel, (R, C, h, w), into one array with `gap` empty (NaN) pixels around each.

    Drawing one image takes a tenth of the time that R * C axes take.
    """
    tiles = as_array(pictures)
    padded = np.pad(tiles, ((0, 0), (0, 0), (0, gap), (0, gap)), constant_values=np.nan)
    rows, columns, height, width = padded.shape
    whole = padded.transpose(0, 2, 1, 3).reshape(rows * height, columns * width)
    return np.pad(whole, ((gap, 0), (gap, 0)), constant_values=np.nan)
