r"""Replicates: the best places of the second round of trials with two more seeds, and the choice among them.

    python data_scripts/replicates.py --domains data/flowers data/gtsrb --no-flip gtsrb \
        --out madlab/records/trials-replicates.jsonl

One seed flatters the best of many: of twelve places, the winner may be the luckiest. So each family's best FOUR of the
second round (data_scripts/finals.py) are trained again, same images and recipe, with each of SEEDS. What counts then is
the mean over three seeds.

Of places that the data cannot tell apart, `chosen` takes the one with the lowest rates: a rate that is too high fails
outright where images are fewer or the rate does not fall at the end of training, one that is a little too low loses a
little. Not to be told apart means within one standard error of the best, that of a share of so many validation images
(Breiman, Friedman, Olshen and Stone, Classification and Regression Trees, 1984, section 3.4.3).

METHODS has the choice (tests/runs/test_rates.py). Every family of the second round has as many replicates. Trials that
the file already holds are not run again; it is written line by line.
"""

from math import prod
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from finals import FOUR, RECIPE, ranked
from tune import command, read_trials, tried

from madlab.runs.record import RECORDS

SECOND = RECORDS / "trials-finals.jsonl"
SEEDS = (1, 2)
"""Beside that of the second round, 0."""


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
    rates, mean = chosen(second, own)
    return f"{family}: {mean:.2f} % with {rates}"


def means(second: list[dict[str, Any]], replicates: list[dict[str, Any]]) -> list[tuple[dict[str, float], float]]:
    """The places of a family that have replicates, and the mean accuracy of each over all seeds, in percent."""
    places = ranked(second)[:FOUR]
    every = [*second, *replicates]
    return [(rates, fmean(line["mean"] for line in every if line["rates"] == rates)) for rates in places]


def chosen(second: list[dict[str, Any]], replicates: list[dict[str, Any]]) -> tuple[dict[str, float], float]:
    """The lowest rates of a family within one standard error of its best, and their mean accuracy, in percent.

    second, replicates: the family's lines of the second round and of this one.
    """
    found = means(second, replicates)
    best, highest = max(found, key=lambda place: place[1])
    error = standard_error([line for line in [*second, *replicates] if line["rates"] == best])
    equal = [(rates, mean) for rates, mean in found if mean >= highest - error]
    return min(equal, key=lambda place: prod(rate for rate in place[0].values() if rate))


def standard_error(lines: list[dict[str, Any]]) -> float:
    """Of the mean accuracy, in points, that some rates reach: that of a share of a domain's validation images.

    All seeds see the same images, so that more of them do not make it smaller.
    """
    images = lines[0]["most_images"]["val"]
    shares = [fmean(line["val_accuracy"][domain] for line in lines) for domain in lines[0]["val_accuracy"]]
    return sum(p * (100 - p) / images for p in shares) ** 0.5 / len(shares)


if __name__ == "__main__":
    command(__doc__, replicate)
