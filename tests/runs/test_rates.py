"""The learning rates of METHODS are those that did best in the committed trials, of which every family has as many."""

import json
from collections import defaultdict
from statistics import fmean

import pytest

from madlab import METHODS
from madlab.adapters.base import Rates, split_method
from madlab.runs.record import RECORDS

KINDS = ("adapter_lr", "batchnorm_lr", "head_lr")
LEAST = 12
"""Trials of every family."""
RANKS = {1: "mad:2", 3: "mad:8", 11: "mad:13", 27: "mad:39"}
"""The ranks of `mad` from which on a family's rates hold."""


def read_lines(file: str) -> list[dict]:
    return [json.loads(line) for line in (RECORDS / file).read_text().splitlines()]


@pytest.fixture(scope="module")
def trials() -> dict[str, list[dict]]:
    """Family -> its trials."""
    found = defaultdict(list)
    for line in read_lines("trials.jsonl"):
        found[line["family"]].append(line)
    return found


def rates_of(family: str) -> Rates:
    written, *form = family.split()
    name, rank = split_method(written)
    return METHODS[name].rates_for({"rank": rank} | ({"form": form[0]} if form else {}))


def test_every_family_has_as_many_trials_of_all_rates_on_the_same_images(trials) -> None:
    counts = {family: len(lines) for family, lines in trials.items()}
    assert len(set(counts.values())) == 1 and min(counts.values()) >= LEAST, counts
    every = [line for lines in trials.values() for line in lines]
    assert {tuple(line["rates"]) for line in every} == {KINDS}
    assert {tuple(line["val_accuracy"]) for line in every} == {("flowers", "gtsrb")}
    assert len({json.dumps([line["epochs"], line["seed"], line["base"], line["most_images"]]) for line in every}) == 1
    for line in every:
        assert line["mean"] == pytest.approx(fmean(line["val_accuracy"].values()))


def test_the_trials_of_all_families_lie_in_the_same_places_around_their_start(trials) -> None:
    """The first is the start, the next seven are a Latin hypercube: each of seven values of each rate once."""
    shapes = set()
    for family, lines in trials.items():
        start = lines[0]["rates"]
        shapes.add(
            tuple(
                round(line["rates"][kind] / start[kind], 1) if start[kind] else 0
                for line in lines[:8]
                for kind in ("batchnorm_lr", "head_lr")
            )
        )
        for kind in KINDS:
            values = [line["rates"][kind] for line in lines[1:8]]
            assert len(set(values)) == 7 or start[kind] == 0, family
    assert len(shapes) == 1


def test_every_method_but_frozen_has_the_best_of_its_trials(trials) -> None:
    tried = {split_method(family.split()[0])[0] for family in trials}
    assert tried == set(METHODS) - {"frozen"}
    for family, lines in trials.items():
        best = max(lines, key=lambda line: line["mean"])["rates"]
        own = rates_of(family)
        assert (own.adapter, own.batchnorm, own.head) == tuple(best[kind] for kind in KINDS), family


def test_no_chosen_rate_is_the_lowest_or_highest_that_was_tried(trials) -> None:
    for family, lines in trials.items():
        best = max(lines, key=lambda line: line["mean"])["rates"]
        for kind in KINDS:
            values = [line["rates"][kind] for line in lines]
            assert max(values) == 0 or min(values) < best[kind] < max(values), (family, kind)


def test_the_ranks_of_mad_have_the_rates_of_the_family_that_was_tried(trials) -> None:
    assert {least: METHODS["mad"].rates_by_rank[least] for least in RANKS} == METHODS["mad"].rates_by_rank
    for least, family in RANKS.items():
        assert METHODS["mad"].rates_by_rank[least] == rates_of(family)
