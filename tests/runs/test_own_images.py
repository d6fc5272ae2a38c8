"""Runs on one's own images: splits, balance, augmentation and size are part of the config, and do what they say."""

import csv
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import balanced_accuracy_score
from tiny import write_base, write_folder
from torch.nn import functional as F
from torchvision.transforms import functional as TF

import madlab
from madlab.benchmarks.domain import Domain
from madlab.benchmarks.loader import AUGMENTATIONS, batches
from madlab.benchmarks.split import Split
from madlab.errors import MadlabError, MadlabWarning
from madlab.runs.config import RunConfig
from madlab.runs.epoch import class_weights, training_batches
from madlab.runs.recipe import Recipe
from madlab.runs.train import repeat

SHORT = {"epochs": 1, "batch_size": 8, "progress": False, "device": "cpu"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flat folder of two classes, one of five images and one of twenty, and a base network."""
    root = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    for name, count in (("many", 20), ("few", 5)):
        (root / "pets" / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(rng.integers(0, 256, (50, 40, 3), dtype=np.uint8)).save(
                root / "pets" / name / f"{number}.png"
            )
    write_base(root / "small.safetensors")
    return root


def train(place: Path, out: str, **options):
    return madlab.train(place / "pets", base=place / "small.safetensors", out=place / out, **SHORT | options)


def unequal() -> Domain:
    """Twelve images of class 0, three of class 1 and none of class 2, each of one colour of its own."""
    colours = torch.arange(15, dtype=torch.uint8).view(-1, 1, 1, 1) * 10 + 5
    split = Split(colours.expand(15, 36, 36, 3), torch.tensor([0] * 12 + [1] * 3))
    with pytest.warns(madlab.errors.MadlabWarning):
        return Domain("unequal", ["a", "b", "c"], split, split, split)


def test_a_flat_folder_is_split_trained_and_evaluated(place: Path) -> None:
    result = train(place, "flat", split="70/15/15")
    config = RunConfig.read(place / "flat")
    assert (result.test_images, config.domain, config.source) == (4, "pets", str(place / "pets"))
    assert config.split is not None and len(config.split) == 64
    assert madlab.evaluate(place / "flat") == result.test_accuracy
    # Few images say little, and that is told.
    low, high = result.interval or (0, 0)
    assert high - low > 40
    again = train(place, "flat", split="70/15/15", resume=True)
    assert again == result


def test_a_run_is_not_tested_on_images_that_it_may_have_seen(place: Path, tmp_path: Path) -> None:
    train(place, "seen", split="70/15/15")
    file = place / "pets" / "madlab-split.json"
    before = file.read_bytes()
    try:
        file.unlink()
        madlab.divide(place / "pets", "70/15/15", seed=3)
        with pytest.raises(MadlabError, match="split anew since the run"):
            madlab.evaluate(place / "seen")
        with pytest.raises(MadlabError, match="split anew since the run"):
            repeat(place / "seen")
        with pytest.raises(MadlabError, match=r"other options \(split [0-9a-f]{8}, now"):
            train(place, "seen", resume=True)
        # The same images elsewhere may be split in another way as well; with the run's own split nothing is said.
        shutil.copytree(place / "pets", tmp_path / "pets")
        with pytest.warns(MadlabWarning, match="split in another way than those of the run"):
            madlab.evaluate(place / "seen", tmp_path / "pets")
        (tmp_path / "pets" / "madlab-split.json").write_bytes(before)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            elsewhere = madlab.evaluate(place / "seen", tmp_path / "pets")
    finally:
        file.write_bytes(before)
    assert madlab.evaluate(place / "seen") == elsewhere


@pytest.mark.parametrize("method", ["mad", "frozen"])
def test_options_are_recorded_and_a_stopped_run_goes_on_with_them(place: Path, method: str) -> None:
    options = {"split": "70/15/15", "augment": "trivial", "balance": "sampler", "size": 48, "epochs": 2}

    def stop(epoch) -> None:
        raise KeyboardInterrupt

    train(place, f"through-{method}", method=method, **options)
    with pytest.raises(KeyboardInterrupt):
        train(place, f"stopped-{method}", method=method, on_epoch=stop, **options)
    train(place, f"stopped-{method}", method=method, resume=True, **options)
    one, other = place / f"through-{method}", place / f"stopped-{method}"
    for name in ("config.json", "metrics.jsonl", "adapter.safetensors", "batch.png"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    recipe = json.loads((one / "config.json").read_text())["recipe"]
    assert (recipe["augment"], recipe["balance"], recipe["size"]) == ("trivial", "sampler", 48)
    run = madlab.load_run(one, device="cpu")
    assert (run.size.resize, run.size.crop) == (48, round(48 * 32 / 36))
    with pytest.raises(MadlabError, match=r"other options \(size 48, now 40\)"):
        train(place, f"through-{method}", method=method, resume=True, **options | {"size": 40})


def test_the_picture_is_the_first_batch_as_the_network_gets_it(place: Path) -> None:
    train(place, "picture", split="70/15/15", augment="crop", seed=5)
    domain = madlab.load_domain(place / "pets", size=36)
    batch, _ = next(training_batches(domain, Recipe(epochs=1, batch_size=8, seed=5), 32, 0))
    picture = np.asarray(Image.open(place / "picture" / "batch.png"))
    for number in range(8):
        shown = picture[2:34, 2 + 34 * number : 34 + 34 * number]
        np.testing.assert_array_equal(shown, batch[number].permute(1, 2, 0).numpy())


def test_balanced_accuracy_is_scikit_learns(place: Path) -> None:
    result = train(place, "balanced", split="70/15/15")
    run = madlab.load_run(place / "balanced", device="cpu")
    test = madlab.load_domain(place / "pets", size=36).test
    names = [run.predict(image.numpy(), top=1)[0][0].name for image in test.images]
    predicted = [run.class_names.index(name) for name in names]
    assert result.balanced_accuracy == pytest.approx(100 * balanced_accuracy_score(test.labels, predicted))


def test_what_a_training_costs_is_in_its_result(place: Path) -> None:
    cost = train(place, "cost", split="70/15/15").cost
    assert cost["images_per_second"] > 0 and cost["peak_bytes"] > 10e6


def test_class_weights_make_classes_count_alike() -> None:
    domain = unequal()
    weights = class_weights(domain)
    assert weights.tolist() == pytest.approx([15 / 36, 15 / 9, 15 / 3])
    logits = torch.randn(15, 3, generator=torch.Generator().manual_seed(0))
    labels = domain.train.labels
    of_class = [F.cross_entropy(logits[labels == label], labels[labels == label]) for label in (0, 1)]
    weighted = F.cross_entropy(logits, labels, weights)
    assert weighted.item() == pytest.approx((of_class[0] + of_class[1]).item() / 2, abs=1e-6)


def test_the_sampler_draws_classes_alike() -> None:
    domain, drawn = unequal(), torch.zeros(3)
    for epoch in range(60):
        for _, labels in training_batches(domain, Recipe(balance="sampler", batch_size=8), 32, epoch):
            drawn += labels.bincount(minlength=3)
    assert drawn.sum() == 60 * 15
    assert abs(drawn[0] - drawn[1]) < 4 * 15 and drawn[2] == 0  # 450 each, give or take four deviations of 15


def augmented(augment: str, flip: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Training images of three shades of columns, 36 pixels wide, and the batch that 32-pixel windows give."""
    images = torch.randint(0, 256, (64, 36, 36, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(64)
    torch.manual_seed(1)
    generator = torch.Generator().manual_seed(1)
    batch, order = next(iter(batches(images, labels, 64, 32, flip, generator, None, augment)))
    return images[order].permute(0, 3, 1, 2), batch


def test_each_augmentation_does_what_it_is_called() -> None:
    given, none = augmented("none")
    centre = TF.center_crop(given, [32, 32])
    assert torch.equal(none, centre)
    _, flip = augmented("flip")
    mirrored = [torch.equal(one, TF.hflip(own)) for one, own in zip(flip, centre, strict=True)]
    straight = [torch.equal(one, own) for one, own in zip(flip, centre, strict=True)]
    assert all(a != b for a, b in zip(mirrored, straight, strict=True)) and 16 < sum(mirrored) < 48
    _, crop = augmented("crop")
    windows = {(y, x) for y in range(5) for x in range(5)}
    for one, own in zip(crop, given, strict=True):
        cuts = [own[:, y : y + 32, x : x + 32] for y, x in windows]
        assert any(torch.equal(one, cut) or torch.equal(one, TF.hflip(cut)) for cut in cuts)
    _, trivial = augmented("trivial")
    same = sum(torch.equal(one, own) for one, own in zip(trivial, crop, strict=True))
    assert same < 32 and trivial.dtype == torch.uint8 and trivial.shape == crop.shape
    assert torch.equal(augmented("trivial")[1], trivial)  # the seed decides


def test_images_that_must_not_be_mirrored_never_are() -> None:
    given, batch = augmented("flip", flip=False)
    assert torch.equal(batch, TF.center_crop(given, [32, 32]))


def test_the_names_are_those_of_the_recipe() -> None:
    for name in AUGMENTATIONS:
        assert Recipe(augment=name).augment == name
    with pytest.raises(MadlabError, match="augment"):
        madlab.train("signs", augment="blur")
    with pytest.raises(MadlabError, match="balance"):
        madlab.train("signs", balance="weights")


def test_what_cannot_be_split_or_sized_is_told(place: Path) -> None:
    with pytest.raises(MadlabError, match="comes with its splits"):
        madlab.train("signs", split="70/15/15")
    madlab.divide(place / "pets", "70/15/15")
    domain = madlab.load_domain(place / "pets", size=36)
    with pytest.raises(MadlabError, match="A Domain has its splits"):
        madlab.train(domain, split="70/15/15")
    with pytest.raises(MadlabError, match="images of 36 pixels, not of 64"):
        madlab.train(domain, size=64)


def test_a_csv_log_has_every_epoch(place: Path) -> None:
    train(place, "csv", split="70/15/15", epochs=3, log="csv")
    rows = list(csv.DictReader((place / "csv" / "metrics.csv").open()))
    lines = [json.loads(line) for line in (place / "csv" / "metrics.jsonl").read_text().splitlines()]
    assert [{key: float(value) for key, value in row.items()} for row in rows] == lines


def test_a_tensorboard_log_can_be_read_by_tensorboard(place: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(place, "board", split="70/15/15", epochs=2, log="tensorboard")
    events = EventAccumulator(str(place / "board" / "tensorboard"))
    events.Reload()
    lines = [json.loads(line) for line in (place / "board" / "metrics.jsonl").read_text().splitlines()]
    for name, key in (("loss/train", "train_loss"), ("accuracy/val", "val_accuracy")):
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert found == [(line["epoch"], pytest.approx(line[key], rel=1e-6)) for line in lines]


def test_logs_that_cannot_be_are_told(place: Path) -> None:
    with pytest.raises(MadlabError, match="no log 'xml'"):
        train(place, "xml", log="xml")
    with pytest.raises(MadlabError, match="needs a run folder"):
        madlab.train("signs", log="csv")


def test_test_images_that_came_from_training_are_noticed(place: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "noise")
    options = {"base": write_base(tmp_path / "small.safetensors"), "epochs": 1, "progress": False}
    result = madlab.train(tmp_path / "noise", "frozen", out=tmp_path / "run", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert madlab.evaluate(tmp_path / "run") == result.test_accuracy
    seen = tmp_path / "noise/train/class0/0.png"
    seen.rename(tmp_path / "noise/test/class0/moved.png")
    with pytest.warns(MadlabWarning, match="it may have been trained on some of these"):
        madlab.evaluate(tmp_path / "run")
