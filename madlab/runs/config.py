"""What a run was asked to do: everything that its outcome depends on, in one object that reads and compares itself."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import asdict, field, fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, JsonValue
from pydantic.dataclasses import dataclass

from madlab.benchmarks import is_name
from madlab.errors import STEERING, MadlabError, some
from madlab.files.jsonfiles import read_json, write_json
from madlab.files.schemas import STRICT, as_whole, validated
from madlab.runs.recipe import Recipe

CONFIG = "config.json"


def _checked_name(text: str) -> str:
    if not text.strip() or STEERING.search(text):
        raise ValueError("it should be a text without control characters")
    return text


Name = Annotated[str, AfterValidator(_checked_name)]

Option = Annotated[JsonValue, BeforeValidator(as_whole)]
"""What an option of a method may be: a number, a text, or several of them, as JSON has it."""

YOUNGER = {"polyak": 0.0}
"""Fields of a recipe that older runs lack, with what those runs did; the defaults are what new ones do."""


FORMER = {"clip": 0.0}
"""Fields that a recipe had for a while, where they did nothing."""


def _completed(recipe: Any) -> Any:
    if not isinstance(recipe, Mapping):
        return recipe
    return YOUNGER | {name: value for name, value in recipe.items() if name not in FORMER or value != FORMER[name]}


Stored = Annotated[Recipe, BeforeValidator(_completed)]
"""A recipe, or one as a file holds it."""


@dataclass(frozen=True, config=STRICT)
class BaseUsed:
    """The base network of a run."""

    name: str
    """The network's own `name`; "" if it has none."""
    sha256: str
    """Its fingerprint (`guard.fingerprint`), in hexadecimal."""
    source: str | None = None
    """What `load_base` takes to make it again; None for a network object."""


@dataclass(frozen=True, config=STRICT)
class RunConfig:
    """What a run was asked to do. Two runs with equal configs end, on a CPU, with the same bytes."""

    domain: Name
    """The domain's name."""
    source: str | None
    """What `load_domain` takes to read it again; None for a Domain object."""
    flip: bool
    """Whether training images may be mirrored."""
    base: BaseUsed
    method: Name
    """A key of `madlab.METHODS`."""
    options: dict[str, Option] = field(default_factory=dict)
    """The method's own options as they were given, its rank among them."""
    layers: str | tuple[str, ...] = "all"
    """Which layers are adapted, as `MultiDomainNet.add_domain` takes it."""
    head: str | None = None
    """The name of the base network's classifier, where it was given."""
    compile: str | None = None
    """How steps are launched (`train`): "none", or a backend of torch.compile; None for a CUDA graph on a GPU."""
    recipe: Stored = field(default_factory=Recipe)
    split: str | None = None
    """The sha256 of the file that says which image is in which part, where madlab has split the images."""

    @property
    def rank(self) -> int | None:
        """The rank that was asked for; None where the method has none, or one for each layer."""
        rank = self.options.get("rank")
        return rank if isinstance(rank, int) else None

    def to_json(self) -> dict[str, Any]:
        """As `config.json` holds it."""
        return asdict(self)

    @staticmethod
    def from_json(facts: Any, where: str) -> "RunConfig":
        """The other way; MadlabError, naming `where` the facts are from, if they are no config."""
        return validated(RunConfig, _upgraded(facts, where), where)

    def write(self, folder: Path | str) -> None:
        """Write config.json into a run folder."""
        write_json(Path(folder) / CONFIG, self.to_json())

    @staticmethod
    def read(path: Path | str) -> "RunConfig":
        """The config of a run folder, or of a config file; MadlabError if there is none or it is damaged."""
        path = Path(path)
        if path.is_file():
            try:
                return RunConfig.from_json(read_json(path), str(path))
            except MadlabError as error:
                if path.suffix == ".json":
                    raise
                raise MadlabError(f"{path} is not the config of a run: give a config.json, or its folder.") from error
        check_run_folder(path)
        return RunConfig.from_json(read_json(path / CONFIG), str(path / CONFIG))

    def differences(self, other: "RunConfig") -> list[str]:
        """Names of the fields in which another config differs; fields of the recipe go by their own names."""
        changed = [
            f.name
            for f in fields(self)
            if f.name not in ("recipe", "source") and getattr(self, f.name) != getattr(other, f.name)
        ]
        if _real(self.source) != _real(other.source):
            changed.insert("domain" in changed, "source")
        recipes = self.recipe, other.recipe
        return changed + [f.name for f in fields(Recipe) if len({getattr(recipe, f.name) for recipe in recipes}) > 1]

    def shown(self, name: str) -> str:
        """The value of a field of this or of the recipe, as texts have it."""
        found = getattr(self if hasattr(self, name) else self.recipe, name)
        if found is None:
            return "not given"
        if name == "base":
            return found.name or "a network without a name"
        if name == "options":
            return ", ".join(f"{key} {value}" for key, value in found.items()) or "none"
        return found[:8] if name == "split" else some(found) if isinstance(found, tuple) else str(found)

    def changes(self, other: "RunConfig") -> str:
        """The `differences` of this, which came first, and of another config with both values: "epochs 6, now 15"."""
        values = [(name, self.shown(name), other.shown(name)) for name in self.differences(other)]
        return "; ".join(f"{name} {before}, now {'another' if before == now else now}" for name, before, now in values)


def _real(source: str | None) -> str | None:
    """A source as it can be compared: a folder or a file by where it really is."""
    return source if source is None or is_name(source) else os.path.realpath(source)


def check_run_folder(path: Path | str) -> None:
    """Raise MadlabError for what is no run folder, before anything in it is read."""
    path = Path(path)
    if not os.path.lexists(path):
        raise MadlabError(f"There is no run folder {path}: give one that `madlab train` has made.")
    if not path.is_dir():
        raise MadlabError(f"{path} is a file, and not a run folder: give the folder that `madlab train --out` made.")
    if not os.path.lexists(path / CONFIG):
        raise MadlabError(f"{path} is not a run folder, as it has no {CONFIG}: give one that has.")


def _upgraded(facts: Any, where: str) -> Any:
    """A config of madlab 0.1, which had a rank and the base's source apart, in today's form; any other as it is."""
    if not isinstance(facts, Mapping) or "base_source" not in facts:
        return facts
    new = {key: value for key, value in facts.items() if key not in ("rank", "base_source")}
    if not isinstance(new.get("base"), Mapping):
        raise MadlabError(f"{where} says nothing of a base network: correct it or make it anew.")
    new["base"] = dict(new["base"]) | {"source": facts["base_source"]}
    new["options"] = {} if facts.get("rank") is None else {"rank": facts["rank"]}
    return new


def command_again(run: Path | str, config: RunConfig, ending: str, **changes: object) -> str:
    """The command that trains the run of a folder once more, into a folder of the same name with an ending.

    changes: options of `madlab train` that are to be others, None for one without a value. What the config does not
    say, or what is no longer where it says, is left to the reader.
    """
    folder = Path(run) if Path(run).name else Path(run).resolve()  # of ".", the name
    return train_command(config, folder / CONFIG, f"{folder}{ending}", **changes)


def train_command(config: RunConfig, file: Path | str, out: str, **changes: object) -> str:
    """`madlab train` with a config that lies in a file; see `command_again`."""
    options: dict[str, object] = {"config": file}
    if config.source is None or not (is_name(config.source) or os.path.exists(config.source)):
        options["domain"] = "FOLDER"
    if config.base.source is None:
        options["base"] = "FILE"
    words = ["madlab", "train"]
    for name, value in (options | changes | {"out": out}).items():
        words += [f"--{name.replace('_', '-')}", *([] if value is None else [str(value)])]
    return shlex.join(words)
