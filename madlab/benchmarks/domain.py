"""A visual domain: images and labels in three splits, and what training has to know about them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from madlab.benchmarks.folder import folder_name, read_folder
from madlab.benchmarks.schemas import Normalization
from madlab.benchmarks.split import SPLITS, Split, check_size
from madlab.errors import MadlabError, remark, some
from madlab.files.pictures import GreyScale
from madlab.files.schemas import validated


@dataclass(frozen=True)
class Domain:
    """One visual domain, ready to train on.

    class_names: one name per class, all different; whole numbers become text. train, val, test: images of one size,
    each a `madlab.benchmarks.split.Split` of uint8 (N, H, W, 3) and labels int64 (N,).
    flip: whether a mirrored image is still of its class (photographs: yes; signs and letters: no).
    normalization: {"mean": [r, g, b], "std": [r, g, b]} for pixels scaled to 0..1; measured on `train` when not given.
    description: one sentence on what the splits are, where that needs saying. grey: the scale by which grey images of
    more than 8 bits became bytes, where there were any; new pictures are scaled alike. squash: whether whole pictures
    were pressed into the square, instead of the centre being cut out; new ones are prepared so, too.
    Raises MadlabError for whatever could not be trained on.
    """

    name: str
    class_names: list[str]
    train: Split
    val: Split
    test: Split
    flip: bool = True
    normalization: dict[str, list[float]] = field(default_factory=dict)
    description: str = ""
    grey: GreyScale | None = None
    squash: bool = False

    def __post_init__(self) -> None:
        if not _is_text(self.name):
            raise MadlabError(f"A domain cannot have the name {self.name!r}: give it a text of at least one letter.")
        if not isinstance(self.flip, bool | np.bool_):
            raise MadlabError(f"Domain {self.name!r} has flip={self.flip!r}: give True or False.")
        if not isinstance(self.description, str):
            raise MadlabError(f"Domain {self.name!r} has description={self.description!r}: give a text.")
        object.__setattr__(self, "class_names", _checked_names(self.class_names, f"domain {self.name!r}"))
        for split in SPLITS:
            _check_split(getattr(self, split), split, self)
        _check_sizes(self)
        if len(self.train) < 2:
            raise MadlabError(f"Domain {self.name!r} has one image in train: BatchNorm needs at least two to learn.")
        if self.normalization:
            object.__setattr__(self, "normalization", _checked_normalization(self.normalization, self.name))
        else:
            object.__setattr__(self, "normalization", measure_normalization(self.train.images))
            self._warn_of_doubts()

    def _warn_of_doubts(self) -> None:
        if _sample(self.train.images).max() <= 1:
            remark(
                f"No training image of domain {self.name!r} has a pixel above 1 of 255: were floats from 0 to 1 turned "
                "into bytes without multiplying them by 255?"
            )
        count = torch.bincount(self.train.labels, minlength=self.num_classes).tolist()
        if absent := [name for name, images in zip(self.class_names, count, strict=True) if not images]:
            remark(f"Domain {self.name!r} has no training image of {some(absent)}: no network can learn that.")

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
        check_size(size)
        if self.size <= size:
            return self
        return replace(self, **{split: getattr(self, split).shrunk(size) for split in SPLITS})

    @staticmethod
    def from_folder(
        path: Path | str,
        size: int = 36,
        flip: bool = True,
        name: str | None = None,
        grey: GreyScale | None = None,
        squash: bool = False,
    ) -> "Domain":
        """Read train/ val/ test/, one folder per class (torchvision's ImageFolder); see `madlab.benchmarks.folder`.

        path: may also be a folder of class folders that `madlab.divide` has split, or a table (CSV) of images.

        size: images are scaled to this short side, then cut square around their centre, in pixels.
        flip: whether a mirrored image is still of its class. name: the folder's name when not given. grey, squash: see
        `read_folder`.
        """
        content = read_folder(path, size, grey, squash)
        train, val, test = (content.splits[split] for split in SPLITS)
        facts: dict[str, Any] = {"flip": flip, "grey": content.grey, "squash": squash}
        return Domain(name or folder_name(path), content.class_names, train, val, test, **facts)


def with_validation(domain: Domain) -> Domain:
    """A domain whose training images are those of training and validation together."""
    train, val = domain.train, domain.val
    together = Split(torch.cat([train.images, val.images]), torch.cat([train.labels, val.labels]))
    return replace(domain, train=together)


def match_classes(domain: Domain, class_names: Sequence[str], where: str) -> Domain:
    """The domain with its classes in the order of `class_names`, its labels numbered accordingly.

    where: what has these class names, for the message ("the run runs/x"). The domain itself comes back when its order
    is the same already. Raises MadlabError, with the difference, when the names are not the same.
    """
    wanted = _checked_names(class_names, where)
    if wanted == domain.class_names:
        return domain
    lacking, added = set(wanted) - set(domain.class_names), set(domain.class_names) - set(wanted)
    if lacking or added:
        told = [f"{verb} {some(names)}" for verb, names in (("lacks", lacking), ("adds", added)) if names]
        raise MadlabError(
            f"The classes of domain {domain.name!r} are not those of {where}: it {' and '.join(told)}, "
            "so give data with the same class names."
        )
    number = torch.tensor([wanted.index(name) for name in domain.class_names])
    splits: dict[str, Any] = {split: _renumbered(getattr(domain, split), number) for split in SPLITS}
    return replace(domain, class_names=wanted, **splits)


def measure_normalization(images: Tensor) -> dict[str, list[float]]:
    """Mean and standard deviation of each channel, for pixels scaled to 0..1, over 2,000 images spread evenly.

    images: uint8 (N, H, W, 3). A channel that never changes gets a deviation of 1/255, so that division stays safe.
    """
    values = _sample(images).float().div(255)
    std = values.std((0, 1, 2)).clamp(min=1 / 255)
    return {"mean": values.mean((0, 1, 2)).tolist(), "std": std.tolist()}


def _sample(images: Tensor, most: int = 2000) -> Tensor:
    return images[:: max(1, len(images) // most)]


def _renumbered(split: Split, number: Tensor) -> Split:
    return Split(split.images, number.to(split.labels.device)[split.labels])


def _checked_names(names: Any, owner: str) -> list[str]:
    """A list of texts, all different, at least two; whole numbers become text. owner: a phrase for messages."""
    if isinstance(names, str | bytes | Mapping | set | frozenset) or not isinstance(names, Iterable):
        raise MadlabError(f"The class names of {owner} must be a list of texts, in the order of the labels.")
    texts = []
    for name in names:
        number = isinstance(name, int | np.integer) and not isinstance(name, bool)
        if not number and not _is_text(name):
            raise MadlabError(f"{name!r} cannot be the name of a class of {owner}: give each class a text.")
        texts.append(str(name))  # NumPy's texts become Python's
    if repeated := [name for name, count in Counter(texts).items() if count > 1]:
        raise MadlabError(f"The class names of {owner} are not all different ({some(repeated)}): rename some.")
    if len(texts) < 2:
        raise MadlabError(
            f"A classifier needs at least two classes, and {owner} names {len(texts)}: give the others too."
        )
    return texts


def _is_text(name: Any) -> bool:
    """Whether it is a text with something in it that a file can hold, as it cannot hold half of a surrogate pair."""
    return isinstance(name, str) and bool(name.strip()) and not any("\ud800" <= letter <= "\udfff" for letter in name)


def _check_split(part: Any, split: str, domain: Domain) -> None:
    if not isinstance(part, Split):
        raise MadlabError(f"Domain {domain.name!r} needs {split}=Split(images, labels), not a {type(part).__name__}.")
    if len(part) == 0:
        raise MadlabError(f"Domain {domain.name!r} has no images in {split}: put some there.")
    low, high = int(part.labels.min()), int(part.labels.max())
    if low < 0 or high >= domain.num_classes:
        raise MadlabError(
            f"Domain {domain.name!r} has labels from {low} to {high} in {split} that no class name belongs to: "
            f"its {domain.num_classes} classes are numbered from 0 to {domain.num_classes - 1}."
        )


def _check_sizes(domain: Domain) -> None:
    sizes = {split: tuple(getattr(domain, split).images.shape[1:3]) for split in SPLITS}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{height} x {width} in {split}" for split, (height, width) in sizes.items())
        raise MadlabError(f"Domain {domain.name!r} has images of different sizes ({told} pixels): scale them to one.")


def _checked_normalization(given: Any, name: str) -> dict[str, list[float]]:
    remedy = 'give {"mean": [r, g, b], "std": [r, g, b]}, for pixels scaled to 0..1'
    return validated(Normalization, given, f"The normalization of domain {name!r}", remedy).model_dump()
