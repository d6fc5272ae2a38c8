"""What may stand in a config, a result or a file: pydantic types, with one sentence for whatever does not fit.

Ranges stand beside the fields, once, and hold for Python, the command line and files alike. Imports no PyTorch.
"""

import json
import operator
import reprlib
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from madlab.errors import MadlabError
from madlab.files.jsonfiles import unpacked

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)
"""No unknown field, no text for a number, no NaN; the docstring under a field becomes its description."""
OPEN: ConfigDict = {**STRICT, "extra": "ignore"}
"""As `STRICT`, for files that may say more than we need."""

WORDING = {
    "Input should": "it should",
    "valid array": "valid list",
    "an object": "a mapping",
    " after validation": "",
}
"""pydantic's words for JSON, and those that are right for what comes from Python, too."""

UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")
"""pydantic's kinds of fault for a field that there is not."""

T = TypeVar("T")


def as_whole(value: Any) -> Any:
    """NumPy's and PyTorch's whole numbers as Python's; a bool and everything else as it is."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        return value
    try:
        return operator.index(value)
    except TypeError:  # PyTorch's tensors have the method whatever they hold
        return value


def as_plain(value: Any) -> Any:
    """Numbers and arrays of NumPy and PyTorch as Python's, which JSON can hold; all else as it is."""
    if isinstance(value, Mapping):
        return {key: as_plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(part) for part in value]
    return value.tolist() if hasattr(value, "tolist") else value


Whole = Annotated[int, BeforeValidator(as_whole)]
"""A whole number of Python, NumPy or PyTorch."""
Mean = Annotated[float, Field(ge=0, le=1)]
"""Of one channel, for pixels scaled to 0..1."""
Deviation = Annotated[float, Field(gt=0, le=1)]
"""Of one channel, for pixels scaled to 0..1; 1 leaves them as they are."""


def validated(kind: type[T], data: Any, where: str, remedy: str = "correct it or make it anew") -> T:
    """`data`, JSON text (bytes) or what Python holds of it, as an instance of `kind`.

    NumPy's and PyTorch's numbers and arrays become Python's; nothing else is converted.
    where: what the MadlabError calls it if it is none; remedy: what that says to do about it.
    """
    # By way of JSON, because only from there strict types take a list for a tuple and an object for a dataclass.
    try:
        text = data if isinstance(data, bytes) else json.dumps(data, default=_as_json)
        return TypeAdapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        reason = sentence(error)
        if any(fault["type"] in UNKNOWN for fault in error.errors(include_url=False)):
            remedy = f"install a newer madlab if one wrote it, or {remedy}"
    except (TypeError, ValueError, RecursionError) as error:  # keys that are no texts, lists that hold themselves
        reason = str(error)
    raise MadlabError(f"{where} is not valid ({reason}): {remedy}.")


def sentence(error: ValidationError) -> str:
    """The first fault that pydantic found, and how many more there are, without a full stop."""
    first, *others = error.errors(include_url=False)
    field = ".".join(str(part) for part in first["loc"] if not str(part).startswith("function-")) or "it"
    told = first["msg"].removeprefix("Value error, ")
    for theirs, ours in WORDING.items():
        told = told.replace(theirs, ours)
    told = told[:1].lower() + told[1:]
    if first["type"] in ("missing", "unexpected_keyword_argument", "json_invalid"):
        told = f"{field}: {told}"
    else:
        told = f"{field} is {reprlib.repr(first['input'])}; {told}"
    return told + (f", and {len(others)} more fault{'s' * (len(others) > 1)}" if others else "")


def _as_json(value: Any) -> Any:
    """For what JSON cannot hold: what it wraps, or a text, which is refused as one where no text belongs."""
    plain = unpacked(value)
    return repr(value) if plain is value else plain
