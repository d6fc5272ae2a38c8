"""The learning rates of METHODS are those that a family's last round of trials chose; all have as many in it."""

import json
from collections import defaultdict
from math import log2
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
VAL_IMAGES = {"flowers": 267, "gtsrb": 215}
Lines = dict[str, list[dict]]


def lines_of(name: str) -> Lines:
    """Family -> its trials."""
    found = defaultdict(list)
    for line in tune.read_trials(RECORDS / name):
        found[line["family"]].append(line)
    return dict(found)


@pytest.fixture(scope="module")
def trials() -> Lines:
    """The first round."""
    return lines_of("trials.jsonl")


@pytest.fixture(scope="module")
def finals() -> Lines:
    """The second round."""
    return lines_of("trials-finals.jsonl")


@pytest.fixture(scope="module")
def replicates() -> Lines:
    """The third round: the best four of the second with two more seeds."""
    return lines_of("trials-replicates.jsonl")


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


def test_every_family_has_its_best_four_again_in_the_second_round_and_then_pairs_around_the_best(
    trials: Lines, finals: Lines
) -> None:
    assert {tune.family_of(method) for method in load_script("fair_grids").DUELS} - {None} <= finals.keys()
    assert {tuple(line["trial"] for line in own) for own in finals.values()} == {tuple(range(12))}
    every = [line for lines in finals.values() for line in lines]
    assert {tuple(line["val_accuracy"]) for line in every} == {("flowers", "gtsrb")}
    assert {(line["epochs"], line["coarse"], line["polyak"], line["seed"]) for line in every} == {(6, 0.0, 4.0, 0)}
    for family, own in finals.items():
        order = sorted(trials[family], key=lambda line: line["mean"], reverse=True)
        assert [line["rates"] for line in own[:4]] == [line["rates"] for line in order[:4]], family
        for pair in (own[4:6], own[6:8], own[8:10], own[10:]):
            middle = best(own[: own.index(pair[0])])
            for line in pair:
                shares = [line["rates"][kind] / middle[kind] for kind in KINDS if middle[kind]]
                assert shares == pytest.approx([shares[0]] * len(shares), rel=0.02), family
                power = abs(log2(shares[0]))
                assert any(power == pytest.approx(0.5**root, rel=0.1) for root in range(5)), (family, shares)
        assert len({tuple(line["rates"].values()) for line in own}) == len(own), f"{family}: no place twice"
    for line in every:
        assert line["mean"] == pytest.approx(fmean(line["val_accuracy"].values()))


def test_the_best_four_of_the_second_round_have_two_more_seeds(finals: Lines, replicates: Lines) -> None:
    assert replicates.keys() == finals.keys()
    for family, own in replicates.items():
        order = sorted(finals[family], key=lambda line: line["mean"], reverse=True)
        assert [line["rates"] for line in own] == 2 * [line["rates"] for line in order[:4]], family
        assert [line["seed"] for line in own] == [1] * 4 + [2] * 4
    for line in [line for own in replicates.values() for line in own]:
        assert (line["epochs"], line["coarse"], line["polyak"]) == (6, 0.0, 4.0)
        assert line["most_images"] == {"train": 540, "val": 270} and line["val_images"] == VAL_IMAGES
        right = [line["val_accuracy"][name] * images / 100 for name, images in VAL_IMAGES.items()]
        assert right == pytest.approx([round(number) for number in right], abs=1e-6)
        assert line["mean"] == pytest.approx(fmean(line["val_accuracy"].values()))


def best_by_new_seeds(lines: list[dict]) -> dict[str, float]:
    """Of a family's four."""
    means = {
        tuple(one["rates"].values()): one["mean"] + two["mean"] for one, two in zip(lines[:4], lines[4:], strict=True)
    }
    return dict(zip(KINDS, max(means, key=means.__getitem__), strict=True))


@pytest.fixture(scope="module")
def choice(trials: Lines, replicates: Lines) -> dict[str, dict[str, float]]:
    """Family -> the rates of its last round."""
    return {
        family: best_by_new_seeds(replicates[family]) if family in replicates else best(own)
        for family, own in trials.items()
    }


@pytest.mark.parametrize("family", tune.START)
def test_a_method_has_what_its_last_round_chose(choice: dict[str, dict[str, float]], family: str) -> None:
    assert rates_of(family) == tuple(choice[family].values())


def test_no_chosen_rate_is_the_lowest_or_highest_that_was_tried(
    trials: Lines, finals: Lines, choice: dict[str, dict[str, float]]
) -> None:
    for family, lines in trials.items():
        for kind in KINDS:
            values = [line["rates"][kind] for line in [*lines, *finals.get(family, [])]]
            assert max(values) == 0 or min(values) < choice[family][kind] < max(values), (family, kind)
