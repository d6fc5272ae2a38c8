"""Rounding in the last epochs: when, what it trains and selects, what is stored, and that a resumed run is the same."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

import madlab
from madlab.adapters.rounding import BITS, rounded_numbers
from madlab.benchmarks.domain import Domain, Split
from madlab.errors import MadlabError
from madlab.runs.epoch import Diverged, train_epoch
from madlab.runs.evaluate import evaluate
from madlab.runs.rates import make_optimiser
from madlab.runs.recipe import Recipe
from madlab.runs.record import Result


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(12, 4)
        self.resize = self.crop = 12

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


def base():
    torch.manual_seed(0)
    return Small()


def noise(count=24):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 3
    images = torch.randint(180, (count, 12, 12, 3), generator=generator) + 30 * labels[:, None, None, None]
    split = Split(images.byte(), labels)
    return Domain("noise", list("abc"), split, split, split)


def run(method="mad", **options):
    options = {"epochs": 5, "batch_size": 8, "progress": False, "device": "cpu", "adapter_lr": 0.01} | options
    return madlab.train(noise(), method, base=base(), **options)


def test_the_last_fifth_is_rounded() -> None:
    for epochs, first in ((1, 0), (2, 1), (5, 4), (6, 5), (10, 8), (30, 24)):
        recipe = Recipe(epochs=epochs, finish_bits=4)
        assert [recipe.bits(epoch) for epoch in range(epochs)] == [None] * first + [4] * (epochs - first)
        assert {Recipe(epochs=epochs).bits(epoch) for epoch in range(epochs)} == {None}


@pytest.mark.parametrize("wrong", [0, 1, 5, 16, True, 2.0, "4"])
def test_only_bits_that_can_be_stored_are_taken(wrong) -> None:
    assert {Recipe(finish_bits=bits).finish_bits for bits in BITS} == set(BITS)
    with pytest.raises(MadlabError, match="finish_bits"):
        run(finish_bits=wrong)


def test_a_rounded_epoch_is_straight_through_training_by_hand() -> None:
    """One batch an epoch, plain SGD: alpha moves by the gradient at the rounded alpha."""
    domain = noise(8)
    recipe = Recipe(epochs=1, batch_size=8, momentum=0, coarse=0, warmup=0, finish_bits=3, smoothing=0, head_decay=0)
    net = madlab.MultiDomainNet(base())
    net.add_domain("noise", 3, normalization=domain.normalization)
    view = net.view("noise")
    adapters = view.adapters()
    with torch.no_grad():
        for adapter in adapters.values():
            adapter.alpha.add_(0.3 * torch.randn_like(adapter.alpha))
    exact = {name: adapter.alpha.detach().clone() for name, adapter in adapters.items()}
    one = {name: torch.ones_like(alpha) for name, alpha in exact.items()}
    seen = []
    view.network.body[0].register_forward_hook(lambda module, *_: seen.append(module.adapter.alpha.detach().clone()))
    optimiser = make_optimiser(view, recipe)
    train_epoch(view, domain, recipe, optimiser, 0)
    assert len(seen) == 1 and torch.equal(seen[0], rounded_numbers(exact["body.0"], one["body.0"], 3))
    rates = {p: group["lr"] for group in optimiser.param_groups for p in group["params"]}
    for name, adapter in adapters.items():
        step = rates[adapter.alpha] * adapter.alpha.grad
        torch.testing.assert_close(adapter.alpha.detach(), exact[name] - step)
        assert step.abs().max() > 0 and not torch.equal(seen[0], exact["body.0"])


@pytest.mark.parametrize("method", ["mad", "mad:2", "piggyback", "frozen", "prompt", "finetune"])
def test_what_is_tested_is_what_is_stored(tmp_path, method) -> None:
    result = run(method, out=tmp_path / "run", finish_bits=3)
    assert result.best_epoch == 5 or method == "frozen", "a frozen run tries a decay per epoch, and rounds nothing"
    assert evaluate(tmp_path / "run", noise(), base(), "cpu") == result.test_accuracy
    net = madlab.MultiDomainNet(base())
    net.load_domain(tmp_path / "run" / "adapter.safetensors")
    stored = net.stored_bytes("noise", bits=3, norms="folded")
    assert result.stored_bytes == {"adapter": stored.adapter, "norms": stored.norms, "head": stored.head}
    if method == "mad":
        for adapter in net.view("noise").adapters().values():
            assert torch.equal(rounded_numbers(adapter.alpha, torch.ones_like(adapter.alpha), 3), adapter.alpha)


def test_results_say_how_many_bytes_inference_needs_and_older_ones_do_not(tmp_path) -> None:
    result = run(out=tmp_path / "run")
    net = madlab.MultiDomainNet(base())
    net.load_domain(tmp_path / "run" / "adapter.safetensors")
    net.save_domain("noise", tmp_path / "folded.safetensors", norms="folded")
    norms = load_file(tmp_path / "folded.safetensors")["packed:norms"].numel()
    alphas, scales_and_shifts = 8 * 3 + 12 * 8, 2 * 4 * (8 + 12)
    assert result.stored_bytes == {"adapter": 4 * alphas, "norms": norms, "head": 4 * (12 * 3 + 3)}
    assert 0.8 * scales_and_shifts < norms < scales_and_shifts + 30
    file = tmp_path / "run" / "result.json"
    older = json.loads(file.read_text())
    del older["stored_bytes"]
    file.write_text(json.dumps(older))
    assert Result.read(tmp_path / "run").stored_bytes == {}


class Stopped(BaseException):
    """As a kill is."""


@pytest.mark.parametrize("after", [3, 4])
def test_a_run_resumed_before_or_in_the_rounded_epochs_is_the_same(tmp_path, after) -> None:
    def stop(entry):
        if entry.epoch == after:
            raise Stopped

    options = {"epochs": 10, "finish_bits": 4, "resume": True} if after == 3 else {"finish_bits": 4, "resume": True}
    run(out=tmp_path / "whole", **options)
    with pytest.raises(Stopped):
        run(out=tmp_path / "parts", on_epoch=stop, **options)
    run(out=tmp_path / "parts", **options)
    for name in ("metrics.jsonl", "adapter.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_numbers_that_diverged_are_told_as_such_while_they_are_rounded() -> None:
    with pytest.raises(Diverged):
        run(finish_bits=4, epochs=1, batch_size=8, warmup=0, adapter_lr=1e38)


def test_validation_in_the_rounded_epochs_is_of_rounded_numbers(tmp_path) -> None:
    """The last line of the log is what the stored adapter gives, up to what folding and rounding the norms changes."""
    run(out=tmp_path / "run", finish_bits=2, epochs=1, adapter_lr=0.1, batchnorm_lr=0.3)
    net, domain = madlab.MultiDomainNet(base()), noise()
    net.load_domain(tmp_path / "run" / "adapter.safetensors")
    images = domain.val.images.permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(domain.normalization[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        loss = F.cross_entropy(net((images - mean) / std, domain="noise"), domain.val.labels).item()
    logged = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())["val_loss"]
    assert logged == pytest.approx(loss, rel=0.03)
