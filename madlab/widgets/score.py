"""The score board: the errors of ten domains, and what each adds to the decathlon score; used in notebook 01."""

from typing import Any

from matplotlib.figure import Figure

from madlab import figures
from madlab.benchmarks.score import DECATHLON_BASELINE, domain_scores, published_rows
from madlab.widgets.panel import Panel, choice, slider

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
        controls[control] = slider(f"{name} error (%)", 0.0, 100.0, round(100 - DECATHLON_BASELINE[name], 2), 0.1)
    numbers = {"baseline": DECATHLON_BASELINE, "rows": rows, "own": OWN}
    return Panel(draw, controls, size=(9, 3.8), before=before, arithmetic=("score", numbers))
