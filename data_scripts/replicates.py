r"""Replicates: the best places of the second round of trials with two more seeds, and the choice among them.

    python data_scripts/replicates.py --domains data/flowers data/gtsrb --no-flip gtsrb \
        --out madlab/records/trials-replicates.jsonl

One seed flatters the best of many: of twelve places, the winner may be the luckiest. So each family's best FOUR of the
second round (data_scripts/finals.py) are trained again, same images and recipe, with each of SEEDS. What counts then is
the mean over these new seeds alone, which had no say in which four they are.

Of the four, `chosen` takes the lowest within one standard error of the best. The lowest is the one with the smallest
product of its rates; the error is the binomial one of a share of so many validation images (the rule of Breiman,
Friedman, Olshen and Stone, Classification and Regression Trees, 1984, section 3.4.3). It is a tolerance and no test of
a difference, which would be paired. Why low rates: at those of the second round, MAD of rank 16 had been below
BatchNorm alone on the few images of notebook 05. data_scripts/fewer_images.py is the control of that.

METHODS has the choice (tests/runs/test_rates.py). Every family of the second round has as many replicates. Trials that
the file already holds are not run again; it is written line by line.
"""

from math import prod
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from finals import FOUR, RECIPE, ranked
from tune import command, read_trials, tried

from madlab.runs.record import RECORDS

SECOND = RECORDS / "trials-finals.jsonl"
SEEDS = (1, 2)
"""The second round has 0."""
AGAIN = FOUR * len(SEEDS)
"""Replicates of every family."""


class Place(NamedTuple):
    """Rates that were tried with all SEEDS: their mean accuracy and its standard error, in percent."""

    rates: dict[str, float]
    mean: float
    error: float


def replicate(family: str, flips: dict[str, bool | None], out: Path, more: int) -> str:
    """Run what is missing of a family's replicates on one thread; returns a line to print.

    more: for the command's --more, which has no meaning here: it must be 0.
    """
    if more:
        raise ValueError("Every family has the same replicates: leave out --more.")
    torch.set_num_threads(1)
    second = [line for line in read_trials(SECOND) if line["family"] == family]
    if not second:
        return f"{family}: no replicates before its second round (data_scripts/finals.py)"
    own = [line for line in read_trials(out) if line["family"] == family]
    planned = [(seed, rates) for seed in SEEDS for rates in ranked(second)[:FOUR]]
    if [(line["seed"], line["rates"]) for line in own] != planned[: len(own)]:
        raise ValueError(f"{out} has other rates of {family} than are the best of {SECOND}: that round is closed.")
    for number, (seed, rates) in enumerate(planned[len(own) :], len(own)):
        own.append(tried(family, number, rates, flips, out, RECIPE, seed))
    choice = chosen(own)
    return f"{family}: {choice.mean:.2f} % with {choice.rates}"


def places(replicates: list[dict[str, Any]]) -> list[Place]:
    """The places of a family, all of whose replicates these are."""
    found = []
    for rates in [line["rates"] for line in replicates[:FOUR]]:
        own = [line for line in replicates if line["rates"] == rates]
        shares = {domain: fmean(line["val_accuracy"][domain] for line in own) for domain in own[0]["val_accuracy"]}
        squares = [p * (100 - p) / own[0]["val_images"][domain] for domain, p in shares.items()]
        found.append(Place(rates, fmean(shares.values()), sum(squares) ** 0.5 / len(squares)))
    return found


def best_place(replicates: list[dict[str, Any]]) -> Place:
    """The place of a family with the highest mean."""
    return max(places(replicates), key=lambda place: place.mean)


def chosen(replicates: list[dict[str, Any]]) -> Place:
    """The lowest rates of a family within one standard error of its best place."""
    best = best_place(replicates)
    equal = [place for place in places(replicates) if place.mean >= best.mean - best.error]
    return min(equal, key=product)


def product(place: Place) -> float:
    """Of its rates, but for those that are 0 for the method."""
    return prod(rate for rate in place.rates.values() if rate)


if __name__ == "__main__":
    command(__doc__, replicate)
