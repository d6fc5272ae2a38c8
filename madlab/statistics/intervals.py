r"""Intervals of 95 % for a difference between methods, and how probable so large a difference is where there is none.

Two things make an accuracy uncertain: which images were tested, and which seed it was trained from. Both are drawn
again with replacement (Efron, 1979), in pairs: an image or a seed is drawn for all methods at once, so that what is
hard for all of them cancels in the difference. With y[m, s, i] = 1 where method m, trained from seed s, is right on
image i, and y[m, s], y[m, i] its means over images and over seeds, a drawn accuracy is

    mean over drawn images of y[m, i]  +  mean over drawn seeds of (y[m, s] - y[m])

Images and seeds are drawn apart and their deviations added: drawn crosswise, what is peculiar to one image in one
seed would count three times in the variance (Owen, "The pigeonhole bootstrap", 2007), here it counts twice, so that an
interval is rather too wide. One seed fewer than there are is drawn, because S draws from S seeds understate their
variance by (S - 1) / S (Rao & Wu, 1988): a third of it for three seeds.

How often such an interval, of 600 images per domain, holds the true difference, data_scripts/coverage.py simulates. In
percent where only images matter, where seeds matter as much, and where nothing but the seed does:

    one domain:    three seeds 94, 92, 82    two 95, 89, 67    one 96, 86, 25
    nine domains:  three seeds 96, 96, 94    two 95, 95, 92    one 96, 84, 36

So with a single seed it speaks of images only. And an interval from images wants errors to draw from: where two methods
differ on five images or fewer, McNemar's exact test (`madlab compare`) could not tell them apart, whatever the drawn
samples say; no duel (`tables.duels`) has a smaller p than that test can have.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from madlab.errors import MadlabError

LEVEL = 0.95
DRAWS = 20_000
"""Drawn samples: the smallest p-value is 2 / 20,001, small enough for Holm's correction over 500 duels."""

AT_ONCE = 100_000
"""Images that are drawn at once: they and their counts stay in a processor's cache, which is five times as quick."""

KIND = 20
"""To draw how many images there are of one kind takes as long as to draw so many images."""
ROUNDING = 1e-9
"""Percent or points that the same whole numbers of images may differ by once they are floats."""


@dataclass(frozen=True)
class Interval:
    """A difference with its interval of 95 %; p: two-sided, of no difference.

    p is below 0.05 where 0 is outside, but where it is so near to the edge that one drawn sample decides.
    """

    estimate: float
    low: float
    high: float
    p: float


def resampled_accuracies(outcomes: Sequence[ArrayLike], rng: np.random.Generator, draws: int = DRAWS) -> NDArray:
    """Accuracies in percent of drawn samples, float (draws, methods), as the head of this file describes.

    outcomes: for each method a boolean array (seeds, images), the same seeds and images in the same order. With a
    single seed only images are drawn. Raises MadlabError for arrays of different shapes, or without images.
    """
    arrays = [np.asarray(one, dtype=float) for one in outcomes]
    if len({one.shape for one in arrays}) != 1 or arrays[0].ndim != 2 or arrays[0].size == 0:
        shapes = ", ".join(str(one.shape) for one in arrays)
        raise MadlabError(f"Outcomes must have one shape (seeds, images), but have {shapes}: give the same images.")
    right = np.stack(arrays)
    _, seeds, images = right.shape
    drawn = _times_right(right.sum(1).T, rng, draws) / (seeds * images)
    if seeds > 1:
        by_seed = right.mean(2)
        picked = rng.integers(seeds, size=(draws, seeds - 1))
        drawn += (by_seed[:, picked].mean(2) - by_seed.mean(1, keepdims=True)).T
    return 100 * drawn


def _times_right(right: NDArray, rng: np.random.Generator, draws: int) -> NDArray:
    """Draw as many images as there are; how often each method is right on them, over all seeds: (draws, methods).

    right: (images, methods), in how many seeds. The whole numbers stay exact, so that methods which are right on the
    same images never differ by rounding.
    """
    images, methods = right.shape
    kinds, counts = np.unique(right, axis=0, return_counts=True)
    if KIND * len(kinds) < images:  # to draw how many there are of each kind is to draw the images
        return rng.multinomial(images, counts / images, size=draws) @ kinds
    found = np.empty((draws, methods))
    for part in np.array_split(found, max(1, draws * images // AT_ONCE)):
        picked = rng.integers(images, size=(len(part), images)) + images * np.arange(len(part))[:, None]
        times = np.bincount(picked.ravel(), minlength=picked.size).reshape(picked.shape)
        part[:] = times.astype(np.float32) @ right.astype(np.float32)
    return found


def bootstrap_interval(estimate: float, drawn: NDArray) -> Interval:
    """The percentile interval of drawn differences (draws,), with p from their share on either side of zero."""
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    tail = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return Interval(estimate, float(low), float(high), float(min(1.0, 2 * (tail + 1) / (len(drawn) + 1))))


def wilson_interval(right: int, of: int) -> tuple[float, float]:
    """Both ends, in percent, of Wilson's interval of a share; it holds for few images and near 0 and 100 %, too."""
    interval = stats.binomtest(right, of).proportion_ci(LEVEL, method="wilson")
    return 100 * float(interval.low), 100 * float(interval.high)


def t_interval(differences: ArrayLike) -> Interval | None:
    """Student's interval of the mean of paired differences, at least two, one per seed or domain; else None.

    Nor is there one for differences that are all the same and not zero: accuracies of few images agree by chance, and
    a spread of zero would make anything certain.
    """
    values = np.asarray(differences, dtype=float)
    if len(values) < 2:
        return None
    mean, error = float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
    if np.ptp(values) <= ROUNDING:
        return Interval(0.0, 0.0, 0.0, 1.0) if abs(mean) <= ROUNDING else None
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, len(values) - 1))
    return Interval(mean, mean - reach, mean + reach, p)
