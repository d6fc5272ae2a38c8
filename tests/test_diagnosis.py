"""Diagnosis: the change of filters against sums by hand, verdicts on trials that are known, and the two new panels."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import madlab
from madlab import widgets
from madlab.allocation import Spectrum
from madlab.diagnosis import Trial, filter_change, read_trials, verdict
from madlab.errors import MadlabError

METHODS = ("mad:1", "mad:4", "mad", "finetune")


def made(method: str, factor: float, moved: float | None, loss: float, test: float | None = 50.0) -> Trial:
    log = [{"epoch": e, "train_loss": 4 - e + loss, "val_loss": 5.0 - e, "val_accuracy": 9.0 * e} for e in (1, 2, 3, 4)]
    return Trial(method, factor, 0.1 * factor, log if moved is not None else [], moved, test, "")


@pytest.fixture
def trials() -> list[Trial]:
    """Small rates hardly move the filters, the largest of MAD's diverges; loss falls with capacity."""
    found = []
    for place, method in enumerate(METHODS):
        for factor in (0.01, 0.1, 1.0, 10.0, 100.0):
            broken = method == "mad" and factor == 100
            moved = None if broken else 0.2 * factor
            test = None if broken else 60.0 + place - factor / 10
            found.append(made(method, factor, moved, 1.2 - 0.3 * place, test))
    return found


def test_filter_change_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.Conv2d(2, 1, 1), nn.Flatten(), nn.Linear(1, 2))
    network[0].weight.data = torch.tensor([3.0, 4.0]).reshape(2, 1, 1, 1)
    network[1].weight.data = torch.tensor([1.0, 2.0]).reshape(1, 2, 1, 1)
    network.crop = 1
    net = madlab.MultiDomainNet(network)
    net.add_domain("d", 2)
    assert filter_change(net.view("d")) == 0
    with torch.no_grad():
        net.view("d").adapters()["0"].alpha.copy_(torch.tensor([[1.0], [2.0]]))  # moves 4 by 4
        net.view("d").adapters()["1"].alpha.copy_(torch.tensor([[-2.0, 1.0]]))  # moves 1 by -3
    assert filter_change(net.view("d")) == pytest.approx(((16 + 9) / (9 + 16 + 1 + 4)) ** 0.5)
    net.add_domain("plain", 2, "batchnorm")
    with pytest.raises(MadlabError, match="leaves the filters as they are"):
        filter_change(net.view("plain"))


def test_verdicts(trials) -> None:
    by_place = {(t.method, t.factor): t for t in trials}
    for key, says in [
        (("mad", 0.01), "hardly moved, 0.01 times as far as at the method's own rate: this is BatchNorm and head"),
        (("finetune", 0.1), "No failure"),
        (("mad", 100.0), "too large: the loss became NaN"),
        (("finetune", 100.0), "too large: the filters moved 1e+02 times"),
        (("mad:1", 1.0), "0.90 above finetune's: capacity"),
        (("finetune", 1.0), "No failure"),
    ]:
        assert says in verdict(by_place[key], trials)


@pytest.mark.parametrize(("ahead", "says"), [(4.9, "No failure"), (5.0, "but × 0.1 does better"), (9.0, "× 0.1 does")])
def test_a_better_rate_of_the_same_method_is_named_before_the_capacity(trials, ahead, says) -> None:
    by_place = {(t.method, t.factor): t for t in trials}
    for method in ("mad:1", "finetune"):
        by_place[method, 0.1].log[-1]["val_accuracy"] += ahead
    assert says in verdict(by_place["finetune", 1.0], trials)
    assert ("look for the rate first" in verdict(by_place["mad:1", 1.0], trials)) == (ahead >= 5)
    assert "No failure" in verdict(by_place["finetune", 0.1], trials)
    for key, still in ((("mad:1", 0.01), "hardly moved"), (("mad:1", 10.0), "too large"), (("mad", 1.0), "No failure")):
        assert still in verdict(by_place[key], trials)  # the change comes first, and other methods do not count


def test_reads_what_the_script_leaves(tmp_path: Path) -> None:
    run = tmp_path / "mad-4" / "rate10"
    run.mkdir(parents=True)
    config = {"method": "mad", "rank": 4, "recipe": {"adapter_lr": 0.25}}
    (run / "config.json").write_text(json.dumps(config))
    symptoms = {"factor": 10.0, "moved": 0.5, "test_accuracy": 61.5, "failure": ""}
    (run / "symptoms.json").write_text(json.dumps(symptoms))
    (run / "metrics.jsonl").write_text('{"epoch": 1, "train_loss": 2.5}\n')
    (trial,) = read_trials(tmp_path)
    assert trial == Trial("mad:4", 10.0, 0.25, [{"epoch": 1, "train_loss": 2.5}], 0.5, 61.5, "")
    with pytest.raises(MadlabError, match="no trials"):
        read_trials(tmp_path / "elsewhere")


def test_diagnosis_board_shows_the_chosen_run(trials) -> None:
    board = widgets.diagnosis_board(trials)
    pictures = {bytes(board.image.value)}
    for capacity, method in enumerate(METHODS):
        for power in (-2, 2):
            board.capacity.value, board.power.value = capacity, power
            trial = next(t for t in trials if t.method == method and t.factor == 10.0**power)
            assert board.state["trial"] == trial
            assert board.state["verdict"] == verdict(trial, trials)
            assert board.state["curve"] == [line["train_loss"] for line in trial.log]
            pictures.add(bytes(board.image.value))
    board.power.value, board.show.value = 0, "validation accuracy (%)"
    assert board.state["curve"] == [9.0, 18.0, 27.0, 36.0]
    assert len(pictures) == 9


def test_budget_slider_measures_once_and_stays_within_the_budget() -> None:
    torch.manual_seed(0)
    shapes = [(8, 3), (16, 16), (12, 30)]
    spectra = {d: {f"c{i}": Spectrum.of(1 + torch.randn(s)) for i, s in enumerate(shapes)} for d in ("a", "b")}
    calls = []

    def measure(domain: str, ranks: dict[str, int]) -> float:
        calls.append((domain, tuple(ranks.values())))
        return 10.0 * sum(ranks.values())

    panel = widgets.budget_slider(spectra, measure, full={"a": 90.0, "b": 80.0}, percents=range(20, 61, 20), percent=20)
    assert len(calls) == 12
    whole = sum(m * n for m, n in shapes)
    for percent in (40, 60, 20):
        panel.percent.value = percent
        assert panel.state["budget"] == whole * percent // 100
        for how, ranks in panel.state["ranks"].items():
            by_hand = sum(min(r * (m + n), m * n) for r, (m, n) in zip(ranks.values(), shapes, strict=True))
            assert panel.state["spent"][how] == by_hand <= panel.state["budget"]
            assert panel.state["accuracy"][how] == 10.0 * sum(ranks.values())
    picture = bytes(panel.image.value)
    for show in ("numbers spent", "share of α's squared size left out (%)"):
        panel.show.value = show
        assert bytes(panel.image.value) != picture
    panel.domain.value = "b"
    assert len(calls) == 12
