"""The driver of the fair table: what it plans is what it runs, and what it folds is what was run."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from scripts import load_script

from madlab import METHODS
from madlab.adapters.base import split_method
from madlab.errors import MadlabError
from madlab.runs.config import CONFIG
from madlab.runs.record import METRICS, RECORDS, RESULT, read_runs, write_runs

fair_grids, fair_table = load_script("fair_grids"), load_script("fair_table")
DUELS, GRIDS = fair_grids.DUELS, fair_grids.GRIDS
OTHERS = fair_grids.DRAWN + fair_grids.OTHERS
EARLY = DUELS + fair_grids.DRAWN
"""The rows of the first stage of `table`."""


def test_every_method_has_a_row() -> None:
    assert {split_method(row)[0] for row in DUELS + OTHERS} == set(METHODS)
    assert not set(DUELS) & set(OTHERS)


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_plans_each_run_once_and_records_all_its_domains(name: str, tmp_path: Path) -> None:
    planned = list(fair_grids.planned(name, tmp_path))
    places = [run.folder for run in planned]
    assert len(places) == len(set(places))
    assert {run.domain for run in planned} == {d for domains in GRIDS[name].records.values() for d in domains}


def test_the_rows_of_the_duels_have_three_seeds_and_the_first_seed_comes_first(tmp_path: Path) -> None:
    planned = list(fair_grids.planned("table", tmp_path))
    seeds = {row: {run.seed for run in planned if run.method == row} for row in DUELS + OTHERS}
    assert all(seeds[row] == {0, 1, 2} for row in DUELS if row != "mad:8")
    assert all(seeds[row] == {0} for row in OTHERS)
    first = [run for run in planned if run.seed == 0][: len(EARLY) * 11]
    assert planned[: len(first)] == first
    assert {run.method for run in first} == set(EARLY)


def test_fewer_images_are_every_nth_of_the_training_images_and_all_others(tmp_path: Path) -> None:
    folder = tiny.write_folder(tmp_path / "data" / "noise", classes=3, counts=(8, 4, 6))
    copy = fair_table.fewer(folder, tmp_path / "few" / "noise", most=10)
    assert fair_table.fewer(folder, copy, most=10) == copy
    pictures = {root: sorted(path.relative_to(root) for path in root.rglob("*.png")) for root in (folder, copy)}
    train = [path for path in pictures[folder] if path.parts[0] == "train"]
    assert pictures[copy] == sorted([*(set(pictures[folder]) - set(train)), *train[::3]])
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.fixture
def small_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A grid of two domains, two methods and two stages; the arguments of the command."""
    for name in ("bright", "dark"):
        tiny.write_folder(tmp_path / "data" / name)
    base = tiny.write_base(tmp_path / "small.safetensors")
    both = "bright", "dark"
    stages = (
        fair_grids.Stage(("frozen", "mad:2"), both, 1, {"epochs": 1}),
        fair_grids.Stage(("mad:2",), ("dark",), 2, {"epochs": 1}),
    )
    grid = fair_grids.Campaign(base, stages, {"all": both, "one": ("dark",)}, 2.0)
    monkeypatch.setitem(GRIDS, "small", grid)
    return ["fair_table.py", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "runs"), "--grids", "small"]


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", arguments)
    fair_table.main()


@pytest.mark.slow
def test_the_command_runs_what_is_planned_goes_on_and_folds(small_grid, tmp_path, monkeypatch, capsys) -> None:
    run([*small_grid, "--print-plan"], monkeypatch)
    assert "small: 0 of 5 runs are finished" in capsys.readouterr().out
    run(small_grid, monkeypatch)
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("result.json")}
    run(small_grid, monkeypatch)
    assert times == {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("result.json")}
    run([*small_grid, "--print-plan"], monkeypatch)
    assert "small: 5 of 5 runs are finished; about 0.0 core hours are left" in capsys.readouterr().out
    records = tmp_path / "records"
    records.mkdir()
    run([*small_grid, "--fold", "--records", str(records)], monkeypatch)
    runs = read_runs(records / "all.jsonl")
    expected = [("bright", "frozen", 0), ("bright", "mad:2", 0)]
    expected += [("dark", "frozen", 0), ("dark", "mad:2", 0), ("dark", "mad:2", 1)]
    assert [(r.result.domain, r.method, r.result.seed) for r in runs] == expected
    assert all(sorted(r.result.rounded) == ["2", "3", "4", "8"] and r.result.test_images == 18 for r in runs)
    assert [r.result.domain for r in read_runs(records / "one.jsonl")] == ["dark"] * 3

    elsewhere = ["--out", str(tmp_path / "elsewhere"), "--records", str(records)]
    for expected_count in (5, 0):
        run([*small_grid, *elsewhere, "--restore"], monkeypatch)
        assert f"small: {expected_count} runs are restored" in capsys.readouterr().out
    assert {file.name for file in (tmp_path / "elsewhere").rglob("*") if file.is_file()} == {CONFIG, METRICS, RESULT}
    run([*small_grid, *elsewhere], monkeypatch)  # trains nothing
    assert not [*(tmp_path / "elsewhere").rglob("*.safetensors")]
    run([*small_grid, *elsewhere[:2], "--fold", "--records", str(tmp_path / "records again")], monkeypatch)
    for file in records.iterdir():
        assert (tmp_path / "records again" / file.name).read_bytes() == file.read_bytes()
    other = replace(runs[-1], result=replace(runs[-1].result, rates=runs[-1].result.rates | {"head": 0.7}))
    write_runs(tmp_path / "records again" / "all.jsonl", [*runs[:-1], other])
    write_runs(tmp_path / "records again" / "one.jsonl", [])
    shutil.rmtree(tmp_path / "elsewhere")
    run([*small_grid, *elsewhere[:3], str(tmp_path / "records again"), "--restore"], monkeypatch)
    assert "small: 4 runs are restored" in capsys.readouterr().out

    fold = [*small_grid, "--fold", "--records", str(records)]
    place = tmp_path / "runs" / "small" / "dark" / "mad-2"
    (place / "seed1").rename(tmp_path / "seed1")
    with pytest.raises(
        SystemExit,
        match=r"all.jsonl has runs, or rounded forms of them, that are not in --out \(1, the first is dark mad:2 1\)",
    ):
        run(fold, monkeypatch)
    assert [len(read_runs(records / f"{name}.jsonl")) for name in ("all", "one")] == [5, 3]
    shutil.copytree(place / "seed0", place / "seed1")
    with pytest.raises(SystemExit, match=r"seed1 holds a run of another plan .seed 0, not 1.: remove it"):
        run(fold, monkeypatch)
    shutil.rmtree(place / "seed1")
    (tmp_path / "seed1").rename(place / "seed1")
    written = (place / "seed1" / "result.json").read_bytes()
    (place / "seed1" / "result.json").write_text(json.dumps(json.loads(written) | {"rounded": {}}))
    run([*small_grid, "--print-plan"], monkeypatch)
    assert "small: 4 of 5 runs are finished" in capsys.readouterr().out
    lost = r"rounded forms of them, that are not in --out \(1, the first is dark mad:2"
    with pytest.raises(SystemExit, match=lost):
        run(fold, monkeypatch)
    (place / "seed1" / "result.json").write_bytes(written)
    rates = json.loads(written)["rates"] | {"head": 0.7}
    (place / "seed1" / "result.json").write_text(json.dumps(json.loads(written) | {"rates": rates}))
    with pytest.raises(SystemExit, match=r"seed1 holds a run of another plan \(rates .*0\.7.*, not .*\): remove it"):
        run(fold, monkeypatch)
    (place / "seed1" / "result.json").write_bytes(written)
    stage = fair_grids.Stage(("frozen", "mad:2"), ("bright", "dark"), 2, {"epochs": 3})
    with monkeypatch.context() as longer:
        longer.setitem(GRIDS, "small", replace(GRIDS["small"], stages=(stage,)))
        with pytest.raises(SystemExit, match=r"bright.frozen.seed0 holds a run of another plan \(epochs 1, not 3\)"):
            run(fold, monkeypatch)
    (place / "seed1" / "result.json").write_text('{"method": ')
    with pytest.raises(SystemExit, match=r"result.json"):
        run(fold, monkeypatch)


def test_a_seed_comes_into_its_record_when_all_of_it_is_there(small_grid, tmp_path, monkeypatch, capsys) -> None:
    """Till then it waits beside it, so that means, intervals and sentences are over the same seeds everywhere."""
    stage = fair_grids.Stage(("frozen", "mad:2"), ("bright", "dark"), 2, {"epochs": 1})
    monkeypatch.setitem(GRIDS, "small", replace(GRIDS["small"], stages=(stage,)))
    run(small_grid, monkeypatch)
    records = tmp_path / "records"
    records.mkdir()
    fold = [*small_grid, "--fold", "--records", str(records)]
    place = tmp_path / "runs" / "small" / "bright" / "frozen" / "seed1"
    place.rename(tmp_path / "elsewhere")
    run(fold, monkeypatch)
    assert "all.jsonl: 4 runs, and 3 of seeds that are not whole" in capsys.readouterr().out
    assert {r.result.seed for r in read_runs(records / "all.jsonl")} == {0}
    assert {r.result.seed for r in read_runs(records / "all-begun.jsonl")} == {1}
    assert {r.result.seed for r in read_runs(records / "one.jsonl")} == {0, 1}  # of its one domain all is there
    run([*small_grid, "--out", str(tmp_path / "again"), "--restore", *fold[-2:]], monkeypatch)
    assert "small: 7 runs are restored" in capsys.readouterr().out
    (tmp_path / "elsewhere").rename(place)
    run(fold, monkeypatch)
    assert sorted(r.result.seed for r in read_runs(records / "all.jsonl")) == [0, 0, 0, 0, 1, 1, 1, 1]
    assert not (records / "all-begun.jsonl").exists()


def test_a_plan_for_domains_that_are_not_there_is_refused(small_grid, tmp_path, monkeypatch) -> None:
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    with pytest.raises(SystemExit, match="give the folder of the domains as --data"):
        run([*small_grid, "--print-plan"], monkeypatch)


@pytest.mark.slow
def test_a_grid_of_the_first_round_runs_each_method_with_the_best_rates_of_its_trials(
    small_grid, tmp_path, monkeypatch
) -> None:
    trials = tmp_path / "trials.jsonl"
    rates = {"wtpb": (0.5, 0.04, 0.03), "mad:8": (0.006, 0.05, 0.02)}
    lines = [
        {"family": family, "rates": dict(zip(("adapter_lr", "batchnorm_lr", "head_lr"), own, strict=True)), "mean": 1.0}
        for family, own in rates.items()
    ]
    trials.write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setattr(fair_grids, "FIRST_ROUND", trials)
    stage = fair_grids.Stage(("frozen", "wtpb", "mad:8"), ("dark",), 1, {"epochs": 1})
    small = replace(GRIDS["small"], stages=(stage,), records={"one": ("dark",)}, first_round=True)
    monkeypatch.setitem(GRIDS, "small", small)
    run(small_grid, monkeypatch)
    records = tmp_path / "records"
    records.mkdir()
    run([*small_grid, "--fold", "--records", str(records)], monkeypatch)
    made = {one.method: tuple(one.result.rates.values()) for one in read_runs(records / "one.jsonl")}
    assert made == rates | {"frozen": (0.0, 0.0, 0.0)}


@pytest.mark.slow
@pytest.mark.parametrize("name", GRIDS)
def test_every_recorded_run_is_one_that_its_grid_plans(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same rates, too, wherever they were given: as if the runs lay where the grid has them."""
    planned = list(fair_grids.planned(name, Path("runs")))
    files = [file for record in GRIDS[name].records for file in fair_grids.files_of(RECORDS / f"{record}.jsonl")]
    for one in (one for file in files if file.exists() for one in read_runs(file)):
        monkeypatch.setattr(fair_table.Run, "read", lambda _, one=one: one)
        cell = one.result.domain, one.method, one.result.seed
        assert any(fits(place, name) for place in planned if (place.domain, place.method, place.seed) == cell), cell


def fits(place, name: str) -> bool:
    try:
        fair_table.checked(place, GRIDS[name])
    except MadlabError:
        return False
    return True
