"""What the inputs of a convolution contribute to one of its outputs."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from madlab.figures.style import AROUND_ZERO, as_array


def contributions(ax: Axes, parts: Any, *, inputs: Sequence[str], rows: Sequence[str]) -> None:
    """Draw maps (R, N, H, W) with their sum over n at the end of each row: part + part + ... = sum.

    Orange is positive, purple negative; all maps have the same scale. inputs: a name for each of the N. rows: a name
    for each of the R.
    """
    parts = as_array(parts)
    lines, columns, height, width = parts.shape
    whole = np.concatenate([parts, parts.sum(1, keepdims=True)], 1)
    gap = max(2, width // 4)  # room for the signs between maps
    framed = np.pad(whole, ((0, 0), (0, 0), (1, 1), (0, gap)), constant_values=np.nan)
    canvas = framed.transpose(0, 2, 1, 3).reshape(lines * (height + 2), (columns + 1) * (width + gap))[:, :-gap]
    limit = float(np.abs(whole).max()) or 1.0
    colours = matplotlib.colormaps[AROUND_ZERO].with_extremes(bad="white")
    ax.imshow(canvas, cmap=colours, vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
    ax.set_axis_off()
    for line, name in enumerate(rows):
        middle = line * (height + 2) + (height + 1) / 2
        ax.text(-gap / 2, middle, name, ha="right", va="center")
        for column in range(columns):
            sign = "+" if column < columns - 1 else "="
            ax.text((column + 1) * (width + gap) - gap / 2 - 0.5, middle, sign, ha="center", va="center")
    for column, name in enumerate((*inputs, "output m")):
        ax.text(column * (width + gap) + width / 2, len(canvas), name, ha="center", va="top")
