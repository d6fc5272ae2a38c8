"""ImageNet-to-Sketch from folders and archives in the layout of piggyback to domains to train on."""

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import archives
import numpy as np
import pytest
from archives import Mini, tiny
from PIL import Image

from madlab import MadlabError
from madlab.benchmarks import packed
from madlab.benchmarks.protocol import Protocol
from madlab.benchmarks.score import SKETCH_BASELINE
from madlab.benchmarks.sketch import SKETCH, load, prepare_sketch

CUBS = tiny("cubs", 3, (9, 1, 4), height=90, width=110)
FLOWERS = tiny("flowers", 2, (18, 2, 3), height=60, width=80)
MINIS = [CUBS, FLOWERS]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQDM_DISABLE", "1")


def prepare(root: Path, protocol: Protocol, **options: object) -> list[Path]:
    return prepare_sketch(root, **({"protocol": protocol, "say": lambda _: None} | options))


def square(mini: Mini, data: bytes) -> np.ndarray:
    picture = Image.open(io.BytesIO(data))
    if mini.name in ("cubs", "cars"):
        return np.asarray(picture.resize((224, 224), Image.Resampling.LANCZOS))
    left = (picture.width - picture.height) // 2
    box = (left, 0, left + picture.height, picture.height)
    return np.asarray(picture.resize((256, 256), Image.Resampling.LANCZOS, box=box))


def check_prepared(root: Path, minis: list[Mini]) -> None:
    """Read with numpy alone: test as it is, train and val together the official training set, nothing in both."""
    for mini in minis:
        folder = root / "sketch" / mini.name
        stored = {
            split: [
                (image.tobytes(), int(label))
                for image, label in zip(
                    np.load(folder / f"{split}_images.npy"), np.load(folder / f"{split}_labels.npy"), strict=True
                )
            ]
            for split in ("train", "val", "test")
        }
        pictures = {"train": mini.splits["train"] + mini.splits["val"], "test": mini.splits["test"]}
        wanted = {
            split: sorted((square(mini, data).tobytes(), label) for data, label in of_split)
            for split, of_split in pictures.items()
        }
        assert sorted(stored["test"]) == wanted["test"]
        assert sorted(stored["train"] + stored["val"]) == wanted["train"]
        per_class = len(pictures["train"]) // len(mini.class_names)
        held = [label for _, label in stored["val"]]
        assert [held.count(i) for i in range(len(mini.class_names))] == [per_class // 10] * len(mini.class_names)
    assert [path for path in root.rglob("*") if path.name.endswith(".tmp")] == []


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_from_nothing_to_domains(tmp_path: Path, kind: str) -> None:
    source, root = tmp_path / "own", tmp_path / "data"
    protocol = archives.sketch(source, MINIS, kind)
    prepare(root, protocol, source=source / "data.tar.gz" if kind == "tar" else source)
    check_prepared(root, MINIS)
    for mini, size in (CUBS, 224), (FLOWERS, 256):
        domain = load(mini.name, root, protocol)
        assert (domain.name, domain.class_names, domain.size, domain.flip) == (mini.name, mini.class_names, size, True)
        assert domain.normalization["mean"] == [0.485, 0.456, 0.406]
        assert "held out" in domain.description
        packed.open_packed(root / "sketch" / mini.name, "").verify()


def test_the_downloads_folder_is_where_archives_are_looked_for(tmp_path: Path) -> None:
    protocol = archives.sketch(tmp_path / "sketch" / "downloads", MINIS, "zip")
    prepare(tmp_path, protocol, domains=["flowers"])
    check_prepared(tmp_path, [FLOWERS])
    assert not (tmp_path / "sketch/cubs").exists()
    before = (tmp_path / "sketch/flowers/manifest.json").stat().st_mtime_ns
    prepare(tmp_path, protocol)
    check_prepared(tmp_path, MINIS)
    assert (tmp_path / "sketch/flowers/manifest.json").stat().st_mtime_ns == before


def test_the_same_images_are_held_out_every_time(tmp_path: Path) -> None:
    source = tmp_path / "own"
    protocol = archives.sketch(source, MINIS, "folder")
    for root in (tmp_path / "a", tmp_path / "b"):
        prepare(root, protocol, source=source)
    for name in ("val_images.npy", "train_labels.npy"):
        assert (tmp_path / "a/sketch/cubs" / name).read_bytes() == (tmp_path / "b/sketch/cubs" / name).read_bytes()


def test_what_else_lies_in_a_folder_does_not_matter(tmp_path: Path) -> None:
    source = tmp_path / "own"
    protocol = archives.sketch(source, [FLOWERS], "folder")
    for name in ("readme.txt", "train/.DS_Store", "train/class 0/._00001.jpg", "val/class 0/x.jpg", "train/list.txt"):
        (source / "flowers" / name).parent.mkdir(parents=True, exist_ok=True)
        (source / "flowers" / name).write_bytes(b"no image")
    prepare(tmp_path, protocol, source=source)
    check_prepared(tmp_path, [FLOWERS])


IMAGE = "flowers/train/class 1/00001.jpg"


def remove(source: Path) -> None:
    (source / IMAGE).unlink()


def spoil(source: Path) -> None:
    (source / IMAGE).write_bytes((source / IMAGE).read_bytes()[:200])


def add_class(source: Path) -> None:
    (source / "flowers/train/class 9").mkdir()
    (source / IMAGE).rename(source / "flowers/train/class 9/00001.jpg")


def add_test_class(source: Path) -> None:
    (source / "flowers/test/class 9").mkdir()
    (source / "flowers/test/class 1/00001.jpg").rename(source / "flowers/test/class 9/00001.jpg")


@pytest.mark.parametrize(
    ("spoil_it", "reason"),
    [
        (remove, "flowers has 39 images in train and val instead of 40"),
        (spoil, f"{IMAGE.removeprefix('flowers/')} cannot be read as an image"),
        (add_class, "flowers has 3 classes instead of 2"),
        (add_test_class, "class 9 of flowers in test only"),
    ],
)
def test_wrong_data(tmp_path: Path, spoil_it: Callable[[Path], None], reason: str) -> None:
    source = tmp_path / "own"
    protocol = archives.sketch(source, MINIS, "folder")
    spoil_it(source)
    with pytest.raises(MadlabError, match=reason):
        prepare(tmp_path, protocol, source=source)
    check_prepared(tmp_path, [CUBS])
    assert not (tmp_path / "sketch/flowers").exists()


def test_truncated_and_hostile_archives(tmp_path: Path) -> None:
    protocol = archives.sketch(tmp_path, MINIS, "tar")
    path = tmp_path / "data.tar.gz"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(MadlabError, match="cannot be read to its end"):
        prepare(tmp_path / "data", protocol, source=path)
    link = tarfile.TarInfo("data/flowers/train/class 0/link.jpg")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    path.write_bytes(archives.tar_bytes({}, "w:gz", [link]))
    with pytest.raises(MadlabError, match=r"is refused because its entry .*link.jpg' is a link"):
        prepare(tmp_path / "data", protocol, source=path)
    assert not list((tmp_path / "data").rglob("*.npy"))


def test_what_the_user_got_wrong(tmp_path: Path) -> None:
    protocol = archives.sketch(tmp_path / "own", [FLOWERS], "zip")
    with pytest.raises(MadlabError, match=r"no folder or archive flowers in .*downloads.* in a browser"):
        prepare(tmp_path, protocol)
    with pytest.raises(MadlabError, match="choose from flowers"):
        prepare(tmp_path, protocol, domains=["birds"])
    with pytest.raises(MadlabError, match="make room"):
        prepare(tmp_path, protocol, source=tmp_path / "own", free=lambda _: 46 * 256 * 256 * 3 - 1)
    with pytest.raises(MadlabError, match=r"make it with `madlab prepare sketch --root .* --domains cubs`"):
        load("cubs", tmp_path)


def test_the_official_protocol(tmp_path: Path) -> None:
    assert ["imagenet", *(domain.name for domain in SKETCH.domains)] == list(SKETCH_BASELINE)
    assert [d.classes for d in SKETCH.domains] == [200, 196, 102, 195, 250]
    assert sum(d.train for d in SKETCH.domains) == 74_307
    assert sum(d.test for d in SKETCH.domains) == 34_612
    # A prepared miniature is not taken for the official data.
    protocol = archives.sketch(tmp_path / "own", [FLOWERS], "zip")
    prepare(tmp_path, protocol, source=tmp_path / "own")
    with pytest.raises(MadlabError, match="flowers has 2 classes instead of 102"):
        prepare(tmp_path, replace(SKETCH, domains=SKETCH.domains[2:3]), source=tmp_path / "own")
    assert json.loads((tmp_path / "sketch/flowers/manifest.json").read_text())["classes"] == 2
