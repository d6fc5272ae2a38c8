"""The recorded runs of notebook 11: capacities x learning rates, right ones and wrong ones, on one pocket domain.

    python data_scripts/diagnosis.py --out madlab/results/diagnosis

Each method is trained at a hundredth, a tenth, one, ten and a hundred times its own adapter rate; all else is madlab's
recipe, shortened, on twenty classes with images of 24 pixels. Runs that the folder holds already are not run again. A
loss that becomes NaN is an outcome here. --factors N N runs a part of the grid, so that processes can share it.
"""

import argparse
from pathlib import Path

import torch

import madlab
from madlab.adapters import METHODS
from madlab.adapters.base import split_method
from madlab.diagnosis import SYMPTOMS, filter_change
from madlab.files import write_json
from madlab.lessons.small import few
from madlab.runfolder import ADAPTER

DOMAIN = "glyphs"
PART = {"train": 14, "val": 4, "test": 8, "classes": 20, "size": 24}
RECIPE = {"epochs": 5, "batch_size": 20, "crop": 20, "coarse": 0.0}
CAPACITIES = ("mad:1", "mad:4", "mad", "finetune")
FACTORS = (1.0, 0.01, 100.0, 0.1, 10.0)


def trial(domain: madlab.Domain, method: str, factor: float, run: Path) -> dict:
    """Train once into the run folder; returns what symptoms.json holds."""
    name, rank = split_method(method)
    rate = factor * METHODS[name].rate({"rank": rank})
    try:
        result = madlab.train(domain, name, rank=rank, adapter_lr=rate, out=run, resume=True, progress=False, **RECIPE)
    except madlab.MadlabError as error:
        if "The loss became" not in str(error):
            raise
        return {"factor": factor, "moved": None, "test_accuracy": None, "failure": str(error)}
    net = madlab.MultiDomainNet(madlab.load_base("pocket-resnet26"))
    moved = filter_change(net.view(net.load_domain(run / ADAPTER)))
    return {"factor": factor, "moved": moved, "test_accuracy": result.test_accuracy, "failure": ""}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--factors", type=float, nargs="+", default=FACTORS, choices=FACTORS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    domain = few(madlab.load_domain(DOMAIN), **PART)
    for factor in args.factors:
        for method in CAPACITIES:
            run = args.out / method.replace(":", "-") / f"rate{factor:g}"
            if not (run / SYMPTOMS).exists():
                write_json(run / SYMPTOMS, trial(domain, method, factor, run))
            print(f"{method} at {factor:g} of its rate", flush=True)


if __name__ == "__main__":
    main()
