"""The Decathlon from archives in the official layout, over loopback HTTP, to domains to train on."""

import hashlib
import io
import json
import multiprocessing
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import archives
import numpy as np
import pytest
import torch
from archives import Mini, tiny
from PIL import Image

from madlab import MadlabError
from madlab.benchmarks import annotations, fetch, packed
from madlab.benchmarks.decathlon import DECATHLON, load, prepare_decathlon, test_images
from madlab.benchmarks.protocol import Protocol
from madlab.benchmarks.score import DECATHLON_BASELINE

REAL = Path(__file__).parents[2].parent / "shared" / "decathlon"
test_images.__test__ = False

MINIS = [
    tiny("aircraft", 3, (4, 2, 3), width=107),
    tiny("gtsrb", 4, (5, 3, 2)),
    tiny("imagenet12", 2, (3, 2, 2), height=80),
]
FREE = 10**12


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setattr(fetch, "PAUSE", 0)


@dataclass
class Shelf:
    """Archives on a loopback server, and the protocol that they fulfil."""

    folder: Path
    host: archives.Host
    protocol: Protocol

    def prepare(self, root: Path, **options: object) -> list[Path]:
        return prepare_decathlon(root, **({"protocol": self.protocol, "say": lambda _: None} | options))

    def replace_archive(self, key: str, data: bytes) -> None:
        """Other bytes in an archive, as if they were the official ones."""
        old = self.protocol.archives[key]
        (self.folder / old.name).write_bytes(data)
        new = archives.described(old.name, data, old.urls, old.manual)
        self.protocol = replace(self.protocol, archives=self.protocol.archives | {key: new})

    def edit_annotations(self, name: str, edit: Callable[[dict], object]) -> None:
        """Change one annotation file in the devkit; `edit` may return False to take it out."""
        files = read_tar((self.folder / self.protocol.archives["devkit"].name).read_bytes())
        path = f"decathlon-1.0/annotations/{name}.json"
        content = json.loads(files.pop(path))
        if edit(content) is not False:
            files[path] = json.dumps(content).encode()
        self.replace_archive("devkit", archives.tar_bytes(files, "w:gz"))

    def edit_images(self, domain: str, edit: Callable[[dict[str, bytes]], object]) -> None:
        outer = read_tar((self.folder / self.protocol.archives["data"].name).read_bytes())
        files = read_tar(outer[f"{domain}.tar"])
        edit(files)
        outer[f"{domain}.tar"] = archives.tar_bytes(files, "w")
        self.replace_archive("data", archives.tar_bytes(outer, "w:gz"))


def read_tar(data: bytes) -> dict[str, bytes]:
    import tarfile

    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    folder = tmp_path / "shelf"
    with archives.serve(folder) as host:
        yield Shelf(folder, host, archives.decathlon(folder, MINIS, host.url))


def expected(mini: Mini, split: str) -> np.ndarray:
    """What has to be on disk, by Pillow and slicing alone."""
    squares = []
    for data, _ in mini.splits[split]:
        picture = Image.open(io.BytesIO(data))
        if mini.name in ("aircraft", "daimlerpedcls"):
            squares.append(np.asarray(picture.resize((72, 72), Image.Resampling.LANCZOS)))
        else:
            pixels = np.asarray(picture)
            top, left = (pixels.shape[0] - 72) // 2, (pixels.shape[1] - 72) // 2
            squares.append(pixels[top : top + 72, left : left + 72])
    return np.stack(squares)


def check_prepared(root: Path, minis: list[Mini]) -> None:
    """Every byte of the prepared arrays, read with numpy alone; and nothing beside them that is half-made."""
    for mini in minis:
        folder = root / "decathlon" / mini.name
        for split, pictures in mini.splits.items():
            assert np.array_equal(np.load(folder / f"{split}_images.npy"), expected(mini, split))
            if split != "test":
                assert np.load(folder / f"{split}_labels.npy").tolist() == [label for _, label in pictures]
        manifest = json.loads((folder / "manifest.json").read_text())
        for name, entry in manifest["files"].items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == entry["sha256"]
        assert sorted(manifest["files"]) == sorted(set(os.listdir(folder)) - {"manifest.json"})
    assert [path for path in root.rglob("*") if path.name.endswith((".tmp", ".part"))] == []


def test_from_nothing_to_domains(shelf: Shelf, tmp_path: Path) -> None:
    root, imagenet = tmp_path / "data", shelf.folder / "decathlon-1.0-data-imagenet.tar"
    folders = shelf.prepare(root, imagenet=imagenet, labels=shelf.folder / "labels_test.zip")
    assert folders == [root / "decathlon" / mini.name for mini in MINIS]
    check_prepared(root, MINIS)
    for mini, index in zip(MINIS, (1, 5, 6), strict=True):
        domain, official = load(mini.name, root, protocol=shelf.protocol), DECATHLON.domain(mini.name)
        assert (domain.name, domain.class_names) == (mini.name, mini.class_names)
        assert (domain.flip, domain.normalization) == (official.flip, official.normalization)
        for split, pictures in mini.splits.items():
            part = getattr(domain, split)
            assert part.images.dtype == torch.uint8
            assert np.array_equal(part.images.numpy(), expected(mini, split))
            assert part.labels.tolist() == [label for _, label in pictures]
        images, ids = test_images(mini.name, root, shelf.protocol)
        train, val, test = (len(pictures) for pictures in mini.splits.values())
        assert ids.tolist() == [index * 10**7 + 200_000 + train + val + i + 1 for i in range(test)]
        assert torch.equal(images, domain.test.images)
        packed.open_packed(root / "decathlon" / mini.name, "").verify()


def test_a_second_call_does_nothing_and_a_lost_domain_is_made_again(shelf: Shelf, tmp_path: Path) -> None:
    root = tmp_path / "data"
    assert len(shelf.prepare(root)) == 2  # ImageNet is left out, because its archive is not there
    requests, before = len(shelf.host.log), {p: p.stat().st_mtime_ns for p in root.rglob("*.npy")}
    shelf.prepare(root)
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*.npy")} == before
    (root / "decathlon/gtsrb/val_images.npy").write_bytes(b"short")
    with pytest.raises(MadlabError, match="madlab prepare decathlon"):
        load("gtsrb", root, protocol=shelf.protocol)
    shelf.prepare(root)
    check_prepared(root, MINIS[:2])
    assert len(shelf.host.log) == requests == 2  # the archives were still there


def test_some_domains_only_and_others_later(shelf: Shelf, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shelf.prepare(root, domains=["gtsrb"])
    check_prepared(root, MINIS[1:2])
    assert not (root / "decathlon/aircraft").exists()
    shelf.prepare(root, domains=["imagenet12", "aircraft"], imagenet=shelf.folder / "decathlon-1.0-data-imagenet.tar")
    check_prepared(root, MINIS)


def test_without_test_labels_the_validation_split_is_halved(shelf: Shelf, tmp_path: Path) -> None:
    shelf.prepare(tmp_path, domains=["gtsrb"])
    domain, mini = load("gtsrb", tmp_path, protocol=shelf.protocol), MINIS[1]
    assert domain.name == "gtsrb@val"
    assert "validation" in domain.description
    labels = [label for _, label in mini.splits["val"]]  # 0 1 2 3 0 1 2 3 0 1 2 3: three of each class
    picks = [i for i, label in enumerate(labels) if labels[:i].count(label) % 2 == 0]
    rest = [i for i in range(len(labels)) if i not in picks]
    for split, chosen in ((domain.val, picks), (domain.test, rest)):
        assert np.array_equal(split.images.numpy(), expected(mini, "val")[chosen])
        assert split.labels.tolist() == [labels[i] for i in chosen]
    with pytest.raises(MadlabError, match="no file or folder"):
        load("gtsrb", tmp_path, test="labels", protocol=shelf.protocol)


def test_images_are_memory_mapped_and_the_file_stays_as_it_is(shelf: Shelf, tmp_path: Path) -> None:
    shelf.prepare(tmp_path, domains=["gtsrb"])
    domain = load("gtsrb", tmp_path, protocol=shelf.protocol)
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert "decathlon/gtsrb/train_images.npy" in maps.read_text()
    domain.train.images.zero_()
    check_prepared(tmp_path, MINIS[1:2])


def test_predictions_are_written_and_scored(shelf: Shelf, tmp_path: Path) -> None:
    shelf.prepare(tmp_path, domains=["aircraft", "gtsrb"])
    predictions = {}
    for mini, wrong in zip(MINIS[:2], (3, 1), strict=True):
        _, ids = test_images(mini.name, tmp_path, shelf.protocol)
        labels = torch.tensor([label for _, label in mini.splits["test"]])
        labels[:wrong] = (labels[:wrong] + 1) % len(mini.class_names)
        predictions[mini.name] = (ids, labels)
    file, truth = tmp_path / "results.json", shelf.folder / "labels_test.zip"
    annotations.write_results(file, predictions, shelf.protocol)
    first = json.loads(file.read_text())[0]
    # aircraft: 12 train, 6 val, so its first test image is number 19; its label 0 was changed to 1.
    assert first == {"image_id": 10_200_019, "category_id": 10_000_002}
    scores = annotations.submission_accuracies(file, truth, shelf.protocol)
    assert scores == {"aircraft": pytest.approx(100 * 6 / 9), "gtsrb": pytest.approx(100 * 7 / 8)}
    entries = json.loads(file.read_text())
    for content, reason in [
        (entries[1:], "not exactly the 9 test images of aircraft"),
        ([*entries, first | {"category_id": 10_000_001}], "two predictions for image 10200019"),
        ([*entries, {"image_id": 990_000_001, "category_id": 1}], "no domain of the decathlon"),
        ({"a": 1}, "should be a valid list"),
    ]:
        file.write_text(json.dumps(content))
        with pytest.raises(MadlabError, match=reason):
            annotations.submission_accuracies(file, truth, shelf.protocol)
    for labels, reason in ([5, 0], "labels 0 to 3"), ([0], "one prediction per image"), ([0.5, 1], "not whole numbers"):
        with pytest.raises(MadlabError, match=reason):
            annotations.write_results(file, {"gtsrb": ([1, 2], labels)}, shelf.protocol)


def no_category(content: dict) -> None:
    content["categories"].pop()


def no_image(content: dict) -> None:
    content["images"].pop()


def other_ids(content: dict) -> None:
    for image in content["images"]:
        image["id"] += 1


def other_category(content: dict) -> None:
    content["annotations"][2]["category_id"] = 10_000_001


def no_images_at_all(content: dict) -> None:
    del content["images"]


@pytest.mark.parametrize(
    ("file", "edit", "reason"),
    [
        ("gtsrb_val", lambda _: False, "lacks gtsrb_val.json"),
        ("gtsrb_train", no_category, "lists 3 classes instead of 4"),
        ("gtsrb_train", no_image, "lists 19 images instead of 20"),
        ("gtsrb_test_stripped", other_ids, "does not have the test images 50200033 to 50200040"),
        ("gtsrb_train", other_category, "no class of gtsrb for data/gtsrb/train/0003/000003.jpg"),
        ("gtsrb_train", no_images_at_all, "gtsrb_train.json is not valid .images: field required."),
    ],
)
def test_wrong_annotations(shelf: Shelf, tmp_path: Path, file: str, edit: Callable, reason: str) -> None:
    shelf.edit_annotations(file, edit)
    with pytest.raises(MadlabError, match=reason):
        shelf.prepare(tmp_path / "data")
    assert not (tmp_path / "data/decathlon/gtsrb").exists()


IMAGE = "gtsrb/train/0002/000002.jpg"


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda files: files.pop(IMAGE), f"lacks 1 of its 20 images in train, {IMAGE} among them"),
        (lambda files: files.update({IMAGE: files[IMAGE][:300]}), f"{IMAGE} cannot be read as an image"),
        (lambda files: files.update({IMAGE: b"no image"}), f"{IMAGE} cannot be read as an image"),
        (lambda files: files.clear(), "has no images of gtsrb"),
    ],
    ids=["missing", "truncated", "text", "empty"],
)
def test_wrong_images(shelf: Shelf, tmp_path: Path, edit: Callable, reason: str) -> None:
    good = shelf.protocol
    data = (shelf.folder / good.archives["data"].name).read_bytes()
    shelf.edit_images("gtsrb", edit)
    root = tmp_path / "data"
    with pytest.raises(MadlabError, match=reason):
        shelf.prepare(root)
    check_prepared(root, MINIS[:1])  # what was whole before the bad domain is kept
    assert not (root / "decathlon/gtsrb").exists()
    (root / "decathlon/downloads" / good.archives["data"].name).write_bytes(data)
    shelf.protocol = good
    shelf.prepare(root)
    check_prepared(root, MINIS[:2])


def test_truncated_and_wrong_archives(shelf: Shelf, tmp_path: Path) -> None:
    path, root = shelf.folder / shelf.protocol.archives["data"].name, tmp_path / "data"
    data = path.read_bytes()
    for bad, reason in [(data[:-100], f"offers {len(data) - 100} bytes instead"), (data[:-1] + b"!", "has sha256")]:
        path.write_bytes(bad)
        with pytest.raises(MadlabError, match=reason):
            shelf.prepare(root)
        assert not (root / "decathlon/downloads" / path.name).exists()
    path.write_bytes(data)
    shelf.prepare(root)
    check_prepared(root, MINIS[:2])


def test_a_hostile_archive(shelf: Shelf, tmp_path: Path) -> None:
    shelf.edit_images("gtsrb", lambda files: files.update({"../../evil.jpg": b"x"}))
    with pytest.raises(MadlabError, match="points out of the archive"):
        shelf.prepare(tmp_path / "data")
    assert list(tmp_path.rglob("evil*")) == []


def test_no_space(shelf: Shelf, tmp_path: Path) -> None:
    pixels = sum(len(pictures) for mini in MINIS[:2] for pictures in mini.splits.values()) * 72 * 72 * 3
    needed = pixels + sum(shelf.protocol.archives[key].size for key in ("devkit", "data"))
    with pytest.raises(MadlabError, match="make room"):
        shelf.prepare(tmp_path, free=lambda _: needed - 1)
    assert shelf.host.log == []
    shelf.prepare(tmp_path, free=lambda _: needed)
    check_prepared(tmp_path, [])


def test_a_disk_that_fills_up(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(MadlabError, match="No space left on device"):
            shelf.prepare(tmp_path)
    assert not (tmp_path / "decathlon/aircraft").exists()
    shelf.prepare(tmp_path)
    check_prepared(tmp_path, [])


def test_what_the_user_got_wrong(shelf: Shelf, tmp_path: Path) -> None:
    wrong = tmp_path / "imagenet.tar"
    wrong.write_bytes(b"not ImageNet")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    for options, reason in [
        ({"domains": ["imagenet12"]}, "needs registration"),
        ({"domains": ["imagenet12"], "imagenet": wrong}, "damaged or another file"),
        ({"imagenet": tmp_path / "nowhere.tar"}, "There is no ImageNet archive"),
        ({"domains": ["gtrsb"]}, "no domain 'gtrsb': choose from aircraft, gtsrb, imagenet12"),
        ({"labels": tmp_path / "empty.zip"}, "none of aircraft_test.json, gtsrb_test.json"),
    ]:
        with pytest.raises(MadlabError, match=reason):
            shelf.prepare(tmp_path / "data", **options)
    with pytest.raises(MadlabError, match=r"make it with `madlab prepare decathlon --root .* --domains gtsrb`"):
        load("gtsrb", tmp_path / "elsewhere")


@pytest.mark.slow
def test_ten_kills_and_two_at_once(tmp_path: Path) -> None:
    # From a process of its own, because forking one that has threads, such as the server's, is not safe.
    context, minis = multiprocessing.get_context("spawn"), MINIS[:2]
    answer, together = context.SimpleQueue(), tmp_path / "together"
    roots = [tmp_path / f"killed {i}" for i in range(10)]
    with archives.serve(tmp_path / "shelf") as host:
        protocol = archives.decathlon(tmp_path / "shelf", minis, host.url)
        process = context.Process(target=archives.torment, args=(together, roots, protocol, 4, answer))
        process.start()
        process.join()
        codes, killed = answer.get()
        assert codes == [0, 0]
        check_prepared(together, minis)
        assert [sent for _, _, sent in host.log[:2]] == [protocol.archives[key].size for key in ("devkit", "data")]
        assert host.log[2][0] == host.log[0][0]  # the next request is another root's: each archive was fetched once
        assert killed >= 9  # of ten; the number of steps differs a little from run to run
        states = {tuple(sorted(str(p.relative_to(root)) for p in root.rglob("*.*"))) for root in roots}
        assert len(states) >= 4  # the kills left different things behind
        for root in roots:
            prepare_decathlon(root, protocol=protocol, say=lambda _: None)
            check_prepared(root, minis)


def test_the_official_protocol() -> None:
    # Sums of the published table, added by hand with another program.
    assert [d.name for d in DECATHLON.domains] == sorted(DECATHLON_BASELINE)
    assert [d.index for d in DECATHLON.domains] == list(range(1, 11))
    assert sum(d.classes for d in DECATHLON.domains) == 3128
    sums = [sum(getattr(d, split) for d in DECATHLON.domains) for split in ("train", "val", "test")]
    assert sums == [1_405_943, 113_439, 139_760]
    assert [d.name for d in DECATHLON.domains if not d.flip] == ["gtsrb", "omniglot", "svhn"]
    assert [archive.size for archive in DECATHLON.archives.values()] == [23_503_205, 406_351_554, 6_535_075_840]


@pytest.mark.skipif(not REAL.exists(), reason="the Decathlon's real annotation files are not on this machine")
@pytest.mark.parametrize(("name", "first", "last"), [("aircraft", 10206668, 10210000), ("ucf101", 90209538, 90213320)])
def test_real_annotation_files(name: str, first: int, last: int, tmp_path: Path) -> None:
    domain = DECATHLON.domain(name)
    data = (REAL / f"{name}_test.json").read_bytes()
    found = annotations.read_annotations(data, name, domain, "test")
    content = json.loads(data)
    assert found.ids.tolist() == list(range(first, last + 1))
    assert found.class_names == [category["name"] for category in content["categories"]]
    assert found.names[0] == f"{name}/test/000001.jpg"
    offset = content["categories"][0]["id"]
    assert found.labels.tolist() == [entry["category_id"] - offset for entry in content["annotations"]]
    wrong = found.labels.copy()
    wrong[::3] = (wrong[::3] + 1) % domain.classes
    annotations.write_results(tmp_path / "results.json", {name: (found.ids, wrong)}, DECATHLON)
    accuracy = annotations.submission_accuracies(tmp_path / "results.json", REAL, DECATHLON)[name]
    assert accuracy == pytest.approx(100 * (1 - len(wrong[::3]) / len(wrong)))
