"""What reaches a BatchNorm layer, measured by what it expects."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes

from madlab.figures.style import MARKERS, PALETTE, as_array

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
