"""Rank allocation, truncation and quantisation against brute force, NumPy and loops."""

import itertools

import numpy as np
import pytest
import torch

from madlab.analysis.allocation import (
    ALLOCATIONS,
    Spectrum,
    greedy_ranks,
    quantise,
    quantised_bits,
    total_size,
    uniform_ranks,
)
from madlab.errors import MadlabError


def spectra_of(*shapes: tuple[int, int], seed: int = 0) -> dict[str, Spectrum]:
    generator = torch.Generator().manual_seed(seed)
    return {f"layer{i}": Spectrum.of(1 + torch.randn(shape, generator=generator)) for i, shape in enumerate(shapes)}


def price(shape: tuple[int, int], rank: int) -> int:
    m, n = shape
    return m * n if rank * (m + n) > m * n else rank * (m + n)


@pytest.mark.parametrize("shape", [(5, 3), (4, 9), (7, 7), (6, 1)])
def test_cut_is_numpys_best_approximation(shape) -> None:
    alpha = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    spectrum = Spectrum.of(alpha)
    u, sigma, v = np.linalg.svd(alpha.double().numpy(), full_matrices=False)
    for rank in range(1, min(shape) + 1):
        best = sum(sigma[i] * np.outer(u[:, i], v[i]) for i in range(rank))
        np.testing.assert_allclose(spectrum.cut(rank).numpy(), best, atol=1e-5)
        error = np.square(spectrum.cut(rank).numpy() - alpha.numpy()).sum()
        assert error == pytest.approx(np.square(sigma[rank:]).sum(), abs=1e-4)  # Eckart and Young
        beta, gamma = spectrum.factors(rank)
        assert beta.shape == (shape[0], rank) and gamma.shape == (rank, shape[1])
        np.testing.assert_allclose((beta @ gamma).numpy(), best, atol=1e-5)
    np.testing.assert_allclose(spectrum.energy().numpy(), sigma**2 / np.square(sigma).sum(), atol=1e-6)


def test_size_takes_the_cheaper_form() -> None:
    spectrum = Spectrum.of(torch.randn(6, 12))  # break-even at 72 / 18 = 4
    assert [spectrum.size(rank) for rank in (1, 3, 4, 5, 6)] == [18, 54, 72, 72, 72]
    assert [spectrum.paid(rank) for rank in (1, 3, 4, 5, 6)] == [1, 3, 6, 6, 6]
    assert (spectrum.cut(6) - (spectrum.u * spectrum.sigma) @ spectrum.v).abs().max() < 1e-6


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("seed", range(4))
def test_no_allocation_exceeds_its_budget(allocation, seed) -> None:
    shapes = [(4, 3), (6, 9), (8, 8), (2, 2), (5, 1)]
    spectra = spectra_of(*shapes, seed=seed)
    least = sum(price(shape, 1) for shape in shapes)
    everything = sum(m * n for m, n in shapes)
    before = 0
    for budget in range(least, everything + 5):
        ranks = ALLOCATIONS[allocation](spectra, budget)
        spent = sum(price(shape, ranks[name]) for shape, name in zip(shapes, spectra, strict=True))
        assert spent == total_size(spectra, ranks) <= budget
        assert all(1 <= ranks[name] <= min(shape) for shape, name in zip(shapes, spectra, strict=True))
        assert allocation == "greedy" or spent >= before
        before = spent
    assert ranks == {name: min(shape) for shape, name in zip(shapes, spectra, strict=True)}


def test_uniform_is_the_largest_common_rank() -> None:
    shapes = [(10, 12), (16, 8), (9, 30)]
    spectra = spectra_of(*shapes)
    for budget in (85, 200, 300, 330):
        fits = [rank for rank in range(1, 9) if sum(price(shape, rank) for shape in shapes) <= budget]
        ranks = uniform_ranks(spectra, budget)
        for shape, name in zip(shapes, spectra, strict=True):
            kept_whole = fits[-1] * sum(shape) >= shape[0] * shape[1]
            assert ranks[name] == (min(shape) if kept_whole else fits[-1])


def explained(spectra, ranks) -> float:
    return sum(float(spectrum.energy()[: ranks[name]].sum()) for name, spectrum in spectra.items())


@pytest.mark.parametrize("seed", range(6))
def test_greedy_is_the_best_where_directions_cost_the_same(seed) -> None:
    """Layers of one shape, below the break-even: taking the largest gain each time is then the optimum."""
    shape = (8, 8)
    spectra = spectra_of(shape, shape, shape, seed=seed)
    for budget in (3 * 16, 5 * 16 + 7, 7 * 16, 9 * 16):
        combinations = itertools.product(range(1, 4), repeat=3)
        possible = [dict(zip(spectra, c, strict=True)) for c in combinations if 16 * sum(c) <= budget]
        best = max(explained(spectra, ranks) for ranks in possible)
        assert explained(spectra, greedy_ranks(spectra, budget)) >= best - 1e-9


@pytest.mark.parametrize("seed", range(6))
def test_greedy_is_near_the_best_of_all_and_no_worse_than_uniform(seed) -> None:
    shapes = [(4, 6), (8, 8), (12, 5)]
    spectra = spectra_of(*shapes, seed=seed)
    for budget in range(60, 150, 10):
        possible = [
            dict(zip(spectra, c, strict=True))
            for c in itertools.product(*(range(1, min(shape) + 1) for shape in shapes))
            if sum(price(shape, rank) for shape, rank in zip(shapes, c, strict=True)) <= budget
        ]
        values = [explained(spectra, ranks) for ranks in possible]
        ours = explained(spectra, greedy_ranks(spectra, budget))
        assert max(values) - ours <= 0.2
        assert ours >= np.mean(values)


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_a_budget_below_rank_one_is_refused(allocation) -> None:
    spectra = spectra_of((10, 12), (16, 8))
    with pytest.raises(MadlabError, match="budget of 45 parameters is too small: rank 1 in every layer takes 46"):
        ALLOCATIONS[allocation](spectra, 45)
    assert set(ALLOCATIONS[allocation](spectra, 46).values()) == {1}


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_quantise_agrees_with_a_loop(bits) -> None:
    alpha = 1 + torch.randn(5, 7, generator=torch.Generator().manual_seed(bits))
    alpha[2, 3] = 1
    levels = 2 ** (bits - 1) - 1
    got = quantise(alpha, bits)
    for m in range(5):
        unit = max(abs(float(a) - 1) for a in alpha[m]) / levels
        for n in range(7):
            steps = (float(got[m, n]) - 1) / unit
            assert steps == pytest.approx(round(steps), abs=1e-3) and abs(round(steps)) <= levels
            assert abs(float(got[m, n] - alpha[m, n])) <= unit / 2 + 1e-6  # the nearest step
    assert got[2, 3] == 1
    assert quantised_bits(alpha, bits) == 5 * 7 * bits + 5 * 32


def test_quantise_leaves_a_new_adapter_alone_and_refuses_one_bit() -> None:
    assert torch.equal(quantise(torch.ones(3, 4), 4), torch.ones(3, 4))
    with pytest.raises(MadlabError, match="1 bits"):
        quantise(torch.ones(3, 4), 1)
