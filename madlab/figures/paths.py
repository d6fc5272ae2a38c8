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


def critical_path(ax: Axes) -> None:
    """Draw the forward pass above, the backward pass below, and what learns: blue boxes belong to the domain."""
    width, height, gap = 1.5, 0.8, 0.55
    for place, (name, content, owned) in enumerate(_STEPS):
        left = place * (width + gap)
        face, edge = ("#DCEBF5", BLUE) if owned else ("0.93", GREY)
        style = "round,pad=0.02,rounding_size=0.12"
        ax.add_patch(FancyBboxPatch((left, 0), width, height, style, facecolor=face, edgecolor=edge, linewidth=1.5))
        ax.text(left + width / 2, 0.5 if content else 0.4, name, ha="center", va="center", fontsize=12)
        ax.text(left + width / 2, 0.2, content, ha="center", va="center", fontsize=8)
        if place:
            for y, start, end, colour in ((0.62, left - gap, left, BLACK), (0.2, left, left - gap, RED)):
                arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.6}
                if colour == BLACK or place > 1:  # nothing flows back into the images
                    ax.annotate("", (end, y), (start, y), arrowprops=arrow)
        if owned:
            ax.annotate(
                "learns",
                (left + width / 2, -0.02),
                (left + width / 2, -0.6),
                ha="center",
                color=RED,
                arrowprops={"arrowstyle": "<|-", "color": RED, "linewidth": 1.6},
            )
    left = width + gap
    for share, name, detail, colour in (
        (0.0, "W", "base network,\nfrozen, shared", GREY),
        (1.0, "α", "this domain's", BLUE),
    ):
        x = left + width * share
        ax.text(x, 1.62, name, ha="center", fontsize=13, color=colour, fontweight="bold")
        ax.text(x, 1.53, detail, ha="center", va="top", fontsize=8, color=colour)
        target = (left + width * (0.3 + 0.4 * share), height + 0.03)
        ax.annotate("", target, (x, 1.18), arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.4})
    ax.text(5 * (width + gap) + width / 2, 1.15, "forward: black", ha="center", fontsize=9)
    ax.text(5 * (width + gap) + width / 2, -0.45, "backward: red", ha="center", fontsize=9, color=RED)
    ax.set(xlim=(-0.1, 6 * (width + gap) - gap + 0.1), ylim=(-0.75, 1.95))
    ax.set_axis_off()
