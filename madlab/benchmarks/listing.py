"""Which files of an image folder are whose images, and what lies between them: found and checked, not yet read."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from madlab.benchmarks.images import is_image
from madlab.benchmarks.split import SPLITS
from madlab.benchmarks.text import some
from madlab.benchmarks.walk import files_below, hidden, identity
from madlab.errors import MadlabError, MadlabWarning


@dataclass
class Listing:
    """files: split -> class -> its image files, in ImageFolder's order; what is left out; folders inside of classes."""

    files: dict[str, dict[str, list[Path]]] = field(default_factory=dict)
    left_out: list[Path] = field(default_factory=list)
    nested: list[Path] = field(default_factory=list)


def list_images(folder: Path) -> Listing:
    """The images of FOLDER/train, FOLDER/val and FOLDER/test, one folder per class; a warning says what is left out.

    Raises MadlabError for a missing or empty folder and for classes that are not the same in all three splits.
    """
    _check_layout(folder)
    try:
        listing = _list(folder)
    except OSError as error:
        raise MadlabError(f"{error.filename} cannot be opened ({error.strerror}): check its permissions.") from error
    _check_classes(folder, listing.files)
    _tell(listing, folder)
    return listing


def _check_layout(folder: Path) -> None:
    if not folder.is_dir():
        raise MadlabError(f"There is no folder {folder}: give one that holds train/, val/ and test/.")
    missing = [split for split in SPLITS if not (folder / split).is_dir()]
    if missing:
        raise MadlabError(
            f"{folder} has no folder {' and no folder '.join(missing)}: lay it out as train/CLASS/IMAGE, "
            "val/CLASS/IMAGE and test/CLASS/IMAGE, with the same class folders in all three."
        )


def _list(folder: Path) -> Listing:
    """Raises OSError for a folder that cannot be opened, MadlabError for one without classes or images."""
    listing = Listing()
    for split in SPLITS:
        place = folder / split
        above = {identity(parent) for parent in (place, *place.resolve().parents)}
        classes: dict[str, list[Path]] = {}
        loose: list[Path] = []
        for entry in sorted(place.iterdir(), key=lambda entry: entry.name):
            if hidden(entry.name):
                continue
            if entry.is_dir() and identity(entry) not in above:
                classes[entry.name] = _list_class(entry, listing)
            else:
                (loose if is_image(entry) and not entry.is_dir() else listing.left_out).append(entry)
        if loose:
            raise MadlabError(
                f"{place} has images outside of a class folder ({some(file.name for file in loose)}): put each into "
                "the folder of its class."
            )
        if not classes:
            raise MadlabError(f"{place} has no class folders: make one for each class and put its images there.")
        listing.files[split] = classes
    return listing


def _list_class(folder: Path, listing: Listing) -> list[Path]:
    files, not_followed = files_below(folder)
    images = [file for file in files if is_image(file)]
    if not images:
        raise MadlabError(
            f"The class folder {folder} has no images that Pillow can open ({_content(files)}): fill it, or remove the "
            "class from all three splits."
        )
    taken = set(images)
    listing.left_out += [file for file in files if file not in taken] + not_followed
    listing.nested += dict.fromkeys(file.parent for file in images if file.parent != folder)
    return images


def _content(files: list[Path]) -> str:
    return f"only {some(file.name for file in files)}" if files else "it is empty"


def _check_classes(folder: Path, files: dict[str, dict[str, list[Path]]]) -> None:
    train = set(files["train"])
    if len(train) < 2:
        raise MadlabError(f"{folder / 'train'} has one class only ({some(train)}): a classifier needs at least two.")
    for split in SPLITS[1:]:
        other = set(files[split])
        if lacking := train - other:
            raise MadlabError(
                f"{folder / split} lacks class folders that train has ({some(lacking)}): all splits need the same."
            )
        if unknown := other - train:
            raise MadlabError(
                f"{folder / split} has class folders that train lacks ({some(unknown)}): all splits need the same."
            )


def _tell(listing: Listing, folder: Path) -> None:
    """One warning for what was left out, one for folders that look like classes and are none."""
    if listing.left_out:
        count = len(listing.left_out)
        what = "1 entry is" if count == 1 else f"{count} entries are"
        _warn(
            f"{folder}: {what} left out, being no image or a link to a folder that is read anyway",
            _below(folder, listing.left_out),
        )
    if listing.nested:
        _warn(
            f"{folder}: folders inside of class folders are no classes of their own, their images belong to the class "
            "folder they lie in",
            _below(folder, listing.nested),
        )


def _below(folder: Path, places: Iterable[Path]) -> list[str]:
    return [place.relative_to(folder).as_posix() for place in places]


def _warn(sentence: str, places: list[str]) -> None:
    warnings.warn(f"{sentence} ({some(places)}).", MadlabWarning, stacklevel=6)
