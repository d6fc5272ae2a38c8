"""Writing packed domains: images decoded a few at a time, counts checked, and whole or not there after a kill."""

import itertools
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch

from madlab.benchmarks.domain import measure_normalization
from madlab.benchmarks.fetch import sha256_of
from madlab.benchmarks.packed import MANIFEST, image_counts, official_facts, sample_of
from madlab.benchmarks.protocol import DomainProtocol
from madlab.errors import MadlabError
from madlab.files.jsonfiles import write_json
from madlab.files.pictures import read_image
from madlab.progress import progress_bar

CHUNK = 512
"""Images that are decoded side by side."""
OTHER_DATA = "these are other data than the benchmark's, fetch or copy them again"


@dataclass(frozen=True)
class Content:
    """What goes into one split: `names` of its N images, for messages; labels and the benchmark's ids, int64 (N,)."""

    names: list[str]
    labels: np.ndarray | None
    ids: np.ndarray | None = None


def pack(
    folder: Path,
    protocol: DomainProtocol,
    class_names: list[str],
    contents: Mapping[str, Content],
    squares: Iterable[tuple[str, int, np.ndarray]],
    sources: Mapping[str, str],
) -> None:
    """Write a packed domain into `folder`, replacing one that is there.

    contents: what belongs into each split. squares: (split, place there, uint8 (S, S, 3)) in any order.
    sources: where the images come from, as archive: sha256, for the manifest.
    Raises MadlabError for counts that are not the official ones, images that are missing, and a full disk.
    """
    check_counts(protocol, len(class_names), {split: len(content.names) for split, content in contents.items()})
    building = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        _write_images(building, protocol, contents, squares)
        for split, content in contents.items():
            for what in ("labels", "ids"):
                if (numbers := getattr(content, what)) is not None:
                    with open(building / f"{split}_{what}.npy", "wb") as file:
                        np.save(file, np.asarray(numbers, np.int64), allow_pickle=False)
                        os.fsync(file.fileno())
        files = {
            path.name: {"bytes": path.stat().st_size, "sha256": sha256_of(path), "sample": sample_of(path)}
            for path in sorted(building.iterdir())
        }
        train = torch.from_numpy(np.load(building / "train_images.npy", mmap_mode="c", allow_pickle=False))
        manifest = official_facts(protocol) | {
            "name": protocol.name,
            "class_names": class_names,
            "flip": protocol.flip,
            "normalization": protocol.normalization or measure_normalization(train),
            "crop": protocol.crop,
            "splits": {split: len(content.names) for split, content in contents.items()},
            "sources": dict(sources),
            "files": files,
        }
        write_json(building / MANIFEST, manifest)
        if folder.exists():
            os.rename(folder, folder.with_name(f".{folder.name}.old.{os.getpid()}.tmp"))
        os.rename(building, folder)
    except OSError as error:
        raise MadlabError(
            f"Could not write {folder} ({error.strerror}): free some space and run this again."
        ) from error
    finally:
        remove_leftovers(folder.parent)


def decode(
    items: Iterable[tuple[str, int, str, bytes]], protocol: DomainProtocol, total: int
) -> Iterator[tuple[str, int, np.ndarray]]:
    """Image files (split, place, name, bytes) to squares (split, place, uint8 (S, S, 3)), a few threads at a time."""

    def one(item: tuple[str, int, str, bytes]) -> tuple[str, int, np.ndarray]:
        split, place, name, data = item
        return split, place, read_image(BytesIO(data), protocol.size, protocol.squash, name)

    items = iter(items)
    with (
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads,
        progress_bar(protocol.name, total, "images") as bar,
    ):
        while chunk := list(itertools.islice(items, CHUNK)):
            yield from threads.map(one, chunk)
            bar.update(len(chunk))


def check_counts(protocol: DomainProtocol, classes: int, counts: Mapping[str, int]) -> None:
    """Raise MadlabError when the numbers of classes or images are not the official ones."""
    if classes != protocol.classes:
        raise MadlabError(f"{protocol.name} has {classes} classes instead of {protocol.classes}: {OTHER_DATA}.")
    have, official = image_counts(counts), official_facts(protocol)["images"]
    for part, number in official.items():
        if have[part] != number:
            raise MadlabError(f"{protocol.name} has {have[part]} images in {part} instead of {number}: {OTHER_DATA}.")


def hold_out(labels: np.ndarray, share: float, seed: int = 0, groups: list[str] | None = None) -> np.ndarray:
    """Which samples to keep back, bool (N,): about `share` of each class, drawn with a seed; each class keeps some.

    labels: int (N,). groups: N names; samples of one class and group, such as shots of one object, stay together.
    """
    generator = np.random.default_rng(seed)
    keys = np.array([str(i) for i in range(len(labels))] if groups is None else groups)
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = labels == label
        names = np.unique(keys[members])
        count = min(max(1, round(len(names) * share)), len(names) - 1)
        chosen |= members & np.isin(keys, generator.permutation(names)[:count])
    return chosen


def remove_leftovers(root: Path) -> None:
    """Remove what a killed process left half-made; call it only while holding the lock."""
    for path in list(root.rglob(".*.tmp")):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _write_images(
    folder: Path,
    protocol: DomainProtocol,
    contents: Mapping[str, Content],
    squares: Iterable[tuple[str, int, np.ndarray]],
) -> None:
    # Plain writes, not a memory map: on a full disk a map kills the process instead of raising an error.
    bytes_each = protocol.size**2 * 3
    files, starts, filled = {}, {}, {split: np.zeros(len(content.names), bool) for split, content in contents.items()}
    try:
        for split, content in contents.items():
            files[split] = open(folder / f"{split}_images.npy", "wb")  # noqa: SIM115
            shape = (len(content.names), protocol.size, protocol.size, 3)
            np.lib.format.write_array_header_1_0(files[split], {"descr": "|u1", "fortran_order": False, "shape": shape})
            files[split].flush()
            starts[split] = files[split].tell()
        for split, place, square in squares:
            os.pwrite(files[split].fileno(), square.tobytes(), starts[split] + place * bytes_each)
            filled[split][place] = True
        for file in files.values():
            os.fsync(file.fileno())
    finally:
        for file in files.values():
            file.close()
    for split, content in contents.items():
        absent = np.flatnonzero(~filled[split])
        if len(absent):
            raise MadlabError(
                f"{protocol.name} lacks {len(absent)} of its {len(content.names)} images in {split}, "
                f"{content.names[absent[0]]} among them: fetch or copy its images again."
            )
