"""Files of benchmarks: annotations, zips of labels, archives, packed domains, and files of recorded runs.

The oracles are the standard library's json, tarfile and zipfile, and NumPy.
"""

import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import archives as miniature
import made_runs
import numpy as np
from trust import damage
from trust.files import FileKind, equal, holds, unhashed
from trust.trials import Outcome, judged

from madlab.benchmarks import packed, packing
from madlab.benchmarks.annotations import read_annotations, read_test_labels
from madlab.benchmarks.archives import members
from madlab.benchmarks.protocol import DomainProtocol
from madlab.runs.record import read_runs, write_runs

MINI = miniature.tiny("gtsrb", 3, (4, 2, 3))


def _protocol(folder: Path) -> tuple[DomainProtocol, Path]:
    """The miniature domain, and the folder with its archives in the official layout."""
    protocol = miniature.decathlon(folder / "shelf", [MINI])
    return protocol.domain(MINI.name), folder / "shelf"


# Annotations: the name of a file says its split


def annotations(folder: Path) -> FileKind:
    domain, shelf = _protocol(folder)
    paths = []
    with tarfile.open(shelf / "decathlon-1.0-devkit.tar.gz") as archive:
        for member in filter(tarfile.TarInfo.isfile, archive):
            paths.append(folder / Path(member.name).name)
            paths[-1].write_bytes(archive.extractfile(member).read())

    def read(path: Path) -> Any:
        found = read_annotations(path.read_bytes(), str(path), domain, path.stem.split("_")[1])
        labels = None if found.labels is None else found.labels.tolist()
        return [found.class_names, found.names, found.ids.tolist(), labels]

    parse = unhashed(lambda data: _annotated(data, domain))
    return FileKind(paths, damage.BYTES | damage.JSON, read, parse, places=())


def _annotated(data: bytes, domain: DomainProtocol) -> list[Any]:
    """Class names, file names, ids and labels of an annotation file, by json and a loop."""
    content = json.loads(data)
    first = 10_000_000 * domain.index + 1
    labels = {entry["image_id"]: entry.get("category_id", 0) - first for entry in content.get("annotations", [])}
    categories = sorted(content.get("categories", []), key=lambda category: category["id"])
    ids = [image["id"] for image in content["images"]]
    of_images = [labels.get(number, -1) for number in ids]
    return [
        [category["name"] for category in categories],
        [image["file_name"].removeprefix("data/") for image in content["images"]],
        ids,
        None if all(not 0 <= label < domain.classes for label in of_images) else of_images,
    ]


# Zips of labels


def label_zips(folder: Path) -> FileKind:
    domain, shelf = _protocol(folder)
    path = shelf / "labels_test.zip"

    def parse(data: bytes) -> dict[int, int]:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [n for n in archive.namelist() if n.split("/")[-1] == f"{domain.name}_test.json"]
            _, _, ids, labels = _annotated(archive.read(names[0]), domain)
        return dict(zip(ids, labels, strict=True))

    zipped = {f"{way} within": _within(change) for way, change in damage.JSON.items()}
    return FileKind([path], damage.BYTES | zipped, lambda p: read_test_labels(p, domain), unhashed(parse))


def _within(change: damage.Damage) -> damage.Damage:
    """`change` applied to the content of a zip's files, whose checksums are right again afterwards."""

    def damaged(data: bytes, random: Random) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
            for name in old.namelist():
                new.writestr(name, change(old.read(name), random))
        return buffer.getvalue()

    return damaged


# Archives


def archives(folder: Path) -> FileKind:
    files = {f"data/{MINI.name}/{i:03d}.jpg": data for i, (data, _) in enumerate(MINI.splits["train"])}
    inner = {f"{MINI.name}.tar": miniature.tar_bytes(files, "w")}
    contents = {
        "plain.tar": miniature.tar_bytes(files, "w"),
        "packed.tar.gz": miniature.tar_bytes(files, "w:gz"),
        "nested.tar.gz": miniature.tar_bytes(inner, "w:gz"),
        "packed.tar.bz2": miniature.tar_bytes(files, "w:bz2"),
        "packed.tar.xz": miniature.tar_bytes(files, "w:xz"),
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    contents["plain.zip"] = buffer.getvalue()
    for name, data in contents.items():
        (folder / name).write_bytes(data)

    def read(path: Path) -> list[tuple[str, bytes]]:
        return [(name, read(1 << 20)) for name, read in members(path, 100)]

    paths = [folder / name for name in contents]
    places = [way for way in damage.IN_ITS_PLACE if "folder" not in way]  # a folder is read as well
    return FileKind(paths, damage.BYTES | HOSTILE, read, unhashed(_unpacked), places=places)


def _unpacked(data: bytes) -> list[tuple[str, bytes]]:
    """Name and content of each file, an inner tar's too, by tarfile and zipfile."""
    if data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return [(_shown(member.filename), archive.read(member)) for member in archive.infolist()]
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = [(member.name, archive.extractfile(member).read()) for member in archive if member.isfile()]
    return [
        entry for name, inside in found for entry in (_unpacked(inside) if name.endswith(".tar") else [(name, inside)])
    ]


def _shown(name: str) -> str:
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def _with_entry(name: str, **fields: Any) -> damage.Damage:
    """A tar whose last entry is one more; of a zip, a tar all the same, because the name of a file says nothing."""

    def damaged(data: bytes, random: Random) -> bytes:
        entry = tarfile.TarInfo(name)
        for field, value in fields.items():
            setattr(entry, field, value)
        return miniature.tar_bytes({"data/a.jpg": data[:100]}, random.choice(("w", "w:gz", "w:xz")), [entry])

    return damaged


def _bomb(data: bytes, random: Random) -> bytes:
    """A hundred megabytes and more of zeros."""
    return miniature.tar_bytes({"data/a.jpg": bytes(120_000_000)}, random.choice(("w:gz", "w:bz2", "w:xz")))


def _nest(data: bytes, random: Random) -> bytes:
    for depth in range(random.randint(3, 30)):
        data = miniature.tar_bytes({f"{depth}.tar": data}, "w")
    return data


def _too_many(data: bytes, random: Random) -> bytes:
    return miniature.tar_bytes({f"{i}.jpg": b"" for i in range(101)}, random.choice(("w", "w:gz")))


HOSTILE: Mapping[str, damage.Damage] = {
    "an entry above": _with_entry("../../x"),
    "an absolute entry": _with_entry("/tmp/x"),
    "a symbolic link": _with_entry("data/x", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a hard link": _with_entry("data/x", type=tarfile.LNKTYPE, linkname="data/a.jpg"),
    "a device": _with_entry("data/x", type=tarfile.CHRTYPE),
    "a FIFO within": _with_entry("data/x", type=tarfile.FIFOTYPE),
    "a huge size": _with_entry("data/x", size=1 << 62),
    "nested deeply": _nest,
    "too many files": _too_many,
}


# Packed domains: the arrays are hashed by the manifest, which is not


@dataclass(frozen=True)
class PackedDomain:
    """Trial after trial on a copy of a packed domain, of which one or two files are damaged."""

    whole: dict[str, bytes]
    folder: Path
    tries: int = 10_000

    def attempt(self, number: int, random: Random) -> Outcome:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        for name, data in self.whole.items():
            (self.folder / name).write_bytes(data)
        ways = []
        for name in random.sample(list(self.whole), random.choice((1, 1, 2))):
            kinds = damage.BYTES | (damage.JSON if name == packed.MANIFEST else {})
            ways.append(random.choice(list(kinds)))
            (self.folder / name).write_bytes(kinds[ways[-1]](self.whole[name], random))
        way = ways[0] if len(ways) == 1 else "several"
        packed._compared.clear()  # each trial is a process that opens the folder for the first time
        return judged(way, self.folder.name, self._read, self._verdict)

    def _read(self) -> dict[str, Any]:
        domain = packed.open_packed(self.folder, f"madlab prepare decathlon, for {self.folder}").domain()
        arrays = {f"{split}_{what}": getattr(getattr(domain, split), what) for split in SPLITS for what in PARTS}
        facts = {"name": domain.name, "class_names": domain.class_names, "flip": domain.flip}
        return facts | {"normalization": domain.normalization, "arrays": arrays}

    def _verdict(self, value: dict[str, Any]) -> str:
        for key, array in value.pop("arrays").items():
            if array.numpy().tobytes() != np.load(io.BytesIO(self.whole[f"{key}.npy"])).tobytes():
                return "failed"
        whole, here = (json.loads(data) for data in (self.whole[packed.MANIFEST], self._manifest()))
        if all(equal(value[key], whole[key]) for key in value):
            return "right"
        return "as written" if all(holds(value[key], here[key]) for key in value) else "failed"

    def _manifest(self) -> bytes:
        return (self.folder / packed.MANIFEST).read_bytes()


SPLITS, PARTS = ("train", "val", "test"), ("images", "labels")


def packed_domains(folder: Path) -> PackedDomain:
    place, generator = folder / "whole", np.random.default_rng(0)
    domain = DomainProtocol("gtsrb", 3, 6, 3, 6, size=12, crop=8, index=5)
    counts = {"train": 6, "val": 3, "test": 6}
    contents = {
        split: packing.Content([f"{split}{i}" for i in range(count)], np.arange(count) % 3, np.arange(count))
        for split, count in counts.items()
    }
    squares = [
        (split, i, generator.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        for split, count in counts.items()
        for i in range(count)
    ]
    packing.pack(place, domain, ["a", "b", "c"], contents, squares, {})
    return PackedDomain({path.name: path.read_bytes() for path in sorted(place.iterdir())}, folder / "gtsrb")


# Records files: recorded runs, one per line


def records(folder: Path) -> FileKind:
    path = folder / "grid.jsonl"
    write_runs(
        path,
        [
            made_runs.made_run("signs", "mad", 70.0, rank=2, losses=(2.0, 1.5, 1.0)),
            made_runs.made_run("signs", "finetune", 75.0, seed=1, rates={"head": 0.1}),
            made_runs.made_run("glyphs", "mad", 60.5, layers=("stem", "head"), adapter_lr=0.1),
        ],
    )

    def read(path: Path) -> Any:
        return json.loads(json.dumps([asdict(run) | {"path": ""} for run in read_runs(path)]))

    def verdict(value: Any, data: bytes, original: Path) -> str:
        if value == read(original):
            return "right"
        said = [json.loads(line) for line in data.splitlines()]
        return "as written" if len(said) == len(value) and all(map(holds, value, said)) else "failed"

    return FileKind([path], damage.BYTES | damage.JSON_LINES, read, verdict)
