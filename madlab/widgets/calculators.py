"""Panels that the site computes in the page: what adapters cost (notebook 03), and the score of ten errors (01)."""

from typing import Any

import torch
from matplotlib.figure import Figure

import madlab
from madlab import figures
from madlab.analysis.counting import batchnorm_parameters, break_even, conv_shapes, mad_parameters, rank_limit
from madlab.benchmarks.score import DECATHLON_BASELINE, domain_scores, published_rows
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
        plural = "" if domains == 1 else "s"
        bars = {"one network": filters, "base + adapters": total, f"{domains} network{plural}": domains * filters}
        figures.parameter_bars(left, bars, unit=filters)
        left.set_title(f"{network}, {domains} domain{plural}: {total / filters:.2f} networks' worth")
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


OWN = "your own"
START = "Finetune (10 nets)"


def score_board() -> Panel:
    """Set the errors of ten domains, from a published row or one by one, and see the score that they make.

    Its controls are `start` and one slider per domain, named with underscores (`vgg_flowers`). The panel's `state` has
    score, mean (accuracy in percent), shares (domain -> points) and next_point (domain -> points of the score for one
    more point of accuracy).
    """
    rows = {row["method"]: row["accuracies"] for row in published_rows("decathlon")}
    rows = {method: row for method, row in rows.items() if row.keys() == DECATHLON_BASELINE.keys()}
    domains = {name.replace("-", "_"): name for name in DECATHLON_BASELINE}

    def draw(figure: Figure, start: str, **errors: float) -> dict[str, Any]:
        accuracies = {name: 100 - errors[control] for control, name in domains.items()}
        shares = domain_scores(accuracies)
        better = domain_scores({name: min(100, accuracy + 1) for name, accuracy in accuracies.items()})
        next_point = {name: better[name] - shares[name] for name in shares}
        score, mean = sum(shares.values()), sum(accuracies.values()) / len(accuracies)
        ax = figure.add_axes((0.16, 0.14, 0.8, 0.76))
        figures.domain_shares(ax, shares)
        ax.set_title(f"S = {score:,.0f} of 10,000, mean accuracy {mean:.2f} % ({start})")
        dearest = max(next_point, key=next_point.__getitem__)
        most = max(shares, key=shares.__getitem__)
        if shares[most] - min(shares.values()) < 0.5:  # points, a difference that no reader can see
            note = f"All domains earn the same, {shares[most]:.0f} points. "
        else:
            note = f"Largest share: <b>{most}</b>, {shares[most]:.0f} points, {shares[most] / score:.0%} of S. "
        if next_point[dearest] < 0.5:
            note += "One more point of accuracy is worth nothing anywhere."
        else:
            note += f"One more point of accuracy is worth most in <b>{dearest}</b>: +{next_point[dearest]:.0f}."
        return {"note": note, "score": score, "mean": mean, "shares": shares, "next_point": next_point}

    def before(panel: Panel, moved: str) -> None:
        if moved != "start":
            panel.start.value = OWN
        elif panel.start.value != OWN:
            for control, name in domains.items():
                panel.controls[control].value = 100 - rows[panel.start.value][name]

    controls = {"start": choice("start from", [*rows, OWN], START)}
    for control, name in domains.items():
        error = round(100 - DECATHLON_BASELINE[name], 2)
        controls[control] = slider(f"{name} error (%)", 0.0, 100.0, error, 0.1, continuous=True)
    numbers = {"baseline": DECATHLON_BASELINE, "rows": rows, "own": OWN}
    return Panel(draw, controls, size=(9, 3.8), before=before, arithmetic=("score", numbers))
