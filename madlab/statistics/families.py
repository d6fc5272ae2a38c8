"""Many comparisons at once: what may still be called a difference when one looks at all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from madlab.errors import MadlabError


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values that can each be held against 0.05, however many there are, in the same order.

    The smallest is multiplied by their number, the next by one less, and so on; none becomes smaller than the one
    before it, or larger than 1 (Holm, "A simple sequentially rejective multiple test procedure", 1979).
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for place, i in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[i]))
        adjusted[i] = highest
    return adjusted


@dataclass(frozen=True)
class Ranking:
    """Mean ranks of methods over domains, 1 for the best; ties share their ranks.

    difference: two methods whose mean ranks are nearer than this cannot be told apart (Nemenyi, 0.05). p: Friedman's,
    of no difference among all of them; NaN for fewer than three methods, for which that test is not defined.
    """

    ranks: list[float]
    difference: float
    p: float


def mean_ranks(accuracies: ArrayLike) -> Ranking:
    """The ranking of methods by their accuracies (methods, domains); Demsar, JMLR 7 (2006), section 3.2.2.

    Raises MadlabError for fewer than two methods or domains, and for an accuracy that is not a number.
    """
    table = np.round(np.asarray(accuracies, dtype=float), 9)  # equal counts of images are a tie, whatever their sums
    if table.ndim != 2 or min(table.shape) < 2 or not np.isfinite(table).all():
        raise MadlabError("Mean ranks need at least two methods that were run on the same two domains or more.")
    methods, domains = table.shape
    ranks = stats.rankdata(-table, axis=0).mean(1)
    same = bool((table == table[0]).all())
    p = float("nan") if methods < 3 else 1.0 if same else float(stats.friedmanchisquare(*table).pvalue)
    return Ranking(ranks.tolist(), critical_difference(methods, domains), p)


def critical_difference(methods: int, domains: int, alpha: float = 0.05) -> float:
    """Nemenyi's critical difference of mean ranks: q sqrt(k (k + 1) / (6 N)) for k methods on N domains.

    q is the upper quantile of the studentised range for k groups and infinitely many degrees of freedom, divided by the
    square root of two.
    """
    q = float(stats.studentized_range.ppf(1 - alpha, methods, inf)) / sqrt(2)
    return q * sqrt(methods * (methods + 1) / (6 * domains))
