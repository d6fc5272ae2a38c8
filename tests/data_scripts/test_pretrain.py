"""The script that makes base networks, on a miniature of the Decathlon's ImageNet part."""

import json
from pathlib import Path
from types import ModuleType

import archives
import numpy as np
import pytest
import torch
from PIL import Image
from scripts import load_script

from madlab import MadlabError, load_base
from madlab.backbones import WEIGHTS
from madlab.benchmarks.decathlon import prepare_decathlon
from madlab.guard import fingerprint

PHOTOGRAPHS = Path(__file__).parents[2].parent / "shared" / "domains" / "tinyimagenet36.npz"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("pretrain_base")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ImageNet of two classes, prepared by the library, in madlab's data folder."""
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("MADLAB_DATA", str(tmp_path / "data"))
    with archives.serve(tmp_path / "shelf") as host:
        protocol = archives.decathlon(
            tmp_path / "shelf", [archives.tiny("imagenet12", 2, (9, 4, 2), height=80)], host.url
        )
        local = tmp_path / "shelf" / protocol.archives["imagenet12"].name
        prepare_decathlon(tmp_path / "data", imagenet=local, protocol=protocol, say=lambda _: None)
    return tmp_path


def arguments(place: Path, name: str, *more: str) -> list[str]:
    given = ["--data", "imagenet72", "--width", "4", "--sizes", "1x40,1x64", "--batch", "6", "--lr", "0.05"]
    return [*given, "--checkpoint", str(place / name), "--out", str(place / name / "out"), *more]


def test_a_base_for_64_of_72_pixels_and_a_kill_changes_nothing(script, place, monkeypatch, capsys):
    script.main(arguments(place, "whole"))
    weights = place / "whole" / "out" / "resnet26-imagenet72.safetensors"
    base, log = load_base(str(weights)), json.loads(weights.with_suffix(".json").read_text())
    assert (base.name, base.resize, base.crop) == ("resnet26-imagenet72", 72, 64)
    assert base.normalization == {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    assert base(torch.zeros(1, 3, 64, 64)).shape == (1, 2)
    assert [(entry["epoch"], entry["pixels"]) for entry in log["log"]] == [(1, 40), (2, 64)]
    # There are no test labels, so half of the validation images stand in, and the name says so.
    assert (log["domain"], log["sha256"]) == ("imagenet12@val", fingerprint(base))
    assert "test labels are not at hand" in log["test"] and log["test_accuracy"] in (0, 25, 50, 75, 100)

    real = script.save_tensors

    def stop(*given: object, **options: object) -> None:
        real(*given, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "save_tensors", stop)
    with pytest.raises(KeyboardInterrupt):
        script.main(arguments(place, "killed"))
    monkeypatch.setattr(script, "save_tensors", real)
    with pytest.raises(MadlabError, match="with other options: remove it"):
        script.main(arguments(place, "killed", "--seed", "1"))
    capsys.readouterr()
    script.main(arguments(place, "killed"))
    assert "'epoch': 1" not in capsys.readouterr().out
    again = place / "killed" / "out" / weights.name
    assert again.read_bytes() == weights.read_bytes()


def test_batches_that_are_cut_ahead_are_the_same(script):
    images = torch.randint(256, (11, 18, 18, 3), dtype=torch.uint8)
    train = script.Split(images, torch.arange(11))
    found = []
    for ahead in (False, True):
        generator = torch.Generator().manual_seed(0)
        found.append(list(script.cuts(train, torch.arange(11).flip(0), 5, 16, generator, ahead)))
    assert [len(labels) for _, labels in found[0]] == [5, 5]  # the one that is left is too few for BatchNorm
    for one, other in zip(*found, strict=True):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
    labels = torch.cat([labels for _, labels in found[0]])
    assert len(set(labels.tolist())) == 10
    picture, label = found[0][0][0][0].permute(1, 2, 0), int(found[0][0][1][0])
    windows = [images[label, y : y + 16, x : x + 16] for y in range(3) for x in range(3)]
    assert any(torch.equal(picture, w) or torch.equal(picture, w.flip(1)) for w in windows)


SHIPPED = [("pocket-resnet26", 3, 36, 32), ("pocket-densenet", 3, 36, 32), ("resnet26-tinyimagenet", 12, 72, 64)]


@pytest.mark.parametrize("name, megabytes, side, crop", SHIPPED)
def test_the_shipped_bases_are_small_and_those_of_their_logs(name, megabytes, side, crop):
    base, log = load_base(name), json.loads((WEIGHTS / f"{name}.json").read_text())
    assert (WEIGHTS / f"{name}.safetensors").stat().st_size <= 1_000_000 * megabytes
    assert (base.name, base.resize, base.crop) == (name, side, crop)
    assert log["sha256"] == fingerprint(base) and log["test_accuracy"] > 42
    sizes = [part.split("x") for part in log["config"]["sizes"].split(",")]
    assert [entry["pixels"] for entry in log["log"]] == [int(p) for epochs, p in sizes for _ in range(int(epochs))]


@pytest.mark.slow
@pytest.mark.skipif(not PHOTOGRAPHS.exists(), reason="Tiny-ImageNet's photographs are not at hand")
@pytest.mark.parametrize("name, side, crop", [(name, side, crop) for name, _, side, crop in SHIPPED])
@torch.no_grad()
def test_the_shipped_bases_know_photographs(script, name, side, crop):
    """Every tenth test image, enlarged, cut and normalised by hand: within chance of the accuracy in the log."""
    base = load_base(name)
    log = json.loads((WEIGHTS / f"{name}.json").read_text())
    images, labels = (tensor[::10] for tensor in script.read_npz(PHOTOGRAPHS, "test"))
    if side > 36:
        large = [Image.fromarray(i.numpy()).resize((side, side), Image.Resampling.LANCZOS) for i in images]
        images = torch.from_numpy(np.stack([np.asarray(picture) for picture in large]))
    edge = (side - crop) // 2
    x = images[:, edge : edge + crop, edge : edge + crop].permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(base.normalization[key])[:, None, None] for key in ("mean", "std"))
    right = (base((x - mean) / std).argmax(1) == labels).float()
    assert len(right) == 500
    assert abs(100 * right.mean() - log["test_accuracy"]) < 7  # three standard deviations of 500 images
    assert torch.equal(script.read_npz(PHOTOGRAPHS, "test", side)[0][::10], images)
