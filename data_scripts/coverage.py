"""How often an interval of 95 % holds the true difference: simulated, for the head of madlab/statistics/intervals.py.

    python data_scripts/coverage.py

Two methods of equal accuracy see the same images. An image has a difficulty, which it has for both, and one of its own
for each method; a seed shifts a method's accuracy on all images. The spread of the seeds is none, or such that they add
as much to the error of a difference as the images do; in the last column the methods differ in nothing but the seed.
"""

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from madlab.statistics import bootstrap_interval, resampled_accuracies
from madlab.tables.output import markdown

IMAGES = 600
DRAWS = 1000
OWN = 0.5
"""Standard deviation of an image's difficulty for one method, where the one for both has 1."""
CASES = {"images alone": (OWN, 0.0), "seeds as much": (OWN, 1.0), "seeds alone": (0.0, 1.0)}
"""Spread of an image's own difficulty, and of the seeds, the latter in what makes them as weighty as the images."""


def as_weighty(seeds: int) -> float:
    """Standard deviation of a seed's shift that adds as much to a difference of means over seeds as images do."""
    differ = 2 * np.arccos(1 / (1 + OWN**2)) / (2 * np.pi)  # the share of images on which two methods differ
    slope = norm.pdf(0) / np.sqrt(1 + OWN**2)
    return float(np.sqrt(differ / IMAGES) / (slope * np.sqrt(2 / seeds)))


def outcomes(own: float, spread: float, seeds: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Right or wrong, (methods, seeds, images), of two methods that are equally good."""
    difficulty = rng.normal(size=IMAGES) + own * rng.normal(size=(2, 1, IMAGES))
    return np.asarray(difficulty < rng.normal(scale=spread, size=(2, seeds, 1)))


def coverage(own: float, spread: float, seeds: int, domains: int, repetitions: int, seed: int) -> float:
    """The share in percent of intervals of the mean over domains that hold zero."""
    rng, held = np.random.default_rng(seed), 0
    for _ in range(repetitions):
        estimate, drawn = 0.0, np.zeros(DRAWS)
        for _ in range(domains):
            right = outcomes(own, spread, seeds, rng)
            accuracies = resampled_accuracies(list(right), rng, DRAWS)
            drawn += accuracies[:, 0] - accuracies[:, 1]
            estimate += 100 * float(right[0].mean() - right[1].mean())
        interval = bootstrap_interval(estimate / domains, drawn / domains)
        held += interval.low <= 0 <= interval.high
    return 100 * held / repetitions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rows = [(domains, seeds) for domains in (1, 9) for seeds in (1, 2, 3)]
    cells = [
        [
            f"{coverage(own, spread * as_weighty(seeds), seeds, domains, args.repetitions, args.seed):.0f}"
            for domains, seeds in rows
        ]
        for own, spread in CASES.values()
    ]
    labels = [[str(number) for number in column] for column in zip(*rows, strict=True)]
    print(markdown(["domains", "seeds", *CASES], [*labels, *cells]))


if __name__ == "__main__":
    main()
