"""Runs that are made to fail in every way that `madlab diagnose` names, on pocket domains.

    python data_scripts/failures.py --out madlab/records/failures.jsonl
    python data_scripts/failures.py --out madlab/records/failures.jsonl --print
    python data_scripts/failures.py --out madlab/records/failures-bound-0.jsonl
    python data_scripts/failures.py --out madlab/records/failures-bound-4.jsonl --polyak 4

Adapter rates from a hundredth to a hundred times the method's own, rates of head and BatchNorm that are too high,
rank 1, no adapter, an untrained base network of width 4, two epochs, three images per class, and a loss that becomes
NaN. The limits of the diagnosis were chosen on `signs`; `digits` was not looked at before. Runs that the file holds
already are not made again. The second command prints the confusion tables. failures.jsonl, by which the diagnosis was
made, has the rates of its time, and so have the other two, the control of the bound of steps: those of the first round
of trials, which METHODS has in commit 2884c15.
"""

import argparse
import contextlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import madlab
from madlab.adapters import METHODS
from madlab.analysis.diagnosis import Failure, gather, read_failures, verdicts_by_cause
from madlab.analysis.diagnosis.signatures import (
    BASE,
    BATCHNORM,
    DIVERGED,
    EPOCHS,
    FORM,
    HEAD,
    NOTHING,
    OVERFITTING,
    RANK,
    TOO_HIGH,
    TOO_LOW,
)
from madlab.facts import method_and_options
from madlab.files.plain import write_bytes
from madlab.lessons import few
from madlab.runs.epoch import Diverged

DOMAINS = ("signs", "digits")
PART = {"train": 20, "val": 8, "test": 30, "classes": 10, "size": 24}
RECIPE: dict[str, Any] = {"epochs": 12, "batch_size": 20, "crop": 20}
HEAD_RATE, BATCHNORM_RATE = METHODS["mad"].rates.head, METHODS["mad"].rates.batchnorm


def plan() -> list[tuple[str, str, str, str, dict[str, Any]]]:
    """Every run as name, cause, reference, method and what differs from the recipe ("few" and "base" among it)."""
    usual = "mad × 1"
    return [
        *at_rates("mad", (1.0, 0.01, 100.0, 0.1, 10.0)),
        *at_rates("finetune", (1.0, 0.01, 100.0)),
        ("mad:4 × 1", RANK, usual, "mad:4", {}),
        *at_rates("mad:4", (0.01, 100.0)),
        ("mad:1", RANK, usual, "mad:1", {}),
        ("mad, NaN", DIVERGED, usual, "mad", {"adapter_lr": 1e30}),
        ("mad, head × 100", HEAD, usual, "mad", {"head_lr": 100 * HEAD_RATE}),
        ("mad, 2 epochs", EPOCHS, usual, "mad", {"epochs": 2}),
        ("finetune, 2 epochs", EPOCHS, "finetune × 1", "finetune", {"epochs": 2}),
        ("mad, 3 images", OVERFITTING, usual, "mad", {"few": 3, "epochs": 30}),
        ("mad, untrained base", BASE, usual, "mad", {"base": True}),
        ("finetune, untrained base", BASE, "finetune × 1", "finetune", {"base": True}),
        ("mad, BatchNorm × 100", BATCHNORM, usual, "mad", {"batchnorm_lr": 100 * BATCHNORM_RATE}),
        ("batchnorm", FORM, usual, "batchnorm", {}),
        *at_rates("parallel", (1.0, 0.01, 100.0)),
        # Hard ones, made after all limits had been chosen: rates that are slightly wrong, and other kinds of methods.
        *at_rates("mad", (0.3, 3.0)),
        *at_rates("piggyback", (1.0, 100.0)),
        *at_rates("lora", (1.0, 10.0)),
    ]


def at_rates(method: str, factors: Iterable[float]) -> Iterator[tuple[str, str, str, str, dict[str, Any]]]:
    """Entries of the plan for a method at multiples of its own rate."""
    name, options = method_and_options(method)
    for factor in factors:
        cause = NOTHING if factor == 1 else TOO_LOW if factor < 1 else TOO_HIGH
        changes = {} if factor == 1 else {"adapter_lr": factor * METHODS[name].rate(options)}
        yield f"{method} × {factor:g}", cause, f"{method} × 1", method, changes


def untrained() -> nn.Module:
    """A ResNet-26 of width 4 with random filters."""
    torch.manual_seed(0)
    return madlab.resnet26(num_classes=10, width=4)


def fail(
    domain: madlab.Domain, polyak: float, name: str, cause: str, reference: str, method: str, changes: dict[str, Any]
) -> Failure:
    """Make one run and gather its evidence; polyak: the bound of its steps."""
    changes, start = dict(changes), f"{domain.name}/"
    if images := changes.pop("few", None):
        domain = replace(few(domain, **PART | {"train": images, "size": None}), name=f"{domain.name}-few")
    base = untrained() if changes.pop("base", False) else madlab.load_base("pocket-resnet26")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        accuracy = None
        with contextlib.suppress(Diverged):
            settings = RECIPE | {"polyak": polyak} | changes
            accuracy = madlab.train(domain, method, base=base, out=place, progress=False, **settings).test_accuracy
        evidence = replace(gather(place, base), path=start + name)
    return Failure(cause, start + reference, evidence, accuracy)


def show(failures: Sequence[Failure]) -> None:
    """Print how often each true cause got which verdict, by domain, alone and beside the other runs."""
    for domain in DOMAINS:
        own = [failure for failure in failures if failure.evidence.path.startswith(f"{domain}/")]
        for beside in (False, True):
            print(f"\n{domain}, {'beside the other runs' if beside else 'alone'}: {len(own)} runs")
            for truth, verdicts in sorted(verdicts_by_cause(own, beside).items()):
                told = (f"{' or '.join(said)} {count}" for said, count in verdicts.most_common())
                print(f"  {truth}: " + "; ".join(told))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the file to make, one line per run")
    parser.add_argument("--polyak", type=float, default=0.0, help="the bound of the steps")
    parser.add_argument("--print", action="store_true", help="only print the tables of a file that exists")
    arguments = parser.parse_args()
    out: Path = arguments.out
    failures = read_failures(out) if out.exists() else []
    if not arguments.print:
        torch.set_num_threads(1)
        done = {failure.evidence.path for failure in failures}
        domains = [few(madlab.load_domain(name), **PART) for name in DOMAINS]
        for domain, run in ((domain, run) for run in plan() for domain in domains):
            if f"{domain.name}/{run[0]}" not in done:
                failures.append(fail(domain, arguments.polyak, *run))
                write_bytes(out, "".join(json.dumps(asdict(one)) + "\n" for one in failures).encode())
                print(f"{domain.name}, {run[0]}: {failures[-1].test_accuracy}", flush=True)
    show(failures)


if __name__ == "__main__":
    main()
