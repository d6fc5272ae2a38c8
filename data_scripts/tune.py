r"""Learning rates by trial: the same number of trials for every method, judged on validation images only.

    OPTIONS="--no-flip gtsrb --out madlab/records/trials.json"
    python data_scripts/tune.py --domains data/gtsrb data/flowers $OPTIONS
    python data_scripts/tune.py --domains data/gtsrb data/flowers --head $OPTIONS
    python data_scripts/tune.py --domains data/gtsrb data/flowers --both $OPTIONS
    python data_scripts/tune.py --domains data/dtd10 data/pacs_art --head --methods finetune mad mad:8 $OPTIONS

Every method gets four values of its most important rate, about a factor of three apart: the adapter's or, where there
is no adapter, that of head and BatchNorm. The ends of the ranges were found before, on the validation images of signs:
those of finetune, mad and mad:8 got a fourth value beyond their first three; those of piggyback, wtpb, parallel,
prompt, peft:loha and peft:lokr were moved, in some thirty runs, until the best value lay inside. A trial is short
(6 epochs, at most 2,200 training images), and its domain has no test images at all: validation images take their
place. Trials that the file already holds are not run again.

The second command tries the head's rate, 0.1 instead of 0.3, at the adapter's rate that the first command chose. The
third tries 1.0 for both head and BatchNorm, because the method batchnorm needs it, and a small adapter might need it
too. The fourth was added because on domains of seven and ten classes most methods ended near the frozen network or
below it; it is the reason why a head with few classes learns more slowly (`madlab.runs.rates.peak_rates`).

Besides the rates, one property of MAD was tried, at rank 8 on the validation images of six domains (gtsrb, flowers,
cars196, pacs_art, dtd10, chars74k), in some twenty runs: the size at which the random half of the factors starts.
Standard deviations of 3, 1 and 0.3 were tried on the first two domains, the last two of them on all: 53.3 and 55.7 % on
average. Now it is 1 / sqrt(I), which is 0.35. Rates that fall with a layer's width were tried as well, and did not
help. Because rank 39 is hardly better than rank 13, a start of 1/2 at every rank was tried later, with rates of 0.01
and 0.005, on five of these domains: 51.7 and 51.2 instead of 50.2 % at rank 8, 50.6 and 52.6 instead of 52.3 % at rank
39. The same run with other rounding differed by two points on signs and by one on flowers, so this decides nothing, and
the start was kept.

The base network of full width got the same four values of the most important rate, with head and BatchNorm as chosen
above, on a GPU:

    python data_scripts/tune.py --domains data/gtsrb data/flowers --no-flip gtsrb --base resnet26-tinyimagenet \
        --out madlab/records/trials-full-width.json

The head's rates should have been tried there as well. How much they matter was found afterwards, when no GPU was
available any more: on a CPU, on two domains with few images, for eight methods, with three values each, about a factor
of three apart. Every method uses its best rate for the adapter:

    HEAD="--base resnet26-tinyimagenet --chosen madlab/records/trials-full-width.json \
        --out madlab/records/trials-full-width-head.json"
    EIGHT="finetune mad mad:8 piggyback wtpb parallel series lora"
    python data_scripts/tune.py --domains data/flowers --methods $EIGHT --head 0.015 0.05 0.15 $HEAD
    python data_scripts/tune.py --domains data/dtd10 --methods $EIGHT --head 0.0046875 0.015625 0.046875 $HEAD

The second command has the rates of the first times 10 / 32, because a head with few classes learns more slowly. Three
single trials were made before: 0.1 for mad on flowers and 0.03125 on dtd10, and 0.5 for lora, half of the rate in the
grid, which collapsed. Because full MAD gains on flowers at 0.15 and at 0.1, a head with many features learns more
slowly, too.
"""

import argparse
import json
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from madlab.adapters import METHODS
from madlab.backbones import load_base
from madlab.benchmarks import load_domain
from madlab.benchmarks.domain import Domain, Split
from madlab.files.jsonfiles import write_json
from madlab.runs.train import method_and_options, train
from madlab.sizes import image_size

RATES = {
    "frozen": [{"head_lr": rate, "batchnorm_lr": rate} for rate in (0.03, 0.1, 0.3, 1.0)],
    "batchnorm": [{"head_lr": rate, "batchnorm_lr": rate} for rate in (0.1, 0.3, 1.0, 3.0)],
    **{
        method: [{"adapter_lr": rate} for rate in rates]
        for method, rates in {
            "finetune": (0.03, 0.1, 0.3, 1.0),
            "mad": (0.02, 0.05, 0.15, 0.5),
            "mad:8": (0.002, 0.005, 0.015, 0.05),
            "piggyback": (0.003, 0.01, 0.03, 0.1),
            "wtpb": (0.3, 1.0, 3.0, 10.0),
            "mad+wtpb": (0.015, 0.05, 0.15, 0.5),
            "parallel": (0.1, 0.3, 1.0, 3.0),
            "series": (0.03, 0.1, 0.3, 1.0),
            "lora": (0.03, 0.1, 0.3, 1.0),
            "prompt": (3.0, 10.0, 30.0, 100.0),
            "peft:lora": (0.03, 0.1, 0.3, 1.0),
            "peft:loha": (1.0, 3.0, 10.0, 30.0),
            "peft:lokr": (0.3, 1.0, 3.0, 10.0),
            "peft:ia3": (0.3, 1.0, 3.0, 10.0),
        }.items()
    },
}
HEADS = {
    method: [{"head_lr": rate} for rate in ((0.03, 0.1, 0.3) if method in ("finetune", "mad", "mad:8") else (0.1,))]
    for method in RATES
    if method not in ("frozen", "batchnorm")
}
BOTH = {method: [{"head_lr": 1.0, "batchnorm_lr": 1.0}] for method in HEADS}
EPOCHS, IMAGES = 6, 2200


def without_test(path: str, size: int, flip: bool | None) -> Domain:
    """A domain with at most IMAGES training images, spread evenly, and validation images as its test images.

    size: short side in pixels.
    """
    domain = load_domain(path, size=size, flip=flip)
    step = -(-len(domain.train) // IMAGES)
    few = Split(domain.train.images[::step], domain.train.labels[::step])
    return replace(domain, train=few, test=domain.val)


def trial(path: str, flip: bool | None, method: str, rates: dict[str, Any], base: str) -> dict:
    """Run one trial on one thread; returns its line of the file."""
    torch.set_num_threads(1)
    network = load_base(base)
    domain = without_test(path, image_size(network).resize, flip)
    result = train(domain, method, base=network, epochs=EPOCHS, progress=False, **rates)
    line = {"domain": domain.name, "method": method, "rates": rates, "val_accuracy": result.val_accuracy}
    return line | {
        "epochs": EPOCHS,
        "seed": 0,
        "base": {"name": result.base.name, "sha256": result.base.sha256},
        "train_images": len(domain.train),
    }


def chosen_rates(lines: list[dict], method: str, base: str) -> dict[str, float]:
    """The adapter's rate with the best mean accuracy in these trials, where it is not the method's own already."""
    name, options = method_and_options(method)
    found = defaultdict(list)
    for line in lines:
        if (line["method"], line["base"]["name"], line["rates"].keys()) == (method, base, {"adapter_lr"}):
            found[line["rates"]["adapter_lr"]].append(line["val_accuracy"])
    best = max(found, key=lambda rate: fmean(found[rate]), default=None)
    return {} if best in (None, METHODS[name].rate(options)) else {"adapter_lr": best}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domains", nargs="+", required=True, help="folders or names, as madlab train takes them")
    parser.add_argument("--no-flip", nargs="*", default=[], help="names of domains whose images are not mirrored")
    parser.add_argument(
        "--head",
        type=float,
        nargs="*",
        metavar="RATE",
        help="try rates of the head, not of the adapter: these, or those of HEADS",
    )
    parser.add_argument("--both", action="store_true", help="try a higher rate of head and BatchNorm")
    parser.add_argument("--methods", nargs="+", choices=list(RATES), help="all that have trials, when not given")
    parser.add_argument("--base", default="pocket-resnet26", help="the base network, as madlab train takes it")
    parser.add_argument("--chosen", type=Path, help="trials of the adapter's rate that --head and --both go on from")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    tried = rates_to_try(args.head, args.both)
    lines = json.loads(args.out.read_text()) if args.out.exists() else []
    network: Any = load_base(args.base)
    base = network.name
    earlier = json.loads(args.chosen.read_text()) if args.chosen else []
    done = {(line["domain"], line["method"], json.dumps(line["rates"]), line["base"]["name"]) for line in lines}
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
        waiting = []
        for path, method in product(args.domains, args.methods or tried):
            flip = False if Path(path).name in args.no_flip else None
            for own_rates in tried[method]:
                rates = chosen_rates(earlier, method, base) | own_rates
                if (Path(path).name, method, json.dumps(rates), base) not in done:
                    waiting.append(pool.submit(trial, path, flip, method, rates, args.base))
        for future in as_completed(waiting):
            lines.append(future.result())
            print(" ".join(str(lines[-1][key]) for key in ("domain", "method", "rates", "val_accuracy")))
            write_json(args.out, sorted(lines, key=place_in_file))


def rates_to_try(head: list[float] | None, both: bool) -> dict[str, list[dict[str, float]]]:
    """Method -> rates to try. head: values of --head, of which an empty list means HEADS; both: whether --both."""
    if head:
        return {method: [{"head_lr": rate} for rate in head] for method in HEADS}
    if both:
        return BOTH
    return RATES if head is None else HEADS


def place_in_file(line: dict) -> tuple[str, int, str]:
    """Lines are sorted by domain, method in the order of RATES, and rates."""
    return line["domain"], list(RATES).index(line["method"]), str(line["rates"])


if __name__ == "__main__":
    main()
