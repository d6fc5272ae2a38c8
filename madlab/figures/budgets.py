"""Figures of an adapted network: what is shared, what a domain owns and learns, and what that costs."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from madlab.figures.style import BLACK, BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY

KERNELS = {1: ORANGE, 3: BLUE, 7: PINK}
"""Kernel size -> colour, the same in every figure that tells layers apart by kernel size."""


def shared_and_own(ax: Axes, domains: Sequence[str], layers: int = 3) -> None:
    """Draw a network of `layers` convolutions: what all domains share in grey, what each domain owns in colour."""
    for layer in range(layers):
        _box(ax, 2 * layer, 0, 1.6, 0.8, GREY, f"conv {layer + 1}\nfilters W")
    for row, domain in enumerate(domains, start=1):
        ax.text(-0.25, 0.4 - 1.05 * row, domain, ha="right", va="center", fontweight="bold")
        for layer in range(layers):
            _box(ax, 2 * layer, -1.05 * row, 0.7, 0.8, BLUE, "α")
            _box(ax, 2 * layer + 0.8, -1.05 * row, 0.8, 0.8, ORANGE, "Batch\nNorm")
        _box(ax, 2 * layers, -1.05 * row, 1, 0.8, GREEN, "head")
    ax.text(-0.25, 0.4, "shared", ha="right", va="center", fontweight="bold")
    ax.set(xlim=(-1.3, 2 * layers + 1.1), ylim=(-1.05 * len(domains) - 0.1, 0.95))
    ax.set_axis_off()


def by_kernel(ax: Axes, networks: Mapping[str, Mapping[str, Mapping[int, int]]]) -> None:
    """Draw counts in millions as stacked bars: network -> what is counted (e.g. "W", "α") -> kernel size -> count."""
    place, places, names = 0.0, [], []
    seen: dict[int, object] = {}
    for network, counts in networks.items():
        for what, kernels in counts.items():
            left = 0.0
            for kernel, count in sorted(kernels.items()):
                bar = ax.barh(place, count / 1e6, left=left, color=KERNELS[kernel], height=0.8)
                seen.setdefault(kernel, bar)
                left += count / 1e6
            ax.text(left, place, f" {left:.2f}", va="center", fontsize=9)
            places.append(place)
            names.append(f"{network}: {what}")
            place += 1
        place += 0.5
    ax.set_yticks(places, names)
    ax.invert_yaxis()
    ax.margins(x=0.1)
    ax.tick_params(axis="y", length=0)
    ax.set(xlabel="million parameters")
    ax.legend([seen[kernel] for kernel in sorted(seen)], [f"{kernel} × {kernel}" for kernel in sorted(seen)])


def parameter_bars(ax: Axes, parameters: Mapping[str, int], *, unit: int) -> None:
    """Draw one bar per choice: its parameters in millions, and their ratio to `unit`, the size of one network."""
    for place, (count, colour) in enumerate(zip(parameters.values(), (GREY, BLUE, BLACK), strict=False)):
        ax.barh(place, count / 1e6, color=colour, height=0.65)
        ax.text(count / 1e6, place, f" {count / 1e6:.1f} M = {count / unit:.2f}×", va="center", fontsize=9)
    ax.set_yticks(range(len(parameters)), list(parameters))
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    ax.set(xlabel="million parameters", xlim=(0, 1.5 * max(parameters.values()) / 1e6))


def cost_by_rank(ax: Axes, per_rank: int, full: int, rank: int | None, highest: int) -> None:
    """Draw the adapter parameters of one domain against the rank.

    per_rank: parameters per unit of rank. full: those of the full form, a dashed line. rank: the rank to mark; None
    marks none. highest: the last rank on the axis.
    """
    ax.plot((0, highest), (0, highest * per_rank / 1e3), color=SKY, label="rank I")
    ax.axhline(full / 1e3, color=BLUE, linestyle="--", label="full")
    if rank is not None:
        ax.plot(rank, rank * per_rank / 1e3, color=SKY, marker="v", markersize=9)
    ax.set(xlabel="rank I", ylabel="thousand parameters per domain", xlim=(0, highest))
    ax.set_ylim(0, 1.15 * max(full, highest * per_rank, 1) / 1e3)
    ax.legend(loc="lower right", fontsize=9)


def _box(ax: Axes, x: float, y: float, width: float, height: float, colour: str, text: str) -> None:
    style = "round,pad=0,rounding_size=0.08"
    ax.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, facecolor=colour, alpha=0.35, edgecolor=colour))
    ax.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=9)


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
            _path_arrow(ax, (left - _GAP, 0.62), (left, 0.62), BLACK)
        if place > 1:  # nothing flows back into the images
            _path_arrow(ax, (left, 0.2), (left - _GAP, 0.2), RED)
        if owned:
            middle = left + _WIDTH / 2
            _path_arrow(ax, (middle, -0.02), (middle, -0.5), RED)
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
    _path_arrow(ax, (x, 1.18), (target, _HEIGHT + 0.03), colour)


def _path_arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.6})
