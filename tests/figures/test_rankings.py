"""Mean ranks and the Pareto front of bytes: what is drawn is what was given, and no name covers another."""

from itertools import combinations, pairwise

import pytest
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from madlab import figures
from madlab.benchmarks.score import DECATHLON_BASELINE
from madlab.figures.rankings import _cliques


def boxes(ax: Axes) -> dict[str, Bbox]:
    """Name -> the box around its text in pixels; slanted names by their foot, a line of text high."""
    ax.figure.draw_without_rendering()
    renderer = ax.figure.canvas.get_renderer()
    return {text.get_text().strip(): text.get_window_extent(renderer) for text in ax.texts}


@pytest.mark.parametrize("count", [2, 7, 22])
def test_every_name_stands_alone_beside_its_mean_rank(count: int) -> None:
    ranks = {f"method{i}:8": 1 + 0.9 * i + (0.01 if i % 3 else 0) for i in range(count)}
    _, ax = figures.new(size=(8, 1.6 + 0.13 * count))
    figures.critical_difference(ax, ranks, 2.5)
    found = boxes(ax)
    assert ranks.keys() <= found.keys() and "critical difference 2.50" in found
    names = [found[name] for name in ranks]
    assert not any(Bbox.intersection(one, other) for one, other in combinations(names, 2))
    feet = [line.get_xdata()[0] for line in ax.get_lines() if len(line.get_xdata()) == 3]
    assert sorted(feet) == pytest.approx(sorted(ranks.values()))
    scale = next(line for line in ax.get_lines() if line.get_marker() == "|")
    assert scale.get_xdata()[1] - scale.get_xdata()[0] == pytest.approx(2.5)


def test_bars_join_the_largest_groups_within_the_difference() -> None:
    assert _cliques([1, 2, 3, 5, 5.5], 2.1) == [(0, 2), (2, 3), (3, 4)]
    assert _cliques([1, 2, 3], 5) == [(0, 2)]
    assert _cliques([1, 4, 8], 3) == []  # a difference as large as the critical one is one


def test_forms_have_their_bytes_accuracy_and_interval() -> None:
    points = {
        "mad": figures.FormPoint(645, 70, (68, 71)),
        "mad in 4 bits": figures.FormPoint(88, 69.5, (68, 71)),
        "batchnorm": figures.FormPoint(0, 50),
        "wtpb": figures.FormPoint(181, 60),
        "wtpb in 8 bits": figures.FormPoint(181, 60),
    }
    _, ax = figures.new(size=(9, 6))
    figures.accuracy_against_bytes(ax, points)
    drawn = {(bar[0].get_xdata()[0], bar[0].get_ydata()[0]) for bar in ax.containers}
    assert drawn == {(point.kilobytes, point.accuracy) for point in points.values()}
    segments = [bar[2][0].get_segments()[0] for bar in ax.containers]
    assert [[y for _, y in segment] for segment in segments][:3] == [[68, 71], [68, 71], [50, 50]]
    # The front: nothing, 4 bits, full; wtpb is larger and worse than 4 bits.
    assert set(boxes(ax)) == {"batchnorm", "mad in 4 bits", "mad"}
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["mad", "batchnorm", "wtpb"]


@pytest.mark.parametrize("near", ["left", "right"])
def test_many_names_above_the_axes_keep_their_distance_and_order(near: str) -> None:
    sizes = [100 + i for i in range(20)] + ([5000] if near == "left" else [])
    points = {f"mad:{i + 1}": figures.FormPoint(size, 50 + i) for i, size in enumerate(sizes)}
    if near == "right":
        points["batchnorm"] = figures.FormPoint(1, 10)
    _, ax = figures.new(size=(9, 6))
    figures.accuracy_against_bytes(ax, points)
    across = [text.get_position()[0] for text in ax.texts]
    assert len(across) == len(points) and all(b - a >= 0.0319 for a, b in pairwise(across))
    assert max(across) <= 1 + 1e-9


def test_every_domain_of_the_decathlon_has_its_curve() -> None:
    _, ax = figures.new()
    figures.score_curves(ax, DECATHLON_BASELINE)
    named = {line.get_label(): (line.get_color(), line.get_linestyle()) for line in ax.lines}
    named = {name: look for name, look in named.items() if not name.startswith("_")}
    assert list(named) == list(DECATHLON_BASELINE) and len(set(named.values())) == 10
