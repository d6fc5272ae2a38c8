"""A ranking of our results among published ones."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from madlab.figures.style import BLACK, BLUE, GREY, name_rows


def ranking(ax: Axes, names: Sequence[str], values: Sequence[float], ours: Sequence[bool], *, digits: int = 0) -> None:
    """Draw one value per row, the highest on top: published rows as grey dots, ours as blue triangles.

    names, values, ours: sequences of equal length. digits: decimals of the numbers beside the markers.
    """
    order = sorted(range(len(values)), key=lambda i: values[i])
    sorted_values = [values[i] for i in order]
    ax.hlines(range(len(order)), 0, sorted_values, color="0.9", linewidth=1, zorder=1)
    for whose, colour, marker in ((False, GREY, "o"), (True, BLUE, "^")):
        places = [place for place, i in enumerate(order) if ours[i] == whose]
        at = [sorted_values[place] for place in places]
        ax.plot(at, places, linestyle="", marker=marker, markersize=7, color=colour)
    for place, value in enumerate(sorted_values):
        ax.text(value, place, f"   {value:.{digits}f}", va="center", fontsize=8)
    name_rows(ax, [names[i] for i in order], colours=[BLUE if ours[i] else BLACK for i in order])
    ax.set_xlim(0, 1.1 * max(values, default=1) or 1)
    ax.set_ylim(-0.7, len(order) - 0.3)
