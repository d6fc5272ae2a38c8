r"""How long the benchmarks take at their real size: the official numbers of images, made by code, one method over all.

    python data_scripts/real_size.py decathlon --batch-size 256 --json decathlon.json
    python data_scripts/real_size.py sketch --batch-size 64 --json sketch.json

The first trains ResNet-26 on the nine domains without ImageNet (173,776 training images of 72 pixels), the second
DenseNet-121 on the five of ImageNet-to-Sketch (224 and 256 pixels). Pixels are noise, classes a little brighter one
after the other, and weights are random: only time and memory mean anything. Each domain is a whole run of
`madlab.train` (validation and test too) of two epochs, from the second of which, when all is warm, the hours of longer
runs follow. With --share 0.001 the script can be tried on a CPU.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models import densenet121

import madlab
from madlab.analysis.bench.clock import describe_machine
from madlab.benchmarks.decathlon import DECATHLON, IMAGENET
from madlab.benchmarks.domain import Domain
from madlab.benchmarks.protocol import DomainProtocol
from madlab.benchmarks.sketch import SKETCH, VALIDATION_SHARE
from madlab.benchmarks.split import Split
from madlab.device import chosen_device
from madlab.errors import MadlabWarning
from madlab.files.jsonfiles import write_json

DOMAINS = {
    "decathlon": [domain for domain in DECATHLON.domains if domain.name != IMAGENET],
    "sketch": list(SKETCH.domains),
}
EPOCHS = (20, 100)
"""Lengths of a run whose hours are reckoned. The paper's is not known."""


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Train, print and write what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=list(DOMAINS))
    parser.add_argument("--method", default="mad", help="with its rank, mad:8 (default: full mad)")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--width", type=int, default=32, help="channels of ResNet-26's stem (default: 32)")
    parser.add_argument("--share", type=float, default=1.0, help="of the images (default: all)")
    parser.add_argument("--device", help="where PyTorch computes; a GPU, if there is one")
    parser.add_argument("--compile", help="none launches training steps kernel by kernel")
    parser.add_argument("--json", type=Path, help="where the record goes")
    args = parser.parse_args(arguments)
    device = chosen_device(args.device)
    record: dict[str, Any] = {"machine": describe_machine(device), "asked": {k: str(v) for k, v in vars(args).items()}}
    rows = record["domains"] = []
    warnings.filterwarnings("ignore", category=MadlabWarning, message="Domain")  # of noise there is much to doubt
    for protocol in DOMAINS[args.benchmark]:
        torch.manual_seed(0)
        base = networks(args.width)[args.benchmark]()
        rows.append(measured(protocol, base, args))
        print(rows[-1], flush=True)
        if args.json:
            write_json(args.json, record)  # after each domain: what was measured is kept, should the time run out
    record["hours"] = {str(epochs): hours(rows, epochs) for epochs in EPOCHS}
    if args.json:
        write_json(args.json, record)
    print(f"{sum(row['images'] for row in rows):,} training images, {sum(row['seconds'] for row in rows) / 60:.1f} min")
    print(", ".join(f"{value} h with {epochs} epochs" for epochs, value in record["hours"].items()))
    return record


def networks(width: int) -> dict[str, Callable[[], nn.Module]]:
    """The base network of each benchmark, untrained."""
    return {
        "decathlon": lambda: sized(madlab.resnet26(1000, width), 72, 64),
        "sketch": lambda: sized(densenet121(weights=None), 256, 224),
    }


def sized(network: Any, resize: int, crop: int) -> nn.Module:
    """The network, told the size of its images in pixels."""
    network.resize, network.crop = resize, crop
    return network


def measured(protocol: DomainProtocol, base: nn.Module, args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of one run and of its second epoch with its validation, and its peak memory."""
    began = time.perf_counter()
    domain = made(protocol, args.share)
    making, ends = time.perf_counter() - began, []
    result = madlab.train(
        domain,
        args.method,
        base=base,
        epochs=2,
        crop=protocol.crop,
        batch_size=args.batch_size,
        device=args.device,
        compile=args.compile,
        progress=False,
        on_epoch=lambda _: ends.append(time.perf_counter()),
    )
    return {
        "domain": protocol.name,
        "images": len(domain.train),
        "making": round(making, 2),
        "epoch": round(ends[1] - ends[0], 2),
        "seconds": result.seconds,
        "cost": result.cost,
    }


def made(protocol: DomainProtocol, share: float) -> Domain:
    """A domain with this share of the official numbers of images, at least two in each split."""
    held_out = 0 if protocol.val else round(VALIDATION_SHARE * protocol.train)
    counts = {"train": protocol.train - held_out, "val": protocol.val or held_out, "test": protocol.test}
    few = {name: max(2, round(share * count)) for name, count in counts.items()}
    classes = min(protocol.classes, *few.values())
    train, val, test = (noise(count, classes, protocol.size) for count in few.values())
    names = [str(number) for number in range(classes)]
    return Domain(protocol.name, names, train, val, test, protocol.flip, protocol.normalization)


def noise(count: int, classes: int, side: int) -> Split:
    """Pictures (count, side, side, 3) of noise, made in place, each class a little brighter than the one before."""
    generator = torch.Generator().manual_seed(count)
    labels = torch.arange(count) % classes
    images = torch.randint(180, (count, side, side, 3), generator=generator, dtype=torch.uint8)
    images += (75 * labels / classes).byte()[:, None, None, None]
    return Split(images, labels)


def hours(rows: list[dict[str, Any]], epochs: int) -> float:
    """Of one method on all domains with so many epochs: what comes once, and the epochs."""
    once = sum(row["seconds"] - 2 * row["epoch"] for row in rows)
    return round((once + epochs * sum(row["epoch"] for row in rows)) / 3600, 3)


if __name__ == "__main__":
    main()
