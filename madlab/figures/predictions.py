"""What a network says about one image."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from madlab.figures.style import BLUE, GREY


def class_bars(ax: Axes, names: Sequence[str], probabilities: Sequence[float], true: int, most: int = 5) -> None:
    """Draw the probabilities of the likeliest classes in percent, largest on top, with the true class in blue.

    true: number of the true class; where it is not among the first `most`, it takes the place of the last of them.
    """
    order = sorted(range(len(names)), key=lambda label: -probabilities[label])
    shown = order[:most]
    if true not in shown:
        shown[-1] = true
    percent = [100 * float(probabilities[label]) for label in shown]
    ax.barh(range(len(shown)), percent, color=[BLUE if label == true else GREY for label in shown])
    for place, value in enumerate(percent):
        ax.annotate(f"{value:.0f} %", (value, place), (4, 0), textcoords="offset points", va="center")
    ax.set_yticks(range(len(shown)), [f"{order.index(label) + 1}. {names[label]}" for label in shown])
    ax.set(xlim=(0, 115), xticks=(0, 25, 50, 75, 100), xlabel="probability (%)")
    ax.invert_yaxis()
