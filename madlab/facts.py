"""What the file of a domain says besides its tensors: name, classes, method, and how its images are prepared."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import inf, isfinite
from numbers import Integral, Real
from typing import Any

from madlab.adapters import METHODS
from madlab.adapters.base import Method, whole_number
from madlab.errors import MadlabError

MOST_CLASSES = 10_000_000
"""More would give a head that no memory holds."""
MOST_PIXELS = 4096
"""The largest side of a prompt."""


@dataclass(frozen=True)
class DomainFacts:
    """What is known of a domain besides its tensors, checked. Raises MadlabError for values that are not possible.

    options: the method's, with their defaults. layers: the names of the adapted layers. normalization: {"mean": [...],
    "std": [...]} of pixels scaled to 0..1, one number for each channel, or {}. head: the name of the base's layer that
    the domain replaces by its own head. resize, crop: of its images, in pixels: the shorter side is resized, then a
    square cut out; None where that is not known. NumPy's whole numbers become Python's.
    """

    name: str
    num_classes: int
    method: str
    options: dict[str, Any]
    layers: list[str]
    class_names: list[str]
    normalization: dict[str, list[float]]
    head: str
    resize: int | None = None
    crop: int | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.method not in METHODS:
            raise MadlabError(f"Unknown method {self.method!r}: choose one of {', '.join(METHODS)}.")
        checked = {
            "num_classes": check_classes(self.name, self.num_classes),
            "options": _checked_options(METHODS[self.method], self.options),
            "class_names": _checked_class_names(self.name, self.num_classes, self.class_names),
            "normalization": _checked_normalization(self.normalization),
            "resize": _checked_pixels("resize", self.resize),
            "crop": _checked_pixels("crop", self.crop),
        }
        for key, value in checked.items():
            object.__setattr__(self, key, value)  # the dataclass is frozen for everybody else

    def to_json(self) -> dict[str, Any]:
        """As `save_domain` writes it."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Any, **older: Any) -> "DomainFacts":
        """Read what `to_json` gave; older: what a file that was written before a field existed means by it.

        Raises MadlabError if a field is missing or of another type.
        """
        if not isinstance(stored, dict):
            raise MadlabError("it is not a domain that madlab saved.")
        stored = older | stored
        for key in (field.name for field in fields(cls)):
            if key not in stored:
                raise MadlabError(f"it is not a domain that madlab saved: it has no {key!r}.")
            if key in TYPES and not isinstance(stored[key], TYPES[key]):
                raise MadlabError(f"its {key!r} is {stored[key]!r}, not a {TYPES[key].__name__}.")
        if not all(isinstance(layer, str) for layer in stored["layers"]):
            raise MadlabError("its 'layers' are not all names.")
        return cls(**{field.name: stored[field.name] for field in fields(cls)})


TYPES: dict[str, type] = {
    "method": str,
    "options": dict,
    "layers": list,
    "class_names": list,
    "normalization": dict,
    "head": str,
}


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not name.strip():
        raise MadlabError(f"A domain's name is a text that is not empty, but this is {name!r}: choose another.")
    if not name.isprintable() or "/" in name or "\\" in name or name in (".", ".."):
        raise MadlabError(
            f"The domain name {name!r} cannot name a file: leave out slashes, line breaks and control characters."
        )


def check_classes(name: str, num_classes: Any) -> int:
    """The number of classes of a domain as an int; raises MadlabError if it is not a possible one."""
    number = whole_number(num_classes)
    if number is None:
        raise MadlabError(f"num_classes of domain {name!r} is {num_classes!r}: give a whole number.")
    if number < 2:
        raise MadlabError(f"Domain {name!r} has num_classes={number}: a classifier needs at least two.")
    if number > MOST_CLASSES:
        raise MadlabError(f"Domain {name!r} has num_classes={number}: no head of more than {MOST_CLASSES:,} would fit.")
    return number


def _checked_options(method: Method, options: Mapping[str, Any]) -> dict[str, Any]:
    given = {key: _plain_number(value) for key, value in options.items() if value is not None}
    for key in given:
        if key not in method.options:
            raise MadlabError(
                f"Method {method.name!r} takes no option {key!r}; it has {list(method.options) or 'none'}."
            )
        _check_option(key, given[key])
    return {key: value for key, value in method.options.items() if value is not None} | given


def _check_option(key: str, value: Any) -> None:
    """Raise MadlabError for an impossible scale or number of pixels; ranks are checked together with their layers."""
    if key == "alpha" and not (isinstance(value, float | int) and value is not True and 0 < value < inf):
        raise MadlabError(f"The option alpha cannot be {value!r}: give a number above 0.")
    if key in ("frame", "size") and not 1 <= (whole_number(value) or 0) <= MOST_PIXELS:
        raise MadlabError(
            f"The option {key} cannot be {value!r}: give a whole number of pixels, at most {MOST_PIXELS:,}."
        )


def _plain_number(value: Any) -> Any:
    """NumPy's numbers as Python's, which JSON can hold; all else as it is."""
    if isinstance(value, Mapping):
        return {key: _plain_number(part) for key, part in value.items()}
    if isinstance(value, Real) and not isinstance(value, bool):
        return int(value) if isinstance(value, Integral) else float(value)
    return value


def _checked_class_names(name: str, num_classes: int, class_names: list[str]) -> list[str]:
    if not all(isinstance(label, str) for label in class_names):
        raise MadlabError(f"The class names of domain {name!r} are not a list of texts: give one text per class.")
    if len(class_names) != num_classes:
        raise MadlabError(f"Domain {name!r} has {num_classes} classes but {len(class_names)} class names.")
    seen: set[str] = set()
    for label in class_names:
        if label in seen:
            raise MadlabError(f"Domain {name!r} has the class name {label!r} twice: give each class its own.")
        seen.add(label)
    return list(class_names)


def _checked_normalization(normalization: dict[str, list[float]]) -> dict[str, list[float]]:
    if not normalization:
        return {}
    try:
        mean, std = ([float(value) for value in normalization[key]] for key in ("mean", "std"))
    except (KeyError, TypeError, ValueError):
        mean, std = [], []
    if not len(mean) == len(std) > 0 or not all(map(isfinite, mean + std)) or min(std) <= 0:
        raise MadlabError(
            f"The normalization {normalization} cannot be used: give 'mean' and 'std', each one finite number per "
            "channel for pixels scaled to 0..1, with std above 0."
        )
    return {"mean": mean, "std": std}


def _checked_pixels(key: str, pixels: Any) -> int | None:
    number = whole_number(pixels)
    if pixels is not None and (number is None or number < 1):
        raise MadlabError(f"{key} is {pixels!r}: give a whole number of pixels.")
    return number
