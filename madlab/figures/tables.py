"""Pictures of tables of numbers: who explains whom, who resembles whom."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from madlab.figures.style import as_array


def number_map(
    ax: Axes,
    values: Any,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    form: str = "{:.0f}",
    low: float = 0.0,
    high: float = 1.0,
    cmap: str = "Blues",
) -> AxesImage:
    """Draw a table (R, C) as coloured cells with their numbers in them.

    form: how a number is written. low, high: the numbers that get the ends of the colour map.
    """
    values = as_array(values)
    picture = ax.imshow(values, cmap=cmap, vmin=low, vmax=high, aspect="auto")
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            red, green, blue, _ = picture.cmap(picture.norm(value))
            colour = "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.5 else "white"
            ax.text(column, row, form.format(value), ha="center", va="center", fontsize=9, color=colour)
    ax.set_xticks(range(len(columns)), list(columns))
    ax.set_yticks(range(len(rows)), list(rows))
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return picture
