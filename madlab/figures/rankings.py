"""Pictures that set our numbers beside published ones: every row in its place, ours in colour."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from madlab.figures.style import BLUE, GREY


def ranking(ax: Axes, names: Sequence[str], values: Sequence[float], ours: Sequence[bool], *, digits: int = 0) -> None:
    """Draw one value a row, the highest on top: published rows as grey dots, ours as blue triangles.

    names, values, ours: of equal length. digits: of the numbers beside the markers.
    """
    order = sorted(range(len(values)), key=lambda i: values[i])
    for place, i in enumerate(order):
        colour, marker = (BLUE, "^") if ours[i] else (GREY, "o")
        ax.plot([0, values[i]], [place, place], color="0.9", linewidth=1, zorder=1)
        ax.plot(values[i], place, linestyle="", marker=marker, markersize=7, color=colour)
        ax.annotate(
            f"{values[i]:.{digits}f}", (values[i], place), (7, 0), textcoords="offset points", va="center", fontsize=8
        )
    ax.set_yticks(range(len(order)), [names[i] for i in order], fontsize=8)
    for label, i in zip(ax.get_yticklabels(), order, strict=True):
        label.set_color(BLUE if ours[i] else "black")
    ax.tick_params(axis="y", length=0)
    ax.set_xlim(0, 1.1 * max(values, default=1) or 1)
    ax.set_ylim(-0.7, len(order) - 0.3)
