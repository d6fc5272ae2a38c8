"""Figures of scores and ranks: published results with ours, mean ranks, and what each domain adds to a score."""

from collections.abc import Mapping, Sequence
from itertools import cycle

from matplotlib.axes import Axes

from madlab.benchmarks.score import decathlon_score
from madlab.figures.style import BLACK, BLUE, GREY, MARKERS, ORANGE, PALETTE, name_rows


def ranking(ax: Axes, names: Sequence[str], values: Sequence[float], ours: Sequence[bool], *, digits: int = 0) -> None:
    """Draw one value per row, the highest on top: published rows as grey dots, ours as blue triangles.

    names, values, ours: sequences of equal length. digits: decimals of the numbers beside the markers.
    """
    rows = sorted(zip(values, names, ours, strict=True), key=lambda row: row[0])
    ax.hlines(range(len(rows)), 0, sorted(values), color="0.9", linewidth=1, zorder=1)
    for whose, colour, marker in ((False, GREY, "o"), (True, BLUE, "^")):
        places = [place for place, (_, _, is_ours) in enumerate(rows) if is_ours == whose]
        ax.plot([rows[place][0] for place in places], places, linestyle="", marker=marker, markersize=7, color=colour)
    for place, (value, _, _) in enumerate(rows):
        ax.text(value, place, f"   {value:.{digits}f}", va="center", fontsize=8)
    name_rows(ax, [name for _, name, _ in rows], colours=[BLUE if is_ours else BLACK for _, _, is_ours in rows])
    ax.set_xlim(0, 1.1 * max(values, default=1) or 1)
    ax.set_ylim(-0.7, len(rows) - 0.3)


def critical_difference(ax: Axes, ranks: Mapping[str, float], difference: float) -> None:
    """Draw mean ranks on one line, the best on the left, as in Demsar, JMLR 7 (2006), figure 1.

    ranks: method -> mean rank, 1 is the best. difference: how far apart two ranks must be; bars join the groups in
    which none are. Each name has a row of its own, on the side to which its rank is nearer.
    """
    order = sorted(ranks, key=ranks.__getitem__)
    values, count = [ranks[name] for name in order], len(order)
    groups = _cliques(values, difference)
    for level, (first, last) in enumerate(groups):
        bar = (values[first] - 0.06, values[last] + 0.06)
        ax.plot(bar, (0.35 + 0.45 * level,) * 2, color=BLUE, linewidth=4, solid_capstyle="butt")
    left, top = (count + 1) // 2, 0.7 + 0.45 * len(groups)
    for place, (name, value) in enumerate(zip(order, values, strict=True)):
        if place < left:
            _rank_label(ax, name, value, 0.7, top + place, "right")
        else:
            _rank_label(ax, name, value, count + 0.3, top + count - 1 - place, "left")
    ax.plot((1, 1 + difference), (-1.6, -1.6), color=BLACK, linewidth=1.5, marker="|", markersize=7)
    told = f"critical difference {difference:.2f}"
    ax.annotate(told, (1, -1.6), (0, 5), textcoords="offset points", ha="left", va="bottom", fontsize=8)
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.spines["top"].set(visible=True, position=("data", 0))
    ax.xaxis.tick_top()
    ax.set(xlim=(0.7, count + 0.3), ylim=(top + left, -2.9), yticks=[])
    ax.set_xticks(range(1, count + 1, 1 + count // 25))


def _rank_label(ax: Axes, name: str, value: float, edge: float, row: float, side: str) -> None:
    """A method's line from its rank down to its row and out to the edge, with its name there and its rank above."""
    ax.plot((value, value, edge), (0, row, row), color=GREY, linewidth=0.8, clip_on=False)
    ax.text(edge, row, f" {name} ", ha=side, va="center", fontsize=9)
    inside, away = ("left", 4) if side == "right" else ("right", -4)
    style = {"textcoords": "offset points", "ha": inside, "va": "bottom", "fontsize": 7, "color": GREY}
    ax.annotate(f"{value:.1f}", (edge, row), (away, 1.5), **style)


def _cliques(values: Sequence[float], difference: float) -> list[tuple[int, int]]:
    """The largest groups of sorted values that lie within the difference: places of their first and last."""
    groups: list[tuple[int, int]] = []
    for first, value in enumerate(values):
        last = max(place for place, other in enumerate(values) if other - value < difference)
        if last > first and (not groups or last > groups[-1][1]):
            groups.append((first, last))
    return groups


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
    for place, (name, colour, marker) in enumerate(zip(baseline, cycle(PALETTE), cycle(MARKERS), strict=False)):
        accuracies = [tenth / 10 for tenth in range(1001)]
        points = [decathlon_score({name: accuracy}, baseline) for accuracy in accuracies]
        ax.plot(accuracies, points, color=colour, linestyle="-" if place < len(PALETTE) else "--", label=name)
        ax.plot(baseline[name], decathlon_score({name: baseline[name]}, baseline), color=colour, marker=marker)
    ax.set(xlabel="test accuracy (%)", ylabel="points of the score S", xlim=(0, 101), ylim=(-20, 1040))
    ax.legend(loc="upper left", fontsize=9)
