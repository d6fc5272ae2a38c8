"""Domains on disk as memory-mapped uint8 arrays, which open at once however large they are.

A packed domain is a folder: for each split SPLIT_images.npy, uint8 (N, S, S, 3), SPLIT_labels.npy, int64 (N,), where
the labels are known, SPLIT_ids.npy, int64 (N,), where the benchmark numbers its images, and manifest.json with what
they are, their counts and their sha256. `madlab.benchmarks.packing` fills it under a hidden name, then renames it: it
is whole or it is not there. The first time that a process opens it, labels, ids and a sample of the pixels are compared
with the manifest; `Packed.verify` compares everything.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from madlab.benchmarks.domain import Domain
from madlab.benchmarks.fetch import sha256_of
from madlab.benchmarks.protocol import DomainProtocol
from madlab.benchmarks.schemas import Manifest
from madlab.benchmarks.split import SPLITS, Split
from madlab.errors import MadlabError, reason
from madlab.files.jsonfiles import read_json
from madlab.files.schemas import validated

VERSION = 1
"""Of the layout; packed domains of another version are made anew."""
MANIFEST = "manifest.json"
BLOCKS, BLOCK = 64, 1 << 16
"""How many blocks of how many bytes `sample_of` reads of a large file."""
_compared: set[tuple[Path, int]] = set()
"""Packed domains that this process compared with their manifests: their folder, and when the manifest was written."""


@dataclass(frozen=True)
class Packed:
    """A packed domain; its images stay on disk until they are used."""

    folder: Path
    manifest: Manifest

    def images(self, split: str) -> Tensor:
        """uint8 (N, S, S, 3), memory-mapped; writing to it changes this process's copy, never the file."""
        size = self.manifest.size
        return torch.from_numpy(self._array(f"{split}_images.npy", np.uint8, split, size, size, 3))

    def labels(self, split: str) -> Tensor:
        """int64 (N,), each from 0 to the number of classes - 1."""
        labels = self._numbers(split, "labels")
        if len(labels) and not (labels.min() >= 0 and labels.max() < len(self.manifest.class_names)):
            raise self._damaged(f"{split}_labels.npy", "has labels that no class belongs to")
        return labels

    def ids(self, split: str) -> Tensor:
        """The benchmark's own numbers of the images, int64 (N,)."""
        return self._numbers(split, "ids")

    def domain(self, **changes: Any) -> Domain:
        """As a Domain; changes: other `name`, `description` or splits. A split without labels has to be given."""
        for split in SPLITS:
            if split not in changes:
                changes[split] = Split(self.images(split), self.labels(split))
        stored = self.manifest
        facts: dict[str, Any] = {"name": stored.name, "class_names": distinct(stored.class_names), "flip": stored.flip}
        facts["squash"] = stored.squash
        return Domain(**(facts | {"normalization": stored.normalization.model_dump()} | changes))

    def verify(self) -> None:
        """Read every array once more; raise MadlabError when one is not what the manifest says."""
        for name, stored in self.manifest.files.items():
            if sha256_of(self.folder / name) != stored.sha256:
                raise self._damaged(name, "is damaged")

    def compare_sample(self) -> None:
        """As `verify`, but of images only their sample, if the manifest has one: however many, that takes a moment."""
        for name, stored in self.manifest.files.items():
            path = self.folder / name
            if stored.sample is not None and name.endswith("_images.npy"):
                same = sample_of(path) == stored.sample
            else:
                same = sha256_of(path) == stored.sha256
            if not same:
                raise self._damaged(name, "is damaged")

    def _numbers(self, split: str, what: str) -> Tensor:
        name = f"{split}_{what}.npy"
        if name not in self.manifest.files:
            raise MadlabError(f"{self.folder} has no {what} of {split}: the benchmark does not give them.")
        return torch.from_numpy(np.array(self._array(name, np.int64, split)))

    def _array(self, name: str, kind: type[np.generic], split: str, *shape: int) -> np.ndarray:
        """The array in a file, memory-mapped, if it is what the manifest says."""
        if name not in self.manifest.files:
            raise self._damaged(name, "is not in its manifest")
        try:
            array = np.load(self.folder / name, mmap_mode="c", allow_pickle=False)
        except Exception as error:  # damaged headers make NumPy raise nearly anything
            raise self._damaged(name, f"is not an array ({reason(error)})") from error
        wanted = (getattr(self.manifest.splits, split), *shape)
        if not isinstance(array, np.ndarray) or array.dtype != kind or array.shape != wanted:
            raise self._damaged(name, f"does not hold {np.dtype(kind)} of shape {wanted}")
        return array

    def _damaged(self, name: str, how: str) -> MadlabError:
        return MadlabError(f"{self.folder / name} {how}: remove {self.folder} and prepare it again.")


def open_packed(folder: Path, command: str) -> Packed:
    """Open a packed domain; when it is not there or not whole, a MadlabError names the command that makes it."""
    manifest = _manifest_of(folder)
    if manifest is None:
        what = "only a part, or an older kind, of a" if (folder / MANIFEST).exists() else "no"
        raise MadlabError(f"There is {what} prepared domain in {folder}: make it with `{command}`.")
    packed = Packed(folder, manifest)
    version = folder.resolve(), (folder / MANIFEST).stat().st_mtime_ns
    if version not in _compared:
        packed.compare_sample()
        _compared.add(version)
    return packed


def is_packed(folder: Path, protocol: DomainProtocol) -> bool:
    """Whether `folder` holds this domain whole, as large as wanted, with the official numbers of classes and images."""
    manifest = _manifest_of(folder)
    return manifest is not None and all(
        getattr(manifest, key) == value for key, value in official_facts(protocol).items()
    )


def sample_of(path: Path) -> str:
    """sha256 of BLOCKS blocks of a file, evenly spread from its first to its last byte; of all of a small one."""
    size, digest = path.stat().st_size, hashlib.sha256()
    with open(path, "rb") as file:
        for number in range(BLOCKS):
            if size > BLOCKS * BLOCK:
                file.seek((size - BLOCK) * number // (BLOCKS - 1))
            digest.update(file.read(BLOCK))
    return digest.hexdigest()


def distinct(class_names: list[str]) -> list[str]:
    """The names, each with its number where several are the same: benchmarks call two classes "crane"."""
    count = Counter(class_names)
    return [name if count[name] == 1 and name.strip() else f"{name} #{i}" for i, name in enumerate(class_names)]


def official_facts(protocol: DomainProtocol) -> dict[str, Any]:
    """What must be equal for a packed domain to be this one."""
    images = image_counts({split: getattr(protocol, split) for split in SPLITS})
    return {
        "version": VERSION,
        "size": protocol.size,
        "squash": protocol.squash,
        "classes": protocol.classes,
        "images": images,
    }


def image_counts(splits: Mapping[str, int]) -> dict[str, int]:
    # Only the sum of train and val is official where we hold out the validation images ourselves.
    return {"train and val": splits["train"] + splits["val"], "test": splits["test"]}


def _manifest_of(folder: Path) -> Manifest | None:
    """The manifest of a domain that is whole as far as file sizes tell; None means that it has to be made."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    content = read_json(path)
    if isinstance(content, dict) and content.get("version") != VERSION:
        return None
    manifest = validated(Manifest, content, str(path), f"remove {folder} and prepare it again")
    for name, stored in manifest.files.items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != stored.bytes:
            return None
    return manifest
