"""Recorded trainings, right and wrong ones, under two sliders; used in notebook 11."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from madlab import figures
from madlab.diagnosis import Trial, verdict
from madlab.widgets.panel import Panel, choice, slider
from madlab.widgets.runs import QUANTITIES

CAPACITIES = {"mad:1": "rank 1", "mad:4": "rank 4", "mad": "full α", "finetune": "fine-tuning"}


def diagnosis_board(trials: Sequence[Trial]) -> Panel:
    """Choose learning rate and capacity; see that run's curve, all outcomes, and what its numbers say.

    trials: one for each of the four capacities and each factor 10^p, with p in equal steps. The panel's `state` has
    trial, verdict and curve: the values drawn, one an epoch.
    """
    by_place = {(trial.method, round(trial.factor, 6)): trial for trial in trials}
    factors = sorted({trial.factor for trial in trials})
    methods = list(CAPACITIES)
    accuracies = [[by_place[method, round(factor, 6)].test_accuracy for factor in factors] for method in methods]
    top = max(value for row in accuracies for value in row if value is not None)

    def draw(figure: Figure, power: int, capacity: int, show: str) -> dict[str, Any]:
        trial = by_place[methods[capacity], round(10.0**power, 6)]
        curve = [line[QUANTITIES[show]] for line in trial.log]
        others = [[line[QUANTITIES[show]] for line in other.log] for other in trials if other is not trial]
        left, right = figure.add_axes((0.075, 0.15, 0.4, 0.74)), figure.add_axes((0.605, 0.15, 0.375, 0.74))
        figures.curve_among(left, curve, others, ylabel=show)
        left.set_title(f"{CAPACITIES[trial.method]}, learning rate {trial.rate:g}")
        names = [f"{factor:g}" for factor in factors]
        place = (capacity, factors.index(trial.factor))
        figures.outcome_grid(
            right,
            accuracies,
            list(CAPACITIES.values()),
            names,
            xlabel="rate, × the method's own",
            chosen=place,
            top=top,
        )
        moved = "" if trial.moved is None else f"change of the filters r = {trial.moved:.2g}"
        right.set_title("test accuracy (%)")
        said = verdict(trial, trials)
        return {"note": f"<b>{said}</b> {moved}", "trial": trial, "verdict": said, "curve": curve}

    powers = [round(math.log10(factor)) for factor in factors]
    controls = {
        "power": slider("learning rate: 10 to the power of", powers[0], powers[-1], 0, step=powers[1] - powers[0]),
        "capacity": slider("capacity: rank 1, rank 4, full α, fine-tuning", 0, len(methods) - 1, 2),
        "show": choice("show", ["training loss (nats)", "validation loss (nats)", "validation accuracy (%)"]),
    }
    return Panel(draw, controls, size=(9.5, 3.8))
