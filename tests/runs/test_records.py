"""Recorded runs are read back as they were written, from run folders and from records files, damaged ones named."""

import json
from pathlib import Path

import pytest
from made_runs import made_run

from madlab.errors import MadlabError
from madlab.runs.record import RECORDS, read_log, read_runs, write_runs

CONFIG = {
    "domain": "signs",
    "source": "images/signs",
    "flip": False,
    "base": {"name": "b", "sha256": "0", "source": "b.safetensors"},
    "method": "mad",
    "options": {"rank": 8},
    "recipe": {"epochs": 3, "seed": 1},
}
RESULT = {
    "domain": "signs",
    "method": "mad",
    "rank": 8,
    "seed": 1,
    "base": {"name": "b", "sha256": "0"},
    "base_parameters": 9,
    "adapter_parameters": 5,
    "val_accuracy": 50.0,
    "test_accuracy": 70.5,
    "best_epoch": 1,
    "epochs": 3,
    "seconds": 1.0,
    "device": "CPU",
    "versions": {},
}
LOG = [{"epoch": n, "train_loss": 3.0 - n, "val_loss": 2.5, "val_accuracy": 50.0} for n in (1, 2, 3)]


def write_folder(folder: Path, result: dict = RESULT, config: dict = CONFIG) -> Path:
    """A run folder as `madlab train` leaves it, without its adapter."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in LOG))
    return folder


def test_a_folder_of_runs_and_a_records_file_of_the_same_runs_say_the_same(tmp_path: Path) -> None:
    write_folder(tmp_path / "runs" / "signs" / "mad-8" / "seed1")
    write_folder(tmp_path / "runs" / "digits", RESULT | {"domain": "digits"}, CONFIG | {"domain": "digits"})
    half_done = write_folder(tmp_path / "runs" / "half-done")
    (half_done / "result.json").unlink()
    domains = ({"domain": "digits"}, {"domain": "signs"})
    lines = [{"config": CONFIG | domain, "result": RESULT | domain, "log": LOG} for domain in domains]
    file = tmp_path / "grid.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for runs in (read_runs(tmp_path / "runs"), read_runs(file)):
        assert [(run.result.domain, run.method) for run in runs] == [("digits", "mad:8"), ("signs", "mad:8")]
        for run in runs:
            assert run.result.test_accuracy == 70.5 and run.config.source == "images/signs"
            assert run.config.recipe.seed == 1 and run.config.recipe.momentum == 0.9
            assert [(entry.epoch, entry.train_loss) for entry in run.log] == [(1, 2.0), (2, 1.0), (3, 0.0)]
    assert [len(read_log(folder)) for folder in (half_done, tmp_path)] == [3, 0]
    assert [run.path for run in read_runs(file)] == [f"{file}, line 1", f"{file}, line 2"]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    runs = [made_run("signs", "mad", 70.0, rank=8, layers=("conv1", "conv2")), made_run("birds", "lora", 60.0, seed=3)]
    write_runs(tmp_path / "grid.jsonl", runs)
    found = read_runs(tmp_path / "grid.jsonl")
    assert [(run.config, run.result, run.log) for run in found] == [(run.config, run.result, run.log) for run in runs]


GOOD = {"config": CONFIG, "result": RESULT, "log": LOG}
DAMAGED = {
    b"{": "damaged",
    b"\xff\xfe{}": "damaged",
    b"[" * 100_000: "damaged",
    b"[]": "not a recorded run",
    json.dumps({"config": CONFIG, "result": RESULT}).encode(): "needs config, result and log",
    json.dumps(GOOD | {"result": RESULT | {"test_accuracy": 170}}).encode(): "test_accuracy is 170",
    json.dumps(GOOD | {"result": RESULT | {"seed": "one"}}).encode(): "seed is 'one'",
    json.dumps(GOOD | {"log": [{"epoch": 1}]}).encode(): "train_loss",
    json.dumps(GOOD | {"config": CONFIG | {"recipe": {"momentum": 2}}}).encode(): "momentum is 2",
    json.dumps(GOOD | {"config": CONFIG | {"method": "lora"}}).encode(): "differ in method",
    json.dumps(GOOD | {"result": RESULT | {"rank": float("nan")}}).encode(): "rank is nan",
    json.dumps(GOOD | {"result": RESULT | {"epochs": 10**12}}).encode(): "differ in epochs, number of epochs",
    json.dumps(GOOD | {"log": LOG[:2]}).encode(): "differ in number of epochs",
    json.dumps(GOOD | {"result": RESULT | {"stored_bytes": {"adapter": 5}}}).encode(): "stored_bytes are not those of",
    json.dumps(GOOD | {"result": RESULT | {"val_accuracy": 51}}).encode(): "differ in validation accuracy",
}


@pytest.mark.parametrize("line", DAMAGED, ids=lambda line: repr(line[:20]))
def test_a_damaged_line_is_named_and_can_be_left_out(tmp_path: Path, line: bytes) -> None:
    file = tmp_path / "grid.jsonl"
    good = json.dumps(GOOD).encode()
    file.write_bytes(good + b"\n" + line + b"\n" + good + b"\n")
    with pytest.raises(MadlabError, match=DAMAGED[line]) as told:
        read_runs(file)
    assert f"{file}, line 2" in str(told.value)
    errors: list[MadlabError] = []
    assert [run.path for run in read_runs(file, errors.append)] == [f"{file}, line 1", f"{file}, line 3"]
    assert list(map(str, errors)) == [str(told.value)]


def test_a_damaged_folder_is_named_and_can_be_left_out(tmp_path: Path) -> None:
    write_folder(tmp_path / "a")
    (write_folder(tmp_path / "b") / "result.json").write_text("{}")
    (write_folder(tmp_path / "c") / "config.json").unlink()
    (write_folder(tmp_path / "d") / "metrics.jsonl").write_text('{"epoch": 0}\n')
    errors: list[MadlabError] = []
    assert [run.path for run in read_runs(tmp_path, errors.append)] == [str(tmp_path / "a")]
    for error, name in zip(errors, ("b/result.json", "c", "d/metrics.jsonl"), strict=True):
        assert str(tmp_path / name) in str(error)


def test_runs_behind_links_are_found_once(tmp_path: Path) -> None:
    write_folder(tmp_path / "runs" / "a")
    write_folder(tmp_path / "runs" / "b")
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "a").symlink_to(tmp_path / "runs" / "a")
    (tmp_path / "best" / "again").symlink_to(tmp_path / "best")
    (tmp_path / "best" / "up").symlink_to(tmp_path)
    assert [run.path for run in read_runs(tmp_path / "best")] == [str(tmp_path / "best" / "a")]


def test_what_is_not_there_is_not_empty(tmp_path: Path) -> None:
    with pytest.raises(MadlabError, match=r"no file or folder .*nowhere"):
        read_runs(tmp_path / "nowhere")
    assert read_runs(tmp_path) == []


def test_every_grid_that_ships_can_be_read() -> None:
    others = ("trials", "diagnosis", "failures")  # which have readers of their own
    grids = {file.stem: read_runs(file) for file in RECORDS.glob("*.jsonl") if not file.stem.startswith(others)}
    assert len(grids) >= 10 and all(run.log[-1].epoch == run.result.epochs for runs in grids.values() for run in runs)
