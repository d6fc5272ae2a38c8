"""The files below a folder, each folder entered once, however links lead around, and which of them are splits."""

import os
from collections.abc import Iterable
from pathlib import Path

from madlab.benchmarks.split import SPLITS
from madlab.errors import MadlabError, some

SYSTEM = {"__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information", "Thumbs.db", "desktop.ini"}
"""What macOS, Synology, Linux and Windows put beside people's files; some of it holds small copies of their images."""


SPLIT_FILE = "madlab-split.json"
"""Which image is in which part, where madlab has split a folder of class folders: see `dividing`."""


def hidden(name: str) -> bool:
    """Whether a file or folder is none of the person's: a name with a leading dot, one of `SYSTEM`, or madlab's own."""
    return name.startswith(".") or name in SYSTEM or name == SPLIT_FILE


def identity(folder: Path | str) -> tuple[int, int]:
    """The same for every path of one folder."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def files_below(folder: Path, elsewhere: Iterable[tuple[int, int]] = ()) -> tuple[list[Path], list[Path]]:
    """All files that are not hidden, folder by folder in sorted order, and the links that were not followed.

    Links to folders are followed, unless they lead back to a folder that was entered already or that holds this one:
    its files would come twice. elsewhere: the `identity` of folders that are read from another place, and not from
    here. Raises OSError for a folder that cannot be opened.
    """

    def fail(error: OSError) -> None:
        raise error

    files, back = [], []
    entered = {identity(place) for place in (folder, *folder.resolve().parents)} | set(elsewhere)
    for root, subfolders, names in os.walk(folder, followlinks=True, onerror=fail):
        seen = sorted(name for name in subfolders if not hidden(name))
        subfolders.clear()
        for name in seen:
            place = Path(root, name)
            if (number := identity(place)) in entered:
                back.append(place)
            else:
                entered.add(number)
                subfolders.append(name)
        files += [Path(root, name) for name in sorted(names) if not hidden(name)]
    return files, back


def folders_with(place: Path, name: str) -> list[Path]:
    """The folders that hold a file of this name: the place itself and those below it, through links as well.

    Each folder is entered once; those that cannot be opened are passed over.
    """
    found, entered = [], {identity(parent) for parent in place.resolve().parents}
    for root, subfolders, names in os.walk(place, followlinks=True):
        if (number := identity(root)) in entered:
            subfolders.clear()
            continue
        entered.add(number)
        subfolders.sort()
        if name in names:
            found.append(Path(root))
    return sorted(found)


def unreadable(error: OSError) -> MadlabError:
    return MadlabError(f"{error.filename} cannot be opened ({error.strerror}): give what this user can read.")


OTHER_NAMES = {
    "train": {"train", "training", "trainset", "train_set"},
    "val": {"val", "valid", "validation", "dev", "eval"},
    "test": {"test", "testing", "tests", "testset", "test_set"},
}


def named_splits(folder: Path) -> dict[str, str]:
    """split -> the name of a folder's subfolder for it: its own or, if that holds folders, another of OTHER_NAMES."""
    found: dict[str, str] = {}
    try:
        for entry in sorted(folder.iterdir()):
            for split in SPLITS:
                if entry.name == split and entry.is_dir():
                    found[split] = split
                elif entry.name.lower() in OTHER_NAMES[split] and entry.is_dir() and holds_folders(entry):
                    found.setdefault(split, entry.name)
    except OSError as error:
        raise unreadable(error) from error
    return {split: found[split] for split in SPLITS if split in found}


def holds_folders(place: Path) -> bool:
    """Whether there is a folder in a folder."""
    return any(entry.is_dir() and not hidden(entry.name) for entry in place.iterdir())


LAYOUT = (
    "lay it out as train/CLASS/IMAGE, val/CLASS/IMAGE and test/CLASS/IMAGE, with the same class folders in all three, "
    "or have a folder of class folders split (madlab train --split 70/15/15)"
)


def check_layout(folder: Path) -> None:
    """Raise MadlabError, which names what was found and what to do, unless train/ val/ test/ are there; or OSError."""
    if not folder.is_dir():
        if folder.exists():
            raise MadlabError(f"{folder} is a file, not a folder: give one that holds train/, val/ and test/.")
        raise MadlabError(f"There is no folder {folder}: give one that holds train/, val/ and test/.")
    found = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    if missing := [split for split in SPLITS if split not in found]:
        raise MadlabError(f"{folder} has no folder {' and no folder '.join(missing)}{_hint(folder, found, missing)}.")


def _hint(folder: Path, found: list[str], missing: list[str]) -> str:
    """The rest of the sentence: the most probable reason, and what helps."""
    renamed = {name: split for split in missing for name in found if name.lower() in OTHER_NAMES[split]}
    if renamed:
        told = " and ".join(f"{name} to {split}" for name, split in renamed.items())
        return f", but {some(renamed)}: rename {told}"
    whole = [name for name in found if all((folder / name / split).is_dir() for split in SPLITS)]
    if len(whole) == 1:
        return f", but {whole[0]} has: give {folder / whole[0]}"
    parent = folder.resolve().parent
    if all((parent / split).is_dir() for split in SPLITS):
        return f", but the folder around it has: give {parent}"
    return f"{f', only {some(found)}' if found else ''}: {LAYOUT}"
