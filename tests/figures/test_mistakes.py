"""Figures of answers: what was given is what is on the Axes."""

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex

from madlab import figures


def test_a_confusion_map_has_counts_and_names_where_there_is_room() -> None:
    counts = np.array([[8, 2, 0], [1, 9, 0], [0, 0, 5]])
    _, ax = figures.new(size=(4, 4))
    figures.confusion_map(ax, counts, ["a", "b", "c"])
    assert sorted(text.get_text() for text in ax.texts) == ["1", "2", "5", "8", "9"]  # zeros are empty
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b", "c"]
    shares = ax.collections[0].get_array().reshape(3, 3)
    assert shares[0].tolist() == [0.8, 0.2, None] and shares[2, 2] == 1
    _, ax = figures.new(size=(4, 4))
    figures.confusion_map(ax, np.eye(50, dtype=int), [str(k) for k in range(50)])
    assert not ax.texts and not ax.get_yticklabels()


def test_a_calibration_curve_goes_through_its_points() -> None:
    _, ax = figures.new()
    figures.calibration(ax, [0.2, 0.6, 0.9], [0.1, 0.7, 0.8], [10, 20, 40])
    assert ax.lines[1].get_xydata().tolist() == [[0.2, 0.1], [0.6, 0.7], [0.9, 0.8]]
    sizes = ax.collections[0].get_sizes()
    assert sizes[2] - 20 == pytest.approx(4 * (sizes[0] - 20))  # areas grow with the number of answers


def test_learning_curves_of_two_runs() -> None:
    _, axes = figures.new(1, 2)
    figures.learning_curves(axes, {"one": ([3, 2], [4, 3], [10, 20]), "two": ([2, 1], [3, 2], [30, 40])})
    assert [list(line.get_ydata()) for line in axes[0].lines] == [[3, 2], [4, 3], [2, 1], [3, 2]]
    assert [list(line.get_ydata()) for line in axes[1].lines] == [[10, 20], [30, 40]]
    assert [text.get_text() for text in axes[1].get_legend().get_texts()] == ["one", "two"]


def test_changes_and_differences_are_bars() -> None:
    _, ax = figures.new()
    figures.change_by_layer(ax, [0.1, 0.5])
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([10, 50])
    _, ax = figures.new()
    figures.differences(ax, ["a", "b"], [3.0, -2.0])
    assert [bar.get_width() for bar in ax.patches] == [3, -2] and ax.yaxis_inverted()
    assert ax.patches[0].get_facecolor() != ax.patches[1].get_facecolor()


def test_a_spectrum_ends_at_all_of_the_change() -> None:
    _, ax = figures.new()
    figures.spectra(ax, [np.array([3.0, 4.0]), np.zeros(2), np.array([1.0])])
    first, second, _ = ax.lines  # what did not move has none
    assert first.get_ydata().tolist() == pytest.approx([36, 100]) and second.get_ydata().tolist() == [100]


def test_colours_follow_a_dark_style() -> None:
    found = []
    for style in ({}, figures.DARK):
        with matplotlib.rc_context(figures.STYLE | style):
            ax = figures.blank((4, 3)).subplots()
            figures.change_by_layer(ax, [0.5])
            found.append(to_hex(ax.patches[0].get_facecolor()))
    assert found[0] != found[1]
