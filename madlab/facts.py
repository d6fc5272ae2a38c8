"""What the file of a domain says besides its tensors: name, classes, method, and how its images are prepared."""

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from math import inf
from typing import Annotated, Any

from pydantic import Field, InstanceOf, ValidationError
from pydantic.dataclasses import dataclass

from madlab.adapters import METHODS
from madlab.adapters.base import Method, split_method, whole_number
from madlab.adapters.modulation import FORMS
from madlab.errors import STEERING, MadlabError
from madlab.files.pictures import GreyScale
from madlab.files.schemas import STRICT, as_plain, sentence

MOST_CLASSES = 10_000_000
"""More would give a head that no memory holds."""
MOST_PIXELS = 4096
"""The largest side of a prompt, and of a block of OFT."""


Pixels = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, config=STRICT)
class DomainFacts:
    """A domain as it was added; `make_facts` makes one and checks what no single field shows."""

    name: str
    num_classes: Annotated[int, Field(ge=2, le=MOST_CLASSES)]
    method: str
    """A key of `madlab.METHODS`."""
    heads: Annotated[list[str], Field(min_length=1)]
    """The names of the base's layers that the domain replaces by its own head, nearly always one."""
    options: dict[str, Any]
    """Those of the method, with their defaults."""
    layers: list[str]
    """The names of the adapted layers."""
    class_names: list[InstanceOf[str]]  # a folder's name may hold bytes that pydantic's own text does not take
    """One a class; "0", "1", "2" ... unless given."""
    normalization: dict[str, list[float]]
    """{"mean": [...], "std": [...]} of pixels scaled to 0..1, one number for each channel; {} where it is not known."""
    resize: Pixels | None = None
    """To how many pixels the shorter side of its images is resized; None where it is not known."""
    crop: Pixels | None = None
    """Side of the square that is then cut out, in pixels."""
    grey: dict[str, float] | None = None
    """Which values of grey images of more than 8 bits become black and white; None where it trained on none."""

    squash: bool = False
    """Whether whole pictures are pressed into a square of `resize` pixels, instead of the centre being cut out."""

    @property
    def grey_scale(self) -> GreyScale | None:
        """`grey` as `files.pictures` takes it."""
        return None if self.grey is None else GreyScale(self.grey["black"], self.grey["white"])

    def to_json(self) -> dict[str, Any]:
        """As `save_domain` writes it."""
        return {key: value for key, value in asdict(self).items() if key not in ("grey", "squash") or value}


def make_facts(given: Mapping[str, Any]) -> DomainFacts:
    """The facts of a domain from the names of its fields; what is not a field is left aside.

    Numbers and arrays of NumPy and PyTorch become Python's. Raises MadlabError for what cannot be a domain.
    """
    name = given.get("name")
    if not isinstance(name, str) or not name.strip():
        raise MadlabError(f"A domain's name is a text that is not empty, but this is {name!r:.60}: choose another.")
    if STEERING.search(name) or "/" in name or "\\" in name or name in (".", ".."):
        raise MadlabError(
            f"The domain name {name!r} cannot name a file: leave out slashes, line breaks and control characters."
        )
    known = {f.name: as_plain(given[f.name]) for f in fields(DomainFacts) if f.name in given}
    numbered = "class_names" in known and known["class_names"] is None
    try:
        facts = DomainFacts(**known | ({"class_names": []} if numbered else {}))
    except ValidationError as error:
        raise MadlabError(f"Domain {name!r} is not valid ({sentence(error)}): give what fits.") from None
    if facts.method not in METHODS:
        raise MadlabError(f"Unknown method {facts.method!r}: choose one of {', '.join(METHODS)}.")
    if numbered:
        facts = replace(facts, class_names=[str(i) for i in range(facts.num_classes)])
    # One size stands for both, as in `sizes.image_size`.
    facts = replace(facts, resize=facts.resize or facts.crop, crop=facts.crop or facts.resize)
    _check_class_names(facts)
    _check_normalization(facts.normalization)
    _check_images(facts)
    return replace(facts, options=with_defaults(facts.method, _given(METHODS[facts.method], facts.options)))


def method_and_options(
    method: str, rank: int | Mapping[str, int] | None = None, options: Mapping[str, Any] | None = None
) -> tuple[str, dict[str, Any]]:
    """A method's plain name and all options that were given, the rank among them, wherever that was given.

    Raises MadlabError for an unknown method, for options that it does not have or cannot have so, and for a rank that
    was given twice.
    """
    name, written = split_method(method) if isinstance(method, str) else (method, None)
    if not isinstance(name, str) or name not in METHODS:
        raise MadlabError(f"Unknown method {method!r:.60}: choose one of {', '.join(METHODS)}.")
    if not isinstance(options, Mapping | None):
        raise MadlabError(f"The options of a method are a mapping from name to value, not {options!r:.60}.")
    given = _given(METHODS[name], options or {})
    ranks = [one for one in (written, rank, given.get("rank")) if one is not None]
    if len(ranks) > 1:
        told = " and ".join(str(one) for one in ranks)
        raise MadlabError(f"The rank was given twice, as {told}: write it once.")
    return name, given | ({"rank": ranks[0]} if ranks else {})


def with_defaults(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a method, with its own in place of those that are missing or None."""
    given = {key: value for key, value in options.items() if value is not None}
    return {key: value for key, value in METHODS[method].options.items() if value is not None} | given


def _given(method: Method, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are not None; MadlabError for those that the method does not have, or not so."""
    given = {key: value for key, value in options.items() if value is not None}
    for key, value in given.items():
        if key not in method.options:
            has = ", ".join(method.options) or "none"
            raise MadlabError(f"Method {method.name!r} takes no option {key!r:.60}: leave it out; it has {has}.")
        _check_option(key, value)
    return given


def _check_option(key: str, value: Any) -> None:
    """Raise MadlabError for a value that no layer could have; ranks are checked with their layers."""
    if key == "form" and value not in FORMS:
        raise MadlabError(f"The option form cannot be {value!r}: choose one of {', '.join(FORMS)}.")
    if key == "block" and not 2 <= (whole_number(value) or 0) <= MOST_PIXELS:
        raise MadlabError(f"The option block cannot be {value!r}: give a whole number from 2 to {MOST_PIXELS:,}.")
    if key == "alpha" and not (isinstance(value, float | int) and value is not True and 0 < value < inf):
        raise MadlabError(f"The option alpha cannot be {value!r}: give a number above 0.")
    if key in ("frame", "size") and not 1 <= (whole_number(value) or 0) <= MOST_PIXELS:
        raise MadlabError(
            f"The option {key} cannot be {value!r}: give a whole number of pixels, at most {MOST_PIXELS:,}."
        )


def _check_class_names(facts: DomainFacts) -> None:
    if len(facts.class_names) != facts.num_classes:
        raise MadlabError(
            f"Domain {facts.name!r} has {facts.num_classes} classes but {len(facts.class_names)} class names: "
            "give one a class."
        )
    seen: set[str] = set()
    for label in facts.class_names:
        if label in seen:
            raise MadlabError(f"Domain {facts.name!r} has the class name {label!r} twice: give each class its own.")
        seen.add(label)


def _check_normalization(normalization: dict[str, list[float]]) -> None:
    if not normalization:
        return
    mean, std = normalization.get("mean", []), normalization.get("std", [])
    possible = all(0 <= m <= 1 for m in mean) and all(0 < s <= 1 for s in std)
    if set(normalization) != {"mean", "std"} or not len(mean) == len(std) > 0 or not possible:
        raise MadlabError(
            f"The normalization {normalization} cannot be used: give 'mean' and 'std', each one number per channel for "
            "pixels scaled to 0..1, and std above 0."
        )


def _check_images(facts: DomainFacts) -> None:
    if facts.resize and facts.crop and facts.crop > facts.resize:
        raise MadlabError(
            f"Domain {facts.name!r} has a crop of {facts.crop} pixels, larger than its images of {facts.resize}: give "
            "a resize and a crop that fit."
        )
    grey = facts.grey
    if grey is not None and (grey.keys() != {"black", "white"} or grey["black"] > grey["white"]):
        raise MadlabError(f"Domain {facts.name!r} has the grey scale {grey}: give 'black' and, not below it, 'white'.")
