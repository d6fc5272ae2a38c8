"""One look for every figure: white ground, colours that colour-blind readers tell apart, and a marker beside each.

Figures are made without pyplot, so that nothing is shown twice and nothing stays in memory.
"""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from madlab.figures.quick import QuickFigure

# The palette of Okabe and Ito, "Color Universal Design" (2008).
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PINK, GREY, BLACK = "#56B4E9", "#CC79A7", "#7F7F7F", "#000000"
PALETTE = (BLUE, ORANGE, GREEN, RED, PINK, SKY, BLACK, GREY)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

AROUND_ZERO = "PuOr_r"
"""Colour map for weights: orange is positive, purple negative, white zero."""
AROUND_ONE = "RdBu_r"
"""Colour map for modulations: red amplifies, blue weakens, white (one) leaves the filter as it is."""
BRIGHTNESS = "gray"
"""Colour map for feature maps and pictures of one channel."""

STYLE: dict[str, Any] = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.dpi": 100,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titley": 1.0,  # a given height: to look for one, matplotlib lays out every tick, a third of the drawing time
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.prop_cycle": matplotlib.cycler(color=PALETTE),
    "legend.frameon": False,
    "image.interpolation": "nearest",
    "text.hinting": "none",  # a seventh of the drawing time of a figure with many labels
}


def use_style() -> None:
    """Make the course's style the default of this process: titles that a notebook sets itself obey it, too."""
    matplotlib.rcParams.update(STYLE)


def new(rows: int = 1, columns: int = 1, size: tuple[float, float] = (8, 3), **options: Any) -> tuple[Figure, Any]:
    """An empty figure in the course's style: (figure, axes), axes as `plt.subplots` returns them.

    size: width and height in inches, at 100 dots each. options: those of `Figure.subplots`, e.g. width_ratios.
    """
    with matplotlib.rc_context(STYLE):
        figure = blank(size, layout="constrained")
        return figure, figure.subplots(rows, columns, **options)


def blank(size: tuple[float, float], layout: str | None = None) -> Figure:
    """A figure without axes. Layout "constrained" finds room for every label but takes 30 ms or more; None is quick."""
    figure = QuickFigure(figsize=size, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as a PNG of exactly its size; without transparency and lightly compressed: sliders wait for it."""
    data, canvas = BytesIO(), FigureCanvasAgg(figure)
    with matplotlib.rc_context(STYLE):
        canvas.draw()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").save(data, "png", compress_level=1)
    return data.getvalue()


def show(figure: Figure, alt: str) -> None:
    """Show a figure in a notebook. alt: what a reader who cannot see it has to know, in a sentence or two."""
    from IPython.display import publish_display_data

    publish_display_data({"image/png": png(figure), "text/plain": alt}, metadata={"image/png": {"alt": alt}})


def as_array(data: Any) -> np.ndarray:
    """Numbers as float32, from lists, arrays, or tensors that may be trained or lie on a GPU."""
    if hasattr(data, "detach"):
        data = data.detach().cpu()
    return np.asarray(data, dtype=np.float32)


def name_rows(ax: Axes, names: Sequence[str], *, fontsize: float = 8, colours: Sequence[str] | None = None) -> None:
    """Write names left of rows 0, 1, 2 ... of the axes, in place of tick labels: a slider's picture cannot wait for
    ticks, each of which is five objects to build and lay out."""
    ax.yaxis.set_visible(False)
    beside = ax.get_yaxis_transform()
    for row, (name, colour) in enumerate(zip(names, colours or [BLACK] * len(names), strict=True)):
        ax.text(-0.02, row, name, transform=beside, ha="right", va="center", fontsize=fontsize, color=colour)


def mosaic(pictures: Any, gap: int = 1) -> np.ndarray:
    """Tile pictures of one channel, (R, C, h, w), into one array with `gap` empty (NaN) pixels around each.

    One picture draws in a tenth of the time that R * C axes need.
    """
    tiles = as_array(pictures)
    padded = np.pad(tiles, ((0, 0), (0, 0), (0, gap), (0, gap)), constant_values=np.nan)
    rows, columns, height, width = padded.shape
    whole = padded.transpose(0, 2, 1, 3).reshape(rows * height, columns * width)
    return np.pad(whole, ((gap, 0), (gap, 0)), constant_values=np.nan)
