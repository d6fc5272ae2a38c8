"""The layer picker: which convolutions of a DenseNet are adapted -> budget and accuracy; used in notebook 09."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

import madlab
from madlab import figures
from madlab.adapters.base import join_method
from madlab.anatomy import LAYERS
from madlab.backbones import pocket_densenet
from madlab.counting import ConvShape, conv_shapes, mad_parameters
from madlab.records import read_records
from madlab.runfolder import Result
from madlab.widgets.panel import Panel, choice, slider, switch

DOMAINS = 6
"""ImageNet-to-Sketch's: the base network's own and five others."""
HIGHEST = 64


def recorded_layers(folder: Path | str) -> dict[str, list[tuple[str, Result]]]:
    """Recorded runs by domain, each with the layers that it adapted, from FOLDER/all, FOLDER/3x3 and FOLDER/1x1."""
    found: dict[str, list[tuple[str, Result]]] = {}
    for layers in LAYERS:
        for record in read_records(Path(folder) / layers):
            found.setdefault(record.result.domain, []).append((layers, record.result))
    return found


def points_of(runs: Sequence[tuple[str, Result]]) -> dict[tuple[str, str], tuple[float, list[float]]]:
    """(layers, method) -> (adapter in % of the filters, test accuracies in %, one a seed), in the order of the runs."""
    points: dict[tuple[str, str], tuple[float, list[float]]] = {}
    for layers, result in runs:
        share = 100 * result.adapter_parameters / result.base_parameters
        key = (layers, join_method(result.method, result.rank))
        points.setdefault(key, (share, []))[1].append(result.test_accuracy)
    return points


def layer_choices(shapes: Sequence[ConvShape]) -> dict[str, list[ConvShape]]:
    """What may be adapted: all convolutions, those of one kernel size, or one dense block with its two kinds."""
    kinds = {"all": list(shapes)}
    kinds |= {f"{k}x{k}": [shape for shape in shapes if shape.kernel == k] for k in (3, 1)}
    blocks = dict.fromkeys(part for shape in shapes for part in shape.name.split(".") if part.startswith("denseblock"))
    for block in blocks:
        kinds[block.replace("denseblock", "dense block ")] = [shape for shape in shapes if f".{block}." in shape.name]
    return kinds


def layer_picker(results: Mapping[str, Sequence[tuple[str, Result]]]) -> Panel:
    """Network, adapted layers and rank -> the adapter by depth, six domains' budget, and accuracies of real runs.

    results: name -> (layers, result of a run on pocket-densenet), as `recorded_layers` gives them. The accuracies are
    always pocket-densenet's; of the network chosen is the budget. State: `adapter` (numbers of one domain), `share` (of
    the filters), `total` (base and five adapters, in networks), `break_even` (rank from which factorising costs more)
    and `accuracy` (mean over seeds of the same choice, None where no run has it).
    """
    with torch.device("meta"):
        networks = {"DenseNet-121": madlab.densenet121(), "pocket-densenet": pocket_densenet()}
    shapes = {name: conv_shapes(network) for name, network in networks.items()}
    choices = {name: layer_choices(convs) for name, convs in shapes.items()}
    points = {name: points_of(runs) for name, runs in results.items()}

    def draw(figure: Figure, network: str, layers: str, factorise: bool, rank: int, domain: str) -> dict[str, Any]:
        adapted = choices[network][layers]
        names = {shape.name for shape in adapted}
        sizes = [shape.factors(rank) if factorise else shape.slices for shape in shapes[network]]
        sizes = [size if s.name in names else 0 for size, s in zip(sizes, shapes[network], strict=True)]
        filters, adapter = sum(shape.weights for shape in shapes[network]), sum(sizes)
        total, full = filters + (DOMAINS - 1) * adapter, mad_parameters(adapted)
        left, right = figure.add_axes((0.08, 0.14, 0.48, 0.77)), figure.add_axes((0.73, 0.14, 0.25, 0.77))
        figures.adapted_by_depth(left, [s.kernel for s in shapes[network]], [s.weights for s in shapes[network]], sizes)
        left.set_title(f"six domains: {total / filters:.2f} networks instead of 6")
        method, break_even = f"mad:{rank}" if factorise else "mad", full / mad_parameters(adapted, 1)
        found = points[domain].get((layers, method))
        figures.accuracy_by_layers(right, points[domain], (layers, method), xlabel="test accuracy, pocket-densenet (%)")
        right.set_title(domain)
        accuracy = sum(found[1]) / len(found[1]) if found else None
        note = f"<b>{figures.label_of(layers, method)}</b> on {network}: {len(adapted)} convolutions, "
        note += f"{adapter:,} numbers, {adapter / filters:.1%} of the filters"
        if factorise:
            change = adapter / full - 1
            note += f", {abs(change):.1%} {'<b>more</b>' if change > 0 else 'less'} than full α"
            if rank > max(min(s.out_channels, s.in_channels) for s in adapted):
                note += "; <b>above min(M, N) of every adapted layer: madlab would refuse it</b>"
        note += f". Factorising pays here below I = {break_even:.1f}. "
        seeds = f"{len(found[1])} run{'s' if len(found[1]) > 1 else ''}" if found else ""
        note += f"Accuracy: {accuracy:.1f} % ({seeds})." if found else "No run was made with this choice."
        state = {"note": note, "adapter": adapter, "share": adapter / filters, "total": total / filters}
        return state | {"break_even": break_even, "accuracy": accuracy}

    def before(panel: Panel, moved: str) -> None:
        if moved == "rank":
            panel.factorise.value = True
        if moved == "network":  # its own dense blocks; the choice stays where both networks have it
            chosen, offered = panel.layers.value, list(choices[panel.network.value])
            panel.layers.options = offered
            panel.layers.value = chosen if chosen in offered else "all"

    controls = {
        "network": choice("network", list(networks)),
        "layers": choice("adapted", list(choices["DenseNet-121"])),
        "factorise": switch("factorise"),
        "rank": slider("rank I", 1, HIGHEST, 8),
        "domain": choice("accuracy on", list(points)),
    }
    return Panel(draw, controls, size=(9.5, 4.2), before=before)
