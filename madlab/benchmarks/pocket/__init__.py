"""The pocket benchmark: small domains made by code in seconds, the same on every machine, with nothing to download.

Ten stand for the Visual Decathlon's and six for ImageNet-to-Sketch's. Their images have 36 pixels (networks see crops
of 32), half of the real ones' side. They are drawings, not photographs, except for the scans behind `digits`; numbers
made on them say how methods compare, not how they do on the benchmarks.
"""

import hashlib
import os
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

from madlab.benchmarks.domain import SPLITS, Domain, Split
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
from madlab.benchmarks.pocket.recipe import Recipe
from madlab.errors import MadlabError
from madlab.tensors import load_tensors, save_tensors

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
RECIPES = MappingProxyType({recipe.name: recipe for family in _FAMILIES for recipe in family.RECIPES})

STANDS_FOR = MappingProxyType({name: recipe.stands_for for name, recipe in RECIPES.items()})
"""Pocket name -> the domain it stands for; `pictures` is imagenet12, which ImageNet-to-Sketch calls imagenet."""
DESCRIPTIONS = MappingProxyType({name: recipe.description for name, recipe in RECIPES.items()})
"""Pocket name -> what one sees, in one line."""


def load(name: str, root: Path | str | None = None) -> Domain:
    """A pocket domain: from the cache, or drawn now (two or three seconds) and put there.

    root: the cache folder; by default $MADLAB_DATA, else the user's cache folder. A cached file that another version
    of the drawing code made is made anew. Raises MadlabError for an unknown name.
    """
    recipe = RECIPES.get(name)
    if recipe is None:
        raise MadlabError(f"There is no pocket domain {name!r}: choose one of {', '.join(RECIPES)}.")
    path = (cache_folder() if root is None else Path(root)) / "pocket" / f"{name}.safetensors"
    tensors = _cached(path)
    if tensors is None:
        tensors = draw(recipe)
        save_tensors(path, tensors, {"version": version()})
    train, val, test = (Split(tensors[f"{split}_images"], tensors[f"{split}_labels"]) for split in SPLITS)
    return Domain(name, list(recipe.class_names), train, val, test, recipe.flip)


def draw(recipe: Recipe) -> dict[str, torch.Tensor]:
    """All images of a domain: for each split SPLIT_images, uint8 (N, 36, 36, 3), and SPLIT_labels, int64 (N,).

    Classes take turns, so that the first images of a split show one of each.
    """
    tensors, first, classes = {}, 0, len(recipe.class_names)
    for split, count in zip(SPLITS, recipe.counts, strict=True):
        images = [recipe.image(label, first + number) for number in range(count) for label in range(classes)]
        tensors[f"{split}_images"] = torch.from_numpy(np.stack(images))
        tensors[f"{split}_labels"] = torch.arange(classes).repeat(count)
        first += count
    return tensors


@cache
def version() -> str:
    """Of the drawing code: a hash of its sources, so that no change to it can be forgotten."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]


def cache_folder() -> Path:
    """$MADLAB_DATA, else the user's cache folder of this operating system."""
    if folder := os.environ.get("MADLAB_DATA"):
        return Path(folder)
    import pooch

    return Path(pooch.os_cache("madlab"))


def _cached(path: Path) -> dict[str, torch.Tensor] | None:
    """What this version of the drawing code left at `path`; None for no file, another version's, or a damaged one."""
    if not path.is_file():
        return None
    try:
        tensors, metadata = load_tensors(path)
    except MadlabError:  # damaged: drawing it again repairs it
        return None
    return tensors if metadata.get("version") == version() else None
