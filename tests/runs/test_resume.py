"""A resumed run is the same run, for every method: stopped after each epoch, it ends with the same bytes."""

import dataclasses
import importlib.util
import json
import shutil

import pytest
import torch
from torch import nn

import madlab
from madlab.adapters.peers import PEERS
from madlab.benchmarks.domain import Domain, Split
from madlab.errors import MadlabError
from madlab.runs.config import BaseUsed, RunConfig
from madlab.runs.folder import ADAPTER, CHECKPOINT, FAILURE
from madlab.runs.record import METRICS, RESULT

EPOCHS = 3
VARIANTS = [*madlab.METHODS, "mad:2"]


class Stopped(BaseException):
    """Not an Exception: nothing in madlab may catch it, as nothing can catch a kill."""


class Small(nn.Module):
    """Filters of 3x3 and 1x1 between more than one channel, whose momentum has other strides in channels_last memory.

    The spare layer is never called: its parameters never get a gradient.
    """

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 12, 1), nn.BatchNorm2d(12), nn.ReLU(),
            nn.Conv2d(12, 12, 3, padding=1, groups=2), nn.BatchNorm2d(12), nn.ReLU(),
        )  # fmt: skip
        self.spare = nn.BatchNorm2d(5)
        self.head = nn.Linear(12, 4)
        self.resize = self.crop = 12

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def noise(names=("a", "b", "c")):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(24) % 3
    images = torch.randint(180, (24, 12, 12, 3), generator=generator) + 30 * labels[:, None, None, None]
    split = Split(images.byte(), labels)
    return Domain("noise", list(names), split, split, split)


def base(method):
    torch.manual_seed(0)
    network = Small()
    peer = PEERS.get(method.removeprefix("peft:"))
    if method.startswith("peft:") and peer is not None and peer.limits:  # PEFT cannot adapt or merge grouped ones
        network.body[6] = nn.Conv2d(12, 12, 3, padding=1)
    return network


def run(folder, method, stop_after=None, domain=None, **options):
    def on_epoch(entry):
        if entry.epoch == stop_after:
            raise Stopped

    options = {"epochs": EPOCHS, "batch_size": 8, "progress": False, "device": "cpu"} | options
    domain = noise() if domain is None else domain
    return madlab.train(domain, method, base=base(method), out=folder, resume=True, on_epoch=on_epoch, **options)


def stopped_and_resumed(folder, method, after, **options):
    with pytest.raises(Stopped):
        run(folder, method, stop_after=after, **options)
    assert (folder / "checkpoint.safetensors").exists() and not (folder / "result.json").exists()
    return run(folder, method, **options)


def same(one, other):
    for name in ("config.json", "metrics.jsonl", "adapter.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    results = [
        json.loads((folder / "result.json").read_text()) | {"seconds": 0, "date": "", "cost": {}}
        for folder in (one, other)
    ]
    assert results[0] == results[1]
    assert not (other / "checkpoint.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize("method", VARIANTS)
def test_a_run_stopped_after_any_epoch_ends_with_the_same_bytes(tmp_path, method):
    if method.startswith("peft:") and importlib.util.find_spec("peft") is None:
        pytest.skip("the extra madlab[peers] is not installed")
    run(tmp_path / "whole", method)
    for after in range(1, EPOCHS + 1):
        stopped_and_resumed(tmp_path / f"after{after}", method, after)
        same(tmp_path / "whole", tmp_path / f"after{after}")


def test_dropout_in_front_of_the_head_is_measured_alike(tmp_path, monkeypatch):
    """The head's rate is in units of what reaches it in training mode, where dropout is on."""
    make = Small.__init__

    def with_dropout(self):
        make(self)
        self.body.append(nn.Dropout(0.5))

    monkeypatch.setattr(Small, "__init__", with_dropout)
    run(tmp_path / "whole", "mad")
    stopped_and_resumed(tmp_path / "parts", "mad", 1)
    same(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("method", ["finetune", "mad"])
def test_plain_sgd_has_no_momentum_to_store(tmp_path, method):
    run(tmp_path / "whole", method, momentum=0)
    stopped_and_resumed(tmp_path / "parts", method, 1, momentum=0)
    same(tmp_path / "whole", tmp_path / "parts")


def test_momentum_comes_back_with_the_strides_of_its_parameter(tmp_path):
    """Not only with its values: the fused SGD reads memory in order."""
    from madlab.runs.folder import Checkpoint
    from madlab.runs.rates import make_optimiser
    from madlab.runs.recipe import Recipe

    with pytest.raises(Stopped):
        run(tmp_path, "finetune", stop_after=2)
    net = madlab.MultiDomainNet(base("finetune").to(memory_format=torch.channels_last))
    net.add_domain("noise", 3, "finetune")
    view = net.view("noise")
    optimiser = make_optimiser(view, Recipe())
    checkpoint = Checkpoint.read(tmp_path / "checkpoint.safetensors", torch.device("cpu"))
    checkpoint.restore(view, optimiser)
    held = {p: s["momentum_buffer"] for p, s in optimiser.state.items() if s}
    assert any(p.stride() != p.contiguous().stride() for p in held), "else this test could not fail"
    assert all(buffer.stride() == p.stride() for p, buffer in held.items())
    stored = [checkpoint.momentum[str(i)] for i, p in enumerate(net.trainable_parameters("noise")) if p in held]
    assert all(torch.equal(one, other) for one, other in zip(stored, held.values(), strict=True))


def test_classes_in_another_order_are_put_back_and_other_classes_are_refused(tmp_path):
    run(tmp_path / "whole", "mad")
    with pytest.raises(Stopped):
        run(tmp_path / "parts", "mad", stop_after=1)
    shutil.copytree(tmp_path / "parts", tmp_path / "others")
    domain = noise(("c", "a", "b"))
    renumbered = Split(domain.train.images, torch.tensor([1, 2, 0])[domain.train.labels])
    statistics = {"normalization": noise().normalization}
    shuffled = dataclasses.replace(domain, train=renumbered, val=renumbered, test=renumbered, **statistics)
    run(tmp_path / "parts", "mad", domain=shuffled)
    same(tmp_path / "whole", tmp_path / "parts")
    with pytest.raises(MadlabError, match=r"classes .* are not those of the run .*others.*lacks c.*adds d"):
        run(tmp_path / "others", "mad", domain=noise(("a", "b", "d")))


@pytest.mark.parametrize("what", ["a label of train", "a picture of train", "a label of val"])
def test_other_images_of_the_same_number_are_noticed(tmp_path, what):
    with pytest.raises(Stopped):
        run(tmp_path / "run", "mad", stop_after=1)
    domain = noise()
    split = what.split()[-1]
    part = getattr(domain, split)
    images, labels = part.images.clone(), part.labels.clone()
    if "label" in what:
        labels[0] = (labels[0] + 1) % 3
    else:
        images[0, 0, 0, 0] ^= 1
    with pytest.raises(MadlabError, match="images or labels of domain 'noise' have changed"):
        run(tmp_path / "run", "mad", domain=dataclasses.replace(domain, **{split: Split(images, labels)}))
    run(tmp_path / "run", "mad")


@pytest.mark.parametrize("name", [METRICS, RESULT, ADAPTER, CHECKPOINT, FAILURE])
def test_what_stands_in_the_place_of_a_file_is_found_before_the_work(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(MadlabError, match=f"{name} is a folder"):
        run(tmp_path, "mad", domain=noise())


def test_what_has_changed_is_told_with_both_values() -> None:
    before = RunConfig("noise", None, True, BaseUsed("small", "a" * 64), "mad", {"rank": 2}, split="b" * 64)
    layers = tuple(f"stage{i}" for i in range(9))
    now = dataclasses.replace(before, options={}, base=BaseUsed("small", "c" * 64), layers=layers, split="d" * 64)
    now = dataclasses.replace(now, recipe=dataclasses.replace(before.recipe, adapter_lr=0.1))
    assert before.changes(before) == ""
    assert before.changes(now) == (
        "base small, now another; options rank 2, now none; layers all, now stage0, stage1, stage2 and 6 more; "
        "split bbbbbbbb, now dddddddd; adapter_lr not given, now 0.1"
    )
    assert (
        before.changes(dataclasses.replace(before, base=BaseUsed("", "a" * 64)))
        == "base small, now a network without a name"
    )
