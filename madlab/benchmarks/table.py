"""A table of images: a CSV file with the columns path and label, and perhaps split."""

import csv
import io
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from madlab.benchmarks.listing import composed, tell_alike
from madlab.benchmarks.split import SPLITS
from madlab.errors import MadlabError, some
from madlab.files.plain import read_bytes

MOST = 256 * 2**20
"""Bytes of a table, at most."""
COLUMNS = {
    "path": ("path", "file", "filename", "image", "image_path", "filepath"),
    "label": ("label", "class", "category", "target"),
    "split": ("split", "set", "subset"),
}
"""What a column may be called, in upper or lower case."""
ENDINGS = (".csv", ".tsv")


@dataclass(frozen=True)
class Row:
    """One image. split: "train", "val" or "test", or "" where the table does not say."""

    file: Path
    label: str
    split: str


def is_table(place: Path | str) -> bool:
    """Whether a path is that of a table rather than of a folder."""
    return Path(place).suffix.lower() in ENDINGS and not os.path.isdir(place)


def read_table(path: Path) -> list[Row]:
    """The rows of a table, separated by commas, semicolons or tabs; paths are relative to the table's own folder.

    Raises MadlabError, with the line, for a table without the columns, and for a row without a path or a label, with
    another split, or with a path that an earlier row has.
    """
    try:
        text = read_bytes(path, MOST).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MadlabError(f"{path} is not in UTF-8 (byte {error.start}): save it as CSV in UTF-8.") from error
    head = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text), delimiter=max(",;\t", key=head.count), strict=True)
    try:
        found = {key: _column(reader.fieldnames or [], names) for key, names in COLUMNS.items()}
        if not found["path"] or not found["label"]:
            given = some(reader.fieldnames or ["nothing"])
            raise MadlabError(f"{path} needs a first line that names the columns path and label, and has {given}.")
        rows = [_row(path, reader.line_num, _cells(path, reader.line_num, line, found)) for line in reader]
    except csv.Error as error:
        raise MadlabError(f"{path}, line {reader.line_num}, is not CSV ({error}): correct it.") from error
    _check_rows(path, rows)
    tell_alike(path, dict.fromkeys(row.label for row in rows))
    return rows


def by_class(rows: list[Row]) -> dict[str, list[Path]]:
    """Class -> its files, the classes in the order of their names."""
    files = defaultdict(list)
    for row in rows:
        files[row.label].append(row.file)
    return {label: files[label] for label in sorted(files)}


def _column(given: Sequence[str], names: tuple[str, ...]) -> str | None:
    return next((column for column in given if column and column.strip().lower() in names), None)


def _cells(path: Path, number: int, line: dict[Any, Any], found: dict[str, str | None]) -> dict[str, str | None]:
    """What a line has in each of the known columns."""
    if any(cell.strip() for cell in line.get(None, ())):  # where the reader puts what is beyond the named columns
        raise MadlabError(
            f"{path}, line {number}, has more cells than the first line: put quotes around what contains a separator."
        )
    return {key: line.get(name) if name else None for key, name in found.items()}


def _row(path: Path, line: int, cells: dict[str, str | None]) -> Row:
    file, label, split = ((cells[key] or "").strip() for key in COLUMNS)
    label = composed(label)
    if not file or not label:
        raise MadlabError(f"{path}, line {line}, lacks a {'label' if file else 'path'}: complete the row or remove it.")
    if split and split not in SPLITS:
        raise MadlabError(f"{path}, line {line}, has the split {split!r:.60}: write train, val or test.")
    return Row(path.parent / file, label, split)


def _check_rows(path: Path, rows: list[Row]) -> None:
    if not rows:
        raise MadlabError(f"{path} has no rows: give one line for each image.")
    seen: set[Path] = set()
    for row in rows:
        if row.file in seen:
            raise MadlabError(f"{path} has {row.file} twice: keep one row for each image.")
        seen.add(row.file)
    if len({bool(row.split) for row in rows}) > 1:
        raise MadlabError(f"{path} has a split for some images only: give one for each of them, or for none.")
