"""Notebook 01's interactive figure: the errors of ten domains, and what each earns of the decathlon's score."""

from typing import Any

from matplotlib.figure import Figure

from madlab import figures
from madlab.benchmarks.score import DECATHLON_BASELINE, domain_scores, published_rows
from madlab.widgets.panel import Panel, choice, slider

OWN = "your own"
START = "Finetune (10 nets)"


def score_board() -> Panel:
    """Ten error sliders, a choice of a published row to start from, and the score that they make.

    Controls: `start`, and one slider per domain, with underscores in its name (`vgg_flowers`). State: `score`, `mean`
    (accuracy, percent), `shares` (domain -> points), `next_point` (domain -> points for one more point of accuracy).
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
        if shares[most] - min(shares.values()) < 0.5:  # points; the bars look alike
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
    return Panel(draw, controls, size=(9, 3.8), before=before)
