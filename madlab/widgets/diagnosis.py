"""Recorded training runs, right and wrong ones, under two sliders; used in notebook 12."""

import math
from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any

from matplotlib.figure import Figure

from madlab import figures
from madlab.analysis.diagnosis.trials import Trial, by_rate, verdict
from madlab.widgets.panel import Panel, choice, slider
from madlab.widgets.runs import QUANTITIES

CAPACITIES = {"mad:1": "rank 1", "mad:4": "rank 4", "mad": "full α", "finetune": "fine-tuning"}


def diagnosis_board(trials: Sequence[Trial]) -> Panel:
    """Choose learning rate and capacity; see that run's curve, all outcomes, and what its numbers say.

    trials: of the four capacities, at factors 10^p; where there is none, the trial at the nearest p is shown. The
    panel's `state` has trial, verdict and curve: the values drawn, one per epoch.
    """
    trial_at = by_rate(trials)
    powers = sorted({power for _, power in trial_at})
    methods = list(CAPACITIES)
    cells = list(product(methods, powers))
    accuracies = [trial_at[cell].test_accuracy if cell in trial_at else None for cell in cells]
    grid: dict[str, Any] = {
        "values": [accuracies[start : start + len(powers)] for start in range(0, len(cells), len(powers))],
        "rows": list(CAPACITIES.values()),
        "columns": [f"{10.0**power:g}" for power in powers],
        "xlabel": "rate, × the method's own",
        "top": max(accuracy for accuracy in accuracies if accuracy is not None),
        "missing": {divmod(number, len(powers)) for number, cell in enumerate(cells) if cell not in trial_at},
    }

    def draw(figure: Figure, power: int, capacity: int, show: str) -> dict[str, Any]:
        recorded = [other for method, other in trial_at if method == methods[capacity]]
        nearest = min(recorded, key=lambda other: abs(other - power))
        trial = trial_at[methods[capacity], nearest]
        curve = curve_of(trial, show)
        others = [curve_of(other, show) for other in trials if other is not trial]

        left, right = figure.add_axes((0.075, 0.15, 0.4, 0.74)), figure.add_axes((0.605, 0.15, 0.375, 0.74))
        figures.curve_among(left, curve, others, ylabel=show)
        left.set_title(f"{CAPACITIES[trial.method]}, {trial.factor:g} × the method's own rate")
        figures.outcome_grid(right, chosen=(capacity, powers.index(nearest)), **grid)
        right.set_title("test accuracy (%)")

        moved = "" if trial.moved is None else f"change of the filters r = {trial.moved:.2g}"
        said = verdict(trial, trials)
        return {"note": f"<b>{said}</b> {moved}", "trial": trial, "verdict": said, "curve": curve}

    step = math.gcd(*(after - before for before, after in pairwise(powers)))
    controls = {
        "power": slider("rate: power of ten", powers[0], powers[-1], 0, step=step),
        "capacity": slider("capacity: row", 0, len(methods) - 1, 2),
        "show": choice("show", ["training loss (nats)", "validation loss (nats)", "validation accuracy (%)"]),
    }
    return Panel(draw, controls, size=(9.5, 3.8))


def curve_of(trial: Trial, show: str) -> list[float]:
    """One value per epoch of a trial; show: a key of QUANTITIES."""
    return [getattr(epoch, QUANTITIES[show]) for epoch in trial.log]
