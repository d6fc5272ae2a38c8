"""Data sets that torchvision would download, played by small ones of the same kind: the network is not at hand."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from madlab import MadlabError
from madlab.benchmarks.decathlon import DECATHLON
from madlab.benchmarks.open_data import SOURCES, Source, _tracks, load, prepare_open, read_cifar100
from madlab.benchmarks.protocol import DomainProtocol


class Played:
    """As torchvision's data sets: a length, and (image, label) by number, without an IndexError at the end."""

    def __init__(self, count: int, classes: int, shade: int):
        self.pixels = np.random.default_rng(shade).integers(0, 256, (count, 80, 100, 3), dtype=np.uint8)
        self.labels = [i % classes for i in range(count)]
        self.classes = [f"kind {i}" for i in range(classes)]
        self._samples = [(f"somewhere/{i // 12:05d}_{i % 12:05d}.ppm", label) for i, label in enumerate(self.labels)]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.pixels[i % len(self)]), self.labels[i % len(self)]


WHOLE = {"train": Played(6, 3, 0), "val": Played(3, 3, 1), "test": Played(3, 3, 2)}
HALVED = {"train": Played(48, 2, 3), "test": Played(4, 2, 4)}
READS: list[Path] = []


def played(name: str, official: dict[str, Played], counts: tuple[int, int, int], **options: object) -> Source:
    def read(folder: Path) -> dict[str, Played]:
        READS.append(folder)
        assert folder.is_dir()
        return official

    classes = len(official["train"].classes)
    return Source(DomainProtocol(name, classes, *counts), 1, "a licence", read, **({"shares": {}} | options))


SPLIT = played("dtd", WHOLE, (6, 3, 3))
DRAWN = played("gtsrb", HALVED, (48, 0, 4), shares={"val": ("train", 0.25)}, groups=_tracks)


def prepare(root: Path, *sources: Source, **options: object) -> list[Path]:
    READS.clear()
    return prepare_open(root, **({"sources": sources, "say": lambda _: None} | options))


def test_official_splits_become_squares_of_72_pixels(tmp_path: Path) -> None:
    assert prepare(tmp_path, SPLIT) == [tmp_path / "open/dtd"]
    domain = load("dtd", tmp_path, [SPLIT])
    assert (domain.name, domain.class_names, domain.size) == ("dtd", ["kind 0", "kind 1", "kind 2"], 72)
    for split, official in WHOLE.items():
        part = getattr(domain, split)
        assert part.labels.tolist() == official.labels
        for image, pixels in zip(part.images.numpy(), official.pixels, strict=True):
            picture = Image.fromarray(pixels).resize((72, 72), Image.Resampling.LANCZOS, box=(10, 0, 90, 80))
            assert np.array_equal(image, np.asarray(picture))
    values = domain.train.images.double().div(255)
    assert domain.normalization["mean"] == pytest.approx(values.mean((0, 1, 2)).tolist(), abs=1e-5)
    prepare(tmp_path, SPLIT)
    assert READS == []


def test_validation_is_drawn_in_whole_groups(tmp_path: Path) -> None:
    prepare(tmp_path, DRAWN)
    domain, official = load("gtsrb", tmp_path, [DRAWN]), HALVED["train"]
    number = {
        np.asarray(Image.fromarray(p).resize((72, 72), Image.Resampling.LANCZOS, box=(10, 0, 90, 80))).tobytes(): i
        for i, p in enumerate(official.pixels)
    }
    places = {split: [number[i.tobytes()] for i in getattr(domain, split).images.numpy()] for split in ("train", "val")}
    assert sorted(places["train"] + places["val"]) == list(range(48))
    tracks = {split: {(i % 2, i // 12) for i in here} for split, here in places.items()}
    assert not tracks["train"] & tracks["val"]  # a class and twelve pictures in a row are one track
    assert sorted(label for label, _ in tracks["val"]) == [0, 1]  # one of the four tracks of each class
    assert domain.test.labels.tolist() == HALVED["test"].labels
    assert "val" in domain.description


def test_sizes_and_licences_come_before_any_download(tmp_path: Path) -> None:
    said: list[str] = []
    prepare(tmp_path, SPLIT, DRAWN, list_only=True, say=said.append)
    assert READS == []
    assert not (tmp_path / "open").exists()
    assert all(name in "\n".join(said) for name in ("dtd", "gtsrb", "a licence", "1 MB", "ucf101", "cars"))


def test_a_half_made_download_is_begun_again(tmp_path: Path) -> None:
    half = tmp_path / "open/downloads/dtd/half"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"of a killed run")
    prepare(tmp_path, SPLIT)
    assert not half.exists()


def test_what_can_go_wrong(tmp_path: Path) -> None:
    def unreachable(_: Path) -> dict:
        raise RuntimeError("Connection refused")

    gone = Source(SPLIT.protocol, 1, "", unreachable, {})
    with pytest.raises(MadlabError, match=r"could not download or read dtd \(Connection refused\): check the network"):
        prepare(tmp_path, gone)
    with pytest.raises(MadlabError, match="dtd has 9 images in train and val instead of 10"):
        prepare(tmp_path, played("dtd", WHOLE, (7, 3, 3)))
    with pytest.raises(MadlabError, match="no domain 'cars': choose from dtd"):
        prepare(tmp_path, SPLIT, domains=["cars"])
    with pytest.raises(MadlabError, match="make room"):
        prepare(tmp_path, SPLIT, free=lambda _: 1000)
    with pytest.raises(MadlabError, match="madlab prepare open"):
        load("dtd", tmp_path, [SPLIT])
    prepare(tmp_path, SPLIT)
    assert len(load("dtd", tmp_path, [SPLIT]).train) == 6


def test_cifar100_is_read_without_pickle(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    records = b""
    for image, label in zip(pixels, (7, 99), strict=True):
        planes = b"".join(bytes(image[y, x, c] for y in range(32) for x in range(32)) for c in range(3))
        records += bytes([1, label]) + planes
    (tmp_path / "train.bin").write_bytes(records)
    images, labels = zip(*read_cifar100(tmp_path / "train.bin"), strict=True)
    assert labels == (7, 99)
    assert np.array_equal(np.stack([np.asarray(image) for image in images]), pixels)


def test_the_real_sources_fit_the_decathlon() -> None:
    for source in SOURCES:
        ours, official = source.protocol, DECATHLON.domain(source.protocol.name)
        assert (ours.classes, ours.flip, ours.squash) == (official.classes, official.flip, official.squash)
        # torchvision's GTSRB is the challenge's smaller training set, see its documentation.
        assert ours.test == official.test
        if ours.name != "gtsrb":
            assert ours.train + ours.val == official.train + official.val
