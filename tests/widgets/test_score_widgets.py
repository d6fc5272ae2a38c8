"""The score board of notebook 01 and the budget calculator of 03, with the figures that they draw."""

import numpy as np
import pytest

from madlab import figures, widgets
from madlab.figures import look


@pytest.fixture
def ax():
    return figures.blank((5, 3)).add_axes((0.2, 0.2, 0.7, 0.7))


def test_score_board_knows_the_published_rows() -> None:
    board = widgets.score_board()
    assert board.state["score"] == pytest.approx(2500) and board.state["mean"] == pytest.approx(76.506)
    for method, printed in (("Piggyback", 2838), ("URL", 3626), ("Feature extractor", 544)):
        board.start.value = method
        assert board.state["score"] == pytest.approx(printed, abs=3)
    assert "MAD" not in board.start.options  # its accuracies by domain are not known


def test_score_board_answers_to_every_slider() -> None:
    board = widgets.score_board()
    sliders = [name for name in board.controls if name != "start"]
    assert len(sliders) == 10
    for name in sliders:
        domain = name.replace("_", "-")
        before, picture = dict(board.state["shares"]), board.image.value
        board.controls[name].value = 0.0
        assert board.state["shares"][domain] == pytest.approx(1000)
        assert all(board.state["shares"][other] == before[other] for other in before if other != domain)
        assert board.image.value != picture and board.start.value == "your own"
    assert board.state["score"] == pytest.approx(10000) and max(board.state["next_point"].values()) == 0
    board.start.value = "Finetune (10 nets)"
    assert board.gtsrb.value == pytest.approx(2.47)
    assert board.state["next_point"]["gtsrb"] == pytest.approx(1000 * (3.47 / 4.94) ** 2 - 250)


def test_score_board_names_no_largest_share_among_equals() -> None:
    board = widgets.score_board()
    assert "All domains earn the same, 250 points" in board.note.value and "Largest share" not in board.note.value
    board.ucf101.value = 48.7  # (97.6 - 48.7)^2 / 97.6^2 = 0.25102: 1.02 points more than the others
    assert "Largest share: <b>ucf101</b>, 251 points" in board.note.value and "the same" not in board.note.value
    board.ucf101.value = 48.79  # 250.1
    assert "All domains earn the same" in board.note.value


def test_budget_calculator_counts_what_is_known() -> None:
    budget = widgets.budget_calculator()
    assert budget.state["adapter"] == 645_216 and budget.state["networks"] == 58_069_440
    assert budget.state["saving"] is None
    budget.factorise.value = True
    assert budget.state["adapter"] == 251_244 and budget.state["saving"] == pytest.approx(0.6106, abs=1e-4)
    budget.domains.value = 3
    assert budget.state["total"] == 5_806_944 + 2 * 251_244
    budget.network.value, budget.layers.value = "DenseNet-121", 3
    assert budget.state["adapter"] == 334_080 and "refuse" in budget.note.value and "more" in budget.note.value
    budget.layers.value, budget.factorise.value = 1, False
    assert budget.state["adapter"] == 4_722_688
    budget.rank.value = 8  # moving the rank means the factorised form
    assert budget.factorise.value and "refuse" not in budget.note.value
    budget.network.value = "ResNet-26"  # it has no 1 x 1 convolution
    assert budget.state["adapter"] == 0 and budget.state["ratio"] == 1
    budget.layers.value = "all"
    for rank, saving in ((36, "61.06%"), (37, "59.98%")):  # 1 - rank * 6,979 / 645,216: only one is more than 60 %
        budget.rank.value = rank
        assert f"{saving} less than full MAD" in budget.note.value


def test_budget_calculator_draws_no_ranks_where_nothing_is_adapted(monkeypatch) -> None:
    drawn = []
    monkeypatch.setattr(figures, "cost_by_rank", lambda *values: drawn.append(values))
    budget = widgets.budget_calculator()
    assert len(drawn) == 1
    budget.layers.value = 1  # ResNet-26 has no 1 x 1 convolution
    assert len(drawn) == 1 and budget.state["adapter"] == 0


def test_parameter_bars_have_room_for_their_numbers(ax) -> None:
    figures.parameter_bars(ax, {"one": 5_806_944, "ten": 58_069_440}, unit=5_806_944)
    assert [text.get_text().strip() for text in ax.texts] == ["5.8 M = 1.00×", "58.1 M = 10.00×"]
    ax.figure.canvas.draw()
    axes = ax.get_window_extent()
    assert all(text.get_window_extent().x1 <= axes.x1 for text in ax.texts)


def test_domain_shares_are_as_long_as_what_was_earned(ax) -> None:
    figures.domain_shares(ax, {"a": 250.0, "b": 20.0, "c": 900.0})
    assert [bar.get_width() for bar in ax.patches] == [250, 20, 900]
    colours = [bar.get_facecolor() for bar in ax.patches]
    assert colours[0] == colours[2] != colours[1]  # fine-tuning itself has reached the line


def test_score_curves_start_at_twice_the_error_and_end_at_1000(ax) -> None:
    figures.score_curves(ax, {"easy": 90.0, "hard": 60.0})
    easy, marker = ax.lines[:2]
    points = dict(zip(np.round(easy.get_xdata(), 1), easy.get_ydata(), strict=True))
    assert points[80.0] == 0 and points[90.0] == pytest.approx(250) and points[100.0] == pytest.approx(1000)
    assert (marker.get_xdata()[0], marker.get_ydata()[0]) == (90, pytest.approx(250))


def test_before_and_after_joins_the_two_values_of_a_row(ax) -> None:
    figures.before_and_after(ax, {"a": (10, 50), "b": (70, 60)}, ("frozen", "finetune"))
    joins, (first, second) = ax.lines[:2], ax.lines[2:]
    assert [list(line.get_xdata()) for line in joins] == [[10, 50], [70, 60]]
    assert list(first.get_xdata()) == [10, 70] and list(second.get_xdata()) == [50, 60]
    assert first.get_color() == look("frozen")["color"] and second.get_label() == "finetune"


def test_gains_stand_at_the_number_of_images(ax) -> None:
    figures.gains_by_size(ax, {"a": 100, "b": 5000}, {"frozen": {"a": 3, "b": -7}, "finetune": {"a": 5, "b": 1}})
    frozen, finetune = ax.lines[1:]
    assert list(frozen.get_xdata()) == [100, 5000] and list(frozen.get_ydata()) == [3, -7]
    assert list(finetune.get_ydata()) == [5, 1] and ax.get_xscale() == "log"
    assert {text.get_text() for text in ax.texts} == {"a", "b"}


def test_accuracy_by_size_goes_through_the_means(ax) -> None:
    figures.accuracy_by_size(ax, {"mad": {10: [30.0, 40.0], 3: [10.0, 20.0]}}, xlabel="images")
    line = ax.lines[0]
    assert list(line.get_xdata()) == [3, 10] and list(line.get_ydata()) == [15, 35]
    assert sorted(y for dots in ax.lines[1:] for y in dots.get_ydata()) == [10, 20, 30, 40]


def test_accuracy_by_group_has_the_best_on_top_in_the_colour_of_its_group(ax) -> None:
    results = {"mad": [50.0, 30.0], "parallel": [71.0], "frozen": [41.0]}
    figures.accuracy_by_group(ax, results, {"parallel": "0.1", "mad": "0.3", "frozen": "0.3"}, title="rate", xlabel="%")
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["parallel", "frozen", "mad"] and ax.yaxis_inverted()
    means, spreads = {}, {}
    for line in ax.lines:
        points = [(x, names[round(y)]) for x, y in line.get_xydata() if np.isfinite(x)]
        if line.get_marker() in ("o", "s"):  # a group's means
            means |= {name: (x, line.get_color(), line.get_marker()) for x, name in points}
        elif points:
            spreads[points[0][1]] = points[1][0] - points[0][0]
    assert {name: mean for name, (mean, _, _) in means.items()} == {"parallel": 71, "frozen": 41, "mad": 40}
    assert means["frozen"][1:] == means["mad"][1:] != means["parallel"][1:]
    assert spreads == {"mad": pytest.approx(2 * 200**0.5)}  # one standard deviation on each side
    dots = sorted((float(x), names[round(float(y))]) for dots in ax.collections for x, y in dots.get_offsets())
    assert dots == [(30, "mad"), (41, "frozen"), (50, "mad"), (71, "parallel")]
    assert ax.get_legend().get_title().get_text() == "rate"


def test_accuracy_by_size_tells_names_apart_that_are_no_methods(ax) -> None:
    names = ("linear, features", "wide, features", "linear, pixels", "finetune")
    figures.accuracy_by_size(ax, {name: {3: [10.0], 10: [20.0]} for name in names}, xlabel="images")
    lines = {line.get_label(): line for line in ax.lines if line.get_label() in names}
    assert (
        len({line.get_color() for line in lines.values()}) == len({line.get_marker() for line in lines.values()}) == 4
    )
    assert lines["finetune"].get_color() == look("finetune")["color"]  # methods look as they do everywhere


def test_by_kernel_stacks_to_the_sum(ax) -> None:
    figures.by_kernel(ax, {"net": {"W": {1: 1_000_000, 3: 9_000_000}, "α": {1: 1_000_000, 3: 1_000_000}}})
    ends: dict[float, float] = {}
    for bar in ax.patches:
        ends[bar.get_y()] = max(ends.get(bar.get_y(), 0), bar.get_x() + bar.get_width())
    assert list(ends.values()) == [10, 2]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["1 × 1", "3 × 3"]


def test_shared_and_own_has_a_part_for_each_domain_and_layer(ax) -> None:
    figures.shared_and_own(ax, ["signs", "glyphs"], layers=3)
    words = [text.get_text() for text in ax.texts]
    assert words.count("α") == 6 and words.count("head") == 2 and {"signs", "glyphs", "shared"} <= set(words)
