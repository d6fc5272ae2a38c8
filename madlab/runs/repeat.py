"""Repeating a run from its config.json."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from madlab.errors import MadlabError
from madlab.guard import fingerprint
from madlab.runs.config import RunConfig
from madlab.runs.loaded import base_of
from madlab.runs.record import Result
from madlab.runs.train import method_and_options, train


def repeat(config: Path | str, out: Path | str | None = None, **changes: Any) -> Result:
    """Train once more what a config.json asks for: `madlab train --config FILE`.

    config: the file, or its run folder. changes: arguments of `train` that replace what the config says; another method
    begins with its own options. Raises MadlabError if the base network is not the one of the config, unless `changes`
    name one, and where `train` does.
    """
    before = RunConfig.read(config)
    arguments: dict[str, Any] = {
        "domain": before.source,
        "layers": before.layers,
        "head": before.head,
        "flip": before.flip,
        "compile": before.compile,
        **asdict(before.recipe),
    }
    arguments |= _method(before, changes) | changes
    if "base" not in changes:
        arguments["base"] = before.base.source
        if fingerprint(base_of(before, config)) != before.base.sha256:
            raise MadlabError(
                f"{before.base.source} is not the base network of {config} any more: name one (--base NAME) if another "
                "will do."
            )
    if arguments["domain"] is None:
        raise MadlabError(f"The run of {config} was trained on a Domain object: give a domain (--domain).")
    return train(out=out, **arguments)


def _method(before: RunConfig, changes: dict[str, Any]) -> dict[str, Any]:
    """The method of the config and its options, changed; takes what it uses out of `changes`."""
    name, rank, options = changes.pop("method", None), changes.pop("rank", None), changes.pop("options", None)
    method, given = method_and_options(name or before.method, rank, options)
    return {"method": method, "options": ({} if name else before.options) | given}
