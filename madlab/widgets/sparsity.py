"""How much of a trained modulation a domain needs, and what makes it sparse: a slider and a record; for notebook 08."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from madlab import figures
from madlab.analysis import modulations
from madlab.statistics import t_interval
from madlab.tables.frame import by_domain
from madlab.widgets.panel import Panel, choice, slider, switch

STEPS = 40
VALUES = (("back to 1: the base's slice", 1.0), ("to 0: no slice at all", 0.0))


def sparsity_slider(
    alphas: Mapping[str, Mapping[str, Tensor]],
    measure: Callable[[str, float, float, bool, bool], float],
    *,
    levels: Mapping[str, Mapping[str, float]],
    highest: float = 1.0,
    threshold: float = 0.1,
) -> Panel:
    """Reset small changes of alpha, and see how much is kept in each layer, the map, and the accuracy that is left.

    alphas: domain -> layer -> alpha (M, N). measure(domain, threshold, value, fresh, shuffled): held-out accuracy in
    percent with every entry of alpha that is nearer to value than threshold set to value, with BatchNorm's statistics
    as they were or measured anew, and with the entries of each layer in their places or shuffled; it is called once for
    each choice. levels: domain -> name -> accuracy, e.g. of the whole alpha, drawn as lines. highest: the largest
    threshold. threshold: the one that is chosen at first. The panel's `state` has threshold, kept (share over all
    layers), by_layer (a list), accuracy, bits (to store what is kept) and alpha, the map shown.
    """
    measured: dict[tuple[str, float, bool, bool], dict[float, tuple[float, float]]] = {}

    def draw(
        figure: Figure, domain: str, threshold: float, value: float, layer: str, fresh: bool, shuffled: bool
    ) -> dict[str, Any]:
        threshold, layers = round(threshold, 4), alphas[domain]
        known = measured.setdefault((domain, value, fresh, shuffled), {})
        if threshold not in known:
            kept = modulations.kept_share(layers, threshold, value)
            known[threshold] = kept, measure(domain, threshold, value, fresh, shuffled)
        kept, accuracy = known[threshold]
        own = modulations.shuffled(layers[layer], torch.Generator().manual_seed(0)) if shuffled else layers[layer]
        shown = modulations.reset(own, threshold, value)
        by_layer = [modulations.kept_share({layer: alpha}, threshold, value) for layer, alpha in layers.items()]

        left, middle, right = (figure.add_axes(place) for place in _PLACES)
        figures.alpha_map(left, shown, span=max(0.1, float(2 * layers[layer].std())))
        place = list(layers).index(layer)
        left.set_title(f"layer {place + 1}: {100 * by_layer[place]:.1f} % kept")
        figures.kept_by_layer(middle, by_layer, place)
        middle.set_title(f"all layers: {100 * kept:.1f} %")
        both = {name: measured.get((domain, value, fresh, other), {}) for name, other in _PLACED.items()}
        figures.accuracy_by_kept(right, both, levels=levels[domain], marked=(kept, accuracy))
        right.set_title(f"{domain}: {accuracy:.1f} %")

        slices = sum(alpha.numel() for alpha in layers.values())
        stored = modulations.kept_count(layers, threshold, value)
        bits = slices + 32 * stored
        note = (
            f"|α − {value:g}| &lt; {threshold:g}: set to {value:g}. <b>{stored:,}</b> of {slices:,} entries are kept. "
            f"With one bit per slice that says which, the file takes {bits / 8192:,.0f} KiB instead of "
            f"{slices / 256:,.0f}. Held-out accuracy <b>{accuracy:.1f} %</b>."
        )
        state = {"note": note, "threshold": threshold, "kept": kept, "by_layer": by_layer, "accuracy": accuracy}
        return state | {"bits": bits, "alpha": shown}

    first = next(iter(alphas.values()))
    step = highest / STEPS
    controls = {
        "threshold": slider("threshold t", 0.0, float(highest), float(threshold), float(step)),
        "value": choice("set", list(VALUES)),
        "layer": choice("layer", list(first), list(first)[-1]),
        "domain": choice("domain", list(alphas)),
        "fresh": switch("fresh statistics"),
        "shuffled": switch("opponent: the same numbers, shuffled"),
    }
    controls["threshold"].readout_format = ".4f"  # as exact as the threshold that is used and given in the note

    def slow(domain: str, threshold: float, value: float, fresh: bool, shuffled: bool, **_: Any) -> bool:
        return round(threshold, 4) not in measured.get((domain, value, fresh, shuffled), {})

    states: dict[str, list[Any]] = {
        "threshold": [float(step * place) for place in (0, 2, 4, 10, STEPS)],
        "layer": list(first)[-1:],
        "domain": list(alphas)[:3],
    }
    return Panel(draw, controls, size=(9.5, 3.7), slow=slow, states=states)


_PLACED = {"in their places": False, "shuffled": True}
_PLACES = ((0.075, 0.16, 0.24, 0.74), (0.395, 0.16, 0.215, 0.74), (0.70, 0.16, 0.28, 0.74))


Rows = Sequence[Mapping[str, Any]]
MEASURES: dict[str, tuple[Callable[[Any], float], str | None]] = {
    "numbers that moved (%)": (lambda row: 100 * row["moved"], None),
    "numbers at exactly one (%)": (lambda row: 100 * row["at_one"], None),
    "accuracy (points from usual)": (lambda row: row["accuracy"], "usual"),
    "what a cut to a tenth changes (points)": (lambda row: row["accuracy_of_cut"] - row["accuracy"], None),
    "a tenth, in its places or shuffled (points)": (
        lambda row: row["accuracy_of_cut"] - row["accuracy_of_shuffled"],
        None,
    ),
}
"""What the record of causes tells: a value of each run, and the cause from whose value it is counted."""
ALL = "the mean of all"


def cause_board(runs: Rows) -> Panel:
    """What makes a modulation sparse, from recorded runs: one row per cause, one dot per domain, means with intervals.

    runs: of madlab/records/sparsity.json. The panel's `state` has rows (cause -> domain -> mean over seeds) and told
    (cause -> Interval of the mean over domains, or None for a single domain).
    """
    rows = {show: by_domain(runs, "cause", value, against) for show, (value, against) in MEASURES.items()}
    domains = list(dict.fromkeys(run["domain"] for run in runs))

    def draw(figure: Figure, show: str, domain: str) -> dict[str, Any]:
        ax = figure.add_axes((0.16, 0.15, 0.8, 0.75))
        shown, (_, against) = rows[show], MEASURES[show]
        figures.means_by_row(ax, shown, xlabel=show, marked=domain)
        told = {cause: t_interval(list(values.values())) for cause, values in shown.items()}
        ax.set_title(f"{len(domains)} domains: the mean and its interval of 95 %; a dot is a domain")
        sure = [f"<b>{name}</b>" for name, one in told.items() if one is not None and one.p < 0.05 and name != against]
        note = f"Apart from zero: {', '.join(sure) or 'none'}." if "points" in show else ""  # no share is below zero
        means = ", ".join(f"{cause} {one.estimate:.2f}" for cause, one in told.items() if one is not None)
        return {"note": note, "alt": f"{show}, the mean over domains: {means}.", "rows": shown, "told": told}

    controls = {"show": choice("show", list(MEASURES)), "domain": choice("mark", [ALL, *domains])}
    return Panel(draw, controls, size=(9.5, 3.6))
