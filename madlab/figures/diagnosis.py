"""Figures of training runs that went wrong: one run among its neighbours, and a grid of outcomes."""

from collections.abc import Collection, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from madlab.figures.style import BLUE, RED, name_rows


def curve_among(ax: Axes, chosen: Sequence[float], others: Sequence[Sequence[float]], *, ylabel: str) -> None:
    """Draw one curve, a value per epoch, in colour over the grey curves of other runs.

    The axis fits the chosen curve and most of the others, so that a run that diverged does not flatten the rest.
    """
    lines = [list(enumerate(values, 1)) for values in others if values]
    ax.add_collection(LineCollection(lines, colors="0.8", linewidths=1))  # twenty separate lines would take 30 ms
    ax.plot(range(1, len(chosen) + 1), chosen, color=BLUE, linewidth=2.5, marker="o")
    longest = max(map(len, [chosen, *others]))
    highest = [max(values) for values in [chosen, *others] if values]
    if highest and np.isfinite(highest).all():
        lowest = min(min(values) for values in [chosen, *others] if values)
        top = max(1.2 * float(np.median(highest)), max(chosen, default=0.0))
        ax.set_ylim(lowest - 0.05 * (top - lowest), top + 0.05 * (top - lowest))
    ax.set_xticks(range(1, longest + 1))
    ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.set(xlabel="epoch", ylabel=ylabel, xlim=(0.7, longest + 0.3))


def outcome_grid(
    ax: Axes,
    values: Sequence[Sequence[float | None]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    xlabel: str,
    chosen: tuple[int, int] | None = None,
    top: float = 100.0,
    missing: Collection[tuple[int, int]] = (),
) -> None:
    """Draw a table of percentages, the higher the darker; None means that the loss became NaN.

    chosen: (row, column), a cell to frame. top: the percentage with the darkest colour. missing: cells without a run,
    which are left empty.
    """
    table = np.array(values, dtype=float)  # None becomes NaN
    ax.imshow(table, cmap="Blues", vmin=0, vmax=1.25 * top, aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        if (row, column) in missing:
            continue
        text = "NaN" if np.isnan(value) else f"{value:.0f}"
        colour = "white" if value >= 0.8 * top else "black"
        ax.text(column, row, text, ha="center", va="center", fontsize=9, color=colour)
    if chosen is not None:
        corner = (chosen[1] - 0.5, chosen[0] - 0.5)
        ax.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=RED, linewidth=3, clip_on=False))
    ax.set_xticks(range(len(columns)), columns)
    name_rows(ax, rows, fontsize=10)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set(xlabel=xlabel)
