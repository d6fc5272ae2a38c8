"""The method picker: one filter bank as each method leaves it after training; used in notebook 06."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from madlab import figures
from madlab.figures.runs import name_points
from madlab.figures.style import BLACK, ring
from madlab.widgets.panel import Panel, choice, slider

OUTPUTS, INPUTS = 16, 8


def method_picker(
    base: Mapping[str, Tensor],
    trained: Mapping[str, Mapping[str, Tensor]],
    sizes: Mapping[str, float],
    accuracies: Mapping[str, float],
) -> Panel:
    """Choose a method and a layer, and see the base's filters, the domain's, and what changed.

    base: layer -> W (M, N, k, k). trained: method -> layer -> W_d. sizes: method -> adapter parameters of the network,
    where a bit of a mask counts as 1/32. accuracies: method -> percent. 16 filters (rows) and 8 of their inputs
    (columns) are shown. The panel's `state` has method, filters (the part of W_d that is shown), change (|W_d - W| /
    |W| of the layer in percent), zeros (share of the layer's weights that are exactly zero), parameters and accuracy.
    """
    most = max(len(weight) for weight in base.values())
    points = {method: (size, accuracies[method]) for method, size in sizes.items()}
    places: list[Callable[[Axes], Any]] = []

    def write_names(ax: Axes) -> None:
        """Names beside the markers. Free places take long to find, and are the same in every picture."""
        if places:
            for place in places:
                place(ax)
            return
        name_points(ax, points, size=8)
        for text in ax.texts:
            look = {"ha": text.get_ha(), "va": text.get_va(), "color": text.get_color(), "fontsize": 8, "zorder": 1}
            where = {"xy": text.xy, "xytext": text.get_position(), "textcoords": "offset points"}
            places.append(partial(Axes.annotate, text=text.get_text(), **where, **look))

    def draw(figure: Figure, method: str, layer: str, first: int) -> dict[str, Any]:
        weight, adapted = base[layer].detach(), trained[method][layer].detach()
        start = min(first, max(0, len(weight) - OUTPUTS))
        part = (slice(start, start + OUTPUTS), slice(0, INPUTS))
        scale = float(weight[part].abs().max())
        difference = (adapted - weight)[part]
        largest = float(difference.abs().max())

        last = start + len(difference) - 1
        enlarged = f"difference, {scale / largest:.0f} ×" if largest else "no difference"
        banks = {
            "the base's W": (weight[part], scale),
            method: (adapted[part], scale),
            enlarged: (difference, largest or 1.0),
        }
        for place, (title, (filters, limit)) in zip(_PLACES, banks.items(), strict=True):
            ax = figure.add_axes(place)
            figures.filter_bank(ax, filters, scale=limit, inputs=[""] * filters.shape[1], outputs=False)
            ax.set_title(title)
            ax.text(0.5, -0.03, f"inputs 0 to {filters.shape[1] - 1}", transform=ax.transAxes, ha="center", va="top")
        words = f"{layer}, outputs {start} to {last}"
        figure.text(0.012, 0.5, words, rotation=90, ha="center", va="center")

        right = figure.add_axes((0.70, 0.14, 0.28, 0.77))
        for name, point in points.items():
            right.plot(*point, linestyle="", markersize=7, **figures.look(name))
        ring(right, *points[method], size=15, colour=BLACK)
        right.set_xscale("symlog", linthresh=1000, linscale=0.4)
        right.minorticks_off()
        right.set_xticks([0, 1e4, 1e6], ["0", "10,000", "1,000,000"])
        right.set(xlabel="adapter parameters", ylabel="test accuracy (%)")
        right.set_title(f"{method}: {accuracies[method]:.1f} %")
        right.margins(x=0.22, y=0.1)
        write_names(right)

        change = 100 * float((adapted - weight).norm() / weight.norm())
        zeros = float((adapted == 0).float().mean())
        note = (
            f"<b>{method}</b>: {sizes[method]:,.0f} parameters ({sizes[method] / 256:,.0f} KiB) over all "
            f"layers. This layer changed by {change:.1f} % of its norm"
            + (f"; {100 * zeros:.1f} % of its weights are zero." if zeros else ".")
        )
        state = {"method": method, "filters": adapted[part], "change": change, "zeros": zeros, "note": note}
        return state | {"parameters": sizes[method], "accuracy": accuracies[method]}

    def before(panel: Panel, moved: str) -> None:
        if moved == "layer":
            panel.first.max = max(0, len(base[panel.layer.value]) - OUTPUTS)
            panel.first.disabled = panel.first.max == 0  # all filters are shown

    last = max(0, most - OUTPUTS)
    controls = {
        "method": choice("method", list(trained)),
        "layer": choice("layer", list(base)),
        "first": slider("first filter", 0, last, 0, continuous=True),
    }
    states = {
        "layer": list(base)[:: max(1, len(base) // 4)],
        "first": tuple(dict.fromkeys((0, min(OUTPUTS, last), last))),
    }
    panel = Panel(draw, controls, size=(9.5, 4.6), before=before, states=states)
    before(panel, "layer")
    return panel


_PLACES = ((0.03, 0.08, 0.17, 0.83), (0.235, 0.08, 0.17, 0.83), (0.44, 0.08, 0.17, 0.83))
