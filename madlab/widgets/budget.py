"""Notebook 03's interactive figure: what one frozen network with adapters costs, against one network per domain."""

from typing import Any

import torch
from matplotlib.figure import Figure

import madlab
from madlab import figures
from madlab.analysis.counting import batchnorm_parameters, break_even, conv_shapes, mad_parameters, rank_limit
from madlab.widgets.panel import Panel, choice, slider, switch

HIGHEST = 128
LAYERS = {"all": "all", "only 3 × 3": 3, "only 1 × 1": 1}


def budget_calculator() -> Panel:
    """Choose network, layers, rank and number of domains, and see the parameters beside those of separate networks.

    As in the literature, the first domain is the base network's own: D domains take the base and D - 1 adapters.
    Filters and adapters are counted; BatchNorm and heads are mentioned in the note. The panel's `state` has adapter
    (parameters of one domain), total (base and adapters), ratio (total / one network), networks (one per domain) and
    saving (of the rank, as a share of full MAD; None for the full form).
    """
    with torch.device("meta"):
        networks = {
            "ResNet-26": madlab.resnet26(),
            "DenseNet-121": madlab.densenet121(),
            "ResNet-50": madlab.resnet50(),
        }
    shapes = {name: conv_shapes(network) for name, network in networks.items()}
    norms = {name: batchnorm_parameters(network) for name, network in networks.items()}

    def draw(
        figure: Figure, network: str, layers: str | int, factorise: bool, rank: int, domains: int
    ) -> dict[str, Any]:
        adapted = [shape for shape in shapes[network] if layers in ("all", shape.kernel)]
        filters = sum(shape.weights for shape in shapes[network])
        full, per_rank = mad_parameters(adapted), mad_parameters(adapted, 1)
        adapter = rank * per_rank if factorise else full
        total = filters + (domains - 1) * adapter

        left, right = figure.add_axes((0.17, 0.17, 0.43, 0.68)), figure.add_axes((0.69, 0.17, 0.29, 0.68))
        bars = {"one network": filters, "base + adapters": total, f"{domains} networks": domains * filters}
        figures.parameter_bars(left, bars, unit=filters)
        left.set_title(f"{network}, {domains} domains: {total / filters:.2f} networks' worth")
        if adapted:
            figures.cost_by_rank(right, per_rank, full, rank if factorise else None, HIGHEST)
            right.set_title(f"pays below I = {break_even(adapted):.1f}")
        else:
            right.set_axis_off()
            right.set_title("nothing to adapt")

        saving = 1 - adapter / full if factorise and full else None
        note = f"One adapter: <b>{adapter:,}</b> parameters, {adapter / filters:.1%} of the filters"
        if saving is not None:
            note += f", {abs(saving):.2%} {'less' if saving >= 0 else '<b>more</b>'} than full MAD"
        note += f". Each domain also owns {norms[network]:,} parameters of BatchNorm, and its head."
        if factorise and adapted and rank > rank_limit(adapted):
            note += " <b>This rank is above min(M, N) of every adapted layer: madlab would refuse it.</b>"
        state = {"note": note, "adapter": adapter, "total": total, "ratio": total / filters, "saving": saving}
        return state | {"networks": domains * filters}

    def before(panel: Panel, moved: str) -> None:
        if moved == "rank":
            panel.factorise.value = True

    controls = {
        "network": choice("network", list(networks)),
        "layers": choice("adapted layers", list(LAYERS.items())),
        "domains": slider("domains", 1, 50, 10, continuous=True),
        "factorise": switch("factorise α = β γ"),
        "rank": slider("rank I", 1, HIGHEST, 36, continuous=True),
    }
    numbers = {
        "shapes": {name: [[s.out_channels, s.in_channels, s.kernel] for s in own] for name, own in shapes.items()},
        "norms": norms,
        "layers": LAYERS,
        "highest": HIGHEST,
    }
    return Panel(draw, controls, size=(9.5, 3), before=before, arithmetic=("budget", numbers))
