"""Training on training and validation images together: the same as on a domain that was joined by hand, unvalidated."""

import json
from dataclasses import replace

import pytest
import tiny
import torch
from safetensors.torch import load_file

import madlab
from madlab import cli
from madlab.benchmarks import load_domain
from madlab.benchmarks.domain import Domain, Split
from madlab.errors import MadlabError
from madlab.runs.evaluate import evaluate, round_run
from madlab.runs.recalibrate import round_domain
from madlab.runs.record import Epoch, Result, Run, read_runs, write_runs
from madlab.tables.report import write_report


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("trainval")
    tiny.write_folder(root / "noise")
    tiny.write_base(root / "small.safetensors")
    return root


def run(root, name, domain=None, **options) -> Result:
    options = {"method": "mad:2", "epochs": 1, "batch_size": 10, "progress": False, "trainval": True} | options
    domain = str(root / "noise") if domain is None else domain
    return madlab.train(domain, base=str(root / "small.safetensors"), out=root / name, **options)


def joined(root) -> Domain:
    """Training images and, after them, validation images, with the normalization of the training images alone."""
    domain = load_domain(str(root / "noise"), size=36)
    both = [torch.cat([getattr(domain.train, part), getattr(domain.val, part)]) for part in ("images", "labels")]
    return replace(domain, train=Split(*both))


def test_it_trains_as_on_a_domain_that_was_joined_by_hand(place) -> None:
    run(place, "whole")
    run(place, "by hand", joined(place), trainval=False)
    whole, by_hand = (load_file(place / name / "adapter.safetensors") for name in ("whole", "by hand"))
    assert whole.keys() == by_hand.keys() and all(torch.equal(whole[name], by_hand[name]) for name in whole)
    one, other = (Run.read(place / name) for name in ("whole", "by hand"))
    assert one.log[0].train_loss == other.log[0].train_loss
    assert one.result.test_accuracy == other.result.test_accuracy


@pytest.mark.slow
def test_there_is_no_validation_and_the_last_epoch_counts(place) -> None:
    result = run(place, "three", epochs=3)
    assert result.val_accuracy is None and result.best_epoch == 3
    recorded = Run.read(place / "three")
    assert all(entry.val_loss is None and entry.val_accuracy is None for entry in recorded.log)
    write_runs(place / "runs.jsonl", [recorded])
    (again,) = read_runs(place / "runs.jsonl")
    assert (again.config, again.result, again.log) == (recorded.config, recorded.result, recorded.log)
    assert evaluate(place / "three") == result.test_accuracy
    assert round_run(place / "three", [8]).rounded["8"].val_accuracy is None
    assert "3 epochs, batch_size 10, trainval" in write_report(place / "three")


def test_a_stopped_run_goes_on_to_the_same_bytes(place) -> None:
    class Stopped(BaseException):
        pass

    def stop(entry: Epoch) -> None:
        if entry.epoch == 2:
            raise Stopped

    with pytest.raises(Stopped):
        run(place, "stopped", epochs=3, on_epoch=stop)
    run(place, "stopped", epochs=3, resume=True)
    run(place, "unstopped", epochs=3)
    for name in ("config.json", "metrics.jsonl", "adapter.safetensors"):
        assert (place / "stopped" / name).read_bytes() == (place / "unstopped" / name).read_bytes()
    with pytest.raises(MadlabError, match=r"other options \(trainval True, now False\)"):
        run(place, "stopped", epochs=3, resume=True, trainval=False)


def test_a_record_that_contradicts_itself_is_damaged(place) -> None:
    run(place, "lying")
    file = place / "lying" / "result.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"val_accuracy": 50.0}))
    with pytest.raises(MadlabError, match="whether there was a validation"):
        Run.read(place / "lying")


def test_on_the_command_line(place, capsys) -> None:
    command = ["train", "--domain", str(place / "noise"), "--base", str(place / "small.safetensors")]
    assert cli.main([*command, "--epochs", "1", "--trainval", "--out", str(place / "command")]) == 0
    assert "noise, mad: no validation (epoch 1)" in capsys.readouterr().out
    again = ["train", "--config", str(place / "command"), "--out", str(place / "again")]
    assert cli.main(again) == 0
    assert Run.read(place / "again").config.recipe.trainval
    assert cli.main(["diagnose", str(place / "command")]) == 2
    assert "was trained on its validation images too" in capsys.readouterr().err


def test_frozen_has_no_validation_to_choose_its_decay_by(place) -> None:
    """Every epoch has the decay in the middle of the path, as a run of a single epoch does."""
    run(place, "frozen", method="frozen", epochs=2)
    one, other = run(place, "once", method="frozen"), Run.read(place / "frozen")
    assert other.result.best_epoch == 2 and one.best_epoch == 1
    assert other.log[0].train_loss == Run.read(place / "once").log[0].train_loss


@pytest.mark.slow
def test_rounded_later_its_statistics_are_of_all_the_images_that_it_trained_on(place, monkeypatch) -> None:
    run(place, "rounded")
    seen = []

    def spy(net, name, rounded, bits, domain, *rest) -> None:
        seen.append(len(domain.train))
        round_domain(net, name, rounded, bits, domain, *rest)

    monkeypatch.setattr("madlab.runs.evaluate.round_domain", spy)
    round_run(place / "rounded", [8])
    assert seen == [len(joined(place).train)]
