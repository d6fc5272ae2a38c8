r"""Learning rates by trial: the same number of trials, in the same places, for every method and every family of ranks.

    python data_scripts/tune.py --domains data/flowers data/gtsrb --no-flip gtsrb \
        --out madlab/records/trials.jsonl

A trial sets the rates of adapter, BatchNorm and head together and trains six epochs on at most 540 training images of
each of two domains that differ, flowers and traffic signs. What counts is the mean of their accuracies on at most 270
validation images; the domains of a trial have no test images at all, validation images take their place.

Each family gets twelve trials. The first is its START. The next seven are a random Latin hypercube on a log grid: seven
values of each rate from a quarter of START to four times it, each value once. The last four lie at random within a
factor of two of the best so far in all three rates, so that a best one at the edge is widened. The places are drawn
once and are the same for all families. If a family's best rate is still the lowest or the highest that it tried,
--more 4 gives every family four more trials around its best, until none is. A trial that diverges has 0 %.

This is the first round, with a recipe that takes 0.6 of the time of today's. The second, with that one, is
data_scripts/finals.py, and once it has begun this one is closed. data_scripts/replicates.py tries the best places of
the second with more seeds; METHODS has what a family's last round chose.

Families are the methods that have a rate; `mad` has one for alpha itself, four for ranks of the product and one for the
residual form. `frozen` has no rate: each run fits its head with as many weight decays as it has epochs, and chooses on
validation (madlab.runs.probe). START was found in earlier trials of one rate at a time, by the same domains' validation
images. Trials that the file already holds are not run again; it is written line by line.
"""

import argparse
import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from madlab.adapters import METHODS
from madlab.adapters.base import split_method
from madlab.backbones import load_base
from madlab.benchmarks import load_domain
from madlab.benchmarks.domain import Domain, Split
from madlab.runs.epoch import Diverged
from madlab.runs.train import train
from madlab.sizes import image_size

START = {
    "mad": 0.05,
    "mad:8": 0.015,
    "piggyback": 0.003,
    "wtpb": 3.0,
    "parallel": 1.0,
    "finetune": 0.3,
    "batchnorm": 0.0,
    "lora:8": 0.3,
    "hira:8": 0.015,
    "series": 0.3,
    "ksm": 0.05,
    "filter-subspace": 0.3,
    "mad:2": 0.015,
    "mad:39": 0.015,
    "mad:13": 0.015,
    "mad:8 residual": 0.015,
    "mad+wtpb": 0.05,
    "prompt": 30.0,
    "peft:lora:8": 0.3,
    "peft:dora:8": 0.3,
    "peft:hira:8": 0.015,
    "peft:loha:8": 3.0,
    "peft:lokr:8": 1.0,
    "peft:ia3": 3.0,
    "peft:oft": 0.03,
    "peft:hra:8": 0.3,
}
"""Family -> the adapter's rate around which it is tried; those of the duels first. For all, BatchNorm and head start at
NORM and HEAD."""
NORM, HEAD = 0.3, 0.1
KINDS = ("adapter_lr", "batchnorm_lr", "head_lr")
WIDE, NEAR, WIDTH, SPREAD = 7, 4, 4.0, 2.0
"""Trials of the hypercube, and around the best so far; by which factors they leave the middle."""
RECIPE: dict[str, Any] = {"epochs": 6, "coarse": 0.6, "polyak": 0.0}
TRAIN, VAL, SEED = 540, 270, 0
BASE = "pocket-resnet26"


def few_images(path: str, size: int, flip: bool | None) -> Domain:
    """A domain with at most TRAIN and VAL images, spread evenly, and validation images as its test images.

    size: short side in pixels.
    """
    domain = load_domain(path, size=size, flip=flip)
    train, val = thinned(domain.train, TRAIN), thinned(domain.val, VAL)
    return replace(domain, train=train, val=val, test=val)


def thinned(split: Split, most: int) -> Split:
    """Every n-th image of a split, so that there are at most `most`."""
    step = -(-len(split) // most)
    return Split(split.images[::step], split.labels[::step])


def places(more: int) -> list[tuple[np.ndarray, bool]]:
    """Factors of the three rates for each trial, and whether of the family's best so far, not of its START."""
    rng = np.random.default_rng(SEED)
    levels = np.linspace(-1, 1, WIDE)
    cube = WIDTH ** np.stack([rng.permutation(levels) for _ in KINDS], axis=1)
    near = SPREAD ** rng.uniform(-1, 1, (NEAR + more, len(KINDS)))
    return [(factors, False) for factors in (np.ones(len(KINDS)), *cube)] + [(factors, True) for factors in near]


def trial(
    path: str,
    flip: bool | None,
    family: str,
    rates: dict[str, Any],
    base: str = BASE,
    recipe: dict[str, Any] = RECIPE,
) -> dict[str, Any]:
    """The validation accuracy that a family reaches on one domain with these rates: 0 and why, where it diverges."""
    domain, (method, *form) = _domain(path, flip, base), family.split()
    options, images = {"form": form[0]} if form else None, {"val_images": len(domain.val)}
    try:
        result = train(domain, method, options=options, base=load_base(base), progress=False, **recipe | rates)
    except Diverged as error:
        return {"val_accuracy": 0.0, "failure": str(error)} | images
    return {"val_accuracy": result.val_accuracy} | images


@cache
def _domain(path: str, flip: bool | None, base: str) -> Domain:
    return few_images(path, image_size(load_base(base)).resize, flip)


def best_of(lines: list[dict[str, Any]]) -> dict[str, float]:
    """The rates with the highest mean accuracy; the first of equals."""
    best: dict[str, float] = max(lines, key=lambda line: line["mean"])["rates"]
    return best


def try_family(family: str, flips: dict[str, bool | None], out: Path, more: int) -> str:
    """Run what is missing of a family's trials on one thread, a line of the file for each; returns a line to print."""
    torch.set_num_threads(1)
    lines = [line for line in read_trials(out) if line["family"] == family]
    done = {line["trial"] for line in lines}
    for number, (factors, near) in enumerate(places(more)):
        if number in done:
            continue
        middle = best_of(lines) if near else {"adapter_lr": START[family], "batchnorm_lr": NORM, "head_lr": HEAD}
        rates = {kind: float(f"{middle[kind] * factor:.3g}") for kind, factor in zip(KINDS, factors, strict=True)}
        lines.append(tried(family, number, rates, flips, out, RECIPE))
    return f"{family}: {max(line['mean'] for line in lines):.2f} % with {best_of(lines)}{edges(lines)}"


def tried(
    family: str,
    number: int,
    rates: dict[str, float],
    flips: dict[str, bool | None],
    out: Path,
    recipe: dict[str, Any],
    seed: int = SEED,
) -> dict[str, Any]:
    """Run a trial on every domain and add it to the file; returns its line."""
    seeded = recipe | {"seed": seed}
    found = {Path(path).name: trial(path, flip, family, rates, recipe=seeded) for path, flip in flips.items()}
    accuracies = {name: one["val_accuracy"] for name, one in found.items()}
    line = {
        "family": family,
        "trial": number,
        "rates": rates,
        "mean": fmean(accuracies.values()),
        "val_accuracy": accuracies,
    }
    line |= seeded | {"base": BASE, "most_images": {"train": TRAIN, "val": VAL}}
    line["val_images"] = {name: one["val_images"] for name, one in found.items()}
    if failures := {name: one["failure"] for name, one in found.items() if "failure" in one}:
        line["failures"] = failures
    with out.open("a") as file:  # one short write in append mode: two workers do not mix their lines
        file.write(json.dumps(line) + "\n")
    return line


def edges(lines: list[dict[str, Any]], best: dict[str, float] | None = None) -> str:
    """Which of a family's best rates are the lowest or highest that it tried, as the end of a sentence.

    best: those of the lines without it.
    """
    best = best or best_of(lines)
    tried = {kind: {line["rates"][kind] for line in lines} for kind in KINDS}
    found = [kind for kind, values in tried.items() if len(values) > 1 and best[kind] in (min(values), max(values))]
    return f", at the edge in {', '.join(found)}" if found else ""


def read_trials(file: Path) -> list[dict[str, Any]]:
    """The lines of a trials file; none if there is no file yet."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def family_of(method: str, form: str | None = None) -> str | None:
    """The family of tune.START whose rates a method has, "mad:13" for example; None for `frozen`, which has no rate."""
    name, rank = split_method(method)
    if name == "frozen":
        return None
    if name != "mad" or form or rank is None:
        return f"{method} {form}" if form else method
    tuned = [split_method(family)[1] for family in START if family.startswith("mad:") and " " not in family]
    return next(f"mad:{own}" for own in tuned if own is not None and _least(own) == _least(rank))


def _least(rank: int) -> int:
    """The rank of `mad` from which on the rates of this one hold."""
    return max(least for least in METHODS["mad"].rates_by_rank if least <= rank)


def rates_of_trials(file: Path, method: str, form: str | None = None) -> dict[str, float]:
    """The best rates of a method's family in a trials file, as options of `train`; nothing for `frozen`.

    Raises ValueError if the family has no trial there.
    """
    family = family_of(method, form)
    return {} if family is None else best_of([line for line in read_trials(file) if line["family"] == family])


def command(doc: str | None, run: Callable[[str, dict[str, bool | None], Path, int], str]) -> None:
    """The command of a round of trials: `run` for each family that is asked for, several at a time.

    run: family, domain -> whether its images are mirrored, file, trials beyond the least -> a line to print.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domains", nargs="+", required=True, help="folders or names, as madlab train takes them")
    parser.add_argument("--no-flip", nargs="*", default=[], help="names of domains whose images are not mirrored")
    parser.add_argument("--families", nargs="+", choices=list(START), default=list(START), metavar="FAMILY")
    parser.add_argument("--more", type=int, default=0, help="trials around the best beyond the least that each gets")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    flips = {path: False if Path(path).name in args.no_flip else None for path in args.domains}
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(run, family, flips, args.out, args.more) for family in args.families]
        for future in as_completed(waiting):
            print(future.result(), flush=True)


if __name__ == "__main__":
    command(__doc__, try_family)
