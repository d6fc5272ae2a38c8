"""The head of frozen features ends where scikit-learn's logistic regression does, and the path of decays is walked."""

import json

import numpy as np
import pytest
import tiny
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional as F

import madlab
from madlab.benchmarks.domain import Domain, Split
from madlab.runs import probe, training
from madlab.runs.epoch import crop_of
from madlab.runs.recalibrate import recalibrate
from madlab.runs.recipe import Recipe
from madlab.runs.step import entropy
from madlab.sizes import image_size


def overlapping(classes: int, features: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(count) % classes
    centres = torch.randn(classes, features, generator=generator)
    return F.relu(centres[labels] + 1.5 * torch.randn(count, features, generator=generator) + 1), labels


@pytest.mark.parametrize("head", [nn.Linear(6, 4), nn.Linear(6, 4, bias=False), nn.Conv2d(6, 4, 1)])
@pytest.mark.parametrize("decay", [1e-1, 1e-3])
@pytest.mark.parametrize("size", [1.0, 1e6])
def test_a_fitted_head_is_the_minimum_that_scikit_learn_finds(head, decay, size):
    features, labels = overlapping(4, 6, 200)
    features *= size
    head.reset_parameters()
    loss = probe.fit(head, features, labels, decay, smoothing=0.0)
    biased = head.bias is not None
    mean = features.mean(0) if biased else 0
    scale = (features - mean).square().sum(1).mean().sqrt()
    scaled = ((features - mean) / scale).double().numpy()
    theirs = LogisticRegression(C=1 / (decay * 200), fit_intercept=biased, tol=1e-9, max_iter=5000).fit(scaled, labels)
    probabilities = theirs.predict_proba(scaled)
    ours = (features @ head.weight.flatten(1).T + (head.bias if biased else 0)).softmax(1).detach().numpy()
    assert np.abs(ours - probabilities).max() < 2e-3
    assert loss == pytest.approx(-np.log(probabilities[np.arange(200), labels]).mean(), abs=1e-4)


def test_a_large_head_remembers_few_iterations_and_comes_as_far(monkeypatch):
    torch.manual_seed(0)
    features, labels, losses = torch.randn(200, 20), torch.randint(5, (200,)), []
    real, sizes = torch.optim.LBFGS, []

    def optimiser(learned, *, history_size, **options):
        sizes.append(history_size)
        return real(learned, history_size=history_size, **options)

    monkeypatch.setattr(torch.optim, "LBFGS", optimiser)
    for memory in (2**30, 0):
        monkeypatch.setattr(probe, "HISTORY", memory)
        losses.append(probe.fit(nn.Linear(20, 5), features, labels, 1e-3, 0.0))
    assert sizes == [100, 5] and losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_smoothed_labels_and_weighted_classes_leave_the_common_class_its_images():
    """990 images of one class and 10 of another, far apart: with weights on the smoothed share the 990 were lost."""
    labels = torch.cat([torch.zeros(990, dtype=torch.long), torch.ones(10, dtype=torch.long)])
    features = F.one_hot(labels, 2).float() + 0.1 * torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    head, weights = nn.Linear(2, 2), torch.tensor([1000 / (2 * 990), 1000 / (2 * 10)])
    probe.fit(head, features, labels, 1e-4, smoothing=0.1, weights=weights)
    assert (head(features).argmax(1) == labels).all()
    targets = 0.9 * F.one_hot(labels, 2) + 0.05
    each = -(targets * head(features).log_softmax(1)).sum(1)
    by_hand = (each[:990].mean() + each[990:].mean()) / 2
    assert torch.isclose(entropy(head(features), labels, weights, 0.1), by_hand)


def test_the_decays_fall_from_the_strongest_to_the_weakest_in_equal_steps_of_the_exponent():
    assert [probe.decay_of(epoch, 5) for epoch in range(5)] == pytest.approx([1e-2, 1e-3, 1e-4, 1e-5, 1e-6])
    assert probe.decay_of(0, 1) == pytest.approx(1e-4)


@pytest.fixture
def place(tmp_path):
    tiny.write_folder(tmp_path / "noise")
    tiny.write_base(tmp_path / "small.safetensors")
    return tmp_path


def train(place, method="frozen", **options):
    return madlab.train(
        str(place / "noise"), method, base=str(place / "small.safetensors"), progress=False, batch_size=10, **options
    )


def test_a_frozen_run_tells_what_its_fitted_head_gives(place, monkeypatch):
    """Each epoch's loss is that of its own fit; the stored head is that of the epoch that was best on validation."""
    decays, real = [], probe.fit

    def fit(head, features, labels, decay, smoothing, weights=None):
        assert features.shape == (24, 32) and sorted(labels.tolist()) == [0] * 8 + [1] * 8 + [2] * 8
        decays.append(decay)
        return real(head, features, labels, decay, smoothing, weights)

    monkeypatch.setattr(probe, "fit", fit)
    result = train(place, epochs=3, out=place / "run")
    log = [json.loads(line) for line in (place / "run" / "metrics.jsonl").read_text().splitlines()]
    assert decays == pytest.approx([1e-2, 1e-4, 1e-6])
    assert [entry["train_loss"] for entry in log] == sorted((entry["train_loss"] for entry in log), reverse=True)
    assert result.val_accuracy == max(entry["val_accuracy"] for entry in log)
    assert result.rates == {"adapter": 0.0, "batchnorm": 0.0, "head": 0.0}
    assert madlab.evaluate(place / "run") == result.test_accuracy


@pytest.mark.slow
def test_frozen_is_as_good_when_the_run_ends_rounded(place):
    """There is nothing to round, so every epoch may be the best, not only the last ones."""
    plain, rounded = train(place, epochs=5), train(place, epochs=5, finish_bits=4)
    assert (plain.best_epoch, plain.test_accuracy) == (rounded.best_epoch, rounded.test_accuracy)


class TwoHeads(nn.Module):
    """Its logits are the sum of two heads; the features are the pixels' means."""

    def __init__(self, heads: int, pooled_after: bool):
        super().__init__()
        self.conv, self.pooled_after = nn.Conv2d(3, 8, 3, padding=1), pooled_after
        self.heads = nn.ModuleList([nn.Conv2d(8, 5, 1) for _ in range(heads)])
        self.resize = self.crop = 8

    def forward(self, images):
        x = F.relu(self.conv(images))
        if self.pooled_after:
            return sum(F.relu(head(x)).mean((2, 3)) for head in self.heads)
        return sum(head(x.mean((2, 3), keepdim=True)).flatten(1) for head in self.heads)


@pytest.mark.parametrize(("heads", "pooled_after", "fitted"), [(1, False, True), (2, False, False), (1, True, False)])
def test_heads_whose_outputs_are_not_yet_the_logits_are_trained_by_steps(heads, pooled_after, fitted, monkeypatch):
    torch.manual_seed(0)
    images = torch.randint(256, (24, 8, 8, 3), dtype=torch.uint8)
    split = Split(images, torch.arange(24) % 3)
    domain, called = Domain("x", ["a", "b", "c"], split, split, split, flip=False), []
    for name in ("train_epoch", "fit_epoch"):
        real = getattr(training, name)
        monkeypatch.setattr(training, name, lambda *a, _r=real, _n=name: (called.append(_n), _r(*a))[1])
    result = madlab.train(domain, "frozen", base=TwoHeads(heads, pooled_after), epochs=2, progress=False)
    assert called == ["fit_epoch" if fitted else "train_epoch"] * 2
    assert (result.rates["head"] == 0) == fitted


def test_every_other_method_starts_with_a_head_fitted_to_what_the_training_will_see(place, monkeypatch):
    """Before the first step the head is a logistic regression on augmented features, BatchNorm's statistics are those
    of the training images, and all else is as it was."""
    domain = madlab.Domain.from_folder(place / "noise")
    fitted, seen = [], []
    real_fit, real_epoch = probe.fit, training.train_epoch

    def fit(head, features, labels, decay, smoothing, weights=None):
        fitted.append((features, labels))
        return real_fit(head, features, labels, decay, smoothing, weights)

    def epoch(view, *rest):
        seen.append({name: tensor.clone() for name, tensor in view.own_state().items()})
        return real_epoch(view, *rest)

    monkeypatch.setattr(probe, "fit", fit)
    monkeypatch.setattr(training, "train_epoch", epoch)
    train(place, "mad", epochs=2, out=place / "run")
    assert len(fitted) == 1 and len(seen) == 2
    features, labels = fitted[0]
    weight, bias = seen[0]["fc.weight"], seen[0]["fc.bias"]
    assert features.shape == (len(domain.train), 32)
    assert (features @ weight.T + bias).argmax(1).eq(labels).float().mean() > 0.6, "of three classes, by chance a third"
    net = madlab.MultiDomainNet(madlab.load_base(str(place / "small.safetensors")))
    net.add_domain("noise", 3, "mad", normalization=domain.normalization)
    recalibrate(net.view("noise"), domain, crop_of(image_size(net.base), domain.size, Recipe()), batch_size=10)
    for name, tensor in net.view("noise").own_state().items():
        assert name.startswith("fc.") or torch.equal(tensor, seen[0][name]), name


def test_a_resumed_run_does_not_start_its_head_again(place, monkeypatch):
    class Stopped(BaseException):
        pass

    def stop(entry):
        raise Stopped

    with pytest.raises(Stopped):
        train(place, "mad", epochs=2, out=place / "run", on_epoch=stop)
    monkeypatch.setattr(training, "start_head", None)
    assert train(place, "mad", epochs=2, out=place / "run", resume=True).epochs == 2
