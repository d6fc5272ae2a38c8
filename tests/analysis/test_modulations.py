"""What is learned from trained adapters: against loops, brute force and numbers worked out by hand."""

import itertools

import pytest
import torch
from torch import nn

import madlab
from madlab.adapters import METHODS
from madlab.analysis import modulations
from madlab.analysis.nearest import explained, nearest
from madlab.errors import MadlabError


def small_net() -> madlab.MultiDomainNet:
    return madlab.MultiDomainNet(madlab.resnet26(num_classes=4, width=4))


@pytest.mark.parametrize("method, options", [("mad", {}), ("mad", {"rank": 2}), ("mad+wtpb", {"rank": 2})])
def test_modulations_are_what_the_filters_are_scaled_by(method, options) -> None:
    net = small_net()
    net.add_domain("a", 3, method, **options)
    found = {}
    for name, adapter in net.view("a").adapters().items():
        for parameter in adapter.parameters():
            nn.init.normal_(parameter) if method == "mad" else None
        ones = torch.ones_like(net.convs[name].weight)
        found[name] = adapter(ones)[:, :, 0, 0].detach()  # filters of ones come back as alpha
    alphas = modulations.of_domain(net, "a")
    assert list(alphas) == list(net.convs)
    for name, alpha in alphas.items():
        torch.testing.assert_close(alpha, found[name])
    alphas["conv"].fill_(7)
    assert float(modulations.of_domain(net, "a")["conv"].max()) < 7


def test_a_domain_without_modulation_is_refused() -> None:
    net = small_net()
    net.add_domain("a", 3, "parallel")
    with pytest.raises(MadlabError, match="not a modulation"):
        modulations.of_domain(net, "a")


@pytest.mark.parametrize("value", [1.0, 0.0])
def test_reset_and_kept_share_count_like_a_loop(value) -> None:
    alphas = {"a": torch.randn(5, 3), "b": torch.randn(2, 7)}
    kept = 0
    for alpha in alphas.values():
        got = modulations.reset(alpha, 0.6, value)
        for m, n in itertools.product(*map(range, alpha.shape)):
            far = abs(float(alpha[m, n]) - value) >= 0.6
            kept += far
            assert float(got[m, n]) == (float(alpha[m, n]) if far else value)
    assert modulations.kept_share(alphas, 0.6, value) == pytest.approx(kept / (15 + 14))
    assert modulations.kept_share(alphas, 0.0, value) == 1


def test_similarity_by_hand() -> None:
    one = {"a": torch.tensor([[2.0, 1.0]]), "b": torch.tensor([[1.0]])}
    other = {"a": torch.tensor([[2.0, 2.0]]), "b": torch.tensor([[1.0]])}
    opposite = {"a": torch.tensor([[0.0, 1.0]]), "b": torch.tensor([[1.0]])}
    none = {name: torch.ones_like(alpha) for name, alpha in one.items()}
    assert modulations.similarity(one, other) == pytest.approx(0.5**0.5)
    assert modulations.similarity(one, opposite) == pytest.approx(-1)
    assert modulations.similarity(one, none) == 0
    with pytest.raises(MadlabError, match="different layers"):
        modulations.similarity(one, {"a": one["a"]})


def test_directions_by_hand() -> None:
    basis, _ = torch.linalg.qr(torch.randn(6, 6))
    other, _ = torch.linalg.qr(torch.randn(5, 5))
    change = 3 * torch.outer(basis[0], other[0]) + 1 * torch.outer(basis[1], other[1])
    assert modulations.directions(1 + change, 0.85) == 1  # 9 of 10
    assert modulations.directions(1 + change, 0.95) == 2
    assert modulations.directions(torch.ones(6, 5)) == 0


def gradient_descent(method: str, weight: torch.Tensor, target: torch.Tensor, rank: int | None) -> float:
    """The squared distance that the library's own adapter reaches when it is trained towards the target."""
    out_channels, in_channels, kernel, _ = weight.shape
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=1, bias=False)
    conv.weight.data.copy_(weight)
    build = METHODS[method].adapter
    assert build is not None
    adapter = build(conv, rank=rank) if rank else build(conv)
    optimiser = torch.optim.Adam(adapter.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 600)
    for _ in range(600):
        loss = (adapter(weight) - target).square().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return float(loss.detach())


@pytest.mark.parametrize("method, rank", [("mad", None), ("parallel", None), ("series", None), ("lora", 2)])
def test_nearest_is_where_training_arrives(method, rank) -> None:
    torch.manual_seed(1)
    weight, target = torch.randn(5, 4, 3, 3), torch.randn(5, 4, 3, 3)
    near = nearest(method, weight, target, rank)
    distance = float((near - target).square().sum())
    assert distance == pytest.approx(gradient_descent(method, weight, target, rank), rel=1e-3)
    change = float((weight - target).square().sum())
    assert explained(weight, target, near) == pytest.approx(1 - distance / change, rel=1e-5)


def test_nearest_mask_is_the_best_of_all_masks() -> None:
    weight, target = torch.randn(2, 1, 1, 4), torch.randn(2, 1, 1, 4)
    masks = [torch.tensor(bits).view(2, 1, 1, 4) for bits in itertools.product((0.0, 1.0), repeat=8)]
    best = min(masks, key=lambda mask: float((weight * mask - target).square().sum()))
    assert torch.equal(nearest("piggyback", weight, target), weight * best)


def test_what_nearest_cannot_do() -> None:
    weight = torch.randn(2, 2, 3, 3)
    with pytest.raises(MadlabError, match="closed form"):
        nearest("wtpb", weight, weight)
    with pytest.raises(MadlabError, match="rank"):
        nearest("lora", weight, weight)
    assert explained(weight, weight, weight) == 1


def test_shuffled_numbers_are_the_same_in_other_places() -> None:
    alpha = torch.randn(7, 5)
    other = modulations.shuffled(alpha, torch.Generator().manual_seed(1))
    assert sorted(other.flatten().tolist()) == sorted(alpha.flatten().tolist())
    assert other.shape == alpha.shape and not torch.equal(other, alpha)
    assert torch.equal(other, modulations.shuffled(alpha, torch.Generator().manual_seed(1)))


def test_singular_values_are_of_the_change() -> None:
    u, v = torch.randn(6), torch.randn(4)
    values = modulations.singular_values(1 + torch.outer(u, v))
    assert values[0] == pytest.approx(float(u.norm() * v.norm()), rel=1e-4)
    assert values[1:].max() < 1e-4


def test_effective_change_is_that_of_the_filters_without_their_own_direction() -> None:
    torch.manual_seed(0)
    weights = {"a": torch.randn(5, 4, 3, 3), "b": torch.randn(3, 6, 1, 1)}
    pairs = [{name: 1 + torch.randn(w.shape[:2]) for name, w in weights.items()} for _ in range(2)]
    changes = []
    for alphas in pairs:
        rows = []
        for name, weight in weights.items():
            for m, filters in enumerate(weight):
                change = ((alphas[name][m] - 1)[:, None, None] * filters).flatten()
                unit = filters.flatten() / filters.norm()
                rows.append(change - (change @ unit) * unit)
        changes.append(rows)
    seen = [modulations.effective(alphas, weights) for alphas in pairs]
    dot = sum(float(a @ b) for a, b in zip(*changes, strict=True))
    lengths = [sum(float(row @ row) for row in rows) ** 0.5 for rows in changes]
    for rows, tables in zip(lengths, seen, strict=True):
        squares = sum(float((table - 1).square().sum()) for table in tables.values())
        assert squares**0.5 == pytest.approx(rows, rel=1e-4)
    # Slices of one base are parallel, so the cosine is that of the filters up to the sign of each: all are positive.
    assert modulations.similarity(*seen) == pytest.approx(dot / (lengths[0] * lengths[1]), abs=1e-4)
    scaled = {name: torch.rand(len(w), 1).expand(w.shape[:2]) for name, w in weights.items()}
    assert all((table - 1).abs().max() < 1e-5 for table in modulations.effective(scaled, weights).values())
