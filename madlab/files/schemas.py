"""What may stand in a config, a result or a file: pydantic types, with one sentence for whatever does not fit.

Ranges stand beside the fields, once, and hold for Python, the command line and files alike. Imports no PyTorch.
"""

import json
import operator
import reprlib
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from madlab.errors import MadlabError

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)
"""No unknown field, no text for a number, no NaN; the docstring under a field becomes its description."""

T = TypeVar("T")


def as_whole(value: Any) -> Any:
    """NumPy's and PyTorch's whole numbers as Python's; a bool and everything else as it is."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        return value
    try:
        return operator.index(value)
    except TypeError:  # PyTorch's tensors have the method whatever they hold
        return value


Whole = Annotated[int, BeforeValidator(as_whole)]
"""A whole number of Python, NumPy or PyTorch."""


def validated(kind: type[T], data: Any, where: str, remedy: str = "correct it or make it anew") -> T:
    """`data`, JSON text (bytes) or what was parsed from it, as an instance of `kind`; nothing is converted.

    where: what the MadlabError calls it if it is none; remedy: what that says to do about it.
    """
    # By way of JSON, because only from there strict types take a list for a tuple and an object for a dataclass. What
    # JSON cannot hold becomes a text, which is refused as one.
    text = data if isinstance(data, bytes) else json.dumps(data, default=repr)
    try:
        return TypeAdapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        raise MadlabError(f"{where} is not valid ({sentence(error)}): {remedy}.") from None


def sentence(error: ValidationError) -> str:
    """The first fault that pydantic found, and how many more there are, without a full stop."""
    first, *others = error.errors(include_url=False)
    field = ".".join(str(part) for part in first["loc"] if not str(part).startswith("function-")) or "it"
    told = first["msg"].removeprefix("Value error, ").replace("Input should", "it should")
    told = told[:1].lower() + told[1:]
    if first["type"] in ("missing", "unexpected_keyword_argument", "json_invalid"):
        told = f"{field}: {told}"
    else:
        told = f"{field} is {reprlib.repr(first['input'])}; {told}"
    return told + (f", and {len(others)} more faults" if others else "")
