"""Diagnosis: the change of filters against sums by hand, verdicts on trials that are known, and the two new panels."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_runs import made_run
from torch import nn

import madlab
from madlab import widgets
from madlab.adapters.base import split_method
from madlab.analysis.allocation import Spectrum
from madlab.analysis.diagnosis import filter_change
from madlab.analysis.rate_trials import Trial, judged, read_rate_trials
from madlab.errors import MadlabError
from madlab.runs.record import RECORDS

METHODS = ("mad:1", "mad:4", "mad", "finetune")


def made(method: str, factor: float, moved: float | None, loss: float, test: float = 50.0) -> Trial:
    name, rank = split_method(method)
    run = made_run("glyphs", name, test, rank=rank, losses=tuple(4 - e + loss for e in (1, 2, 3, 4)))
    if moved is None:
        return Trial(run.config, None, (), factor, None, "The loss became nan in epoch 1.")
    return Trial(run.config, run.result, run.log, factor, moved)


@pytest.fixture
def trials() -> list[Trial]:
    """Small rates hardly move the filters, the largest of MAD's diverges; loss falls with capacity."""
    found = []
    for place, method in enumerate(METHODS):
        for factor in (0.01, 0.1, 1.0, 10.0, 100.0):
            broken = method == "mad" and factor == 100
            moved = None if broken else 0.2 * factor
            found.append(made(method, factor, moved, 1.2 - 0.3 * place, 60.0 + place - factor / 10))
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
    with torch.no_grad():
        net.view("d").adapters()["0"].alpha.copy_(torch.tensor([[1e30], [1.0]]))  # 3e30 squared is beyond float32
        net.view("d").adapters()["1"].alpha.fill_(1.0)
    assert filter_change(net.view("d")) == pytest.approx(3e30 / 30**0.5)
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
        assert says in judged(by_place[key], trials).sentence


@pytest.mark.parametrize(("ahead", "says"), [(4.9, "No failure"), (5.0, "but × 0.1 does better"), (9.0, "× 0.1 does")])
def test_a_better_rate_of_the_same_method_is_named_before_the_capacity(trials, ahead, says) -> None:
    def better(trial: Trial) -> Trial:
        last = replace(trial.log[-1], val_accuracy=trial.log[-1].val_accuracy + ahead)
        return replace(trial, log=(*trial.log[:-1], last))

    trials = [better(t) if t.method in ("mad:1", "finetune") and t.factor == 0.1 else t for t in trials]
    by_place = {(t.method, t.factor): t for t in trials}
    assert says in judged(by_place["finetune", 1.0], trials).sentence
    assert ("look for the rate first" in judged(by_place["mad:1", 1.0], trials).sentence) == (ahead >= 5)
    assert "No failure" in judged(by_place["finetune", 0.1], trials).sentence
    for key, still in ((("mad:1", 0.01), "hardly moved"), (("mad:1", 10.0), "too large"), (("mad", 1.0), "No failure")):
        assert still in judged(by_place[key], trials).sentence  # the change comes first, and other methods do not count


def test_trials_are_read_as_they_were_written(tmp_path: Path, trials) -> None:
    file = tmp_path / "trials.jsonl"
    file.write_text("".join(json.dumps(trial.to_json()) + "\n" for trial in trials))
    assert read_rate_trials(file) == trials
    file.write_text('{"factor": 1}\n')
    with pytest.raises(MadlabError, match=r"trials\.jsonl, line 1"):
        read_rate_trials(file)
    file.write_text("")
    with pytest.raises(MadlabError, match="no trials"):
        read_rate_trials(file)


def test_the_recorded_trials_are_those_of_the_file() -> None:
    lines = [json.loads(line) for line in (RECORDS / "diagnosis.jsonl").read_text().splitlines()]
    trials = read_rate_trials()
    assert {(t.method, t.factor) for t in trials} == {(m, f) for m in METHODS for f in (0.01, 0.1, 1, 10, 100)}
    for trial, line in zip(trials, lines, strict=True):
        assert trial.config.base.sha256 == line["config"]["base"]["sha256"] and trial.moved == line["moved"]
        assert trial.test_accuracy == line["result"]["test_accuracy"]
        assert [epoch.val_loss for epoch in trial.log] == [entry["val_loss"] for entry in line["log"]]


def test_diagnosis_board_shows_the_chosen_run(trials) -> None:
    board = widgets.diagnosis_board(trials)
    pictures = {bytes(board.image.value)}
    for capacity, method in enumerate(METHODS):
        for power in (-2, 2):
            board.capacity.value, board.power.value = capacity, power
            trial = next(t for t in trials if t.method == method and t.factor == 10.0**power)
            assert board.state["trial"] == trial
            assert board.state["verdict"] == judged(trial, trials).sentence
            assert board.state["curve"] == [epoch.train_loss for epoch in trial.log]
            pictures.add(bytes(board.image.value))
    board.power.value, board.show.value = 0, "validation accuracy (%)"
    assert board.state["curve"] == [10.0, 20.0, 30.0, 40.0]
    assert len(pictures) == 9


def test_budget_slider_measures_once_and_both_ways_spend_the_same() -> None:
    torch.manual_seed(0)
    shapes = [(8, 3), (16, 16), (12, 30)]
    spectra = {d: {f"c{i}": Spectrum.of(torch.randn(s)) for i, s in enumerate(shapes)} for d in ("a", "b")}
    calls = []

    def measure(domain: str, ranks: dict[str, int], fresh: bool) -> float:
        calls.append((domain, tuple(ranks.values()), fresh))
        return 10.0 * sum(ranks.values()) + fresh

    panel = widgets.budget_slider(spectra, measure, full={"a": 90.0, "b": 80.0}, kilobytes=range(1, 4))
    assert len(calls) == 24
    for kilobytes in (3, 2, 1):
        panel.budget.value = kilobytes
        for how, ranks in panel.state["ranks"].items():
            by_hand = 4 * sum(r * (m + n) for r, (m, n) in zip(ranks.values(), shapes, strict=True))
            assert panel.state["spent"] == by_hand <= 1000 * kilobytes
            assert panel.state["accuracy"][how] == 10.0 * sum(ranks.values()) + 1
    panel.fresh.value = False
    assert panel.state["accuracy"]["uniform"] == 10.0 * sum(panel.state["ranks"]["uniform"].values())
    picture = bytes(panel.image.value)
    for show in ("bytes spent", "share of the layer's change left out (%)"):
        panel.show.value = show
        assert bytes(panel.image.value) != picture
    panel.domain.value = "b"
    assert len(calls) == 24
