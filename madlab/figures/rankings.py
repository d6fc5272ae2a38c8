"""A figure that ranks our results among published ones."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from madlab.figures.style import BLACK, BLUE, GREY, name_rows


def ranking(ax: Axes, names: Sequence[str], values: Sequence[float], ours: Sequence[bool], *, digits: int = 0) -> None:
    """Draw one value per row, the highest on top: published rows as grey dots, ours as blue triangles.

    names, values, ours: sequences of equal length. digits: decimals of the numbers beside the markers.
    """
    rows = sorted(zip(values, names, ours, strict=True), key=lambda row: row[0])
    ax.hlines(range(len(rows)), 0, sorted(values), color="0.9", linewidth=1, zorder=1)
    for whose, colour, marker in ((False, GREY, "o"), (True, BLUE, "^")):
        places = [place for place, (_, _, is_ours) in enumerate(rows) if is_ours == whose]
        ax.plot([rows[place][0] for place in places], places, linestyle="", marker=marker, markersize=7, color=colour)
    for place, (value, _, _) in enumerate(rows):
        ax.text(value, place, f"   {value:.{digits}f}", va="center", fontsize=8)
    name_rows(ax, [name for _, name, _ in rows], colours=[BLUE if is_ours else BLACK for _, _, is_ours in rows])
    ax.set_xlim(0, 1.1 * max(values, default=1) or 1)
    ax.set_ylim(-0.7, len(rows) - 0.3)
