"""The files below a folder, each folder entered once, however links lead around."""

import os
from collections.abc import Iterable
from pathlib import Path

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
