"""Domains as data: pocket (generated, offline), folder (yours), and the real benchmarks."""

import os
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from madlab.benchmarks.dividing import divide, division_digest
from madlab.benchmarks.domain import Domain
from madlab.benchmarks.fetch import cache_folder
from madlab.benchmarks.folder import folder_name
from madlab.errors import MadlabError, remark
from madlab.files.pictures import GreyScale, is_image

PREPARED = {"decathlon": "decathlon", "sketch": "sketch", "open": "open_data"}
"""What stands before the colon in the name of a prepared domain, and the module that loads it."""


def load_domain(
    name: Path | str,
    size: int = 36,
    flip: bool | None = None,
    grey: GreyScale | None = None,
    squash: bool = False,
) -> Domain:
    """The domain of a name or folder.

    name: a pocket domain, the path of a folder with train/ val/ test/, of one that `divide` has split or of a table
    (CSV) of images, or a domain that `madlab prepare` made, as
    decathlon:NAME, sketch:NAME or open:NAME; those lie in $MADLAB_DATA, else in the user's cache folder. A text that is
    such a name is never taken for a folder: write ./NAME, or give a Path, which always is one.
    size: short side in pixels of a folder's images; all others that are larger are scaled down to it.
    flip: whether images may be mirrored in training; None leaves it to the domain (a folder: yes).
    grey: the scale of a folder's grey images of more than 8 bits; None: that which holds them all.
    squash: press a folder's whole pictures into the square, as some prepared domains have it.
    Raises MadlabError when there is neither a domain nor a folder of that name.
    """
    source = source_of(name)
    if not is_name(source):
        if os.path.exists(source):  # unlike Path.exists, no error for a name that is too long
            return Domain.from_folder(source, size=size, flip=flip is not False, grey=grey, squash=squash)
        known = ", ".join(_pocket_names())
        raise MadlabError(f"There is no domain or folder {source!r}: give a folder's path, or one of {known}.")
    if _holds_images(source):
        remark(
            f"{source!r} is taken for the domain of that name that comes with madlab: write ./{source} for the folder."
        )
    benchmark, colon, prepared = source.partition(":")
    room = import_module(f"madlab.benchmarks.{PREPARED[benchmark] if colon else 'pocket'}")
    domain: Domain = room.load(prepared if colon else source, cache_folder()).shrunk(size)
    return domain if flip is None else replace(domain, flip=flip)


def source_of(name: Path | str) -> str:
    """How a domain's name or folder is written down, so that `load_domain` finds the same again.

    A folder gets "./" in front where it would read as the name of a domain. Raises MadlabError for what is neither.
    """
    if not isinstance(name, str | os.PathLike):
        raise MadlabError(f"A domain is given as a Domain, its name or its folder, not as {name!r:.60}.")
    if isinstance(name, str) and (is_name(name) or not name):
        return name
    path = str(Path(name))
    return f"./{path}" if is_name(path) else path


def flips(source: str) -> bool:
    """Whether the training images of a source are mirrored unless that is forbidden; none is loaded."""
    if not is_name(source):
        return True
    benchmark, colon, prepared = source.partition(":")
    room = import_module(f"madlab.benchmarks.{PREPARED[benchmark] if colon else 'pocket'}")
    answer: bool = room.flips(prepared if colon else source)
    return answer


def split_source(source: str, shares: str) -> None:
    """`divide` the images of a domain as `source_of` writes it; MadlabError for a domain that comes with its splits."""
    if is_name(source):
        folder = f", or write ./{source} for the folder" if _holds_images(source) else ""
        raise MadlabError(f"The domain {source!r} comes with its splits: leave the split out{folder}.")
    divide(source, shares)


def split_digest(source: str) -> str | None:
    """The sha256 of the file that says how the images of a source are split, where madlab has split them."""
    return None if is_name(source) else division_digest(source)


def is_folder(source: str) -> bool:
    """Whether `load_domain` takes the text for a folder, and there is one."""
    return not is_name(source) and os.path.isdir(source)


def short_name(source: str) -> str:
    """What the domain is called, known without loading it: a folder's own name, or what follows the benchmark's."""
    return source.rpartition(":")[2] if is_name(source) else folder_name(source)


def is_name(text: str) -> bool:
    """Whether `load_domain` takes the text for the name of a domain, and not for a folder."""
    return text in _pocket_names() or (text.partition(":")[0] in PREPARED and ":" in text)


def _holds_images(name: str) -> bool:
    """Whether there is a folder of a domain's name with a person's images, split or not; run folders hold none."""
    found = (file for file in Path(name).glob("*/*") if is_image(file) and not file.with_name("config.json").exists())
    return (Path(name) / "train").is_dir() or any(found)


def _pocket_names() -> list[str]:
    from madlab.benchmarks import pocket  # not before it is needed: it imports every drawing

    return list(dict.fromkeys(pocket.DOMAINS + pocket.SKETCH_DOMAINS))
