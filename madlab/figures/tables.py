"""Tables of numbers as heat maps."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from madlab.figures.style import as_array


def number_map(
    ax: Axes,
    values: Any,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    form: str = ".0f",
    low: float = 0.0,
    high: float = 1.0,
    cmap: str = "Blues",
) -> None:
    """Draw a table (R, C) as coloured cells with their numbers in them.

    form: format of a number, as in f-strings. low, high: the values at the two ends of the colour map.
    """
    import seaborn  # imported here, because it takes half a second

    cells = {"annot": True, "annot_kws": {"fontsize": 9}, "fmt": form, "cbar": False}
    names = {"xticklabels": list(columns), "yticklabels": list(rows)}
    seaborn.heatmap(as_array(values), ax=ax, vmin=low, vmax=high, cmap=cmap, **cells, **names)
    ax.tick_params(length=0, rotation=0)
