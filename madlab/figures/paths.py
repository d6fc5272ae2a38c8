"""The path of an image through an adapted network, and of the gradient back, as a figure."""

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from madlab.figures.style import BLACK, BLUE, GREY, RED

_STEPS = (  # name, what it holds, whether the domain owns it
    ("images", "", False),
    ("W ⊙ α", "", True),
    ("BatchNorm", "gain, shift, statistics", True),
    ("…", "24 more such pairs", False),
    ("head", "one logit per class", True),
    ("loss", "", False),
)


_WIDTH, _HEIGHT, _GAP = 1.5, 0.8, 0.55
"""Of a box, and between two boxes."""


def critical_path(ax: Axes) -> None:
    """Draw the forward pass above, the backward pass below, and what learns: blue boxes belong to the domain."""
    pitch = _WIDTH + _GAP
    for place, (name, content, owned) in enumerate(_STEPS):
        left = place * pitch
        _step(ax, left, name, content, owned)
        if place > 0:
            _arrow(ax, (left - _GAP, 0.62), (left, 0.62), BLACK)
        if place > 1:  # nothing flows back into the images
            _arrow(ax, (left, 0.2), (left - _GAP, 0.2), RED)
        if owned:
            middle = left + _WIDTH / 2
            _arrow(ax, (middle, -0.02), (middle, -0.5), RED)
            ax.text(middle, -0.6, "learns", ha="center", color=RED)

    _factor(ax, pitch, pitch + 0.3 * _WIDTH, "W", "base network,\nfrozen, shared", GREY)
    _factor(ax, pitch + _WIDTH, pitch + 0.7 * _WIDTH, "α", "this domain's", BLUE)
    end = (len(_STEPS) - 1) * pitch
    ax.text(end + _WIDTH / 2, 1.15, "forward: black", ha="center", fontsize=9)
    ax.text(end + _WIDTH / 2, -0.45, "backward: red", ha="center", fontsize=9, color=RED)
    ax.set(xlim=(-0.1, end + _WIDTH + 0.1), ylim=(-0.75, 1.95))
    ax.set_axis_off()


def _step(ax: Axes, left: float, name: str, content: str, owned: bool) -> None:
    """One box with its name and what it holds."""
    face, edge = ("#DCEBF5", BLUE) if owned else ("0.93", GREY)
    style = "round,pad=0.02,rounding_size=0.12"
    ax.add_patch(FancyBboxPatch((left, 0), _WIDTH, _HEIGHT, style, facecolor=face, edgecolor=edge, linewidth=1.5))
    ax.text(left + _WIDTH / 2, 0.5 if content else 0.4, name, ha="center", va="center", fontsize=12)
    ax.text(left + _WIDTH / 2, 0.2, content, ha="center", va="center", fontsize=8)


def _factor(ax: Axes, x: float, target: float, name: str, detail: str, colour: str) -> None:
    """One factor of the product W ⊙ α above its box, with an arrow into the box."""
    ax.text(x, 1.62, name, ha="center", fontsize=13, color=colour, fontweight="bold")
    ax.text(x, 1.53, detail, ha="center", va="top", fontsize=8, color=colour)
    _arrow(ax, (x, 1.18), (target, _HEIGHT + 0.03), colour)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.6})
