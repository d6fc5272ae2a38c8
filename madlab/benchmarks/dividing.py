"""Images that nobody has split yet, split into train, val and test: by class, at random, and once for all.

What is in which part is written down beside the images and used from then on, by every run. Images of a class that look
alike (`lookalikes`) stay together. A class keeps its share in every part as far as that goes, and at least one image.
"""

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from madlab.benchmarks.listing import has_splits, list_classes
from madlab.benchmarks.split import SPLITS
from madlab.benchmarks.table import by_class, is_table, read_table
from madlab.benchmarks.walk import SPLIT_FILE, holds_folders, named_splits
from madlab.errors import MadlabError, printable, reason, remark, some
from madlab.files.jsonfiles import read_json, write_json
from madlab.files.pictures import read_image
from madlab.files.plain import check_writable
from madlab.files.schemas import STRICT, validated
from madlab.progress import track

MOST = 2**30
"""Bytes that a split file has at most: a line per image, of ten million images or so."""
BAR_FROM = 2000
"""More images than this have a progress bar."""


class Division(BaseModel):
    """files: split -> class -> paths of its images.

    unreadable: paths of images that were left out. Paths are relative to the folder that the split file lies in, so
    that both can be moved together, but for those of a table that lead elsewhere and are absolute.
    """

    model_config = STRICT
    shares: str
    seed: int
    files: dict[str, dict[str, list[str]]]
    unreadable: list[str] = []


def division_file(place: Path | str) -> Path:
    """Where the split of a folder of class folders, or of a table, is written down."""
    place = Path(place)
    return place.with_name(f"{place.name}.split.json") if is_table(place) else place / SPLIT_FILE


def divide(place: Path | str, shares: str = "70/15/15", seed: int = 0) -> Path:
    """Split a folder of class folders, or a table of images, and write that down; returns the file that says it.

    shares: of train, val and test. What was split before with the same shares and seed stays as it is. Images that
    cannot be read are left out, and named in a warning. Raises MadlabError for images that are split already, for other
    shares than before, and for a class with fewer than three images that do not look alike.
    """
    place, file = Path(place), division_file(place)
    wanted = _parsed(shares)
    _check_place(place)
    if is_table(place):
        _check_undivided(place)
    if os.path.exists(file):  # unlike Path.exists, no error for a name that is too long
        before = read_division(file)
        if (_parsed(before.shares), before.seed) != (wanted, seed):
            raise MadlabError(
                f"{place} is split {before.shares} already, with seed {before.seed}: ask for that, or remove {file} to "
                "have it split anew."
            )
        return file
    _check_undivided(place)
    classes = by_class(read_table(place)) if is_table(place) else list_classes(place)
    images = [path for paths in classes.values() for path in paths]
    _check_to_divide(place, classes, images)
    _check_keepable(place, file)
    hashes = _hashes(place, images)
    _tell_several_labels(place, classes, hashes)
    rng = np.random.default_rng(seed)
    files: dict[str, dict[str, list[str]]] = {split: {} for split in SPLITS}
    missed: list[str] = []
    for name, paths in classes.items():
        readable = [path for path in paths if path in hashes]
        parts = _parts([hashes[path] for path in readable], wanted, rng)
        if parts is None:
            raise MadlabError(
                f"Class {name!r} of {place} has fewer than three images that do not look alike ({len(readable)} in "
                "all), but train, val and test each need one: add some, take the class out, or, where they are not "
                "copies but show one scene, list them in a table with a column split."
            )
        missed += [
            f"class {name!r} has {len(part)} in {split} and not {share * len(readable):.0f}"
            for split, part, share in zip(SPLITS, parts, wanted, strict=True)
            if abs(len(part) - share * len(readable)) > max(2, share * len(readable) / 3)
        ]
        for split, part in zip(SPLITS, parts, strict=True):
            files[split][name] = [_kept(readable[i], file.parent) for i in part]
    if missed:
        remark(
            f"{place}: images that look alike stay in one part, so that {some(missed)}: where they are not copies but "
            "show one scene, list them in a table with a column split."
        )
    unreadable = [_kept(path, file.parent) for path in images if path not in hashes]
    write_json(file, Division(shares=shares, seed=seed, files=files, unreadable=unreadable).model_dump())
    return file


def _tell_several_labels(place: Path, classes: Mapping[str, Sequence[Path]], hashes: dict[Path, np.ndarray]) -> None:
    """Warn of images that look the same and are of several classes: the parts are chosen class by class."""
    together: dict[bytes, list[tuple[str, Path]]] = defaultdict(list)
    for name, paths in classes.items():
        for path in paths:
            if path in hashes:
                together[hashes[path].tobytes()].append((name, path))
    if mixed := [group for group in together.values() if len({name for name, _ in group}) > 1]:
        named = some(f"{path.name} in {name}" for name, path in mixed[0])
        more = f", and {len(mixed) - 1} times more" if len(mixed) > 1 else ""
        remark(
            f"{place}: images that look the same have several classes ({named}{more}): if they are copies, keep them "
            "in one."
        )


def _check_to_divide(place: Path, classes: Collection[str], images: Sequence[Path]) -> None:
    if len(classes) < 2:
        raise MadlabError(f"{place} has one class ({some(classes)}): give a folder with one folder per class.")
    for path in map(str, images):
        if path.encode(errors="ignore").decode() != path:
            raise MadlabError(
                f"The name of {printable(path)} is not in UTF-8, as a split file has to be: rename the image."
            )


def _check_keepable(place: Path, file: Path) -> None:
    """Raise MadlabError, before all images are read, if the split file cannot be written."""
    try:
        check_writable(file)
    except MadlabError as error:
        raise MadlabError(
            f"{place} cannot be split, because the split is kept beside it ({reason(error)}): copy it to where you may "
            "write, or list its images, with absolute paths, in a table (CSV) there, which can be split as well."
        ) from error


def _kept(image: Path, folder: Path) -> str:
    """An image's path as it is written down beside it; one from elsewhere stays absolute.

    From a folder that a link leads to, "../" leads out of the link's target.
    """
    return os.path.relpath(image, folder) if image.is_relative_to(folder) or not image.is_absolute() else str(image)


def read_division(file: Path) -> Division:
    """What a split file says; MadlabError if it is damaged."""
    remedy = "remove it to have the images split anew"
    division = validated(Division, read_json(file, MOST), str(file), remedy)
    classes = [set(division.files.get(split, ())) for split in SPLITS]
    if set(division.files) != set(SPLITS) or not classes[0] == classes[1] == classes[2]:
        raise MadlabError(f"{file} does not have the same classes in train, val and test: {remedy}.")
    return division


def divided_files(place: Path) -> dict[str, dict[str, list[Path]]]:
    """split -> class -> image files, of what `divide` has split. Warns of images that came later.

    Of a table, whose rows may change, it warns of rows that went, too, and refuses labels that changed.
    """
    file = division_file(place)
    division = read_division(file)
    files = {
        split: {name: [file.parent / path for path in paths] for name, paths in sorted(division.files[split].items())}
        for split in SPLITS
    }
    labels = {
        os.path.relpath(file.parent / path, file.parent): name
        for classes in division.files.values()
        for name, paths in classes.items()
        for path in paths
    }
    known = labels.keys() | {os.path.relpath(file.parent / path, file.parent) for path in division.unreadable}
    classes = by_class(read_table(place)) if is_table(place) else list_classes(place)
    there = {os.path.relpath(path, file.parent): name for name, paths in classes.items() for path in paths}
    anew = f"remove {file} to have all split anew."
    if later := [Path(path).name for path in there if path not in known]:
        remark(f"{place} has images that came after its split ({some(later)}) and are left out: {anew}")
    if repaired := [Path(path).name for path in division.unreadable if _can_be_read(file.parent / path)]:
        remark(f"{place} was split without {some(repaired)}, which could not be read then: {anew}")
    gone = labels.keys() - there
    if gone and not is_table(place):
        raise MadlabError(
            f"{place} no longer has {len(gone)} images of its split ({some(sorted(gone))}): bring them back, or {anew}"
        )
    if is_table(place):
        if corrected := [path for path, name in there.items() if labels.get(path, name) != name]:
            raise MadlabError(f"{place} has other labels than when it was split ({some(corrected)}): {anew}")
        if gone:
            remark(
                f"{place} no longer has {len(gone)} images of its split ({some(gone)}), which are used still: {anew}"
            )
    return files


def _can_be_read(image: Path) -> bool:
    try:
        read_image(image, 8)
    except MadlabError:
        return False
    return True


def division_digest(place: Path | str) -> str | None:
    """The sha256 of the file that says how images are split; None where there is none, or where others say it."""
    file = division_file(place)
    if not os.path.isfile(file) or has_splits(Path(place)):
        return None
    if is_table(place) and any(row.split for row in read_table(Path(place))):  # the table's own split counts
        return None
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _parsed(shares: str) -> tuple[float, ...]:
    """Shares of the three splits, which add up to 1."""
    share = r"(\d{1,3}(?:\.\d+)?)"
    numbers = re.fullmatch("/".join([share] * 3), shares) if isinstance(shares, str) else None
    parts = [float(number) for number in numbers.groups()] if numbers else []
    if not parts or min(parts) <= 0:
        raise MadlabError(f"{shares!r:.60} is not a split: write the shares of train, val and test, as 70/15/15.")
    return tuple(part / sum(parts) for part in parts)


def _check_place(place: Path) -> None:
    if not os.path.exists(place):  # unlike Path.exists, no error for a name that is too long
        raise MadlabError(f"There is no folder or table {place} to split: give one of your own images.")
    if not is_table(place) and not place.is_dir():
        raise MadlabError(f"{place} is neither a folder nor a .csv file: give a folder of class folders, or a table.")


def _check_undivided(place: Path) -> None:
    parts = named_splits(place) if place.is_dir() else {}
    remedies = [f"rename {name} to {split}" for split, name in parts.items() if name != split]
    if len(parts) == 2:
        (lacking,) = set(SPLITS) - parts.keys()
        remedies.append(f"move some images of each class into {lacking}")
        raise MadlabError(f"{place} has {' and '.join(parts.values())}, but no {lacking}: {', and '.join(remedies)}.")
    if len(parts) == 1 and holds_folders(place / (lone := parts[next(iter(parts))])):
        raise MadlabError(
            f"{place} has {lone}, which holds folders, and would be taken for a class: give {place / lone} to have "
            "that split, and move what lies beside it elsewhere."
        )
    if len(parts) == 3 or (is_table(place) and any(row.split for row in read_table(place))):
        remedies.append("leave the split out")
        raise MadlabError(f"{place} is split already: {', and '.join(remedies)}.")


def _hashes(place: Path, files: list[Path]) -> dict[Path, np.ndarray]:
    """The perceptual hash of every image that can be read; a warning names the others.

    Raises MadlabError if none can be read.
    """
    from madlab.benchmarks.lookalikes import SIDE, perceptual_hash  # SciPy takes a while, and only a new split needs it

    reasons: dict[Path, str] = {}

    def hashed(file: Path) -> np.ndarray | None:
        try:
            return perceptual_hash(read_image(file, SIDE))
        except MadlabError as error:
            reasons[file] = str(error)
            return None

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        found: Iterable[np.ndarray | None] = threads.map(hashed, files)
        found = list(track(found, "look for images that are alike", len(files), "images", show=len(files) > BAR_FROM))
    if broken := [file for file, one in zip(files, found, strict=True) if one is None]:
        first = reasons[broken[0]].rstrip(".")
        if len(broken) == len(files):
            hint = ", whose paths are relative to the table" if is_table(place) else ""
            raise MadlabError(f"No image of {place} can be read{hint}; of the first: {first}.")
        left = "1 cannot be read and is" if len(broken) == 1 else f"{len(broken)} cannot be read and are"
        remark(f"{place}: of {len(files)} images {left} left out ({some(file.name for file in broken)}): {first}.")
    return {file: one for file, one in zip(files, found, strict=True) if one is not None}


def _parts(hashes: list[np.ndarray], shares: tuple[float, ...], rng: np.random.Generator) -> list[list[int]] | None:
    """The images of one class by split, as their numbers; None if they are too few. Large groups are placed first."""
    from madlab.benchmarks.lookalikes import groups_of

    if not hashes:
        return None
    numbers = groups_of(np.stack(hashes))
    groups = [np.flatnonzero(numbers == number) for number in rng.permutation(numbers.max() + 1)]
    if len(groups) < len(SPLITS):
        return None
    groups.sort(key=len, reverse=True)
    held_out = [max(1.0, share * len(hashes)) for share in shares[1:]]
    lacking = [len(hashes) - sum(held_out), *held_out]
    parts: list[list[int]] = [[] for _ in SPLITS]
    for place, group in enumerate(groups):
        empty = [split for split, part in enumerate(parts) if not part]
        eligible = empty if len(groups) - place <= len(empty) else range(len(parts))
        split = max(eligible, key=lacking.__getitem__)
        parts[split] += group.tolist()
        lacking[split] -= len(group)
    return [sorted(part) for part in parts]
