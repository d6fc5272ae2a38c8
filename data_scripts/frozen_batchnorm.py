"""Masks and MAD with BatchNorm frozen at the base network's, as the authors of Piggyback and WTPB have it.

    python data_scripts/frozen_batchnorm.py --domains data/cifar10 data/gtsrb ... --no-flip gtsrb ... --out FOLDER

madlab gives every method a BatchNorm of its own (DESIGN.md). Whether that decides the comparison with masks is asked
here: the same recipe, epochs and rates as in the grids, seed 0. The rates were tuned with a BatchNorm that learns. Runs
that the folder holds already are not run again, so that processes can share it, each with its own domains.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

import madlab
from madlab.adapters import METHODS

COMPARED = ("mad", "piggyback", "wtpb")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domains", type=Path, nargs="+", required=True)
    parser.add_argument("--no-flip", nargs="*", default=(), help="names of the domains whose images are not mirrored")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in COMPARED:
        METHODS[name] = replace(METHODS[name], adapts_batchnorm=False)
    for folder in args.domains:
        flip = False if folder.name in args.no_flip else None
        for name in COMPARED:
            run = args.out / folder.name / name / "seed0"
            result = madlab.train(folder, name, flip=flip, epochs=args.epochs, seed=0, out=run, resume=True)
            print(f"{folder.name}, {name}: {result.test_accuracy:.2f} %", flush=True)


if __name__ == "__main__":
    main()
