r"""Replicates: the best places of the second round of trials with two more seeds, and the choice among them.

    python data_scripts/replicates.py --domains data/flowers data/gtsrb --no-flip gtsrb \
        --out madlab/records/trials-replicates.jsonl

One seed flatters the best of many: of twelve places, the winner may be the luckiest. So each family's best FOUR of the
second round (data_scripts/finals.py) are trained again, same images and recipe, with each of SEEDS. What counts then is
the mean over these new seeds alone, which had no say in which four they are.

METHODS has the choice (tests/runs/test_rates.py). Every family of the second round has as many replicates. Trials that
the file already holds are not run again; it is written line by line.
"""

from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from finals import FOUR, RECIPE, ranked
from tune import command, read_trials, tried

from madlab.runs.record import RECORDS

SECOND = RECORDS / "trials-finals.jsonl"
SEEDS = (1, 2)
"""The second round has 0."""
AGAIN = FOUR * len(SEEDS)
"""Replicates of every family."""


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
    rates, mean = chosen(own)
    return f"{family}: {mean:.2f} % with {rates}"


def places(replicates: list[dict[str, Any]]) -> list[tuple[dict[str, float], float]]:
    """The rates of a family that were tried again and their mean accuracies in percent; replicates: all of a family."""
    every = [line["rates"] for line in replicates[:FOUR]]
    return [(rates, fmean(line["mean"] for line in replicates if line["rates"] == rates)) for rates in every]


def chosen(replicates: list[dict[str, Any]]) -> tuple[dict[str, float], float]:
    """The best of these `places`."""
    return max(places(replicates), key=lambda place: place[1])


if __name__ == "__main__":
    command(__doc__, replicate)
