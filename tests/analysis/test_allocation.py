"""Truncation and quantisation against NumPy and loops."""

import numpy as np
import pytest
import torch

from madlab.analysis.allocation import Spectrum, quantise
from madlab.errors import MadlabError


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


def test_quantise_leaves_a_new_adapter_alone_and_refuses_one_bit() -> None:
    assert torch.equal(quantise(torch.ones(3, 4), 4), torch.ones(3, 4))
    with pytest.raises(MadlabError, match="1 bits"):
        quantise(torch.ones(3, 4), 1)
