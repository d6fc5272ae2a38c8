"""Damaged files are read rightly or refused with a sentence; a few hundred of them here, 10,000 of each kind apart.

Files of more rooms (run folders, annotations, manifests, archives) are added in `runner.all_kinds`; command lines get a
module of their own beside this one, with the same counts.
"""

import json
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from trust import runner

from madlab.errors import MadlabError

TESTS = Path(__file__).parents[1]
RECORD = TESTS / "trust" / "record.json"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged")


@pytest.fixture(scope="module")
def kinds(place):
    return runner.all_kinds(place)


def test_no_damaged_file_is_taken_for_what_it_is_not(kinds, place):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a file with a hash is never taken for an old one without
        record = runner.run(kinds, 90, 1, place)
    assert record["failures"] == []
    for counts in record["kinds"].values():
        assert counts["failed"] == 0 and counts["tried"] == counts["right"] + counts["refused"] == 90
        assert counts["refused"] > 30 and min(each["tried"] for each in counts["by damage"].values()) > 3


def test_the_same_seed_gives_the_same_record(kinds, place):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, again, other = (runner.run(kinds, 15, seed, place) for seed in (3, 3, 4))
    assert first == again and first["kinds"] != other["kinds"]


def test_every_way_of_damage_changes_something(kinds):
    for name, kind in kinds.items():
        for original in kind.originals:
            data = original.read_bytes()
            for which, harm in kind.damages.items():
                assert any(harm(data, Random(i)) != data for i in range(20)), (name, which)


def _crash(path):
    return 1 / 0


def _many_lines(path):
    raise MadlabError(f"{path}", "is wrong")


def _nameless(path):
    raise MadlabError("A file is wrong.")


@pytest.mark.parametrize("read", [_crash, _many_lines, _nameless])
def test_a_reader_with_a_defect_is_found(read, kinds, place):
    kind = replace(kinds["adapters"], read=read, right=lambda *_: True)
    record = runner.run({"adapters": kind}, 8, 0, place)
    assert record["kinds"]["adapters"]["failed"] == 8 and len(record["failures"]) == runner.EXAMPLES


def test_a_reader_that_takes_everything_is_found(kinds, place):
    def whatever(path):
        return path.read_bytes()

    kind = replace(kinds["checkpoints"], read=whatever, right=lambda value, _, original: value == whatever(original))
    counts = runner.run({"checkpoints": kind}, 30, 0, place)["kinds"]["checkpoints"]
    assert counts["failed"] > 25 and counts["refused"] == 0


def test_the_committed_record_has_no_failure():
    record = json.loads(RECORD.read_text())
    assert record["tries"] == 10_000 and record["failures"] == []
    for counts in record["kinds"].values():
        assert counts["failed"] == 0 and counts["right"] + counts["refused"] == counts["tried"] == 10_000


@pytest.mark.trust
def test_ten_thousand_of_each_kind():
    ran = subprocess.run([sys.executable, "-m", "trust.runner", "--out", str(RECORD)], cwd=TESTS)
    assert ran.returncode == 0
