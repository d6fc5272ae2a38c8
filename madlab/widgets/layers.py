"""The layer picker: what it costs and what it brings to adapt only some layers of a DenseNet; used in notebook 10."""

from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.figure import Figure

import madlab
from madlab import figures
from madlab.analysis.counting import break_even, conv_shapes, layer_choices, mad_parameters, rank_limit
from madlab.backbones import pocket_densenet
from madlab.tables.frame import LayerPoints
from madlab.widgets.panel import Panel, choice, offer, slider, switch

DOMAINS = 6
"""Those of ImageNet-to-Sketch: the base network's own and five others."""
HIGHEST = 64


def layer_picker(points: Mapping[str, LayerPoints]) -> Panel:
    """Choose network, adapted layers and rank, and see the adapter by depth, the budget, and accuracies of real runs.

    points: domain -> what `layer_points` gives for runs with pocket-densenet. The accuracies are always those of
    pocket-densenet; the budget is that of the chosen network. The panel's `state` has adapter (parameters of one
    domain), share (of the filters), total (base and five adapters, in networks), break_even (the rank from which
    factorising costs more) and accuracy (mean over seeds of this choice; None where there is no such run).
    """
    with torch.device("meta"):
        networks = {"DenseNet-121": madlab.densenet121(), "pocket-densenet": pocket_densenet()}
    shapes = {name: conv_shapes(network) for name, network in networks.items()}
    choices = {name: layer_choices(convs) for name, convs in shapes.items()}

    def draw(figure: Figure, network: str, layers: str, factorise: bool, rank: int, domain: str) -> dict[str, Any]:
        convs, adapted = shapes[network], choices[network][layers]
        sizes = [conv.mad_parameters(rank if factorise else None) if conv in adapted else 0 for conv in convs]
        weights = [conv.weights for conv in convs]
        filters, adapter = sum(weights), sum(sizes)
        total = filters + (DOMAINS - 1) * adapter
        method = f"mad:{rank}" if factorise else "mad"

        left, right = figure.add_axes((0.08, 0.14, 0.48, 0.77)), figure.add_axes((0.73, 0.14, 0.25, 0.77))
        figures.adapted_by_depth(left, [conv.kernel for conv in convs], weights, sizes)
        left.set_title(f"six domains: {total / filters:.2f} networks instead of 6")
        figures.accuracy_by_layers(right, points[domain], (layers, method), xlabel="test accuracy, pocket-densenet (%)")
        right.set_title(domain)

        note = f"<b>{figures.label_of(layers, method)}</b> on {network}: {len(adapted)} convolutions, "
        note += f"{adapter:,} parameters, {adapter / filters:.1%} of the filters"
        if factorise:
            change = adapter / mad_parameters(adapted) - 1
            note += f", {abs(change):.1%} {'<b>more</b>' if change > 0 else 'less'} than full α"
            if rank > rank_limit(adapted):
                note += "; <b>above min(M, N) of every adapted layer: madlab would refuse it</b>"
        note += f". Factorising pays here below I = {break_even(adapted):.1f}. "
        accuracy = None
        if (layers, method) in points[domain]:
            _, values = points[domain][layers, method]
            accuracy = sum(values) / len(values)
            note += f"Accuracy: {accuracy:.1f} % ({len(values)} run{'s' if len(values) > 1 else ''})."
        else:
            note += "No run was made with this choice."
        state = {"note": note, "adapter": adapter, "share": adapter / filters, "total": total / filters}
        return state | {"break_even": break_even(adapted), "accuracy": accuracy}

    def before(panel: Panel, moved: str) -> None:
        if moved == "rank":
            panel.factorise.value = True
        if moved == "network":  # which has its own dense blocks; a choice that both networks have is kept
            offer(panel.layers, list(choices[panel.network.value]), "all")

    controls = {
        "network": choice("network", list(networks)),
        "layers": choice("adapted", list(choices["DenseNet-121"])),
        "factorise": switch("factorise"),
        "rank": slider("rank I", 1, HIGHEST, 8, continuous=True),
        "domain": choice("accuracy on", list(points)),
    }
    return Panel(draw, controls, size=(9.5, 4.2), before=before, states={"rank": (2, 5, 8, 32)})
