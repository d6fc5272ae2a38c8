"""What may stand in a config, a result or a file: pydantic types, with one sentence for whatever does not fit.

Ranges stand beside the fields, once, and hold for Python, the command line and files alike. Imports no PyTorch.
"""

import json
import operator
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from madlab.errors import MadlabError

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)
"""No unknown field, no text for a number, no NaN; the docstring under a field becomes its description."""

T = TypeVar("T")


def _whole(value: Any) -> Any:
    """NumPy's and PyTorch's whole numbers as Python's; a bool and everything else as it is."""
    return operator.index(value) if hasattr(value, "__index__") and not isinstance(value, bool) else value


Whole = Annotated[int, BeforeValidator(_whole)]
"""A whole number of Python, NumPy or PyTorch."""


def validated(kind: type[T], data: Any, where: str) -> T:
    """Parsed JSON as a `kind`; MadlabError, naming `where` it comes from, if it is none."""
    try:
        # As JSON, because strict types then take a list for a tuple and an object for a dataclass, which is what it is.
        return TypeAdapter(kind).validate_json(json.dumps(data))
    except ValidationError as error:
        raise MadlabError(f"{where}: {sentence(error)}") from None


def sentence(error: ValidationError) -> str:
    """The first fault that pydantic found, and how many more there are."""
    first, *others = error.errors(include_url=False)
    field = ".".join(str(part) for part in first["loc"] if not str(part).startswith("function-")) or "it"
    given = f"{first['input']!r:.60}" if first["type"] not in ("missing", "unexpected_keyword_argument") else ""
    told = first["msg"].removeprefix("Value error, ").replace("Input should", "it should")
    told = f"{field} is {given}; {told[:1].lower()}{told[1:]}" if given else f"{field}: {told[:1].lower()}{told[1:]}"
    return told + (f" (and {len(others)} more faults)." if others else ".")
