r"""The second round of trials: the best rates of the first one, again with today's recipe.

    python data_scripts/finals.py --domains data/flowers data/gtsrb --no-flip gtsrb \
        --out madlab/records/trials-finals.jsonl

The first round (data_scripts/tune.py) tries rates with a recipe that takes 0.6 of the time: small images first, steps
of any length. Which rates do best may change with the recipe. So each family's best FOUR of the first round are trained
again with RECIPE, today's, on the same images. (Many by a cheap measure, few by the true one: successive halving,
Jamieson and Talwalkar, arXiv 1502.07943.) Then come pairs, so that this round moves to where its own recipe wants it:
the best so far with all three rates halved, and doubled, and on in the direction in which it moved (`rates_of`).

Every family has as many trials, two pairs at least. If the best rates of a family are the lowest or the highest that it
tried in both rounds, --more 2 gives every family another pair. data_scripts/replicates.py then chooses with more seeds.
Trials that the file already holds are not run again; it is written line by line.
"""

from math import isclose
from pathlib import Path
from typing import Any

import torch
from tune import KINDS, best_of, command, edges, read_trials, tried

from madlab.runs.record import RECORDS

FIRST = RECORDS / "trials.jsonl"
RECIPE: dict[str, Any] = {"epochs": 6, "coarse": 0.0, "polyak": 4.0}
FOUR, FACTOR = 4, 2.0
"""Places from the first round, and by what the best of them is divided and multiplied then."""
LEAST = FOUR + 4
"""Trials that every family gets."""


def ranked(lines: list[dict[str, Any]]) -> list[dict[str, float]]:
    """The rates of a family in a round, the best first, each once."""
    different: list[dict[str, float]] = []
    for line in sorted(lines, key=lambda line: -line["mean"]):
        if line["rates"] not in different:
            different.append(line["rates"])
    return different


def rates_of(number: int, first: list[dict[str, Any]], own: list[dict[str, Any]]) -> dict[str, float]:
    """The rates of a trial of this round. first, own: lines of the family in the first round, and in this one so far.

    After the four come pairs, with all rates of the best so far divided and multiplied by a factor. Where a pair moved
    the best, the next one goes on from there in that direction, by the factor and by its root; where it did not, the
    next is nearer, by the root on both sides, and nearer still where that place was tried before.
    """
    if number < FOUR:
        return ranked(first)[number]
    pair, side = divmod(number - FOUR, 2)
    middle, factors = best_of(own[:FOUR]), (1 / FACTOR, FACTOR)
    for start in range(FOUR, FOUR + 2 * pair, 2):
        before, middle = middle, best_of(own[: start + 2])
        if middle == before:
            factor = max(*factors, 1 / min(factors)) ** 0.5
            factors = (1 / factor, factor)
        else:
            factor = factors[[line["rates"] for line in own[start : start + 2]].index(middle)]
            factors = (factor, factor**0.5)
    factor = factors[side]
    while any(_same(middle, factor, line["rates"]) for line in own):
        factor **= 0.5
    return {kind: float(f"{middle[kind] * factor:.3g}") for kind in KINDS}


def _same(middle: dict[str, float], factor: float, tried: dict[str, float]) -> bool:
    """Whether rates times a factor are those of a trial, but for their rounding."""
    return all(isclose(middle[kind] * factor, tried[kind], rel_tol=0.02) for kind in KINDS)


def try_again(family: str, flips: dict[str, bool | None], out: Path, more: int) -> str:
    """Run what is missing of a family's second round on one thread; returns a line to print."""
    torch.set_num_threads(1)
    first = [line for line in read_trials(FIRST) if line["family"] == family]
    own = [line for line in read_trials(out) if line["family"] == family]
    if [line["rates"] for line in own[:FOUR]] != ranked(first)[: len(own[:FOUR])]:
        raise ValueError(
            f"{out} begins with other rates of {family} than are the best of {FIRST}: that round is closed."
        )
    for number in range(len(own), LEAST + more):
        own.append(tried(family, number, rates_of(number, first, own), flips, out, RECIPE))
    best = best_of(own)
    return f"{family}: {max(line['mean'] for line in own):.2f} % with {best}{edges([*first, *own], best)}"


if __name__ == "__main__":
    command(__doc__, try_again)
