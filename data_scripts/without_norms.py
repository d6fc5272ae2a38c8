"""Whether the rates of METHODS hold on a network without norms: pocket-resnet26 with its BatchNorm folded away.

    python data_scripts/without_norms.py --out madlab/records/without-norms.jsonl
    python data_scripts/without_norms.py --out madlab/records/without-norms.jsonl --print

Every method trains on parts of two drawn domains with three values of `curvature.LIMIT`: infinite, which leaves its
rates as they are, 4, which is near what is stable, and that of the library. One seed, six epochs. Runs that the file
holds already are not made again. About fifteen minutes on one core. The second command prints the page's table.
"""

import argparse
import copy
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from math import inf
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from tqdm.auto import tqdm

import madlab
from madlab.benchmarks.domain import Domain
from madlab.lessons import few
from madlab.progress import track
from madlab.runs import curvature
from madlab.runs.epoch import Diverged
from madlab.runs.record import Run, read_runs, write_runs
from madlab.tables.output import markdown

BASE = "pocket-resnet26"
DOMAINS = ("signs", "glyphs")
METHODS = (
    *("mad", "mad:8", "finetune", "piggyback", "wtpb", "lora:8", "hira:8"),
    *("parallel", "series", "ksm", "filter-subspace"),
)
LIMITS = {"none": inf, "4": 4.0, "own": curvature.LIMIT}
RECIPE: dict[str, Any] = {"epochs": 6, "seed": 0}


def folded(network: nn.Module) -> nn.Module:
    """The network with every BatchNorm behind a convolution of a block, or of the stem, folded into it."""
    network = copy.deepcopy(network).eval()
    for module in list(network.modules()):
        for conv, norm in (("conv", "bn"), ("conv1", "bn1"), ("conv2", "bn2")):
            if isinstance(getattr(module, conv, None), nn.Conv2d) and hasattr(module, norm):
                setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm)))
                setattr(module, norm, nn.Identity())
    return network


def parts() -> Iterator[Domain]:
    """Up to twenty classes of each domain with twenty training images each."""
    for name in DOMAINS:
        yield few(madlab.load_domain(name), train=20, val=8, test=20, classes=20, size=36)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the records file to write")
    parser.add_argument("--print", action="store_true", help="print the record as a table, and train nothing")
    options = parser.parse_args()
    runs = read_runs(options.out) if options.out.exists() else []
    if options.print:
        print(table(runs))
        return
    made = {(run.result.domain, run.method) for run in runs}
    network = folded(madlab.load_base(BASE))
    planned = [(domain, "frozen", "own") for domain in parts()]
    planned += [(domain, method, limit) for domain, method, limit in product(parts(), METHODS, LIMITS)]
    for domain, method, limit in track(planned, "runs", len(planned), "runs"):
        part = replace(domain, name=f"{domain.name}-limit-{limit}")
        if (part.name, method) in made:
            continue
        try:
            runs.append(finished(part, method, network, LIMITS[limit]))
        except Diverged as error:  # which belongs to the answer: the table says it
            tqdm.write(f"{part.name}, {method}: {error}")
        write_runs(options.out, runs)


def finished(domain: Domain, method: str, network: nn.Module, limit: float) -> Run:
    """A run with this limit of the product of rate and curvature."""
    kept, curvature.LIMIT = curvature.LIMIT, limit
    folder = Path(tempfile.mkdtemp())
    try:
        madlab.train(domain, method, base=network, out=folder / "run", progress=False, **RECIPE)
        return Run.read(folder / "run")
    finally:
        curvature.LIMIT = kept
        shutil.rmtree(folder)


def table(runs: list[Run]) -> str:
    """Mean test accuracy over the domains of every method, by limit; frozen features have no rate."""
    found: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        limit = run.result.domain.rpartition("-")[2]
        found.setdefault(run.method, {}).setdefault(limit, []).append(run.result.test_accuracy)

    def told(by: dict[str, list[float]], limit: str) -> str:
        return f"{fmean(by[limit]):.1f}" if len(by.get(limit, ())) == len(DOMAINS) else "diverged"

    means = [[told(by, limit if name != "frozen" else "own") for name, by in found.items()] for limit in LIMITS]
    return markdown(["method", "rates as they are", "limit 4", f"limit {curvature.LIMIT:g}"], [list(found), *means])


if __name__ == "__main__":
    main()
