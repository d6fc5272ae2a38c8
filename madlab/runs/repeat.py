"""The command line that trains a run once more, as pages, cards and diagnoses tell it."""

import os
import shlex
from pathlib import Path

from madlab.benchmarks import is_name
from madlab.runs.config import CONFIG, RunConfig


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
