"""What must hold of every adapter and of the score, with networks, values and orders that hypothesis looks for."""

import math
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import nn

import madlab
from madlab.adapters import FactorisedModulation
from madlab.benchmarks.score import domain_scores
from madlab.guard import fingerprint

quick = settings(max_examples=8, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
METHODS = [name for name in madlab.METHODS if not name.startswith("peft:")]  # those need PEFT, which takes seconds
seeds = st.integers(0, 2**31 - 1)


class Net(nn.Module):
    """Convolutions of random widths, kernels, strides and groups, with normalisation between them."""

    def __init__(self, widths, kernels, groups, stride, bias):
        super().__init__()
        layers = []
        for inside, outside, kernel, group in zip([3, *widths], widths, kernels, [1, *groups], strict=False):
            group = group if inside % group == outside % group == 0 else 1
            conv = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=group, bias=bias)
            layers += [conv, nn.BatchNorm2d(outside), nn.LeakyReLU(0.2)]  # which no draw of weights kills
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], 5)
        self.resize = self.crop = 12

    def forward(self, images):
        return self.head(self.body(images).mean((2, 3)))


@st.composite
def bases(draw, grouped=True):
    depth = draw(st.integers(1, 3))
    widths = draw(st.lists(st.sampled_from([2, 4, 6]), min_size=depth, max_size=depth))
    kernels = draw(st.lists(st.sampled_from([1, 3, 5]), min_size=depth, max_size=depth))
    groups = draw(st.lists(st.sampled_from([1, 2] if grouped else [1]), min_size=depth - 1, max_size=depth - 1))
    torch.manual_seed(draw(seeds))
    return Net(widths, kernels, groups, draw(st.sampled_from([1, 2])), draw(st.booleans())).eval()


def disturb(net, domain, seed):
    """Parameters as a training may leave them, and statistics of BatchNorm as images leave them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.trainable_parameters(domain):
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        net.train()(images(seed), domain=domain)
    net.eval()


def images(seed, count=6):
    return torch.randn(count, 3, 12, 12, generator=torch.Generator().manual_seed(seed))


def logits(net, domain, seed=0):
    with torch.no_grad():
        return net(images(seed), domain=domain)


@pytest.mark.parametrize("method", METHODS)
@quick
@given(base=bases(), seed=seeds, num_classes=st.integers(2, 5), rank=st.none() | st.integers(1, 2))
def test_what_is_saved_loaded_and_merged_is_the_view(method, base, seed, num_classes, rank):
    options = {"rank": rank} if rank is not None and "rank" in madlab.METHODS[method].options else {}
    options = (
        {"rank": 1} if method in ("lora", "hira") and not options else options
    )  # its usual 8 is more than these layers have
    net = madlab.MultiDomainNet(base)
    net.add_domain("a", num_classes, method, **options)
    disturb(net, "a", seed)
    expected = logits(net, "a", seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.safetensors"
        net.save_domain("a", path)
        other = madlab.MultiDomainNet(base)
        other.load_domain(path)
    assert torch.equal(logits(other, "a", seed), expected)
    if other.view("a").prompt is None:
        with torch.no_grad():
            merged = other.merge("a")(images(seed))
        assert torch.allclose(merged, expected, rtol=1e-4, atol=1e-4 * (1 + expected.abs().max().item()))


@quick
@given(rows=st.integers(1, 7), columns=st.integers(1, 7), kernel=st.sampled_from([1, 3]), seed=seeds)
def test_rank_min_of_m_and_n_reaches_any_alpha(rows, columns, kernel, seed):
    """By the singular values of an alpha that is drawn at random; the product is compared slice by slice."""
    generator = torch.Generator().manual_seed(seed)
    conv, alpha = nn.Conv2d(columns, rows, kernel), torch.randn(rows, columns, generator=generator)
    left, values, right = torch.linalg.svd(alpha, full_matrices=False)
    adapter = FactorisedModulation(conv, min(rows, columns))
    with torch.no_grad():
        adapter.beta.copy_(left * values)
        adapter.gamma.copy_(right)
        adapted = adapter(conv.weight)
    for m in range(rows):
        for n in range(columns):
            assert torch.allclose(adapted[m, n], alpha[m, n] * conv.weight[m, n], atol=1e-5)


actions = st.lists(
    st.tuples(st.sampled_from(["add", "train", "save", "load", "remove"]), st.integers(0, 3), st.sampled_from(METHODS)),
    min_size=3,
    max_size=9,
)


@quick
@given(base=bases(), order=actions)
def test_whatever_happens_to_one_domain_the_base_and_the_others_do_not_notice(base, order):
    sha256, net = fingerprint(base), madlab.MultiDomainNet(base)
    plain = base(images(0)).detach()  # in the memory format that madlab gives it, sums have another order
    with tempfile.TemporaryDirectory() as folder:
        for number, (action, which, method) in enumerate(order):
            name, path = f"d{which}", Path(folder) / f"d{which}.safetensors"
            before = {domain: logits(net, domain) for domain in net.domains if domain != name}
            if action == "add" and name not in net.domains:
                net.add_domain(name, 3, method, **({"rank": 1} if method in ("lora", "hira") else {}))
            elif action == "train" and name in net.domains:
                step(net, name, number)
            elif action == "save" and name in net.domains:
                net.save_domain(name, path)
            elif action == "load" and name not in net.domains and path.exists():
                net.load_domain(path)
            elif action == "remove" and name in net.domains:
                net.remove_domain(name)
            assert {domain for domain in net.domains if domain != name} == before.keys()
            assert all(torch.equal(logits(net, domain), old) for domain, old in before.items())
    assert fingerprint(base) == fingerprint(net.base) == sha256
    assert torch.equal(base(images(0)), plain)
    net.check_base()


def step(net, domain, seed):
    """One step of SGD in training mode, so that BatchNorm's statistics move as well."""
    optimiser = torch.optim.SGD(net.trainable_parameters(domain), lr=0.1)
    net.train()
    loss = nn.functional.cross_entropy(net(images(seed), domain=domain), torch.arange(6) % 3)
    loss.backward()
    optimiser.step()
    net.eval()


percents = st.floats(0, 100)


@settings(quick, max_examples=200)
@given(
    pairs=st.lists(st.tuples(percents, st.floats(0, 99.9)), min_size=1, max_size=10), better=percents, data=st.data()
)
def test_the_score_is_bounded_and_rises_with_each_accuracy(pairs, better, data):
    accuracies = {f"d{i}": accuracy for i, (accuracy, _) in enumerate(pairs)}
    baseline = {f"d{i}": base for i, (_, base) in enumerate(pairs)}
    score = madlab.decathlon_score(accuracies, baseline)
    assert 0 <= score <= 1000 * len(pairs) * (1 + 1e-12)
    assert all(0 <= points <= 1000 * (1 + 1e-12) for points in domain_scores(accuracies, baseline).values())
    by_hand = [1000 * max(0, 1 - (100 - a) / (2 * (100 - b))) ** 2 for a, b in pairs]
    assert math.isclose(score, math.fsum(by_hand), rel_tol=1e-6, abs_tol=1e-6)
    one = data.draw(st.sampled_from(sorted(accuracies)))
    raised = madlab.decathlon_score(accuracies | {one: max(better, accuracies[one])}, baseline)
    assert raised >= score - 1e-9
