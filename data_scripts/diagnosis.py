"""The recorded runs of notebook 12: capacities x learning rates, right and wrong ones, on one pocket domain.

    python data_scripts/diagnosis.py --out madlab/records/diagnosis.jsonl

Each method is trained at 0.01, 0.1, 1, 10 and 100 times its own adapter rate. Everything else is madlab's recipe,
shortened, on twenty classes with images of 24 pixels. Trials that the file already holds are not run again. A loss that
becomes NaN is a valid outcome here.
"""

import argparse
import json
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import torch

import madlab
from madlab.adapters import METHODS
from madlab.analysis.diagnosis import filter_change
from madlab.analysis.rate_trials import Trial, read_rate_trials
from madlab.facts import method_and_options
from madlab.files.plain import write_bytes
from madlab.lessons import few
from madlab.runs.config import RunConfig
from madlab.runs.epoch import Diverged
from madlab.runs.folder import ADAPTER
from madlab.runs.record import Run, read_log

DOMAIN = "glyphs"
PART = {"train": 14, "val": 4, "test": 8, "classes": 20, "size": 24}
RECIPE: dict[str, Any] = {"epochs": 5, "batch_size": 20, "crop": 20, "polyak": 0.0}
CAPACITIES = ("mad:1", "mad:4", "mad", "finetune")
FACTORS = (1.0, 0.01, 100.0, 0.1, 10.0)


def trial(domain: madlab.Domain, method: str, factor: float) -> Trial:
    """Train once, at `factor` times the method's own rate."""
    name, options = method_and_options(method)
    rate = factor * METHODS[name].rate(options)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        try:
            madlab.train(domain, method, adapter_lr=rate, out=place, progress=False, **RECIPE)
        except Diverged as error:
            return Trial(RunConfig.read(place), None, read_log(place), factor, None, str(error))
        run = Run.read(place)
        net = madlab.MultiDomainNet(madlab.load_base("pocket-resnet26"))
        moved = filter_change(net.view(net.load_domain(place / ADAPTER)))
    return Trial(run.config, run.result, run.log, factor, moved)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the file to make, one line per trial")
    out: Path = parser.parse_args().out
    torch.set_num_threads(1)
    domain = few(madlab.load_domain(DOMAIN), **PART)
    trials = read_rate_trials(out) if out.exists() else []
    done = {(one.method, one.factor) for one in trials}
    for factor, method in product(FACTORS, CAPACITIES):
        if (method, factor) not in done:
            trials.append(trial(domain, method, factor))
            write_bytes(out, "".join(json.dumps(one.to_json()) + "\n" for one in trials).encode())
        print(f"{method} at {factor:g} times its own rate", flush=True)


if __name__ == "__main__":
    main()
