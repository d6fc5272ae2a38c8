"""Recorded training runs, right and wrong ones, by learning rate and capacity; used in notebook 12."""

import math
from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any

from matplotlib.figure import Figure

from madlab import figures
from madlab.analysis.rate_trials import VERDICTS, Trial, by_rate, judged
from madlab.widgets.panel import Panel, choice, slider
from madlab.widgets.runs import QUANTITIES

CAPACITIES = {"mad:1": "rank 1", "mad:4": "rank 4", "mad": "full α", "finetune": "fine-tuning"}
UNDECIDED, TELL = "not yet", "tell me"


def diagnosis_board(trials: Sequence[Trial]) -> Panel:
    """Choose learning rate and capacity, see that run's curve and all outcomes, and guess what its numbers say.

    The verdict is told once a guess is made; another run takes the guess back. trials: of the four capacities, at
    factors 10^p; where there is none, the trial at the nearest p is shown. The panel's `state` has trial, verdict (the
    sentence), kind (one of VERDICTS) and curve: the values drawn, one per epoch.
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

    def draw(figure: Figure, power: int, capacity: int, show: str, guess: str) -> dict[str, Any]:
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
        kind, said = judged(trial, trials)
        note = f"{moved or 'The loss became NaN.'} <b>What is wrong, if anything? Choose a verdict.</b>"
        if guess != UNDECIDED:
            answer = "" if guess == TELL else "Yes. " if guess == kind else f"Not {guess}. "
            note = f"<b>{answer}{said}</b> {moved}"
        return {"note": note, "trial": trial, "verdict": said, "kind": kind, "curve": curve}

    def before(panel: Panel, moved: str) -> None:
        if moved in ("power", "capacity"):
            panel.guess.value = UNDECIDED

    step = math.gcd(*(after - before for before, after in pairwise(powers)))
    controls = {
        "power": slider("rate: power of ten", powers[0], powers[-1], 0, step=step, continuous=True),
        "capacity": choice("capacity", [(name, row) for row, name in enumerate(CAPACITIES.values())], 2),
        "show": choice("show", ["training loss (nats)", "validation loss (nats)", "validation accuracy (%)"]),
        "guess": choice("your verdict", [UNDECIDED, *VERDICTS, TELL]),
    }
    # The site has no picture of every guess: they differ in the text alone.
    return Panel(draw, controls, size=(9.5, 3.8), before=before, states={"guess": (TELL,)})


def curve_of(trial: Trial, show: str) -> list[float]:
    """One value per epoch of a trial; show: a key of QUANTITIES."""
    return [getattr(epoch, QUANTITIES[show]) for epoch in trial.log]
