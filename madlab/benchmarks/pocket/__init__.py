"""The pocket benchmark: small domains made by code in seconds, the same on every machine, with nothing to download.

Ten stand for the Visual Decathlon's and six for ImageNet-to-Sketch's. Their images have 36 pixels (networks see crops
of 32), half of the real ones' side. They are drawings, not photographs, except for the scans behind `digits`; numbers
made on them say how methods compare, not how they do on the benchmarks.
"""

import hashlib
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

from madlab.benchmarks.domain import Domain
from madlab.benchmarks.fetch import cache_folder
from madlab.benchmarks.pocket import (
    birds,
    characters,
    flowers,
    motion,
    objects,
    paintings,
    petals,
    scenes,
    signs,
    sketches,
    textures,
    vehicles,
    walkers,
)
from madlab.benchmarks.pocket.drawing import SIZE
from madlab.benchmarks.pocket.spec import PocketSpec
from madlab.benchmarks.split import SPLITS, Split
from madlab.errors import MadlabError, remark
from madlab.files.tensors import load_tensors, save_tensors

DOMAINS = (
    "pictures", "planes", "objects", "walkers", "textures", "signs", "glyphs", "digits", "motion", "flowers",
)  # fmt: skip
"""The stand-ins for the Visual Decathlon, in its order."""
SKETCH_DOMAINS = ("pictures", "birds", "cars", "petals", "paintings", "sketches")
"""The stand-ins for ImageNet-to-Sketch, in its order; `pictures` is the base network's domain in both."""

_FAMILIES = (
    scenes, vehicles, objects, walkers, textures, signs, characters, motion, flowers,
    birds, petals, paintings, sketches,
)  # fmt: skip
SPECS = MappingProxyType({spec.name: spec for family in _FAMILIES for spec in family.SPECS})


def flips(name: str) -> bool:
    """Whether a domain's training images may be mirrored."""
    return SPECS[name].flip


def load(name: str, root: Path | str | None = None) -> Domain:
    """A pocket domain: from the cache, or drawn now (two or three seconds) and put there.

    root: the cache folder; by default $MADLAB_DATA, else the user's cache folder. A cached file that another version
    of the drawing code made is made anew. Raises MadlabError for an unknown name.
    """
    spec = SPECS.get(name)
    if spec is None:
        raise MadlabError(f"There is no pocket domain {name!r}: choose one of {', '.join(SPECS)}.")
    path = (cache_folder() if root is None else Path(root)) / "pocket" / f"{name}.safetensors"
    tensors = _cached(path, spec)
    if tensors is None:
        tensors = draw(spec)
        try:
            save_tensors(path, tensors, {"version": version()})
        except MadlabError as error:
            again = f"{name} is drawn anew each time, as it could not be kept: set MADLAB_DATA to another folder"
            remark(f"{again} ({error})")
    train, val, test = (Split(tensors[f"{split}_images"], tensors[f"{split}_labels"]) for split in SPLITS)
    return Domain(name, list(spec.class_names), train, val, test, spec.flip)


def draw(spec: PocketSpec) -> dict[str, torch.Tensor]:
    """All images of a domain: for each split SPLIT_images, uint8 (N, 36, 36, 3), and SPLIT_labels, int64 (N,).

    Classes take turns, so that the first images of a split show one of each.
    """
    tensors, first, classes = {}, 0, len(spec.class_names)
    for split, count in zip(SPLITS, spec.counts, strict=True):
        images = [spec.image(label, first + number) for number in range(count) for label in range(classes)]
        tensors[f"{split}_images"] = torch.from_numpy(np.stack(images))
        tensors[f"{split}_labels"] = torch.arange(classes).repeat(count)
        first += count
    return tensors


@cache
def version() -> str:
    """Of the drawing code: a hash of its sources, so that no change to it can be forgotten."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]


def _cached(path: Path, spec: PocketSpec) -> dict[str, torch.Tensor] | None:
    """What this version of the drawing code left at `path`; None for no file, another version's, or a damaged one."""
    if not path.is_file():
        return None
    try:
        tensors, metadata = load_tensors(path)
    except MadlabError:  # damaged: drawing it again repairs it
        return None
    return tensors if metadata.get("version") == version() and _is_whole(tensors, spec) else None


def _is_whole(tensors: dict[str, torch.Tensor], spec: PocketSpec) -> bool:
    """Whether there are as many images as the domain has, with the labels that `draw` gives them."""
    classes = len(spec.class_names)
    for split, count in zip(SPLITS, spec.counts, strict=True):
        images, labels = tensors.get(f"{split}_images"), tensors.get(f"{split}_labels")
        if images is None or images.dtype != torch.uint8 or images.shape != (classes * count, SIZE, SIZE, 3):
            return False
        if labels is None or not torch.equal(labels, torch.arange(classes).repeat(count)):
            return False
    return True
