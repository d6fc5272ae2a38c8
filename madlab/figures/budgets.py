"""Figures of what a network and its adapters consist of, and of what they cost."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from madlab.figures.style import BLACK, BLUE, GREEN, GREY, ORANGE, PINK, SKY

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
