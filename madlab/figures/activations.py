"""What goes on inside a layer: what reaches a BatchNorm, and what each input adds to an output of a convolution."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from madlab.figures.style import AROUND_ZERO, MARKERS, PALETTE, as_array

REFERENCE = "0.8"


def activations(ax: Axes, densities: Mapping[str, Any], edges: Any) -> None:
    """Draw histograms of standardised activations: name -> density (B,), between edges (B + 1,).

    The first is the reference, a grey area; the others are lines. An activation of zero is the mean that the layer
    expects, one is a standard deviation above it.
    """
    edges = as_array(edges)
    for place, (name, density) in enumerate(densities.items()):
        if place == 0:
            ax.stairs(as_array(density), edges, fill=True, color=REFERENCE, label=name)
        else:
            ax.stairs(as_array(density), edges, color=PALETTE[place - 1], linewidth=1.8, label=name)
    ax.set(xlabel="(activation − expected mean) / expected deviation", ylabel="density", xlim=(edges[0], edges[-1]))
    ax.set_yticks([])
    ax.legend(fontsize=9, loc="upper right")


def misfit_by_layer(ax: Axes, misfits: Mapping[str, Any], layer: int | None = None) -> None:
    """Draw the misfit of each layer, one line per name: name -> (L,), in deviations. layer: one to mark, from 1 on."""
    for place, (name, values) in enumerate(misfits.items()):
        colour = REFERENCE if place == 0 else PALETTE[place - 1]
        values = as_array(values)
        ax.plot(range(1, len(values) + 1), values, color=colour, marker=MARKERS[place], markersize=3.5, label=name)
    if layer is not None:
        ax.axvline(layer, color="0.4", linewidth=1, linestyle=":")
    ax.set(xlabel="BatchNorm layer, from the images to the head", ylabel="shift of a channel (deviations)")
    ax.set_ylim(bottom=0)


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
