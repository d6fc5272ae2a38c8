"""Packed domains that were changed on disk: every reader says which file, and nothing else is raised."""

import io
import json
import os
import random
from pathlib import Path

import numpy as np
import pytest

from madlab.benchmarks import packed
from madlab.benchmarks.packed import distinct, open_packed, sample_of
from madlab.benchmarks.packing import Content, pack
from madlab.benchmarks.protocol import DomainProtocol
from madlab.errors import MadlabError

PROTOCOL = DomainProtocol("small", 3, 6, 3, 3, size=8)
COUNTS = {"train": 6, "val": 3, "test": 3}
SQUARES = {
    split: np.random.default_rng(count).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    for split, count in COUNTS.items()
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    contents = {
        split: Content([f"{split} {i}" for i in range(count)], np.arange(count) % 3, np.arange(count) + 100)
        for split, count in COUNTS.items()
    }
    squares = [(split, i, square) for split, images in SQUARES.items() for i, square in enumerate(images)]
    pack(tmp_path / "small", PROTOCOL, ["crane", "ant", "crane"], contents, squares, {})
    packed._compared.clear()
    return tmp_path / "small"


def read(folder: Path) -> None:
    """Everything that can be read of it."""
    whole = open_packed(folder, "madlab prepare")
    whole.domain()
    for split in COUNTS:
        whole.ids(split)


def edit(folder: Path, change: object) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def put(folder: Path, name: str, data: bytes, honest: bool = True) -> None:
    """Other bytes in an array file; honest: the manifest agrees, as whoever changed the file would see to."""
    (folder / name).write_bytes(data)

    def agree(manifest: dict) -> None:
        path = folder / name
        manifest["files"][name] = {"bytes": len(data), "sha256": packed.sha256_of(path), "sample": sample_of(path)}

    if honest:
        edit(folder, agree)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npy_header(text: str, version: bytes = b"\1\0") -> bytes:
    """A header as NumPy writes it, with whatever text."""
    length = len(text).to_bytes(2 if version == b"\1\0" else 4, "little")
    return b"\x93NUMPY" + version + length + text.encode("latin1")


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.arange(3))
    return buffer.getvalue()


def test_what_was_packed_comes_back(folder: Path) -> None:
    whole = open_packed(folder, "")
    domain = whole.domain()
    for split, images in SQUARES.items():
        assert np.array_equal(getattr(domain, split).images.numpy(), images)
        assert getattr(domain, split).labels.tolist() == [i % 3 for i in range(len(images))]
        assert whole.ids(split).tolist() == [100 + i for i in range(len(images))]
    whole.verify()


def test_two_classes_of_one_name_get_their_numbers(folder: Path) -> None:
    assert open_packed(folder, "").domain().class_names == ["crane #0", "ant", "crane #2"]
    assert distinct(["a", "b", " "]) == ["a", "b", "  #2"]


@pytest.mark.parametrize("name", ["train_labels.npy", "val_ids.npy", "test_images.npy"])
def test_one_changed_bit_is_found_when_a_process_opens_it_first(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[-1] ^= 1
    put(folder, name, data, honest=False)
    with pytest.raises(MadlabError, match=rf"small/{name} is damaged: remove .*small and prepare it again"):
        read(folder)


def test_it_is_compared_once_for_each_time_that_it_is_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr(packed.Packed, "compare_sample", lambda whole: compared.append(whole.folder))
    read(folder)
    read(folder)
    assert compared == [folder]
    edit(folder, lambda manifest: None)
    os.utime(folder / "manifest.json", ns=(1, 1))
    read(folder)
    assert compared == [folder, folder]


def test_of_a_large_file_a_sample_is_compared_and_verify_reads_all(tmp_path: Path) -> None:
    path = tmp_path / "x"
    data = bytearray(random.Random(0).randbytes(5 << 20))
    path.write_bytes(data)
    before = sample_of(path)
    for place, seen in ((0, True), (len(data) - 1, True), (packed.BLOCK + 100, False)):
        data[place] ^= 1
        path.write_bytes(data)
        assert (sample_of(path) != before) == seen
        data[place] ^= 1


def test_domains_packed_before_there_were_samples_are_read_and_compared_as_a_whole(folder: Path) -> None:
    edit(folder, lambda manifest: [entry.pop("sample") for entry in manifest["files"].values()])
    read(folder)
    data = bytearray((folder / "train_images.npy").read_bytes())
    data[-1] ^= 1
    put(folder, "train_images.npy", data, honest=False)
    packed._compared.clear()
    with pytest.raises(MadlabError, match="damaged"):
        read(folder)


ARRAYS = {
    "empty": b"",
    "no array": b"x" * 200,
    "truncated": npy(np.arange(6))[:-8],
    "only the magic": b"\x93NUMPY",
    "another type": npy(np.arange(6, dtype=np.int32)),
    "floats": npy(np.arange(6.0)),
    "objects": npy(np.array([{}] * 6, dtype=object)),
    "structured": npy(np.zeros(6, dtype=[("a", np.int64)])),
    "another shape": npy(np.arange(7)),
    "two dimensions": npy(np.arange(6)[None]),
    "big-endian": npy(np.arange(6, dtype=">i8")),
    "several arrays": npz(),
    "a pickle": b"\x80\x04K\x01.",
    "negative labels": npy(np.arange(6) - 1),
    "labels too large": npy(np.arange(6)),
    "huge": npy_header("{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,), }\n"),
    "huger": npy_header(f"{{'descr': '<i8', 'fortran_order': False, 'shape': ({10**30},), }}\n"),
    "negative shape": npy_header("{'descr': '<i8', 'fortran_order': False, 'shape': (-6,), }\n"),
    "5,000 digits": npy_header("{'descr': '<i8', 'fortran_order': False, 'shape': (" + "9" * 5000 + ",), }\n"),
    "deep nesting": npy_header("(" * 4000 + ")" * 4000 + "\n"),
    "deeper nesting": npy_header("(" * 9000 + ")" * 9000 + "\n"),
    "a header of gigabytes": b"\x93NUMPY\2\0\xff\xff\xff\xff" + b"x" * 100,
    "code": npy_header("__import__('os').system('true')\n"),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_an_array_that_is_not_what_the_manifest_says(folder: Path, kind: str) -> None:
    put(folder, "train_labels.npy", ARRAYS[kind])
    with pytest.raises(MadlabError, match=r"small/train_labels\.npy .*remove .*small and prepare it again") as caught:
        read(folder)
    assert "\n" not in str(caught.value)


def no_split(manifest: dict) -> None:
    del manifest["splits"]["val"]


MANIFESTS = {
    "no list": (lambda m: m.update(class_names={"a": 1}), "class_names"),
    "names that are numbers": (lambda m: m.update(class_names=[1, 2, 3]), "class_names.0"),
    "one class": (lambda m: m.update(class_names=["a"]), "class_names"),
    "no name": (lambda m: m.pop("name"), "name"),
    "std 0": (lambda m: m["normalization"].update(std=[0, 1, 1]), "normalization.std.0"),
    "text": (lambda m: m.update(normalization="imagenet"), "normalization"),
    "a flip that is text": (lambda m: m.update(flip="no"), "flip"),
    "size 0": (lambda m: m.update(size=0), "size"),
    "size of gigabytes": (lambda m: m.update(size=10**9), "size"),
    "no split": (no_split, "splits.val"),
    "a negative count": (lambda m: m["splits"].update(train=-6), "splits.train"),
    "a huge count": (lambda m: m["splits"].update(train=10**30), "splits.train"),
    "files elsewhere": (lambda m: m["files"].update({"../../x.npy": {"bytes": 1, "sha256": "0" * 64}}), "files"),
    "no sha256": (lambda m: m["files"]["train_images.npy"].update(sha256="abc"), "files.train_images.npy.sha256"),
}


@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_manifest_of_another_shape(folder: Path, kind: str) -> None:
    change, place = MANIFESTS[kind]
    edit(folder, change)
    with pytest.raises(MadlabError) as caught:
        read(folder)
    message = str(caught.value)
    assert "manifest.json is not valid" in message and place in message and "prepare it again" in message
    assert "\n" not in message


@pytest.mark.parametrize("content", ["[]", "3", "null", '"text"', "[[1, 2]]"])
def test_a_manifest_that_is_no_mapping(folder: Path, content: str) -> None:
    (folder / "manifest.json").write_text(content)
    with pytest.raises(MadlabError, match=r"manifest\.json is not valid"):
        read(folder)


def test_counts_that_the_arrays_do_not_have(folder: Path) -> None:
    edit(folder, lambda manifest: manifest["splits"].update(train=5))
    with pytest.raises(MadlabError, match=r"train_images\.npy does not hold uint8 of shape \(5, 8, 8, 3\)"):
        read(folder)


def test_an_array_that_the_manifest_lacks(folder: Path) -> None:
    edit(folder, lambda manifest: [manifest["files"].pop(f"test_{what}.npy") for what in ("images", "labels")])
    with pytest.raises(MadlabError, match=r"test_images\.npy is not in its manifest"):
        open_packed(folder, "").images("test")
    with pytest.raises(MadlabError, match="no labels of test"):
        open_packed(folder, "").labels("test")


@pytest.mark.parametrize("place", ["a pipe", "a folder", "a link loop", "nothing"])
@pytest.mark.parametrize("name", ["train_labels.npy", "manifest.json"])
def test_no_file_in_a_file_s_place(folder: Path, place: str, name: str) -> None:
    path = folder / name
    path.unlink()
    if place == "a pipe":
        os.mkfifo(path)
    elif place == "a folder":
        path.mkdir()
    elif place == "a link loop":
        path.symlink_to(path)
    with pytest.raises(
        MadlabError, match=r"There is (no|only a part.*) prepared domain in .*: make it with `madlab prepare`"
    ):
        read(folder)


def test_manifests_changed_at_random(folder: Path) -> None:
    """Read as before, or refused in one sentence; nothing else is raised."""
    generator, whole = random.Random(0), (folder / "manifest.json").read_text()
    refused = 0
    for _ in range(200):
        text = list(whole)
        for _ in range(generator.choice([1, 2, 20])):
            text[generator.randrange(len(text))] = generator.choice('0123456789"[]{}:,.-eE ntfx')
        (folder / "manifest.json").write_text("".join(text))
        try:
            read(folder)
        except MadlabError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 50
