"""Five methods with three seeds on small parts of the ten drawn domains, for notebook 04.

    python data_scripts/drawn_parts.py --out runs/drawn

Each part is made as the notebook makes its few signs: up to ten classes, 240 training images, 24 pixels a side. What is
finished in --out is not trained again; all of it goes to madlab/records/drawn.jsonl. About ten minutes on one core.
"""

import argparse
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

import madlab
from madlab.adapters.base import split_method
from madlab.benchmarks.pocket import DOMAINS
from madlab.lessons import few
from madlab.runs.record import RECORDS, Run, write_runs

METHODS = ("frozen", "batchnorm", "mad", "finetune", "mad:8")
SEEDS = (0, 1, 2)
CLASSES, TRAIN, VAL, TEST = 10, 240, 80, 150
"""Classes of a part at most, and its images, which are spread evenly over them."""
RECIPE: dict[str, Any] = {"epochs": 6, "batch_size": 20, "crop": 20}


def part(name: str) -> madlab.Domain:
    """A small part of a drawn domain, "few NAME"."""
    domain = madlab.load_domain(name)
    classes = min(CLASSES, domain.num_classes)
    images = {"train": TRAIN // classes, "val": VAL // classes, "test": TEST // classes}
    return replace(few(domain, classes=classes, **images), name=f"few {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where the runs are, or will be")
    out = parser.parse_args().out
    parts, runs = {name: part(name) for name in DOMAINS}, []
    for seed, name, method in tqdm(list(product(SEEDS, DOMAINS, METHODS))):
        family, rank = split_method(method)
        tuned = madlab.METHODS[family].rates_for({"rank": rank} if rank else {})
        folder = out / name / method / f"seed{seed}"
        madlab.train(
            parts[name],
            method,
            seed=seed,
            out=folder,
            resume=True,
            device="cpu",
            progress=False,
            # The rates are for batches of 64. The head's is left to `train`, which knows the batch.
            adapter_lr=tuned.adapter / 3,
            batchnorm_lr=tuned.batchnorm / 3,
            **RECIPE,
        )
        runs.append(Run.read(folder))
    write_runs(RECORDS / "drawn.jsonl", runs)


if __name__ == "__main__":
    main()
