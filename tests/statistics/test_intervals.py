"""Intervals of differences against SciPy's bootstrap, variances worked out by hand, and simulated truth."""

import numpy as np
import pytest
from scipy import stats

from madlab.errors import MadlabError
from madlab.statistics import bootstrap_interval, resampled_accuracies, t_interval


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def outcomes(images: int, seeds: int, generator: np.random.Generator) -> list[np.ndarray]:
    """Two methods that are equally good: images are easy or hard for both, for one of them, or in one training."""
    easy = generator.normal(0.4, 1, images)
    own = [generator.normal(0, 0.5, images) for _ in range(2)]
    return [easy + of_method + generator.normal(0, 0.5, (seeds, images)) > 0 for of_method in own]


def test_images_drawn_in_pairs_give_scipys_interval() -> None:
    one, other = (right[:1] for right in outcomes(150, 1, rng(1)))
    drawn = resampled_accuracies([one, other], rng(), draws=40_000)
    ours = bootstrap_interval(0.0, drawn[:, 0] - drawn[:, 1])

    def difference(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
        return 100 * (a.mean(axis) - b.mean(axis))

    data = (one[0].astype(float), other[0].astype(float))
    theirs = stats.bootstrap(
        data, difference, paired=True, vectorized=True, method="percentile", n_resamples=40_000, random_state=3
    )
    wanted = theirs.confidence_interval
    assert (ours.low, ours.high) == pytest.approx((wanted.low, wanted.high), abs=0.35)  # steps of 1 / 150 are 0.67
    assert (drawn[:, 0] - drawn[:, 1]).std() == pytest.approx(theirs.standard_error, rel=0.02)


def test_the_variance_is_that_of_images_plus_that_of_seeds() -> None:
    """By hand: the seed-averaged difference of each image, drawn n times, and s^2 / S of the differences of seeds."""
    one, other = outcomes(200, 4, rng(2))
    drawn = resampled_accuracies([one, other], rng(), draws=60_000)
    by_image = 100 * (one.mean(0) - other.mean(0))
    by_seed = 100 * (one.mean(1) - other.mean(1))
    wanted = by_image.var() / 200 + by_seed.var(ddof=1) / 4
    assert (drawn[:, 0] - drawn[:, 1]).var() == pytest.approx(wanted, rel=0.03)
    assert drawn.mean(0) == pytest.approx([100 * one.mean(), 100 * other.mean()], abs=0.1)
    single = 100 * one.mean(0)
    assert drawn[:, 0].var() == pytest.approx(single.var() / 200 + (100 * one.mean(1)).var(ddof=1) / 4, rel=0.03)


def test_what_two_methods_share_cancels() -> None:
    (one, _), generator = outcomes(200, 3, rng(3)), rng()
    drawn = resampled_accuracies([one, one], generator, draws=500)
    assert (drawn[:, 0] == drawn[:, 1]).all() and drawn[:, 0].std() > 1


def test_many_images_are_drawn_in_parts_and_the_same_seed_gives_the_same_numbers() -> None:
    pair = [rng(4).random((2, 9000)) < 0.7, rng(5).random((2, 9000)) < 0.6]
    pair += [rng(place).random((2, 9000)) < 0.5 for place in range(6, 16)]  # nearly every image is of its own kind
    drawn = resampled_accuracies(pair, rng(), draws=3000)
    assert drawn.shape == (3000, 12)
    wanted = pair[0].mean(0).var() / 9000 + pair[0].mean(1).var(ddof=1) / 2
    assert drawn[:, 0].var() == pytest.approx(100**2 * wanted, rel=0.1)
    assert (drawn == resampled_accuracies(pair, rng(), draws=3000)).all()


@pytest.mark.parametrize("domains", [1, 5])
def test_the_interval_holds_the_truth_as_often_as_it_says(domains: int) -> None:
    generator, held, trials = rng(6), 0, 200
    for _ in range(trials):
        estimate, drawn = 0.0, np.zeros(1000)
        for _ in range(domains):
            one, other = outcomes(250, 3, generator)
            accuracies = resampled_accuracies([one, other], generator, draws=1000)
            estimate += 100 * (one.mean() - other.mean()) / domains
            drawn += (accuracies[:, 0] - accuracies[:, 1]) / domains
        interval = bootstrap_interval(estimate, drawn)
        held += interval.low <= 0 <= interval.high
    # 95 % of 200 is 190, with a standard deviation of 3; images of one seed count twice, so that it may be more.
    assert 181 <= held <= 200


def test_p_is_below_a_twentieth_just_where_zero_is_outside() -> None:
    for shift in np.linspace(-4, 4, 33):
        interval = bootstrap_interval(shift, rng(7).normal(shift, 1, 20_000))
        assert (interval.p < 0.05) == (not interval.low <= 0 <= interval.high)
        assert interval.p == pytest.approx(2 * stats.norm.sf(abs(shift)), abs=0.02)
        assert (interval.low, interval.high) == pytest.approx((shift - 1.96, shift + 1.96), abs=0.06)
    assert bootstrap_interval(0.0, np.zeros(100)).p == 1


def test_students_interval_is_scipys() -> None:
    values = [1.2, -0.4, 2.2, 0.9, 1.8]
    interval = t_interval(values)
    theirs = stats.ttest_1samp(values, 0)
    wanted = theirs.confidence_interval(0.95)
    assert interval is not None
    assert (interval.estimate, interval.p) == pytest.approx((np.mean(values), theirs.pvalue))
    assert (interval.low, interval.high) == pytest.approx((wanted.low, wanted.high))
    assert t_interval([1.0]) is None
    none = t_interval([0.0, 0.0])
    assert none is not None and none.p == 1


def test_differences_that_agree_by_chance_make_nothing_certain() -> None:
    """Of 50 images, two seeds agree exactly in one of fourteen pairs of methods that are equal."""
    assert t_interval([2.0, 2.0]) is None
    for right in range(150, 250):  # one image of 300 more in both seeds: thirds, of which floats keep no exact ones
        assert t_interval([100 * (right + 1) / 300 - 100 * right / 300, 100 * 3 / 300 - 100 * 2 / 300]) is None


def test_outcomes_on_different_images_are_refused() -> None:
    for one, other in (((1, 5), (1, 6)), ((1, 5), (2, 5)), ((5,), (5,)), ((1, 0), (1, 0))):
        with pytest.raises(MadlabError, match="give the same images"):
            resampled_accuracies([np.ones(one), np.ones(other)], rng())
