"""Which files of an image folder are whose images, and what lies between them: found and checked, not yet read."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from madlab.benchmarks.split import SPLITS
from madlab.benchmarks.walk import check_layout, files_below, hidden, identity, unreadable
from madlab.errors import MadlabError, remark, some
from madlab.files.pictures import is_image

NO_IMAGE = "in no format that Pillow can read"
NO_WAY = "a link that leads nowhere, or to a folder that is read anyway"
BESIDE = "outside of train, val and test"


@dataclass
class Listing:
    """files: split -> class -> its image files, in ImageFolder's order; nested: folders inside of classes.

    left_out: reason -> what is not read for it.
    """

    files: dict[str, dict[str, list[Path]]] = field(default_factory=dict)
    left_out: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))
    nested: list[Path] = field(default_factory=list)


def list_images(folder: Path) -> Listing:
    """The images of FOLDER/train, FOLDER/val and FOLDER/test, one folder a class; warnings tell what is left out.

    A class has the name of its folder, its accents composed (NFC): macOS may take them apart on the way.
    Raises MadlabError for a missing or empty folder and for classes that are not the same in all three splits.
    """
    listing = Listing()
    try:
        check_layout(folder)
        for split in SPLITS:
            listing.files[split] = _list_split(folder / split, listing)
        beside = [entry for entry in folder.iterdir() if entry.name not in SPLITS and not hidden(entry.name)]
        listing.left_out[BESIDE] += [entry for entry in beside if entry.is_dir() or is_image(entry)]
    except OSError as error:
        raise unreadable(error) from error
    check_classes(folder, listing.files)
    _tell(listing, folder)
    return listing


def has_splits(folder: Path) -> bool:
    """Whether its folders are train, val and test; a single one may be a class: a train beside a bus."""
    return all(os.path.isdir(folder / split) for split in SPLITS)


def list_classes(folder: Path) -> dict[str, list[Path]]:
    """Class -> its image files, of a folder that is not split: one folder a class; warnings tell what is left out."""
    listing = Listing()
    try:
        listing.files["train"] = _list_split(folder, listing)
    except OSError as error:
        raise unreadable(error) from error
    _tell(listing, folder)
    return listing.files["train"]


def _list_split(place: Path, listing: Listing) -> dict[str, list[Path]]:
    """Raises OSError for a folder that cannot be opened, MadlabError for one without classes or images."""
    folders, others = _class_folders(place)
    if loose := [entry for entry in others if is_image(entry)]:
        raise MadlabError(
            f"{place} has images outside of a class folder ({some(file.name for file in loose)}): put each into "
            "the folder of its class."
        )
    if not folders:
        raise MadlabError(f"{place} has no class folders: make one for each class and put its images there.")
    for entry in others:
        listing.left_out[NO_WAY if entry.is_dir() or not entry.exists() else NO_IMAGE].append(entry)
    elsewhere = {identity(entry) for entry in folders.values()}
    return {name: _list_class(entry, elsewhere, listing) for name, entry in folders.items()}


def _class_folders(place: Path) -> tuple[dict[str, Path], list[Path]]:
    """Class -> its folder, and whatever else lies there; MadlabError for two names of one class or folder."""
    above = {identity(parent) for parent in (place, *place.resolve().parents)}
    folders: dict[str, Path] = {}
    seen: dict[tuple[int, int], str] = {}
    others = []
    for entry in sorted(place.iterdir(), key=lambda entry: (composed(entry.name), entry.name)):
        if hidden(entry.name):
            continue
        if not entry.is_dir() or identity(entry) in above:
            others.append(entry)
            continue
        name = composed(entry.name)
        if name in folders:
            raise MadlabError(
                f"{place} has two class folders {name!r}, once with accents composed and once not: make them one."
            )
        if (twin := seen.setdefault(identity(entry), name)) != name:
            raise MadlabError(f"{entry} is the folder of the class {twin!r} too: give each class images of its own.")
        folders[name] = entry
    return folders, others


def composed(name: str) -> str:
    """A name with its accents composed, however a system writes them."""
    return unicodedata.normalize("NFC", name)


def _list_class(folder: Path, elsewhere: Iterable[tuple[int, int]], listing: Listing) -> list[Path]:
    files, not_followed = files_below(folder, elsewhere)
    images = [file for file in files if is_image(file)]
    if not images:
        raise MadlabError(
            f"The class folder {folder} has no images that Pillow can open ({_content(files)}): fill it, or remove "
            "the class."
        )
    for file in set(files).difference(images):
        listing.left_out[NO_IMAGE if file.exists() else NO_WAY].append(file)
    listing.left_out[NO_WAY] += not_followed
    listing.nested += dict.fromkeys(file.parent for file in images if file.parent != folder)
    return images


def _content(files: list[Path]) -> str:
    return f"only {some(file.name for file in files)}" if files else "it is empty"


def check_classes(place: Path, files: dict[str, dict[str, list[Path]]], table: bool = False) -> None:
    """Raise MadlabError unless all splits of a folder, or of a table, have the same classes, at least two."""
    train, what = set(files["train"]), "classes" if table else "class folders"
    where = {split: f"{place}, split {split}," if table else str(place / split) for split in SPLITS}
    if len(train) < 2:
        have = f"one class only ({some(train)})" if train else "no class"
        raise MadlabError(f"{where['train']} has {have}: a classifier needs at least two.")
    for split in SPLITS[1:]:
        lacking, unknown = train - set(files[split]), set(files[split]) - train
        told = [f"lacks {what} that train has ({some(lacking)})"] if lacking else []
        told += [f"has {what} that train lacks ({some(unknown)})"] if unknown else []
        if told:
            raise MadlabError(f"{where[split]} {' and '.join(told)}: all splits need the same.")


def _tell(listing: Listing, folder: Path) -> None:
    """One warning for each reason why something was left out, and for folders that look like classes and are none."""
    for reason, places in listing.left_out.items():
        if places:
            remark(left_out(folder, places, reason))
    if listing.nested:
        _warn(
            f"{folder}: folders inside of class folders are no classes of their own, their images belong to the class "
            "folder they lie in",
            _below(folder, listing.nested),
        )
    tell_alike(folder, listing.files["train"])


def tell_alike(place: Path, classes: Iterable[str]) -> None:
    """Warn of classes whose names are the same but for case and spaces."""
    alike = defaultdict(list)
    for name in classes:
        alike[name.casefold().strip()].append(name)
    if pairs := [" and ".join(map(repr, names)) for names in alike.values() if len(names) > 1]:
        _warn(f"{place}: classes that differ only in case or spaces are different classes", pairs)


def left_out(folder: Path, places: list[Path], reason: str) -> str:
    """The sentence on what is not read of a folder; reason: `NO_IMAGE`, `NO_WAY` or another that goes on "being"."""
    what = "1 entry is" if len(places) == 1 else f"{len(places)} entries are"
    return f"{folder}: {what} left out, being {reason} ({some(_below(folder, places))})."


def _below(folder: Path, places: Iterable[Path]) -> list[str]:
    return [place.relative_to(folder).as_posix() for place in places]


def _warn(sentence: str, places: list[str]) -> None:
    remark(f"{sentence} ({some(places)}).")
