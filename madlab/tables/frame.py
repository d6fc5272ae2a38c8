"""Runs as a pandas table: one row per run, from which every other table takes its numbers by groupby and pivot."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import pandas as pd

from madlab.adapters import METHODS
from madlab.runs.recipe import Recipe
from madlab.runs.record import Run

TUNED = ("adapter_lr", "head_lr", "batchnorm_lr", "adapter_decay", "head_decay")
"""The recipe's fields that each method may have of its own."""


def as_frame(runs: Iterable[Run]) -> pd.DataFrame:
    """One row per run, in their order, with the columns

    method         what was trained, as `label` writes it
    domain, seed   the rest of the grid
    source         what `load_domain` takes to read the domain again; None for a Domain object
    rank, layers   of the method; a rank for each layer is missing here and stands in `method`
    protocol       what runs must share to be compared, as `protocol` writes it
    base           the name of the base network; also base_sha256 and base_source, as in `BaseUsed`
    base_parameters, adapter_parameters, val_accuracy, test_accuracy, best_epoch, epochs, seconds, device, date
                   as in `Result`: accuracies in percent, the date as YYYY-MM-DD or ""
    head_rate      the peak learning rate of the head; missing where it was not recorded
    path           where the run was read from
    """
    frame = pd.DataFrame([_row(run) for run in runs], columns=COLUMNS)
    return frame.astype({"rank": "Int64"})


def accuracy_table(runs: Iterable[Run]) -> pd.DataFrame:
    """Test accuracies in percent, means over seeds: methods x domains in the order of the runs, NaN where none is.

    To compare methods over the domains that they share: `table.loc[methods].dropna(axis="columns")`.
    """
    return as_frame(runs).pivot_table("test_accuracy", "method", "domain", sort=False)


def label(run: Run) -> str:
    """What was trained, in short: "mad:8", and in brackets the layers and options that are not the usual ones."""
    usual = METHODS[run.result.method].options if run.result.method in METHODS else {}
    rank, layers = run.result.rank, run.config.layers
    own: dict[str, Any] = {} if rank is None or isinstance(rank, int) else {"rank": rank}
    own |= {name: value for name, value in run.config.options.items() if name != "rank" and value != usual.get(name)}
    said = [] if layers == "all" else [_short(layers)]
    said += [f"{name} {_short(value)}" for name, value in own.items()]
    return run.method + (f" ({', '.join(said)})" if said else "")


def protocol(run: Run) -> str:
    """What runs must share to be compared, as a heading: base network, epochs, and what is unusual in the recipe."""
    usual, recipe = Recipe(), run.config.recipe
    names = [field.name for field in fields(Recipe) if field.name not in (*TUNED, "seed", "epochs")]
    own = [f"{name} {getattr(recipe, name)}" for name in names if getattr(recipe, name) != getattr(usual, name)]
    base = f"{run.result.base.name or 'base without a name'} ({run.result.base.sha256[:8]})"
    return ", ".join([base, f"{run.result.epochs} epochs", *own])


COLUMNS = """method domain seed source rank layers protocol base base_sha256 base_source base_parameters
adapter_parameters val_accuracy test_accuracy best_epoch epochs seconds device date head_rate path""".split()


def _row(run: Run) -> dict[str, Any]:
    result, config = run.result, run.config
    return {name: getattr(result, name) for name in COLUMNS if hasattr(result, name)} | {
        "method": label(run),
        "source": config.source,
        "rank": result.rank if isinstance(result.rank, int) else None,
        "layers": _short(config.layers),
        "protocol": protocol(run),
        "base": result.base.name,
        "base_sha256": result.base.sha256,
        "base_source": config.base.source,
        "head_rate": result.rates.get("head"),
        "path": run.path,
    }


def _short(value: Any) -> str:
    """A value as text; of a long one the beginning and a hash, so that different ones stay different."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 24 else f"{text[:12]}…{hashlib.sha256(text.encode()).hexdigest()[:6]}"
