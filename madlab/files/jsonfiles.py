"""JSON that is read strictly, whoever wrote it: either a value that can be trusted, or one sentence with the file."""

import json
import math
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from madlab.errors import MadlabError
from madlab.files.plain import read_bytes, write_bytes

MOST = 64 * 2**20
"""Bytes that a JSON file has at most, unless its reader says otherwise; in memory it takes up to 25 times as many."""


def write_json(path: Path | str, data: Any) -> None:
    """Write `data` as indented JSON, whole or not at all."""
    write_bytes(path, (dump_json(path, data, indent=1) + "\n").encode())


def dump_json(path: Path | str, data: Any, finite: bool = True, indent: int | None = None) -> str:
    """`data` as JSON for `path`; NumPy's and PyTorch's numbers and arrays become Python's.

    finite: MadlabError for NaN and infinity, which JSON does not have. What it cannot hold at all always is one.
    """
    try:
        return json.dumps(data, allow_nan=not finite, indent=indent, default=_told)
    except (TypeError, ValueError, RecursionError) as error:
        raise MadlabError(
            f"{path} was not written ({error}): it can hold texts, finite numbers, and lists and mappings of them."
        ) from error


def unpacked(value: Any) -> Any:
    """What NumPy, PyTorch and read-only mappings wrap, as Python's own; everything else as it is."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return dict(value) if isinstance(value, Mapping) else value


def read_json(path: Path | str, most: int = MOST) -> Any:
    """Read a JSON file of at most `most` bytes, UTF-8 with or without a byte order mark.

    MadlabError names a file that is missing, no plain file, too large or damaged. NaN and infinity, which only Python's
    JSON has, are damage too.
    """
    return parse_json(read_bytes(path, most), str(path))


def parse_json(data: bytes, name: str, finite: bool = True) -> Any:
    """`data` as JSON, by the rules of `read_json`; name: what MadlabError calls it. finite: refuse NaN and infinity."""
    rules: dict[str, Any] = {"parse_constant": _no_number, "parse_float": _finite} if finite else {}
    try:
        return json.loads(data.decode("utf-8-sig"), **rules)
    except RecursionError:
        reason = "it is nested too deeply"
    except MemoryError:
        reason = "it does not fit into memory"
    except ValueError as error:  # JSON's and UTF-8's own among them, and whole numbers with thousands of digits
        reason = str(error)
    raise MadlabError(f"{name} is damaged ({reason}): remove it and make it anew.")


def _told(value: Any) -> Any:
    plain = unpacked(value)
    if plain is value:
        raise TypeError(f"{reprlib.repr(value)} is a {type(value).__name__}")
    return plain


def _no_number(token: str) -> NoReturn:
    raise ValueError(f"{token} is not a number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{reprlib.repr(text)} is too large for a number")
    return number
