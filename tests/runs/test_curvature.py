"""Layers whose scale counts are found, their curvature is that of the Hessian, and their rates end no run at chance."""

import copy
import warnings

import pytest
import torch
from scripts import load_script
from torch import nn

import madlab
from madlab.analysis.diagnosis import gather
from madlab.benchmarks.domain import Domain, Split
from madlab.errors import MadlabWarning
from madlab.lessons import few
from madlab.runs.curvature import filter_factors, largest_curvature, scale_counts
from madlab.runs.rates import make_optimiser
from madlab.runs.recipe import Recipe
from madlab.runs.step import entropy
from madlab.runs.training import Training


class Chain(nn.Module):
    """Convolutions one after the other, each followed by what its letter says: b BatchNorm, n nothing, d dropout."""

    def __init__(self, kinds: str, width: int = 6):
        super().__init__()
        behind = {"b": nn.BatchNorm2d, "n": lambda _: nn.Identity(), "d": lambda _: nn.Dropout(0.5)}
        self.convs = nn.ModuleList(nn.Conv2d(width if n else 3, width, 3, padding=1) for n in range(len(kinds)))
        self.norms = nn.ModuleList(behind[kind](width) for kind in kinds)
        self.head = nn.Linear(width, 3)
        self.resize = self.crop = 8

    def forward(self, x):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x)).relu()
        return self.head(x.mean((2, 3)))


class Smooth(Chain):
    """Its activations have a second derivative, which those of ReLU do not have where it bends."""

    def forward(self, x):
        for conv in self.convs:
            x = conv(x).tanh()
        return self.head(x.mean((2, 3)))


class TwiceTheSame(Chain):
    """Its last two layers have one weight."""

    def __init__(self):
        super().__init__("nnn")
        self.convs[2].weight = self.convs[1].weight


def noise(images: int = 24) -> Domain:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(images) % 3
    pixels = torch.randint(180, (images, 8, 8, 3), generator=generator) + 30 * labels[:, None, None, None]
    split = Split(pixels.byte(), labels)
    return Domain("noise", ["a", "b", "c"], split, split, split, flip=False)


def view_of(base: nn.Module, method: str = "mad", **options):
    net = madlab.MultiDomainNet(base)
    net.add_domain("noise", 3, method, normalization=noise().normalization, **options)
    return net.view("noise")


@pytest.mark.parametrize("method", ["mad", "finetune", "piggyback", "series"])
def test_scale_counts_where_no_norm_is_behind_a_layer(method):
    torch.manual_seed(0)
    images = torch.randn(16, 3, 8, 8)
    for kinds, counting in [("bbb", []), ("bbn", [2]), ("nb", []), ("bdn", [1, 2]), ("nnn", [0, 1, 2])]:
        chain = Chain(kinds)
        nn.init.zeros_(chain.convs[0].bias)  # else the filters' scale counts beside its, whatever comes later
        view = view_of(chain, method).train()
        assert scale_counts(view, images) == [f"convs.{number}" for number in counting], kinds
    assert scale_counts(view_of(Chain("nb"), method).train(), images) == ["convs.0"]
    assert scale_counts(view_of(Chain("bbb"), method).eval(), images) == ["convs.0", "convs.1", "convs.2"]


class Standardised(nn.Conv2d):
    """Its filters have a length of one, whatever they are given."""

    def forward(self, x):
        weight = self.weight / self.weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        return self._conv_forward(x, weight, self.bias)


class Reads(Chain):
    """Its layers' weights are read instead of their forward being called."""

    def forward(self, x):
        for conv in self.convs:
            x = nn.functional.conv2d(x, conv.weight, conv.bias, padding=1).relu()
        return self.head(x.mean((2, 3)))


def test_what_counts_is_the_scale_of_the_filters_and_not_of_what_a_layer_returns():
    torch.manual_seed(0)
    images, chain = torch.randn(16, 3, 8, 8), Chain("nnn")
    chain.convs[1] = Standardised(6, 6, 3, padding=1)
    assert scale_counts(view_of(chain).train(), images) == ["convs.0", "convs.2"]
    assert scale_counts(view_of(Reads("nnn")).train(), images) == ["convs.0", "convs.1", "convs.2"]


def test_random_numbers_are_of_the_cpu_whatever_the_default_device_is():
    torch.manual_seed(0)
    view, images = view_of(Chain("bn")).train(), torch.randn(16, 3, 8, 8)
    with torch.device("meta"):
        assert scale_counts(view, images) == ["convs.1"]


def test_the_largest_curvature_is_that_of_the_hessian():
    torch.manual_seed(0)
    base, images, labels = Smooth("nn", width=3).double(), torch.randn(12, 3, 8, 8).double(), torch.arange(12) % 3
    view = view_of(base, "lora", rank=1)
    layers = list(view.adapted_layers().values())
    found = largest_curvature(layers, lambda: entropy(view(images), labels, None, 0.1))

    sizes = [conv.weight.numel() for conv in base.convs]

    def loss(flat):
        weights = [part.view_as(conv.weight) for part, conv in zip(flat.split(sizes), base.convs, strict=True)]
        state = {f"convs.{number}.weight": weight for number, weight in enumerate(weights)}
        return entropy(torch.func.functional_call(network, state, (images,)), labels, None, 0.1)

    network = copy.deepcopy(view.merged())
    flat = torch.cat([conv.weight.flatten() for conv in base.convs]).detach()
    exact = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat)).abs().max().item()
    assert found == pytest.approx(exact, rel=0.1)


def test_the_factors_leave_domain_and_generator_as_they_are():
    torch.manual_seed(0)
    base = Chain("bdn")
    nn.init.normal_(base.convs[2].weight)
    view = view_of(base)
    before, adapters = {k: v.clone() for k, v in view.own_state().items()}, view.adapters()
    drawn = torch.get_rng_state()
    factors = filter_factors(view, noise(), Recipe(batch_size=8), crop=8)
    assert list(factors) == ["convs.1", "convs.2"] and 0 < factors["convs.1"] == factors["convs.2"] < 1
    assert view.adapters() == adapters and not view.training and torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(tensor, before[name]) for name, tensor in view.own_state().items())
    for kinds, method in (("bbb", "mad"), ("nnn", "batchnorm")):
        assert not filter_factors(view_of(Chain(kinds), method), noise(), Recipe(batch_size=8), crop=8)


@pytest.mark.parametrize("method", ["mad", "finetune"])
def test_a_factor_lowers_the_rates_of_its_layer_once(method):
    view = view_of(TwiceTheSame(), method)
    usual = make_optimiser(view, Recipe())
    lower = make_optimiser(view, Recipe(), of_filters={"convs.1": 0.25, "convs.2": 0.25})
    own = {id(p) for p in view.own.values()} | {id(p) for p in view.adapted_layers()["convs.1"].adapter.parameters()}
    peaks = [{p: group["peak"] for group in one.param_groups for p in group["params"]} for one in (usual, lower)]
    assert peaks[0].keys() == peaks[1].keys() and any(id(p) in own for p in peaks[0])
    for parameter, peak in peaks[0].items():
        assert peaks[1][parameter] == pytest.approx(peak * (0.25 if id(parameter) in own else 1))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mad", "finetune"])
def test_a_network_without_norms_learns_at_the_default_rates(method):
    """At the rates of before it ended below one in ten, which is chance."""
    base = madlab.load_base("pocket-resnet26")
    network, domain = load_script("without_norms").folded(base), few(madlab.load_domain("signs"), size=36)
    images = torch.randn(2, 3, 32, 32)
    assert torch.allclose(network(images), base.eval()(images), atol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = madlab.train(domain, method, base=network, epochs=6, batch_size=32, progress=False)
    assert result.filter_factors and max(result.filter_factors.values()) < 0.2
    assert result.test_accuracy > madlab.train(domain, "frozen", base=network, epochs=3, progress=False).test_accuracy


def test_a_run_that_is_taken_up_keeps_its_factors(tmp_path):
    """They depend on the head, which has moved by then."""
    torch.manual_seed(0)
    base, settings = Chain("bnn"), {"epochs": 2, "batch_size": 8, "progress": False}
    nn.init.normal_(base.convs[2].weight)
    whole = madlab.train(noise(), "mad", base=base, out=tmp_path / "whole", **settings)

    def stop(epoch):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        madlab.train(noise(), "mad", base=base, out=tmp_path / "part", on_epoch=stop, **settings)
    assert gather(tmp_path / "part", base).lowered == whole.filter_factors
    part = madlab.train(noise(), "mad", base=base, out=tmp_path / "part", resume=True, **settings)
    assert part.filter_factors == whole.filter_factors and whole.filter_factors
    one, other = ((tmp_path / name / "adapter.safetensors").read_bytes() for name in ("whole", "part"))
    assert one == other


@pytest.mark.parametrize(
    ("exact", "words"),
    [(90.0, "Before it was rounded, 90.0 % were: choose"), (10.0, "Lower the learning rates")],
)
def test_harm_that_rounding_did_is_told_as_such(monkeypatch, exact, words):
    """As if validation said so: `exact` in the first epoch, five percent in the second one, which is rounded."""
    domain = few(madlab.load_domain("signs"), size=36)
    monkeypatch.setattr(Training, "_validate", lambda _, epoch: (1.0, (exact, 5.0)[epoch]))
    monkeypatch.setattr(Training, "_look", lambda self: setattr(self, "start", 60.0))
    with pytest.warns(MadlabWarning, match=f"5.0 % of the validation images are right, and 60.0 % were .*{words}"):
        madlab.train(domain, "mad:2", epochs=2, finish_bits=2, progress=False)


@pytest.mark.slow
def test_a_training_that_does_harm_says_so():
    domain = few(madlab.load_domain("signs"), size=36)
    with pytest.warns(MadlabWarning, match="made 'mad' on 'signs' worse: .* Lower the learning rates"):
        madlab.train(domain, "mad", epochs=2, adapter_lr=100.0, polyak=0.0, progress=False)
