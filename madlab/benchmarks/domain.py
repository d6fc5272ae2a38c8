"""A visual domain: images and labels in three splits, and what the training has to know about them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from madlab.errors import MadlabError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """images: uint8 (N, H, W, 3), RGB; labels: int64 (N,), each from 0 to the number of classes - 1."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))

    def shrunk(self, size: int, chunk: int = 256) -> "Split":
        """The same split, its images scaled down to a short side of `size` pixels; smaller ones stay as they are."""
        sides = self.images.shape[1:3]
        if min(sides) <= size:
            return self
        height, width = (round(side * size / min(sides)) for side in sides)
        images = torch.empty(len(self), height, width, 3, dtype=torch.uint8)
        for start in range(0, len(self), chunk):  # a memory-mapped split may be larger than the memory
            part = self.images[start : start + chunk].permute(0, 3, 1, 2)
            small = F.interpolate(part, (height, width), mode="bilinear", antialias=True)
            images[start : start + chunk] = small.permute(0, 2, 3, 1)
        return Split(images, self.labels)


@dataclass(frozen=True)
class Domain:
    """One visual domain, ready to train on.

    flip: whether a mirrored image is still of its class (photographs: yes; signs and letters: no).
    normalization: {"mean": [r, g, b], "std": [r, g, b]} for pixels scaled to 0..1; measured on `train` when not given.
    description: one sentence on what the splits are, where that needs saying.
    """

    name: str
    class_names: list[str]
    train: Split
    val: Split
    test: Split
    flip: bool = True
    normalization: dict[str, list[float]] = field(default_factory=dict)
    description: str = ""

    def __post_init__(self) -> None:
        if len(self.class_names) < 2:
            raise MadlabError(f"Domain {self.name!r} has {self.num_classes} class: a classifier needs at least two.")
        for split in SPLITS:
            part = getattr(self, split)
            if len(part) == 0:
                raise MadlabError(f"Domain {self.name!r} has no images in {split}: put some there.")
            if int(part.labels.max()) >= self.num_classes or int(part.labels.min()) < 0:
                raise MadlabError(f"Domain {self.name!r} has labels in {split} that no class name belongs to.")
        if not self.normalization:
            object.__setattr__(self, "normalization", measure_normalization(self.train.images))

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def size(self) -> int:
        """Short side of the images in pixels."""
        return min(self.train.images.shape[1:3])

    def to(self, device: torch.device | str) -> "Domain":
        """The same domain with its images and labels on `device`."""
        return replace(self, **{split: getattr(self, split).to(device) for split in SPLITS})

    def shrunk(self, size: int) -> "Domain":
        """The same domain, its images scaled down to a short side of `size` pixels; smaller ones stay as they are."""
        if self.size <= size:
            return self
        return replace(self, **{split: getattr(self, split).shrunk(size) for split in SPLITS})

    @staticmethod
    def from_folder(path: Path | str, size: int = 36, flip: bool = True, name: str | None = None) -> "Domain":
        """Read train/ val/ test/ with one folder a class (torchvision's ImageFolder); see `madlab.benchmarks.folder`.

        size: images are scaled to this short side, then cut square around their centre, in pixels.
        flip: whether a mirrored image is still of its class. name: the folder's name when not given.
        """
        from madlab.benchmarks.folder import read_folder

        return read_folder(Path(path), size, flip, name)


def match_classes(domain: Domain, class_names: Sequence[str], where: str) -> Domain:
    """The domain with its classes in the order of `class_names`, its labels numbered accordingly.

    where: what has these class names, for the message ("the run runs/x"). Raises MadlabError, with the difference, when
    the names are not the same.
    """
    wanted = list(class_names)
    if wanted == domain.class_names:
        return domain
    lacking, added = set(wanted) - set(domain.class_names), set(domain.class_names) - set(wanted)
    if lacking or added:
        told = [f"{verb} {', '.join(sorted(names))}" for verb, names in (("lacks", lacking), ("adds", added)) if names]
        raise MadlabError(
            f"The classes of domain {domain.name!r} are not those of {where}: it {' and '.join(told)}, "
            "so give data with the same class names."
        )
    number = torch.tensor([wanted.index(name) for name in domain.class_names])
    parts: dict[str, Any] = {split: getattr(domain, split) for split in SPLITS}
    renumbered: dict[str, Any] = {
        split: Split(part.images, number.to(part.labels.device)[part.labels]) for split, part in parts.items()
    }
    return replace(domain, class_names=wanted, **renumbered)


def measure_normalization(images: Tensor, most: int = 2000) -> dict[str, list[float]]:
    """Mean and standard deviation of each channel, for pixels scaled to 0..1, over `most` images spread evenly.

    images: uint8 (N, H, W, 3). A channel that never changes gets a deviation of 1/255, so that division stays safe.
    """
    step = max(1, len(images) // most)
    values = images[::step].float().div(255)
    std = values.std((0, 1, 2)).clamp(min=1 / 255)
    return {"mean": values.mean((0, 1, 2)).tolist(), "std": std.tolist()}
