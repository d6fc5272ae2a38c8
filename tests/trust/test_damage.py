"""Damaged files, folders and command lines are taken rightly or refused with a sentence; a few hundred of them here.

`make test-trust` tries all of them, kills and full disks, and writes record.json; the page of trust repeats its counts.
"""

import json
import os
import subprocess
import sys
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from trust import commands, damage, data_files, files, kills, limits, run_folders, runner, trials

from madlab.errors import MadlabError

TESTS = Path(__file__).parents[1]
RECORD = TESTS / "trust" / "record.json"
QUICK = {
    files.adapters: 45, files.base_networks: 30, files.checkpoints: 60, files.json_files: 60, files.json_lines: 60,
    data_files.annotations: 60, data_files.label_zips: 60, data_files.archives: 60, data_files.packed_domains: 40,
    data_files.records: 40,
}  # fmt: skip


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    return {maker: maker(tmp_path_factory.mktemp("damaged")) for maker in QUICK}


def tried(name, kind, tries, seed=1):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return trials.run(name, kind, seed, tries)


@pytest.mark.parametrize("maker", QUICK, ids=runner.title)
def test_no_damaged_file_is_taken_for_what_it_is_not(maker, kinds):
    record = tried("x", kinds[maker], QUICK[maker])
    assert record["failures"] == []
    assert record["tried"] == QUICK[maker] == sum(record[verdict] for verdict in trials.VERDICTS)
    assert record["refused"] > record["tried"] / 3 and sum(record["by sentence"].values()) == record["refused"]


def test_a_file_with_a_hash_is_never_taken_for_an_old_one_without(kinds):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert trials.run("x", kinds[files.checkpoints], 2, 60)["failures"] == []


@pytest.mark.slow
def test_run_folders_are_right_or_refused(tmp_path):
    record = tried("x", run_folders.run_folders(tmp_path, ("mad:2", "piggyback")), 30)
    assert record["failures"] == [] and record["refused"] > 9 and record["right"] > 2


@pytest.mark.slow
def test_command_lines_end_with_a_code_and_a_sentence(tmp_path):
    record = tried("x", commands.command_lines(tmp_path), 20)
    assert record["failures"] == [] and record["refused"] > 9


@pytest.mark.slow
def test_whatever_stands_where_a_run_should_be_is_refused(tmp_path):
    kind = commands.command_lines(tmp_path)
    for command, parser in commands.commands().items():
        if any(action.metavar == "RUN" or action.dest == "runs" for action in parser._actions):
            for place in set(commands.PLACES) - {"done", "images"}:  # a command that shows a data set takes "images"
                words = commands.working(command, Random(0))
                outcome = kind.ended(commands.Line([command, place, *words[2:]]))
                assert outcome.verdict == "refused", outcome


def test_the_same_seed_gives_the_same_record(kinds):
    first, again, other = (tried("x", kinds[files.checkpoints], 30, seed) for seed in (3, 3, 4))
    assert first["by sentence"] == again["by sentence"] != other["by sentence"]


def test_every_way_of_damage_changes_something(kinds):
    for maker, kind in kinds.items():
        if maker is not data_files.packed_domains:
            for original in kind.originals:
                data = original.read_bytes()
                for way, harm in kind.damages.items():
                    assert any(harm(data, Random(i)) != data for i in range(20)), (maker.__name__, way)


def _crash(path):
    return 1 / 0


def _many_lines(path):
    raise MadlabError(f"{path}", "is wrong")


def _nameless(path):
    raise MadlabError("A file is wrong.")


@pytest.mark.parametrize("read", [_crash, _many_lines, _nameless])
def test_a_reader_with_a_defect_is_found(read, kinds):
    record = tried("x", replace(kinds[files.adapters], read=read, verdict=lambda *_: "right"), 8)
    assert record["failed"] == 8 and len(record["failures"]) == trials.EXAMPLES


def test_a_reader_that_takes_everything_is_found(kinds):
    record = tried(
        "x", replace(kinds[files.checkpoints], read=Path.read_bytes, verdict=files.hashed(Path.read_bytes)), 30
    )
    assert record["failed"] > 25 and record["refused"] == 0


@pytest.mark.slow
def test_a_command_that_is_killed_and_loses_something_is_found(tmp_path):
    def careless(place):
        place.mkdir(exist_ok=True)
        with open(place / "x", "a") as file:  # a second call adds to what the first one has left
            file.write("once")
            file.flush()
            os.fsync(file.fileno())
            os.rename(place / "x", place / "y")

    record = tried("x", kills.Kills(tmp_path, {"careless": careless}, {}), 8)
    assert record["failed"] > 1 and record["right"] > 0
    assert "other bytes than of an undisturbed run" in record["failures"][0]["story"]


def test_a_run_that_nothing_limits_is_whole(tmp_path):
    kind = limits.limits(tmp_path)
    assert kind.train(tmp_path / "run") == 0 and limits._whole(tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    assert not limits._whole(tmp_path / "run")


# The record of the whole


@pytest.fixture(scope="module")
def record():
    return json.loads(RECORD.read_text())


def test_the_committed_record_is_whole_has_no_failure_and_adds_up(record):
    tries = dict.fromkeys(runner.FILES, 10000) | {commands.command_lines: 500, commands.real_command_lines: 40}
    tries |= {kills.kills: 60, limits.limits: 40}
    assert list(record) == [runner.title(maker) for maker in tries]
    for (name, kind), most in zip(record.items(), tries.values(), strict=True):
        assert kind["failures"] == [] and kind["failed"] == 0, name
        assert kind["tried"] == sum(kind[verdict] for verdict in trials.VERDICTS) >= most, name
        ways = sum((Counter(way) for way in kind["by way"].values()), Counter())
        assert ways["tried"] == kind["tried"] and sum(kind["by sentence"].values()) == kind["refused"], name


FAMILIES = (
    "frozen", "batchnorm", "finetune", "mad", "mad:2", "piggyback", "wtpb", "mad+wtpb", "parallel", "series", "lora:2",
    "hira:2", "ksm", "filter-subspace", "prompt", "peft:lora:2", "peft:ia3", "peft:oft",
)  # fmt: skip


def test_the_committed_record_has_every_kind_of_kill_limit_command_and_place(record):
    works = [*(f"train {method}" for method in FAMILIES), "sweep", "prepare", "pretrain"]
    moments = ("at a random moment", "while it writes")
    assert record["kills"]["by way"].keys() >= {f"{work}, {moment}" for work in works for moment in moments}
    halves = Counter(moment for way in record["kills"]["by way"] for moment in moments if way.endswith(moment))
    assert len(set(halves.values())) == 1 and record["kills"]["right"] == record["kills"]["tried"]
    assert record["limits"]["by way"].keys() == {case.__name__.replace("_", " ") for case in limits.CASES}
    assert record["command lines"]["by way"].keys() >= set(commands.commands())
    for outlet in commands.OUTLETS[1:]:
        assert any(way.endswith(outlet) for way in record["real command lines"]["by way"]), outlet
    for name in ("adapters", "base networks", "checkpoints", "json files", "json lines", "label zips", "records"):
        assert record[name]["by way"].keys() >= set(damage.IN_ITS_PLACE), name


def test_the_page_is_what_the_record_says(record):
    assert (TESTS.parent / "notebooks" / "site" / "trust.md").read_text() == runner.page(record)


@pytest.mark.trust
def test_everything():
    assert subprocess.run([sys.executable, "-m", "trust.runner"], cwd=TESTS).returncode == 0
