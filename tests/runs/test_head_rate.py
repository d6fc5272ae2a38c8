"""Heads of 2 to 242 classes, 128 to 2,048 features and batches of 16 to 256 learn at one rate, and none diverges."""

import math
from dataclasses import replace

import pytest
import tiny
import torch
from torch import nn
from torch.nn import functional as F

import madlab
from madlab.benchmarks.domain import Domain, Split
from madlab.errors import MadlabError
from madlab.runs.rates import head_factor, make_optimiser, warmup_cosine
from madlab.runs.recipe import Recipe

STEPS = 300
RATES = [rates.head for m in madlab.METHODS.values() for rates in (m.rates, *m.rates_by_rank.values())]


class Pixels(nn.Module):
    """Features that are a fixed random view of the pixels, times `size`; positive, as those behind a ReLU are."""

    def __init__(self, features: int, size: float):
        super().__init__()
        self.conv, self.size = nn.Conv2d(3, features, 4), size
        self.fc = nn.Linear(features, 5)
        self.resize = self.crop = 4

    def features(self, images):
        return self.size * F.relu(self.conv(images)).flatten(1)

    def forward(self, images):
        return self.fc(self.features(images))


def noisy_classes(classes: int) -> Domain:
    """Images of 4 x 4 pixels, those of each class around a picture of its own."""
    generator = torch.Generator().manual_seed(classes)
    centres = torch.randint(90, 160, (classes, 4, 4, 3), generator=generator)
    labels = torch.arange(classes * max(4, 256 // classes)) % classes
    noise = torch.randint(-60, 60, (len(labels), 4, 4, 3), generator=generator)
    split = Split((centres[labels] + noise).clamp(0, 255).byte(), labels)
    return Domain("noise", [f"class {number}" for number in range(classes)], split, split, split, flip=False)


def setting(classes: int, features: int, batch: int, size: float = 1.0):
    """A view, its domain and a recipe; features and labels of all its images as the head gets them."""
    torch.manual_seed(0)
    net, domain = madlab.MultiDomainNet(Pixels(features, size)), noisy_classes(classes)
    net.add_domain("noise", classes, "frozen", normalization=domain.normalization)
    mean, std = (torch.tensor(domain.normalization[key]) for key in ("mean", "std"))
    images = ((domain.train.images / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.no_grad():
        inputs = net.base.features(images)
    return net.view("noise"), domain, Recipe(batch_size=batch, head_decay=0), inputs, domain.train.labels


def losses_of(view, optimiser, inputs, labels, batch: int, times: float = 1.0) -> list[float]:
    """Train the head alone, as an epoch does, for STEPS steps; the loss of each, as a share of log C."""
    generator, found = torch.Generator().manual_seed(0), []
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = times * group["peak"] * warmup_cosine(step / STEPS, 0.15)
        index = torch.randint(len(labels), (batch,), generator=generator)
        optimiser.zero_grad()
        loss = F.cross_entropy(view.head(inputs[index]), labels[index])
        loss.backward()
        optimiser.step()
        found.append(loss.item() / math.log(view.head.out_features))
    return found


def accuracy(head, inputs, labels) -> float:
    return 100 * (head(inputs).argmax(1) == labels).float().mean().item()


@pytest.mark.slow
@pytest.mark.parametrize("batch", [16, 256])
@pytest.mark.parametrize(("classes", "features"), [(2, 128), (2, 2048), (10, 512), (43, 1024), (242, 128), (242, 512)])
def test_no_head_diverges_or_ends_far_below_a_converged_one(classes, features, batch):
    """The images can all be told apart, so that a converged head has 100 %; the smallest setting sees each 5 times."""
    view, domain, recipe, inputs, labels = setting(classes, features, batch)
    of_head = head_factor(view, domain, recipe, crop=4)
    for rate in (0.3, 1.0, 1.6):
        view.head.reset_parameters()
        optimiser = make_optimiser(view, replace(recipe, head_lr=rate), of_head)
        losses = losses_of(view, optimiser, inputs, labels, batch)
        assert max(losses) < 1.5, "no loss is far above that of a guess, at any step"
        assert accuracy(view.head, inputs, labels) > 88, rate


def test_twenty_times_the_stable_rate_is_not_stable():
    view, domain, recipe, inputs, labels = setting(242, 128, 16)
    optimiser = make_optimiser(view, replace(recipe, head_lr=20.0), head_factor(view, domain, recipe, crop=4))
    assert max(losses_of(view, optimiser, inputs, labels, 16)) > 5


def test_no_method_gives_its_head_a_higher_rate_than_those_for_which_this_was_tried():
    """A lower one needs no trial here: before a training starts, its head is fitted (madlab.runs.probe)."""
    assert min(RATES) > 0 and max(RATES) <= 1.6


def test_larger_features_make_the_same_steps_in_the_logits():
    """Features a hundred times as large and weights a hundredth of theirs are the same head, and stay the same."""
    logits = []
    for size in (1.0, 100.0):
        view, domain, recipe, inputs, labels = setting(10, 128, 64, size)
        with torch.no_grad():
            view.head.weight /= size
            view.head.bias.zero_().requires_grad_(False)
        view.head.bias = None
        losses_of(view, make_optimiser(view, recipe, head_factor(view, domain, recipe, crop=4)), inputs, labels, 64)
        logits.append(view.head(inputs).detach())
    assert torch.allclose(*logits, rtol=1e-3, atol=1e-3)


def test_the_factor_is_what_the_features_of_the_first_batches_say():
    view, domain, _, inputs, _ = setting(10, 128, 64)
    few = replace(domain, train=Split(domain.train.images[:40], domain.train.labels[:40]))
    square = inputs[:40].square().sum(1).mean().item() + 1
    for recipe, batch in ((Recipe(batch_size=64), 40), (Recipe(batch_size=10, accumulate=2), 20)):
        expected = 1 / (square * (1 / 10 + 1 / (2 * batch)))
        assert head_factor(view, few, recipe, crop=4) == pytest.approx(expected, rel=1e-5)


class BehindThePooling(nn.Module):
    """A head for every position, which is a Linear on the last axis or a 1x1 convolution, and then the mean."""

    def __init__(self, linear: bool):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 24, 1), linear
        self.head = nn.Linear(24, 5) if linear else nn.Conv2d(24, 5, 1)
        self.resize = self.crop = 4

    def forward(self, images):
        features = self.conv(images).relu()
        if self.linear:
            return self.head(features.permute(0, 2, 3, 1)).mean((1, 2))
        return self.head(features).mean((2, 3))


@pytest.mark.parametrize("linear", [True, False])
def test_the_channels_of_features_with_positions_are_where_the_head_has_them(linear):
    torch.manual_seed(0)
    net, domain = madlab.MultiDomainNet(BehindThePooling(linear)), noisy_classes(8)
    net.add_domain("noise", 8, "mad", normalization=domain.normalization)
    mean, std = (torch.tensor(domain.normalization[key]) for key in ("mean", "std"))
    images = ((domain.train.images[:64] / 255 - mean) / std).permute(0, 3, 1, 2)
    domain = replace(domain, train=Split(domain.train.images[:64], domain.train.labels[:64]))
    with torch.no_grad():
        square = net.base.conv(images).relu().square().sum(1).mean().item() + 1
    found = head_factor(net.view("noise"), domain, Recipe(batch_size=64), crop=4)
    assert found == pytest.approx(1 / (square * (1 / 8 + 1 / 128)), rel=1e-4)


def test_measuring_the_features_leaves_the_domain_as_it_was():
    base = madlab.resnet26(num_classes=5, width=4)
    net = madlab.MultiDomainNet(base)
    images = torch.randint(256, (12, 20, 20, 3), dtype=torch.uint8)
    split = Split(images, torch.arange(12) % 3)
    domain = Domain("x", ["a", "b", "c"], split, split, split, flip=True)
    net.add_domain("x", 3, "mad", normalization=domain.normalization)
    before = {name: tensor.clone() for name, tensor in net.view("x").own_state().items()}
    assert any("running_mean" in name for name in before)
    head_factor(net.view("x"), domain, Recipe(batch_size=6), crop=16)
    after = net.view("x").own_state()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("method", ["frozen", "mad"])
@pytest.mark.parametrize("times", [1e12, 1e25, math.inf, math.nan])
def test_features_from_which_no_head_can_learn_are_told_before_the_training(method, times, tmp_path):
    tiny.write_folder(tmp_path / "noise")
    base = madlab.resnet26(num_classes=5, width=4)
    base.resize = base.crop = 16
    with torch.no_grad():
        base.bn_end.weight *= times
        base.bn_end.bias *= times
    with pytest.raises(MadlabError, match=r"features that reach the head .* of ([\d.]+e\+\d\d|inf|nan), from which no"):
        madlab.train(str(tmp_path / "noise"), method, base=base, epochs=1, progress=False, out=str(tmp_path / "run"))
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize("method", ["frozen", "mad"])
def test_features_a_million_times_as_long_are_still_learnt_from(method):
    torch.manual_seed(0)
    result = madlab.train(noisy_classes(10), method, base=Pixels(128, 1e6), epochs=3, progress=False)
    assert result.test_accuracy > 80
