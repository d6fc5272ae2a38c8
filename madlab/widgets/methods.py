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

OUTPUTS, INPUTS = 24, 6


def method_picker(
    base: Mapping[str, Tensor],
    trained: Mapping[str, Mapping[str, Tensor]],
    sizes: Mapping[str, float],
    accuracies: Mapping[str, float],
) -> Panel:
    """Choose a method and a layer, and see the base's filters, the domain's, and what changed.

    base: layer -> W (M, N, k, k). trained: method -> layer -> W_d. sizes: method -> adapter parameters of the network,
    where a bit of a mask counts as 1/32. accuracies: method -> percent. 24 filters and 6 of their inputs are shown. The
    panel's `state` has method, filters (the part of W_d that is shown), change (|W_d - W| / |W| of the layer in
    percent), zeros (share of the layer's weights that are exactly zero), parameters and accuracy.
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

        rows = {
            f"{layer}, filters {start} to {start + len(difference) - 1}: the base's W": (weight[part], scale),
            f"the domain's, trained with {method}": (adapted[part], scale),
            "the difference" + (f", {scale / largest:.0f} times enlarged" if largest else ": none"): (
                difference,
                largest or 1.0,
            ),
        }
        for place, (title, (filters, limit)) in enumerate(rows.items()):
            ax = figure.add_axes((0.01, 0.70 - 0.335 * place, 0.64, 0.245))
            lying = filters.transpose(0, 1)  # a column per filter, because the figure is wide
            figures.filter_bank(ax, lying, scale=limit, inputs=[""] * len(filters), outputs=False)
            ax.set_title(title, fontsize=10)

        right = figure.add_axes((0.725, 0.14, 0.255, 0.77))
        for name, point in points.items():
            right.plot(*point, linestyle="", markersize=7, **figures.look(name))
        ring(right, *points[method], size=15, colour=BLACK)
        right.set_xscale("symlog", linthresh=1000, linscale=0.4)
        right.minorticks_off()
        right.set_xticks([0, 1e4, 1e6], ["0", "10,000", "1,000,000"])
        right.set(xlabel="adapter parameters", ylabel="test accuracy (%)")
        right.set_title(f"{method}: {accuracies[method]:.1f} %")
        right.margins(0.1)
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

    controls = {
        "method": choice("method", list(trained)),
        "layer": choice("layer", list(base)),
        "first": slider("first filter", 0, most - OUTPUTS, 0),
    }
    states = {"layer": list(base)[:: max(1, len(base) // 4)], "first": (0, OUTPUTS, most - OUTPUTS)}
    panel = Panel(draw, controls, size=(9.5, 4.6), before=before, states=states)
    before(panel, "layer")
    return panel
