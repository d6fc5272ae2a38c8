"""The learning rates of METHODS are those that did best in the committed trials, of which every family has as many."""

import json
from collections import defaultdict
from statistics import fmean

import pytest
from scripts import load_script

from madlab import METHODS
from madlab.adapters.base import Rates, split_method
from madlab.runs.record import RECORDS

tune = load_script("tune")
KINDS = tune.KINDS
RANKS = {1: "mad:2", 3: "mad:8", 11: "mad:13", 27: "mad:39"}
"""The ranks of `mad` from which on a family's rates hold."""
Lines = dict[str, list[dict]]


@pytest.fixture(scope="module")
def trials() -> Lines:
    """Family -> its trials."""
    found = defaultdict(list)
    for line in tune.read_trials(RECORDS / "trials.jsonl"):
        found[line["family"]].append(line)
    return dict(found)


def rates_of(family: str) -> tuple[float, float, float]:
    written, *form = family.split()
    name, rank = split_method(written)
    rates: Rates = METHODS[name].rates_for({"rank": rank, "form": form[0] if form else None})
    return rates.adapter, rates.batchnorm, rates.head


def best(lines: list[dict]) -> dict[str, float]:
    return max(lines, key=lambda line: line["mean"])["rates"]


def test_every_method_but_frozen_is_tried_and_every_rank_of_mad_belongs_to_a_family() -> None:
    assert {split_method(family.split()[0])[0] for family in tune.START} == set(METHODS) - {"frozen"}
    mad = METHODS["mad"]
    assert {least: mad.rates_by_rank[least] for least in RANKS} == mad.rates_by_rank
    for least, family in RANKS.items():
        assert family in tune.START and mad.rates_by_rank[least] == mad.rates_for({"rank": split_method(family)[1]})


def test_every_family_has_as_many_trials_of_all_rates_on_the_same_images(trials: Lines) -> None:
    assert trials.keys() == set(tune.START)
    numbers = {family: [line["trial"] for line in lines] for family, lines in trials.items()}
    assert all(own == list(range(len(own))) for own in numbers.values()), "each once, and in their order"
    counts = {family: len(own) for family, own in numbers.items()}
    assert len(set(counts.values())) <= 1 and min(counts.values(), default=12) >= 12, counts
    every = [line for lines in trials.values() for line in lines]
    assert {tuple(line["rates"]) for line in every} <= {KINDS}
    assert {tuple(line["val_accuracy"]) for line in every} <= {("flowers", "gtsrb")}
    assert len({json.dumps([line["epochs"], line["seed"], line["base"], line["most_images"]]) for line in every}) <= 1
    for line in every:
        assert line["mean"] == pytest.approx(fmean(line["val_accuracy"].values()))


def test_the_trials_of_all_families_lie_in_the_same_places_around_their_start(trials: Lines) -> None:
    """The first is the start, the next seven are a Latin hypercube: each of seven values of each rate once."""
    shapes = set()
    for family, lines in trials.items():
        start, cube = lines[0]["rates"], lines[1:8]
        assert tuple(start.values()) == (tune.START[family], tune.NORM, tune.HEAD)
        shapes.add(tuple(line["rates"][kind] for line in cube for kind in ("batchnorm_lr", "head_lr")))
        for kind in KINDS:
            values = sorted(line["rates"][kind] for line in cube)
            assert start[kind] == 0 or (len(set(values)) == 7 and values[-1] / values[0] == pytest.approx(16, rel=0.02))
    assert len(shapes) <= 1


@pytest.mark.parametrize("family", tune.START)
def test_a_method_has_the_best_of_its_trials(trials: Lines, family: str) -> None:
    assert rates_of(family) == tuple(best(trials[family]).values())


def test_no_chosen_rate_is_the_lowest_or_highest_that_was_tried(trials: Lines) -> None:
    for family, lines in trials.items():
        for kind in KINDS:
            values = [line["rates"][kind] for line in lines]
            assert max(values) == 0 or min(values) < best(lines)[kind] < max(values), (family, kind)
