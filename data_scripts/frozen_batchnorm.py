r"""Masks and MAD with BatchNorm frozen at the base network's, the default of Piggyback and WTPB.

    NINE="data/cifar10 data/omniglot data/gtsrb data/dtd10 data/flowers data/chars74k data/cars196 data/fashion_mnist \
        data/caltech100"
    python data_scripts/frozen_batchnorm.py --tune data/gtsrb data/flowers --domains $NINE data/pacs_art \
        data/pacs_sketch --no-flip gtsrb omniglot chars74k --seeds 3 --out runs/frozen-batchnorm

In madlab every domain owns its BatchNorm, whatever the method. This script asks whether that decides the comparison
with masks, using the recipe of the grids. Each method gets four values of the adapter's rate, about a factor of three
apart, on the validation images of the --tune domains (OUT/trials.json), and then the best of them on all --domains. The
values are far below those of tune.py, because nothing rescales the features any more: at the lowest of those values the
loss of MAD was NaN after one epoch. The lower end of each range was found on flowers. A trial that diverges has 0 %.

Methods are called METHOD-frozen-batchnorm in configs and results. What OUT already holds is not run again.
"""

import argparse
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tqdm.auto import tqdm
from tune import trial

from madlab.adapters import METHODS
from madlab.files.jsonfiles import write_json
from madlab.progress import track
from madlab.runs.train import train

BASE = "pocket-resnet26"
RECIPE: dict[str, Any] = {"epochs": 6, "coarse": 0.6, "polyak": 0.0}
RATES = {
    "mad": (0.0002, 0.0006, 0.002, 0.006),
    "piggyback": (0.00003, 0.0001, 0.0003, 0.001),
    "wtpb": (0.01, 0.03, 0.1, 0.3),
}
COMPARED = {f"{name}-frozen-batchnorm": rates for name, rates in RATES.items()}
for key, name in zip(COMPARED, RATES, strict=True):  # here and not in main(), so that worker processes have them too
    METHODS[key] = replace(METHODS[name], name=key, adapts_batchnorm=False)


def rate_trial(path: str, flip: bool | None, method: str, rate: float) -> dict[str, Any]:
    """A line of trials.json: the accuracy on validation images, 0 where the trial diverged."""
    rates = {"adapter_lr": rate}
    return {"domain": Path(path).name, "method": method, "rates": rates} | trial(path, flip, method, RECIPE | rates)


def run(folder: Path, out: Path, method: str, rates: dict[str, Any], flip: bool | None, seed: int) -> str:
    """Train and test in OUT/DOMAIN/METHOD/seedK on one thread; returns a line to print."""
    torch.set_num_threads(1)
    place = out / folder.name / method / f"seed{seed}"
    options: dict[str, Any] = {"base": BASE, "seed": seed, "flip": flip} | RECIPE
    result = train(str(folder), method, out=place, resume=True, progress=False, **options | rates)
    return f"{folder.name}, {method}, seed {seed}: {result.test_accuracy:.2f} %"


def side_by_side(pool: ProcessPoolExecutor, work: Callable, calls: Iterable[tuple], title: str) -> Iterable[Any]:
    """What `work` returns for each tuple of arguments, in their order, under a progress bar."""
    waiting = [pool.submit(work, *call) for call in calls]
    return (future.result() for future in track(waiting, title, len(waiting), title))


def best_rates(trials: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Method -> the rates with the highest validation accuracy, averaged over domains."""
    frame = pd.DataFrame(trials).assign(rates=[json.dumps(line["rates"]) for line in trials])
    means = frame.groupby(["method", "rates"], sort=False)["val_accuracy"].mean()
    return {method: json.loads(tried.droplevel("method").idxmax()) for method, tried in means.groupby("method")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tune", type=Path, nargs="+", required=True, help="folders of the domains for the trials")
    parser.add_argument("--domains", type=Path, nargs="+", required=True, help="folders of the domains for the runs")
    parser.add_argument("--no-flip", nargs="*", default=(), help="names of the domains whose images are not mirrored")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    flips = {folder: False if folder.name in args.no_flip else None for folder in (*args.tune, *args.domains)}
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
        file = args.out / "trials.json"
        if not file.exists():
            args.out.mkdir(parents=True, exist_ok=True)
            tries = [
                (str(folder), flips[folder], method, rate)
                for folder, (method, values) in product(args.tune, COMPARED.items())
                for rate in values
            ]
            write_json(file, list(side_by_side(pool, rate_trial, tries, "trials")))
        rates = best_rates(json.loads(file.read_text()))
        calls = [
            (folder, args.out, method, rates[method], flips[folder], seed)
            for seed, folder, method in product(range(args.seeds), args.domains, COMPARED)
        ]
        for line in side_by_side(pool, run, calls, "runs"):
            tqdm.write(line)


if __name__ == "__main__":
    main()
