"""The method picker shows each method's filters, the sparsity slider sets back and counts; both against loops."""

import pytest
import torch

from madlab import widgets
from madlab.widgets import panel as panels


def banks():
    torch.manual_seed(0)
    base = {"stem": torch.randn(16, 3, 3, 3), "late": torch.randn(32, 16, 3, 3)}
    mask = {name: w * (torch.rand_like(w) > 0.25) for name, w in base.items()}
    louder = {name: 1.1 * w for name, w in base.items()}
    return base, {"mad": louder, "piggyback": mask, "batchnorm": base}


def test_method_picker_shows_the_filters_that_run() -> None:
    base, trained = banks()
    sizes = {"mad": 560.0, "piggyback": 157.5, "batchnorm": 0.0}
    panel = widgets.method_picker(base, trained, sizes, {"mad": 70.0, "piggyback": 60.0, "batchnorm": 50.0})
    assert panel.state["method"] == "mad" and panel.state["change"] == pytest.approx(10, abs=1e-3)
    panel.layer.value = "late"
    panel.first.value = 5
    torch.testing.assert_close(panel.state["filters"], 1.1 * base["late"][5:21, :8])
    assert "560" in panel.note.value
    picture = panel.image.value
    panel.method.value = "piggyback"
    assert panel.image.value != picture
    assert panel.state["zeros"] == pytest.approx(
        sum(float(v) == 0 for v in trained["piggyback"]["late"].flatten()) / 4608
    )
    assert panel.state["accuracy"] == 60 and panel.state["parameters"] == 157.5
    panel.method.value = "batchnorm"
    assert panel.state["change"] == 0 and panel.state["zeros"] == 0


def test_method_picker_names_every_marker_in_every_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    base, trained = banks()
    sizes, accuracies = {"mad": 560.0, "piggyback": 157.5, "batchnorm": 0.0}, dict.fromkeys(trained, 50.0)
    drawn, png = [], panels.png
    monkeypatch.setattr(panels, "png", lambda figure: drawn.append(figure) or png(figure))
    panel = widgets.method_picker(base, trained, sizes, accuracies)
    panel.method.value = "batchnorm"
    names = [{(text.get_text(), text.xy, text.get_position()) for text in figure.axes[-1].texts} for figure in drawn]
    assert {name[:2] for name in names[0]} == {(method, (size, 50.0)) for method, size in sizes.items()}
    assert names[0] == names[1]


def test_first_filter_stays_inside_the_layer() -> None:
    base, trained = banks()
    panel = widgets.method_picker(base, trained, dict.fromkeys(trained, 1.0), dict.fromkeys(trained, 1.0))
    assert panel.first.max == 0 and panel.first.disabled
    panel.layer.value = "late"
    assert panel.first.max == 16 and not panel.first.disabled
    panel.first.value = 16
    panel.layer.value = "stem"
    assert panel.first.value == 0 and panel.state["filters"].shape == (16, 3, 3, 3)


def test_sparsity_slider_sets_back_counts_and_asks_once() -> None:
    torch.manual_seed(0)
    one = {"a": 1 + torch.randn(6, 4) / 4, "b": 1 + torch.randn(8, 6) / 4}
    other = {name: alpha + 0.5 for name, alpha in one.items()}
    asked, announced = [], []

    def measure(domain: str, threshold: float, value: float, fresh: bool, shuffled: bool) -> float:
        announced.append(bool(asked) and "measuring" in panel.note.value)
        asked.append((domain, threshold, value, fresh, shuffled))
        return 80 - 10 * threshold + fresh - 5 * shuffled

    levels = {"x": {"whole α": 80.0}, "y": {"whole α": 80.0}}
    panel = widgets.sparsity_slider({"x": one, "y": other}, measure, levels=levels, threshold=0.25)
    numbers = [float(v) for alpha in one.values() for v in alpha.flatten()]
    kept = sum(abs(v - 1) >= 0.25 for v in numbers)
    assert panel.state["kept"] == pytest.approx(kept / 72)
    assert panel.state["bits"] == 72 + 32 * kept
    in_b = sum(abs(float(v) - 1) >= 0.25 for v in one["b"].flatten()) / 48
    assert panel.state["by_layer"][1] == pytest.approx(in_b)
    shown = panel.state["alpha"]
    for got, alpha in zip(shown.flatten(), one["b"].flatten(), strict=True):
        assert float(got) == (float(alpha) if abs(float(alpha) - 1) >= 0.25 else 1)
    panel.threshold.value = 0.5
    panel.threshold.value = 0.25
    panel.threshold.value = 0.525
    assert format(0.525, panel.threshold.readout_format).rstrip("0") == "0.525"  # beside the slider
    assert "0.525:" in panel.note.value  # and below the picture
    panel.threshold.value = 0.25
    panel.value.value = 0.0
    assert float(panel.state["alpha"].min()) == pytest.approx(float(one["b"].min()))  # nothing is so near to zero
    panel.value.value, panel.domain.value = 1.0, "y"
    places = [("x", 0.25, 1.0), ("x", 0.5, 1.0), ("x", 0.525, 1.0), ("x", 0.25, 0.0), ("y", 0.25, 1.0)]
    assert asked == [(*place, False, False) for place in places]
    assert announced == [False, True, True, True, True]
    assert panel.state["accuracy"] == 77.5 and "77.5" in panel.note.value and "measuring" not in panel.note.value
    panel.fresh.value = True
    panel.shuffled.value = True
    assert asked[-2:] == [("y", 0.25, 1.0, True, False), ("y", 0.25, 1.0, True, True)]
    assert panel.state["accuracy"] == 73.5
    other_places, kept = panel.state["alpha"], [v for v in other["b"].flatten().tolist() if abs(v - 1) >= 0.25]
    assert sorted(other_places[other_places != 1].tolist()) == pytest.approx(sorted(kept))
    assert not torch.equal(other_places != 1, (other["b"] - 1).abs() >= 0.25)


def test_cause_board_pairs_each_run_with_the_usual_one_of_its_domain_and_seed() -> None:
    runs = [
        {"domain": d, "seed": s, "cause": c, "moved": 0.1 * s + shift, "at_one": 0.0, "accuracy": 50 + 10 * s + gain}
        | {"accuracy_of_cut": 40.0, "accuracy_of_shuffled": 39.0 - 0.1 * s}
        for d, s, gain_of in (("x", 0, 1.0), ("x", 1, 3.0), ("y", 0, -2.0))
        for c, shift, gain in (("usual", 0.2, 0.0), ("L1", 0.0, gain_of))
    ]
    panel = widgets.cause_board(runs)
    assert panel.state["rows"]["usual"] == {"x": pytest.approx(25), "y": pytest.approx(20)}
    panel.show.value = "accuracy (points from usual)"
    assert panel.state["rows"]["L1"] == {"x": pytest.approx(2), "y": pytest.approx(-2)}
    mean, spread = 0.0, 2 * 2**0.5  # of two domains: t for one degree of freedom is 12.706
    assert panel.state["told"]["L1"].estimate == pytest.approx(mean)
    assert panel.state["told"]["L1"].high == pytest.approx(12.706 * spread / 2**0.5, rel=1e-4)
    assert "none" in panel.note.value
    panel.show.value = "a tenth, in its places or shuffled (points)"
    assert "<b>L1</b>" in panel.note.value and "<b>usual</b>" in panel.note.value  # about one point in every run
    picture = bytes(panel.image.value)
    panel.domain.value = "y"
    assert bytes(panel.image.value) != picture
