"""Your own images: train/ val/ test/ with one folder per class, as torchvision's ImageFolder reads it, or a table.

Every image becomes one square of RGB bytes, whatever it was stored as. What is left out, and what had to be
interpreted, is told in a `MadlabWarning`; what cannot be used is named in a MadlabError.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from madlab.benchmarks.dividing import BAR_FROM, divided_files, division_file
from madlab.benchmarks.listing import check_classes, has_splits, list_images
from madlab.benchmarks.split import SPLITS, Split, check_size
from madlab.benchmarks.table import by_class, is_table, read_table
from madlab.benchmarks.walk import SPLIT_FILE
from madlab.errors import MadlabError, reason, remark, some
from madlab.files.pictures import GreyScale, Square, read_square, scale_of
from madlab.progress import track


@dataclass(frozen=True)
class FolderContent:
    """class_names in the order of their labels; splits: "train", "val" and "test"; grey: the scale of deep greys."""

    class_names: list[str]
    splits: dict[str, Split]
    grey: GreyScale | None


@dataclass
class _Reading:
    """A split while it is read: images uint8 (N, S, S, 3) of `files`, and what is known about some of them, by place.

    deep: greys that wait for a scale; halved: colours of 16 bits; broken: why an image could not be read.
    """

    files: list[Path]
    images: np.ndarray
    deep: dict[int, Square] = field(default_factory=dict)
    halved: list[Path] = field(default_factory=list)
    broken: dict[Path, MadlabError] = field(default_factory=dict)


def read_folder(path: Path | str, size: int = 36, grey: GreyScale | None = None, squash: bool = False) -> FolderContent:
    """Read PATH/train, PATH/val and PATH/test, each with one folder per class; or what `divide` has split; or a table.

    Classes are numbered in the sorted order of their names, as ImageFolder does, and images in deeper folders belong to
    the class they lie in. Hidden files and folders are ignored; whatever Pillow decodes is read, whatever its name.
    Grey of more than 8 bits is scaled alike in the whole folder (`madlab.files.pictures`).
    size: pixels of the square images: short side scaled to it, then cut around the centre. grey: the scale of those
    greys; without one, that which holds them all. squash: whole pictures are pressed into the square instead.
    Raises MadlabError, naming the file or folder, for a missing or empty folder, classes that are not the same in all
    three splits, and images that cannot be read.
    """
    if not isinstance(path, str | os.PathLike):
        raise MadlabError(f"{path!r} is not a folder: give a text or a Path.")
    folder = Path(path)
    check_size(size)
    listed = files_of(folder)
    class_names = list(listed["train"])
    labels, readings = {}, {}
    for split, files in listed.items():
        counts = torch.tensor([len(files[name]) for name in class_names])
        labels[split] = torch.arange(len(class_names)).repeat_interleave(counts)
        in_order = [file for name in class_names for file in files[name]]
        readings[split] = _read_split(in_order, size, squash, f"{folder.resolve().name} {split}")
    _check_all_read(folder, readings.values())
    grey = _scale_deep(folder, list(readings.values()), grey)
    _tell_copies(folder, readings)
    splits = {split: Split(torch.from_numpy(readings[split].images), labels[split]) for split in SPLITS}
    return FolderContent(class_names, splits, grey)


def folder_name(place: Path | str) -> str:
    """What the domain of a folder or of a table is called."""
    path = Path(os.path.realpath(place))  # Path.resolve raises for a link to itself
    return path.stem if is_table(place) else path.name


def files_of(place: Path) -> dict[str, dict[str, list[Path]]]:
    """split -> class -> image files, of a folder with train/ val/ test/, of a table, or of what `divide` has split."""
    if is_table(place):
        rows = read_table(place)
        if any(row.split for row in rows):
            files = {split: by_class([row for row in rows if row.split == split]) for split in SPLITS}
            check_classes(place, files, table=True)
            return files
        if not os.path.exists(division_file(place)):
            raise MadlabError(
                f"{place} does not say which image is in train, val or test: have it split (--split 70/15/15), or add "
                "a column split."
            )
    if is_table(place) or (os.path.isfile(place / SPLIT_FILE) and not has_splits(place)):
        return divided_files(place)
    return list_images(place).files


def _read_split(files: list[Path], size: int, squash: bool, title: str) -> _Reading:
    """Decoded by a few threads, because Pillow works outside Python's lock."""

    def read(file: Path) -> Square | MadlabError:
        try:
            return read_square(file, size, squash)
        except MadlabError as error:
            return error

    try:
        reading = _Reading(files, np.zeros((len(files), size, size, 3), np.uint8))
    except (MemoryError, ValueError) as error:
        needed = len(files) * size**2 * 3 / 1e9
        raise MadlabError(
            f"{len(files)} images of {size} pixels need {needed:.1f} GB of memory: take a smaller size."
        ) from error
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        squares: Iterable[Square | MadlabError] = threads.map(read, files)
        if len(files) > BAR_FROM:
            squares = track(squares, title, len(files), "images")
        for place, square in enumerate(squares):
            if isinstance(square, MadlabError):
                reading.broken[files[place]] = square
            elif square.deep:
                reading.deep[place] = square
            else:
                reading.images[place] = square.pixels
                reading.halved += [files[place]] * square.halved
    return reading


def _check_all_read(folder: Path, readings: Iterable[_Reading]) -> None:
    broken = {file: error for reading in readings for file, error in reading.broken.items()}
    if len(broken) == 1:
        raise next(iter(broken.values()))
    if broken:
        names = some(_below(folder, file) for file in broken)
        first = reason(broken[min(broken)].__cause__ or broken[min(broken)])
        raise MadlabError(
            f"{len(broken)} images in {folder} cannot be read ({names}; the first because: {first}): repair "
            "them or take them out."
        )


def _scale_deep(folder: Path, readings: Sequence[_Reading], scale: GreyScale | None) -> GreyScale | None:
    """Give all deep greys of the folder one scale, so that their brightness can be compared; returns it."""
    if halved := [file for reading in readings for file in reading.halved]:
        remark(
            f"{folder} has colour images of 16 bits ({len(halved)}), of which only the upper 8 are read: where fewer "
            f"are in use they come out dark, so convert those to 8 bits first ({some(file.name for file in halved)})."
        )
    found = [square.deep for reading in readings for square in reading.deep.values() if square.deep]
    if not found:
        return None
    scale = scale or scale_of(found)
    remark(f"{folder} has grey images of more than 8 bits ({len(found)}): in all of them {scale}.")
    for reading in readings:
        for place, square in reading.deep.items():
            reading.images[place] = scale.bytes_of(square.pixels)
    return scale


def _tell_copies(folder: Path, readings: Mapping[str, _Reading]) -> None:
    """Warn of images that an earlier split has too, whatever their files are called: they measure memory."""
    seen: set[bytes] = set()
    for split, reading in readings.items():
        prints = [hashlib.sha256(image).digest() for image in reading.images]
        if copies := [file for file, known in zip(reading.files, prints, strict=True) if known in seen]:
            names = some(_below(folder, file) for file in copies)
            remark(
                f"{folder}: {len(copies)} of the {len(prints)} images in {split} look exactly like one in an earlier "
                f"split ({names}): keep each in one split only, for a network may know them by heart."
            )
        seen.update(prints)


def _below(place: Path, file: Path) -> str:
    """How a message calls a file: by its path below a folder, or as a table has it."""
    return file.relative_to(place).as_posix() if file.is_relative_to(place) else str(file)
