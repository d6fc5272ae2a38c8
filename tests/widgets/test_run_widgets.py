"""The Train button trains, stops, shows errors and names its curves; the rank slider measures each rank once."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from made_runs import made_run
from matplotlib.figure import Figure

from madlab import figures, widgets


def test_the_run_browser_averages_seeds_and_keeps_what_differs_apart() -> None:
    runs = [
        made_run("signs", "lora", 60.0, rank=4, losses=(3.0, 2.0, 1.0)),
        made_run("signs", "lora", 64.0, rank=4, seed=1, losses=(5.0, 3.0)),
        made_run("signs", "lora", 70.0, rank=4, options={"alpha": 8.0}),
        made_run("signs", "frozen", 50.0, 0),
        made_run("birds", "mad", 90.0, rank=8),
    ]
    panel = widgets.run_browser(runs)
    assert panel.domain.options == ("signs", "birds") and panel.state["test"] == {"frozen": [50.0]}
    panel.ranks.value, panel.show.value = True, "training loss (nats)"
    assert panel.state["test"] == {"lora:4": [60.0, 64.0], "lora:4 (alpha 8.0)": [70.0], "frozen": [50.0]}
    assert panel.state["best"]["lora:4"] == 2.5  # of 4.0 and 2.5: the shorter run ends the curve
    panel.ranks.value, panel.domain.value = False, "birds"
    assert panel.state["test"] == {"mad:8": [90.0]}, "a domain with factorised runs alone shows them"


def test_training_runs_to_its_end_and_is_scored() -> None:
    asked = []

    def start(method: str, rate: float) -> Iterator[float]:
        asked.append((method, rate))
        yield from (3.0, 2.0, 1.0)

    panel = widgets.TrainButton(start, lambda: 62.5, ["mad", "batchnorm"], [0.1, 4.0], steps=3, rate=4.0)
    assert panel.state["steps"] == 0
    panel.train.click()
    panel.wait()
    assert asked == [("mad", 4.0)]
    assert panel.state["loss"] == 1.0 and not panel.state["running"]
    assert panel.state["finished"] == [("mad, rate 4", 3, 62.5)]


def train(panel: widgets.TrainButton, *rates: float) -> tuple[dict, dict]:
    """Train once with each rate; (name -> its row's colour, colour -> losses) of what the panel then draws."""
    for rate in rates:
        panel.rate.value = rate
        panel.train.click()
        panel.wait()
    figure = Figure()
    panel._losses(figure, **panel.values)
    left, right = figure.axes
    rows = {line.get_ydata()[0]: line.get_color() for line in right.lines}
    names = {rows[text.get_position()[1]]: text.get_text().split(":")[0] for text in right.texts}
    assert len(names) == len(right.lines) == len(right.texts) == len(left.lines)
    return {name: c for c, name in names.items()}, {line.get_color(): list(line.get_ydata()) for line in left.lines}


def test_every_shown_training_has_a_colour_of_its_own_and_a_name() -> None:
    panel = widgets.TrainButton(lambda _, rate: iter((rate, rate / 2)), lambda: 50.0, ["mad"], range(1, 9), 2, 1)
    colours, curves = train(panel, 1, 2, 3)
    assert list(colours) == ["mad, rate 3", "mad, rate 2", "mad, rate 1"]  # the newest first
    for rate in (1, 2, 3):
        assert curves[colours[f"mad, rate {rate}"]] == [rate, rate / 2]
    later, curves = train(panel, 4, 5, 6, 7, 3)
    assert list(later) == [f"mad, rate {rate}" for rate in (3, 7, 6, 5, 4)] and len(curves) == 5
    assert {later[f"mad, rate {rate}"]: [rate, rate / 2] for rate in (3, 4, 5, 6, 7)} == curves
    panel.train.click()
    panel.wait()
    assert len(panel.state["finished"]) == 9  # what is not drawn any more is still told


def test_a_curve_keeps_its_colour_when_others_join() -> None:
    panel = widgets.TrainButton(lambda _, rate: iter((rate,)), lambda: 50.0, ["mad"], range(1, 9), 1, 1)
    before, _ = train(panel, 1, 2)
    after, _ = train(panel, 3, 4, 5)
    assert before.items() <= after.items()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_training_that_failed_keeps_no_result_of_an_earlier_one() -> None:
    ends = iter((False, True))

    def start(method: str, rate: float) -> Iterator[float]:
        yield 1.0
        if next(ends):
            raise ValueError

    panel = widgets.TrainButton(start, lambda: 62.5, ["mad"], [1], steps=1, rate=1)
    panel.train.click()
    panel.wait()
    figure = Figure()
    panel._losses(figure, **panel.values)
    assert [text.get_text() for text in figure.axes[1].texts] == ["mad, rate 1: 62.5 %"]
    panel.train.click()
    panel.wait()
    figure = Figure()
    panel._losses(figure, **panel.values)
    assert [text.get_text() for text in figure.axes[1].texts] == ["mad, rate 1"] and not figure.axes[1].patches


def test_stop_is_heard_while_training_runs() -> None:
    under_way = threading.Event()

    def endless(method: str, rate: float) -> Iterator[float]:
        while True:
            under_way.set()
            yield 1.0

    panel = widgets.TrainButton(endless, lambda: 10.0, ["mad"], [1.0], steps=10, rate=1.0)
    panel.train.click()
    assert under_way.wait(10)
    panel.stop.click()
    panel.wait(0)
    assert not panel.state["running"] and len(panel.state["finished"]) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_in_training_is_shown() -> None:
    def broken(method: str, rate: float) -> Iterator[float]:
        yield 1.0
        raise ValueError("the images are gone")

    panel = widgets.TrainButton(broken, lambda: 0.0, ["mad"], [1.0], steps=5, rate=1.0)
    panel.train.click()
    panel.wait()
    assert "the images are gone" in panel.error.value
    assert not panel.state["running"] and panel.state["finished"] == []


def test_rank_slider_cuts_and_counts() -> None:
    torch.manual_seed(0)
    alphas = {"a": torch.randn(6, 4) + 1, "b": torch.randn(8, 6) + 1}
    asked, notes = [], []

    def measure(rank: int, fresh: bool) -> float:
        asked.append((rank, fresh))
        return 50.0 + rank + 3 * fresh

    panel = widgets.rank_slider(alphas, measure, full=60.0, floor=50.0, rank=2)
    panel.note.observe(lambda change: notes.append(change["new"]), names="value")
    panel.layer.value = "b"
    assert not any("measuring" in note for note in notes), "this rank was measured before"
    assert panel.state["parameters"] == 2 * (6 + 4) + 2 * (8 + 6)
    assert panel.state["accuracy"] == 52.0 and panel.state["gain"] == pytest.approx(0.2)
    left, sizes, right = np.linalg.svd(alphas["b"].numpy())
    nearest = (left[:, :2] * sizes[:2]) @ right[:2]  # of all tables of rank two (Eckart & Young, 1936)
    np.testing.assert_allclose(panel.state["alpha"].numpy(), nearest, atol=1e-5)
    panel.lost.value = True
    left_out = panel.state["alpha"] - 1
    panel.lost.value = False
    assert torch.allclose(panel.state["alpha"] + left_out, alphas["b"], atol=1e-5)
    notes.clear()
    panel.fresh.value = True
    assert "measuring" in notes[0] and "measuring" not in notes[-1]
    assert panel.state["fresh"] and panel.state["accuracy"] == 55.0
    panel.rank.value, panel.fresh.value = 6, False
    assert torch.allclose(panel.state["alpha"], alphas["b"], atol=1e-5) and panel.state["kept"] == pytest.approx(1)
    panel.rank.value = 2
    assert asked == [(2, False), (2, True), (6, True), (6, False)]


@pytest.mark.parametrize("place", [(0.1, 0.1, 0.4, 0.7), (0.715, 0.16, 0.265, 0.74)])  # notebook 05, rank slider
def test_the_legend_of_accuracy_by_rank_lies_on_nothing(place) -> None:
    figure = figures.blank((9.5, 3.6))
    ax = figure.add_axes(place)
    cut = {1: 27.0, 4: 31.0, 16: 47.0, 128: 49.0}
    figures.accuracy_by_rank(ax, cut, trained={1: 39.0, 16: 43.0}, full=48.7, floor=30.7, marked=(4, 31.0))
    figure.canvas.draw()
    top = ax.transData.inverted().transform(ax.get_legend().get_window_extent())[1, 1]
    assert top < min(np.min(line.get_ydata()) for line in ax.lines) == 27
    assert ax.get_ylim()[1] > 49
