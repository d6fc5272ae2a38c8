"""The simulation behind the intervals: methods that are equal are called so as often as theory says."""

import numpy as np
import pytest
from scripts import load_script

script = load_script("coverage")


def test_what_images_and_seeds_add_to_the_error_is_equal() -> None:
    rng, seeds = np.random.default_rng(0), 2
    spread = script.as_weighty(seeds)
    from_images, from_both = (
        np.var([np.diff(script.outcomes(script.OWN, s, seeds, rng).mean((1, 2)))[0] for _ in range(1500)])
        for s in (0.0, spread)
    )
    assert from_both / from_images == pytest.approx(2, rel=0.15)


def test_intervals_from_images_hold_zero_in_95_of_100_and_not_where_one_seed_decides() -> None:
    assert script.coverage(script.OWN, 0.0, 1, 1, 200, seed=0) == pytest.approx(95, abs=4.5)  # three deviations
    assert script.coverage(0.0, script.as_weighty(1), 1, 1, 200, seed=0) < 50
