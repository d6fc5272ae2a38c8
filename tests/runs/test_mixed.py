"""Files of one run in the folder of another, data that changed on the way, and arguments that no run can have."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

import madlab
from madlab.device import chosen_device
from madlab.errors import MadlabError
from madlab.runs.cell import Cell
from madlab.runs.record import Run, read_runs
from madlab.runs.sweep import sweep


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mixed")
    tiny.write_folder(root / "noise")
    tiny.write_base(root / "small.safetensors")
    run(root, "mad")
    run(root, "lora", method="lora", rank=2, seed=1)
    return root


def run(root: Path, name: str, **options: object) -> object:
    options = {"method": "frozen", "epochs": 1, "batch_size": 10, "progress": False} | options
    return madlab.train(root / "noise", base=root / "small.safetensors", out=root / name, **options)


def stopped(root: Path, name: str, **options: object) -> Path:
    """A run of two epochs that was stopped after the first."""

    def stop(_: object) -> None:
        raise Stop

    with pytest.raises(Stop):
        run(root, name, on_epoch=stop, **{"epochs": 2} | options)
    return root / name


def test_a_checkpoint_of_another_run_is_not_gone_on_from(place: Path) -> None:
    one, other = stopped(place, "seed0"), stopped(place, "seed1", seed=1)
    shutil.copy(other / "checkpoint.safetensors", one)
    with pytest.raises(MadlabError, match=r"seed0/checkpoint.safetensors is of a .* other options \(seed 1, now 0\)"):
        run(place, "seed0", epochs=2, resume=True)


def test_a_config_that_was_edited_does_not_change_what_a_checkpoint_is_of(place: Path) -> None:
    folder = stopped(place, "edited", epochs=3)
    config = json.loads((folder / "config.json").read_text())
    config["recipe"]["epochs"] = 2
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(MadlabError, match=r"other options \(epochs 3, now 2\)"):
        run(place, "edited", epochs=2, resume=True)


def test_a_run_does_not_go_on_with_other_images(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "noise", tmp_path / "noise")
    shutil.copy(place / "small.safetensors", tmp_path)
    stopped(tmp_path, "run")
    images = tmp_path / "noise/train/class0"
    shutil.copy(images / "0.png", images / "new.png")
    with pytest.raises(MadlabError, match=r"had other images .24 in train, 12 in val; now 25 in train, 12 in val"):
        run(tmp_path, "run", epochs=2, resume=True)
    (images / "new.png").unlink()
    run(tmp_path, "run", epochs=2, resume=True)


def test_a_result_of_another_run_is_told_and_left_out_of_tables(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "mad", tmp_path / "mad")
    shutil.copy(place / "lora/result.json", tmp_path / "mad")
    words = r"mad is damaged .config, result and log differ in method, seed"
    with pytest.raises(MadlabError, match=words):
        Run.read(tmp_path / "mad")
    with pytest.raises(MadlabError, match=words):
        madlab.train(
            place / "noise", "frozen", base=place / "small.safetensors", out=tmp_path / "mad", resume=True, epochs=1,
            batch_size=10, progress=False,
        )  # fmt: skip
    left_out: list[MadlabError] = []
    assert read_runs(tmp_path, left_out.append) == [] and len(left_out) == 1


def test_an_adapter_of_another_run_is_not_evaluated(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "mad", tmp_path / "mad")
    shutil.copy(place / "lora/adapter.safetensors", tmp_path / "mad")
    with pytest.raises(MadlabError, match=r"not of the run that its config.json asks for \(method"):
        madlab.evaluate(tmp_path / "mad")


@pytest.mark.parametrize(
    ("name", "value"),
    [("rank", -1), ("rank", "x"), ("rank", True), ("adapter_parameters", 10**30), ("date", "x\ny"), ("domain", "a\nb")],
)
def test_a_result_that_cannot_be_is_refused(place: Path, tmp_path: Path, name: str, value: object) -> None:
    shutil.copytree(place / "mad", tmp_path / "mad")
    file = tmp_path / "mad/result.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {name: value}))
    with pytest.raises(MadlabError, match=f"result.json is not valid .{name}"):
        Run.read(tmp_path / "mad")


def test_what_cannot_be_removed_from_a_finished_run_is_told(place: Path) -> None:
    run(place, "leftover")
    (place / "leftover/failure.txt").mkdir()
    with pytest.raises(MadlabError, match=r"failure.txt is a folder"):
        run(place, "leftover", resume=True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no FIFOs")
def test_a_log_that_is_no_file_counts_no_epochs_and_is_told(place: Path, tmp_path: Path) -> None:
    for make in (os.mkfifo, os.mkdir, lambda path: os.symlink("metrics.jsonl", path)):
        folder = tmp_path / "run"
        shutil.copytree(place / "mad", folder)
        (folder / "metrics.jsonl").unlink()
        make(folder / "metrics.jsonl")
        assert Cell(folder, "noise", {}, 1).epochs_done() == 0
        with pytest.raises(MadlabError, match=r"metrics.jsonl (is a (FIFO|folder)|could not be read)"):
            Run.read(folder)
        shutil.rmtree(folder)


def test_a_config_of_somebody_else_is_left_alone(place: Path) -> None:
    (place / "theirs").mkdir()
    (place / "theirs/config.json").write_text('{"editor": "vi"}')
    with pytest.raises(MadlabError, match=r"theirs/config.json is not valid"):
        run(place, "theirs")
    assert (place / "theirs/config.json").read_text() == '{"editor": "vi"}'


@pytest.mark.slow
def test_a_run_may_lie_in_a_folder_with_the_name_of_its_pocket_domain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside it lies an earlier run: the folder's name is the domain's, but the data are not there."""
    monkeypatch.chdir(tmp_path)
    Path("signs/earlier").mkdir(parents=True)
    with pytest.raises(MadlabError, match="The crop of 37 pixels is larger"):
        madlab.train("signs", "frozen", out="signs/run", crop=37, progress=False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": None}, "Unknown method None"),
        ({"method": ["mad"]}, "Unknown method"),
        ({"options": [("rank", 2)]}, "options of a method are a mapping"),
        ({"options": "rank"}, "options of a method are a mapping"),
        ({"options": {"self": 1}}, "takes no option 'self'"),
        ({"options": {"layers": "conv"}}, "takes no option 'layers'"),
        ({"options": {1: 2}}, "takes no option 1"),
        ({"method": "lora", "options": {"alpha": torch.tensor(2.0)}}, "alpha"),
        ({"layers": 5}, "The layers are 5"),
        ({"layers": None}, "The layers are None"),
        ({"layers": {"conv"}}, "The layers are {'conv'}"),
        ({"base": None}, "No base network 'None'"),
        ({"flip": "no"}, "flip is 'no'"),
        ({"flip": np.bool_(False)}, "flip is"),
        ({"domain": 5}, "not as 5"),
    ],
)
def test_arguments_of_the_wrong_kind_are_told_in_a_sentence(place: Path, options: dict, words: str) -> None:
    options = {"domain": place / "noise", "base": place / "small.safetensors", "epochs": 1, "progress": False} | options
    with pytest.raises(MadlabError, match=words):
        madlab.train(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seeds": "2"}, "'2' is not a number of seeds"),
        ({"seeds": 1.5}, "1.5 is not a number of seeds"),
        ({"seeds": True}, "True is not a number of seeds"),
        ({"domains": "noise"}, "domains is the text 'noise': give a list"),
        ({"methods": "mad"}, "methods is the text 'mad': give a list"),
        ({"domains": [5]}, "not as 5"),
        ({"methods": ["mad:2", "mad:02"]}, "Two runs have the name"),
        ({"workers": 1.5}, "1.5 is not a number of workers"),
        ({"workers": "2"}, "'2' is not a number of workers"),
        ({"head": "nope"}, "named 'nope' to be its head"),
        ({"device": "cuda:999"}, "no device 'cuda:999'"),
    ],
)
def test_a_grid_of_the_wrong_kind_is_told_in_a_sentence(place: Path, options: dict, words: str) -> None:
    options = {"domains": [place / "noise"], "methods": ["frozen"], "base": place / "small.safetensors"} | options
    with pytest.raises(MadlabError, match=words):
        sweep(out=place / "grid", epochs=1, progress=False, **options)
    assert not (place / "grid").exists()


def test_a_damaged_run_of_a_grid_is_told_before_anything_is_started(place: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "noise/frozen/seed0"
    shutil.copytree(place / "mad", damaged)
    (damaged / "result.json").write_text("{")
    with pytest.raises(MadlabError, match=r"result.json is damaged"):
        sweep([place / "noise"], ["frozen", "batchnorm"], out=tmp_path, base=place / "small.safetensors", epochs=1)
    assert not (tmp_path / "noise/batchnorm").exists()


@pytest.mark.parametrize("name", ["cuda:256", "cuda:999", "cpu:-1", "cpu:1", "tpu", "cpu\n"])
def test_an_index_is_not_wrapped_into_eight_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(MadlabError, match="There is no device"):
        chosen_device(name)
    assert chosen_device("cuda:1") == torch.device("cuda", 1)
