r"""The control of the rates that replicates chose: they and the best of the second round, on fewer images.

    python data_scripts/fewer_images.py --domains data/dtd10 data/chars74k --no-flip chars74k \
        --out madlab/records/trials-fewer.jsonl

data_scripts/replicates.py chooses low rates, because high ones seemed to fail where images are few. That was seen on
one notebook's domains, so here are two others, on which no rate was tried: at most TRAIN images of each, each family at
the rates that were the best of the second round by one seed, and at those that were chosen, where the two differ, with
each of SEEDS. Accuracies are on validation images. Trials that the file already holds are not run again.
"""

from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from finals import RECIPE
from replicates import chosen
from tune import best_of, command, read_trials, tried

from madlab.runs.record import RECORDS

SECOND, REPLICATES = RECORDS / "trials-finals.jsonl", RECORDS / "trials-replicates.jsonl"
TRAIN, SEEDS = 200, (0, 1, 2)
LINES = 2 * len(SEEDS)
"""Of a family that is compared."""


def compare(family: str, flips: dict[str, bool | None], out: Path, more: int) -> str:
    """Run what is missing of a family's comparison on one thread; returns a line to print. more: must be 0."""
    if more:
        raise ValueError("Every family is compared alike: leave out --more.")
    torch.set_num_threads(1)
    files = (SECOND, REPLICATES, out)
    second, again, own = ([line for line in read_trials(file) if line["family"] == family] for file in files)
    if not again:
        return f"{family}: no replicates, so nothing to compare"
    both = [best_of(second), chosen(again).rates]
    if both[0] == both[1]:
        return f"{family}: the choice is the best of the second round"
    planned = [(seed, rates) for seed in SEEDS for rates in both]
    for number, (seed, rates) in enumerate(planned[len(own) :], len(own)):
        own.append(tried(family, number, rates, flips, out, RECIPE, seed, TRAIN))
    before, now = means_of(own)
    return f"{family}: {before:.2f} % at the best of the second round, {now:.2f} % at the choice"


def means_of(lines: list[dict[str, Any]]) -> tuple[float, float]:
    """The mean accuracy of a family at the best of the second round and at the choice, in percent; lines: all of it."""
    before, now = (fmean(line["mean"] for line in lines[side::2]) for side in (0, 1))
    return before, now


if __name__ == "__main__":
    command(__doc__, compare)
