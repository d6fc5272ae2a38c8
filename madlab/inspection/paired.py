"""Two runs on the same images: whether one is better, or whether that is chance."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from madlab.errors import MadlabError
from madlab.inspection.answers import Answers
from madlab.statistics import Interval, bootstrap_interval, resampled_accuracies


@dataclass(frozen=True)
class Paired:
    """How many images both runs get right, only the first, only the second, and neither.

    mcnemar: how probable it is that the images on which they differ are split at least as unevenly, if each run were as
    likely to be the right one (exact, two-sided). difference: second minus first, in percentage points, by drawing
    images again.
    """

    both: int
    first: int
    second: int
    neither: int
    mcnemar: float
    difference: Interval


def paired(first: Answers, second: Answers) -> Paired:
    """The comparison of two runs' answers; MadlabError unless they are on the same images."""
    same_size = first.images.shape == second.images.shape
    if not np.array_equal(first.labels, second.labels) or (
        same_size and not np.array_equal(first.images, second.images)
    ):
        raise MadlabError("The two runs were not given the same images: give both the same ones with --domain FOLDER.")
    one, other = first.right, second.right
    only_first, only_second = int((one & ~other).sum()), int((other & ~one).sum())
    p = binomtest(only_first, only_first + only_second).pvalue if only_first + only_second else 1.0
    drawn = resampled_accuracies([one[None], other[None]], np.random.default_rng(0))
    estimate = 100 * (only_second - only_first) / len(one)
    interval = bootstrap_interval(estimate, drawn[:, 1] - drawn[:, 0])
    return Paired(int((one & other).sum()), only_first, only_second, int((~one & ~other).sum()), float(p), interval)
