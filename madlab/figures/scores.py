"""Figures of the decathlon score S: what each domain earns, and how that depends on its accuracy."""

from collections.abc import Mapping

from matplotlib.axes import Axes

from madlab.benchmarks.score import decathlon_score
from madlab.figures.style import BLACK, BLUE, MARKERS, ORANGE, PALETTE, name_rows


def domain_shares(ax: Axes, shares: Mapping[str, float], *, earned: float = 250) -> None:
    """Draw one bar per domain, its share of S from 0 to 1000 points, and a line at `earned`, what fine-tuning earns.

    Blue bars reach that line; orange bars do not.
    """
    names, values = list(shares), list(shares.values())
    colours = [BLUE if value >= earned - 0.05 else ORANGE for value in values]
    ax.barh(range(len(names)), values, color=colours, height=0.7)
    ax.axvline(earned, color=BLACK, linewidth=1, linestyle="--")
    for place, value in enumerate(values):
        at = earned if earned - 60 < value < earned else value  # so that no text crosses the dashed line
        ax.text(at + 12, place, f"{value:.0f}", va="center", fontsize=9)
    name_rows(ax, names, fontsize=10)
    ax.set(xlim=(0, 1080), xlabel="points of the score S (dashed: fine-tuning)", ylim=(len(names) - 0.4, -0.6))


def score_curves(ax: Axes, baseline: Mapping[str, float]) -> None:
    """Draw the points of each domain against its test accuracy in percent.

    baseline: domain -> accuracy of fine-tuning, where the marker stands.
    """
    for name, colour, marker in zip(baseline, PALETTE, MARKERS, strict=False):
        accuracies = [tenth / 10 for tenth in range(1001)]
        points = [decathlon_score({name: accuracy}, baseline) for accuracy in accuracies]
        ax.plot(accuracies, points, color=colour, label=name)
        ax.plot(baseline[name], decathlon_score({name: baseline[name]}, baseline), color=colour, marker=marker)
    ax.set(xlabel="test accuracy (%)", ylabel="points of the score S", xlim=(0, 101), ylim=(-20, 1040))
    ax.legend(loc="upper left", fontsize=9)
