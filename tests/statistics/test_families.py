"""Holm's correction, mean ranks and critical differences against hand-made and published numbers."""

import math

import numpy as np
import pytest
from scipy import stats

from madlab.errors import MadlabError
from madlab.statistics import critical_difference, holm, mean_ranks

Q_005 = {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 6: 2.850, 7: 2.949, 8: 3.031, 9: 3.102, 10: 3.164}
"""Demsar, JMLR 7 (2006), table 5 a: methods -> critical value of the two-tailed Nemenyi test."""


def test_holm_by_hand() -> None:
    # Sorted: 0.01 * 4, 0.02 * 3, 0.03 * 2, 0.5 * 1; the third, 0.06, is no smaller than the second.
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.04, 0.03]) == pytest.approx([0.06, 0.06])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([0.2]) == [0.2] and holm([]) == []


def test_holm_keeps_the_chance_of_one_false_difference_at_a_twentieth() -> None:
    generator = np.random.default_rng(0)
    false = sum(min(holm(generator.random(8).tolist())) < 0.05 for _ in range(3000))
    assert 0.03 < false / 3000 < 0.065


@pytest.mark.parametrize("methods", Q_005)
def test_critical_differences_are_the_published_ones(methods: int) -> None:
    for domains in (5, 9, 30):
        wanted = Q_005[methods] * math.sqrt(methods * (methods + 1) / (6 * domains))
        assert critical_difference(methods, domains) == pytest.approx(wanted, rel=6e-4)


def test_equal_counts_of_images_are_a_tie_whatever_the_order_of_their_sum() -> None:
    one, other = (np.mean([100 * right / 300 for right in seeds]) for seeds in ((88, 283, 26), (132, 132, 133)))
    assert mean_ranks([[one, one], [other + 1e-14, other - 1e-14], [0, 0]]).ranks == [1.5, 1.5, 3]


def test_mean_ranks_by_hand_with_ties() -> None:
    accuracies = [[90, 80, 70, 60], [90, 85, 60, 50], [50, 85, 80, 40]]
    ranking = mean_ranks(accuracies)
    # Domains: 1.5 1.5 3; 3 1.5 1.5; 2 3 1; 1 2 3
    assert ranking.ranks == pytest.approx([7.5 / 4, 8 / 4, 8.5 / 4])
    assert ranking.p == pytest.approx(stats.friedmanchisquare(*np.array(accuracies)).pvalue)
    assert ranking.difference == critical_difference(3, 4)


def test_two_methods_and_equal_ones_have_ranks_too() -> None:
    two = mean_ranks([[1, 2, 3], [3, 1, 1]])
    assert two.ranks == pytest.approx([4 / 3, 5 / 3]) and math.isnan(two.p)
    assert (mean_ranks(np.ones((3, 4))).ranks, mean_ranks(np.ones((3, 4))).p) == ([2, 2, 2], 1)


@pytest.mark.parametrize("accuracies", [[[1, 2]], [[1], [2]], [[1, 2], [3, math.nan]], [1, 2]])
def test_ranks_of_too_little_are_refused(accuracies: list) -> None:
    with pytest.raises(MadlabError, match="at least two methods"):
        mean_ranks(accuracies)
