"""Recorded trainings, right and wrong ones, under two sliders; used in notebook 11."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from matplotlib.figure import Figure

from madlab import figures
from madlab.analysis.diagnosis import Trial, verdict
from madlab.widgets.panel import Panel, choice, slider
from madlab.widgets.runs import QUANTITIES

CAPACITIES = {"mad:1": "rank 1", "mad:4": "rank 4", "mad": "full α", "finetune": "fine-tuning"}


def diagnosis_board(trials: Sequence[Trial]) -> Panel:
    """Choose learning rate and capacity; see that run's curve, all outcomes, and what its numbers say.

    trials: of the four capacities, at factors 10^p; where one was not recorded, that of the nearest p is shown. The
    panel's `state` has trial, verdict and curve: the values drawn, one an epoch.
    """
    by_place = {(trial.method, round(math.log10(trial.factor))): trial for trial in trials}
    powers = sorted({power for _, power in by_place})
    methods = list(CAPACITIES)
    accuracies = [[by_place[m, p].test_accuracy if (m, p) in by_place else None for p in powers] for m in methods]
    missing = {
        (row, column) for row, m in enumerate(methods) for column, p in enumerate(powers) if (m, p) not in by_place
    }
    top = max(value for row in accuracies for value in row if value is not None)

    def draw(figure: Figure, power: int, capacity: int, show: str) -> dict[str, Any]:
        recorded = [p for method, p in by_place if method == methods[capacity]]
        nearest = min(recorded, key=lambda p: abs(p - power))
        trial = by_place[methods[capacity], nearest]
        curve = [line[QUANTITIES[show]] for line in trial.log]
        others = [[line[QUANTITIES[show]] for line in other.log] for other in trials if other is not trial]
        left, right = figure.add_axes((0.075, 0.15, 0.4, 0.74)), figure.add_axes((0.605, 0.15, 0.375, 0.74))
        figures.curve_among(left, curve, others, ylabel=show)
        left.set_title(f"{CAPACITIES[trial.method]}, learning rate {trial.rate:g}")
        names = [f"{10.0**p:g}" for p in powers]
        place = (capacity, powers.index(nearest))
        figures.outcome_grid(
            right,
            accuracies,
            list(CAPACITIES.values()),
            names,
            xlabel="rate, × the method's own",
            chosen=place,
            top=top,
            missing=missing,
        )
        moved = "" if trial.moved is None else f"change of the filters r = {trial.moved:.2g}"
        right.set_title("test accuracy (%)")
        said = verdict(trial, trials)
        return {"note": f"<b>{said}</b> {moved}", "trial": trial, "verdict": said, "curve": curve}

    step = math.gcd(*(after - before for before, after in pairwise(powers)))
    controls = {
        "power": slider("rate: power of ten", powers[0], powers[-1], 0, step=step),
        "capacity": slider("capacity: row", 0, len(methods) - 1, 2),
        "show": choice("show", ["training loss (nats)", "validation loss (nats)", "validation accuracy (%)"]),
    }
    return Panel(draw, controls, size=(9.5, 3.8))
