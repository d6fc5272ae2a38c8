"""Runs as a pandas frame: one row per run, from which every other table is made by groupby and pivot."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import Any

import pandas as pd

from madlab.adapters import METHODS
from madlab.analysis.counting import NUMBER
from madlab.backbones import WEIGHTS, load_base
from madlab.errors import MadlabError, remark
from madlab.guard import fingerprint
from madlab.network import MultiDomainNet
from madlab.runs.recipe import Recipe
from madlab.runs.record import Rounded, Run

TUNED = ("adapter_lr", "head_lr", "batchnorm_lr", "adapter_decay", "head_decay")
"""The recipe's fields that are tuned for each method, so that runs which differ in them can still be compared."""
DATA = {"split": "were split in different ways", "flip": "were mirrored in the training of some runs only"}
"""Fields of a run's config that say what it saw of its domain, and what to call a difference."""


def as_frame(runs: Iterable[Run], rounded: bool = False) -> pd.DataFrame:
    """One row per run, in the order of the runs, with the columns

    method         what was trained, as `label` writes it, and in how many bits it was stored: "mad:8 in 4 bits"
    family, bits   a key of METHODS; the bits of a form that was rounded after training, missing for a run's own
    domain, seed   the rest of the grid
    source         what `load_domain` takes to read the domain again; None for a Domain object
    rank, layers   of the method; a rank for each layer is not given here but in `method`
    protocol       what runs must share to be compared, as `protocol` writes it
    base           the name of the base network; also base_sha256 and base_source, as in `BaseUsed`
    adapter_bytes, norm_bytes
                   stored for the domain besides its head; the second is missing where it is not known
    base_parameters, adapter_parameters, val_accuracy, test_accuracy, balanced_accuracy, best_epoch, epochs, seconds,
    device, date   as in `Result`: accuracies in percent, missing for validation where that was trained on, and for the
                   balanced one where it was not recorded; the date as YYYY-MM-DD or ""
    head_rate      the peak learning rate of the head; missing where it was not recorded
    path           where the run was read from

    rounded: also one row for each form of a run that was rounded after training, after the run's own.

    Raises MadlabError for runs of one protocol and domain that were not made of the same data, or of which only some
    were mirrored; warns where the test images are others, as they may be by a bit on another machine.
    """
    runs = list(runs)
    _check_same_data(runs)
    rows = []
    for run in runs:
        rows.append(_row(run))
        rows += [_rounded_row(run, bits, form) for bits, form in run.result.rounded.items() if rounded]
    return pd.DataFrame(rows, columns=COLUMNS).astype(TYPES)


def accuracy_table(runs: Iterable[Run]) -> pd.DataFrame:
    """Test accuracies in percent, means over seeds: methods x domains in the order of the runs; NaN for no run.

    To compare methods over the domains that they share: `table.loc[methods].dropna(axis="columns")`.
    """
    return as_frame(runs).pivot_table("test_accuracy", "method", "domain", sort=False)


def by_domain(
    rows: Iterable[Mapping[str, Any]], key: str, value: Callable[[Any], float], against: str | None = None
) -> dict[str, dict[str, float]]:
    """A value of a study's rows, as data_scripts/studies.py records them: group -> domain -> its mean over seeds.

    key: the field that says to which group a row belongs, e.g. "cause". against: a group whose value of the same domain
    and seed is subtracted, so that what is hard for both cancels; rows without such a partner are left out.
    """
    found = pd.DataFrame([(row[key], row["domain"], row["seed"], float(value(row))) for row in rows])
    table = found.set_axis(["group", "domain", "seed", "value"], axis="columns").pivot_table(
        "value", ["domain", "seed"], "group", sort=False
    )
    if against is not None:
        table = table.sub(table[against], axis="index")
    means = table.groupby("domain", sort=False).mean()
    return {str(group): {str(d): v for d, v in means[group].dropna().items()} for group in means}


def mean_curve(runs: Sequence[Run], quantity: str) -> list[float]:
    """The mean over runs of a field of `Epoch`, one value for each epoch that all of them have; NaN where none is."""
    curves = [pd.Series([getattr(epoch, quantity) for epoch in run.log], dtype=float) for run in runs]
    return pd.concat(curves, axis="columns", join="inner").mean(axis="columns").tolist()


def label(run: Run) -> str:
    """What was trained, in short: "mad:8", followed in brackets by layers and options that are not the defaults."""
    rank, layers = run.result.rank, run.config.layers
    unusual = [] if layers == "all" else [_short(layers)]
    if isinstance(rank, dict):  # a rank for each layer, which `run.method` does not say
        unusual.append(f"rank {_short(rank)}")
    defaults = METHODS[run.result.method].options if run.result.method in METHODS else {}
    for name, value in run.config.options.items():
        if name != "rank" and value != defaults.get(name):
            unusual.append(f"{name} {_short(value)}")
    return run.method + (f" ({', '.join(unusual)})" if unusual else "")


def protocol_of(run: Run) -> str:
    """What runs must share to be compared, as a heading: base network, epochs, and what is unusual in the recipe."""
    defaults, recipe = Recipe(), run.config.recipe
    names = [field.name for field in fields(Recipe) if field.name not in (*TUNED, "seed", "epochs")]
    unusual = [name for name in names if getattr(recipe, name) != getattr(defaults, name)]
    base = f"{run.result.base.name or 'base without a name'} ({run.result.base.sha256[:8]})"
    told = [name if getattr(recipe, name) is True else f"{name} {getattr(recipe, name)}" for name in unusual]
    return ", ".join([base, f"{run.result.epochs} epochs", *told])


def _check_same_data(runs: Iterable[Run]) -> None:
    together: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        together.setdefault((protocol_of(run), run.result.domain), []).append(run)
    for (_, domain), own in together.items():
        for name, what in DATA.items():
            for run in own:
                if getattr(run.config, name) != getattr(own[0].config, name):
                    raise MadlabError(f"The images of {domain} {what} ({own[0].path}, {run.path}): report them apart.")
        if len({run.result.test_sha256 for run in own} - {""}) > 1:
            remark(
                f"The runs on {domain} were not tested on the same pixels: report those apart whose pictures are "
                "others, for tables and duels take them for the same."
            )


COLUMNS = """method family bits domain seed source rank layers protocol base base_sha256 base_source adapter_bytes
norm_bytes base_parameters adapter_parameters val_accuracy test_accuracy balanced_accuracy best_epoch epochs seconds
device date head_rate path""".split()
TYPES: dict[str, Any] = {"rank": "Int64", "bits": "Int64", "norm_bytes": "Int64"}
TYPES |= dict.fromkeys(("val_accuracy", "balanced_accuracy"), float)


def _row(run: Run) -> dict[str, Any]:
    result, config = run.result, run.config
    adapter_bytes, norm_bytes = _adapter_and_norm_bytes(run)
    return {name: getattr(result, name) for name in COLUMNS if hasattr(result, name)} | {
        "method": label(run),
        "family": result.method,
        "adapter_bytes": adapter_bytes,
        "norm_bytes": norm_bytes,
        "source": config.source,
        "rank": result.rank if isinstance(result.rank, int) else None,
        "layers": _short(config.layers),
        "protocol": protocol_of(run),
        "base": result.base.name,
        "base_sha256": result.base.sha256,
        "base_source": config.base.source,
        "head_rate": result.rates.get("head"),
        "path": run.path,
    }


def _rounded_row(run: Run, bits: str, form: Rounded) -> dict[str, Any]:
    return _row(run) | {
        "method": f"{label(run)} in {bits} bits",
        "bits": int(bits),
        "adapter_bytes": form.stored_bytes["adapter"],
        "norm_bytes": form.stored_bytes["norms"],
        "val_accuracy": form.val_accuracy,
        "test_accuracy": form.test_accuracy,
        "balanced_accuracy": None,
    }


def _short(value: Any) -> str:
    """A value as text; a long one as its beginning and a hash, so that different values stay different."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 24 else f"{text[:12]}…{hashlib.sha256(text.encode()).hexdigest()[:6]}"


LayerPoints = dict[tuple[str, str], tuple[float, list[float]]]
"""(layers, method) -> (adapter in percent of the base's filters, test accuracies in percent, one per seed)."""


def layer_points(runs: Iterable[Run]) -> dict[str, LayerPoints]:
    """Domain -> the runs on it by layers and method ("mad:8"), all in the order of the runs."""
    runs = list(runs)
    frame = as_frame(runs).assign(method=[run.method for run in runs])
    frame["share"] = 100 * frame["adapter_parameters"] / frame["base_parameters"]
    found: dict[str, LayerPoints] = {}
    for (domain, *choice), rows in frame.groupby(["domain", "layers", "method"], sort=False):
        found.setdefault(domain, {})[tuple(choice)] = rows["share"].iloc[0], rows["test_accuracy"].tolist()
    return found


def _adapter_and_norm_bytes(run: Run) -> tuple[int, int | None]:
    """Bytes that inference needs of a run's domain, without the head: its norms are scale and shift.

    An older run does not say them: a number of its adapter took four bytes (of a mask, whose bits count 1/32, this is
    exact up to the last byte of each layer), and its norms are those of its base, which are None where that does not
    ship with madlab.
    """
    if stored := run.result.stored_bytes:
        return stored["adapter"], stored["norms"]
    return NUMBER * run.result.adapter_parameters, _norm_bytes(run.config.base.source, run.result.base.sha256)


@cache
def _norm_bytes(source: str | None, sha256: str) -> int | None:
    """Bytes of a base's norms as scale and shift; None for a base that does not ship with madlab.

    A records file may be a stranger's: it gets no other file read.
    """
    if source not in {path.stem for path in WEIGHTS.glob("*.safetensors")}:
        return None
    network = load_base(str(source))
    if fingerprint(network) != sha256:
        return None
    net = MultiDomainNet(network)
    net.add_domain("any", 2, "frozen")
    return net.stored_bytes("any", norms="folded").norms
