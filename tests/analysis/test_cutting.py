"""Cut domains: budgets are kept, uniform ranks never spend more, and what is added is what NumPy says."""

import itertools

import numpy as np
import pytest
import tiny
import torch

import madlab
from madlab.analysis.allocation import Spectrum
from madlab.analysis.cutting import auto_ranks, cut_domain, spending, uniform_rank
from madlab.errors import MadlabError

SHAPES = [(4, 3), (6, 9), (8, 8), (2, 2), (5, 1)]


def spectra_of(*shapes: tuple[int, int], seed: int = 0) -> dict[str, Spectrum]:
    generator = torch.Generator().manual_seed(seed)
    return {f"layer{i}": Spectrum.of(torch.randn(shape, generator=generator)) for i, shape in enumerate(shapes)}


@pytest.mark.parametrize("seed", range(4))
def test_automatic_ranks_keep_the_budget_and_spend_no_less_than_any_uniform_rank(seed) -> None:
    spectra = spectra_of(*SHAPES, seed=seed)
    for budget in range(140):
        ranks = auto_ranks(spectra, budget)
        spent = sum(ranks[f"layer{i}"] * (m + n) for i, (m, n) in enumerate(SHAPES))
        assert spent == spending(spectra, ranks) <= budget
        uniform = [sum(min(rank, m, n) * (m + n) for m, n in SHAPES) for rank in range(9)]
        assert spent >= max(cost for cost in uniform if cost <= budget)
        assert all(0 <= ranks[f"layer{i}"] <= min(shape) for i, shape in enumerate(SHAPES))


def error(spectra: dict[str, Spectrum], ranks: dict[str, int]) -> float:
    """Mean square per slice of what is left out, added up over layers."""
    found = 0.0
    for place, spectrum in spectra.items():
        alpha = (spectrum.u * spectrum.sigma) @ spectrum.v
        found += float((alpha - spectrum.cut(ranks[place])).square().mean())
    return found


@pytest.mark.parametrize("seed", range(5))
def test_automatic_ranks_are_near_the_best_and_ahead_of_uniform_at_equal_spending(seed) -> None:
    spectra = spectra_of((4, 6), (8, 8), (12, 5), seed=seed)
    for rank in (1, 2, 3):
        numbers = spending(spectra, uniform_rank(spectra, rank * (10 + 16 + 17)))
        ranks = auto_ranks(spectra, numbers)
        assert spending(spectra, ranks) == numbers  # equal, not merely allowed
        possible = [dict(zip(spectra, c, strict=True)) for c in itertools.product(range(5), range(9), range(6))]
        best = min(error(spectra, one) for one in possible if spending(spectra, one) <= numbers)
        assert best <= error(spectra, ranks) <= error(spectra, uniform_rank(spectra, numbers)) + 1e-6
        assert error(spectra, ranks) <= best + 0.35


def test_automatic_ranks_never_leave_a_larger_error_than_a_uniform_rank() -> None:
    generator = torch.Generator().manual_seed(0)
    for trial in range(300):
        spectra = {}
        for place in "abc":
            shape = tuple(torch.randint(2, 12, (2,), generator=generator).tolist())
            scales = torch.logspace(0, -float(torch.rand((), generator=generator)) * 6, min(shape))
            u, _, v = torch.linalg.svd(torch.randn(shape, generator=generator), full_matrices=False)
            spectra[place] = Spectrum.of(u * scales @ v)
        numbers = int(torch.randint(10, 200, (), generator=generator))
        errors = [
            sum(float(s.sigma[ranks[p] :].double().square().sum()) / s.full_size for p, s in spectra.items())
            for ranks in (auto_ranks(spectra, numbers), uniform_rank(spectra, numbers))
        ]
        assert errors[0] <= errors[1] * (1 + 1e-9), trial


def test_a_layer_that_did_not_change_gets_no_direction_before_one_that_did() -> None:
    spectra = spectra_of((8, 8), (8, 8))
    still = Spectrum(spectra["layer1"].u, 1e-3 * spectra["layer1"].sigma, spectra["layer1"].v)
    assert auto_ranks(spectra | {"layer1": still}, 3 * 16) == {"layer0": 3, "layer1": 0}


@pytest.fixture
def net(tmp_path):
    net = madlab.MultiDomainNet(madlab.load_base(tiny.write_base(tmp_path / "small.safetensors")))
    net.add_domain("signs", 3, class_names=["a", "b", "c"], normalization={"mean": [0.5] * 3, "std": [0.2] * 3})
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in net.view("signs").own_state().values():
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator).abs())
    return net


def alphas(net, domain: str) -> dict[str, np.ndarray]:
    layers = net.view(domain).adapted_layers()
    return {name: layer.adapter.modulation().detach().double().numpy() for name, layer in layers.items()}


def test_the_cut_domain_has_numpys_best_approximation_of_the_change_and_all_else_of_the_old_one(net, tmp_path) -> None:
    ranks = cut_domain(net, "signs", "small", budget=4 * 900)
    old, new = alphas(net, "signs"), alphas(net, "small")
    assert 0 in ranks.values() and max(ranks.values()) > 1
    for name, alpha in old.items():
        u, sigma, v = np.linalg.svd(alpha - 1, full_matrices=False)
        best = 1 + (u[:, : ranks[name]] * sigma[: ranks[name]]) @ v[: ranks[name]]
        np.testing.assert_allclose(new[name], best, atol=1e-5)
    states = [net.view(domain).own_state() for domain in ("signs", "small")]
    for name, tensor in states[1].items():
        assert ".adapter." in name or torch.equal(tensor, states[0][name])
    assert net.adapter_size("small") <= 900
    assert net.stored_bytes("small").adapter <= 4 * 900
    net.save_domain("small", tmp_path / "small.domain", bits=4)
    assert net.view(net.load_domain(tmp_path / "small.domain", name="again")).facts.options["rank"] == ranks


def test_the_whole_rank_is_the_domain_itself(net) -> None:
    cut_domain(net, "signs", "whole", budget=10**9, rank=99)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(net(images, "whole"), net(images, "signs"), atol=1e-4, rtol=1e-4)
    assert set(cut_domain(net, "signs", "base", budget=0).values()) == {0}


def test_fewer_bits_buy_more_directions(net) -> None:
    exact = sum(cut_domain(net, "signs", "exact", budget=2000).values())
    rounded = sum(cut_domain(net, "signs", "rounded", budget=2000, bits=4).values())
    assert rounded > 2 * exact


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_formats_are_cut_in_a_long_one(net, dtype) -> None:
    net.to(dtype)
    cut_domain(net, "signs", "new", budget=10**6)
    for name, change in alphas(net, "signs").items():
        assert np.abs(alphas(net, "new")[name] - change).max() < 0.05


def test_what_is_no_number_cannot_be_cut(net) -> None:
    with torch.no_grad():
        next(iter(net.view("signs").adapters().values())).alpha[0, 0] = torch.nan
    with pytest.raises(MadlabError, match="'signs' holds NaN or infinity"):
        cut_domain(net, "signs", "new", budget=1000)


def test_what_cannot_be_cut_is_named(net) -> None:
    with pytest.raises(MadlabError, match="numbers and the budget of 40 bytes holds 10: choose a lower"):
        cut_domain(net, "signs", "new", budget=40, rank=1)
    with pytest.raises(MadlabError, match="The rank 'all' is not possible"):
        cut_domain(net, "signs", "new", budget=40, rank="all")
    with pytest.raises(MadlabError, match="budget of -2 numbers"):
        cut_domain(net, "signs", "new", budget=-8)
    with pytest.raises(MadlabError, match="The budget '20kB' is not a number of bytes"):
        cut_domain(net, "signs", "new", budget="20kB")
    net.add_domain("letters", 3, "lora")
    with pytest.raises(MadlabError, match="has the method 'lora': only modulations"):
        cut_domain(net, "letters", "new", budget=1000)
    assert net.domains == ["signs", "letters"]
