r"""Which networks can be adapted: one from each of timm's families, and all of torchvision's classification networks.

    python data_scripts/networks.py                  # about 15 minutes on one core; a stopped run goes on
    python data_scripts/networks.py --print > notebooks/site/networks.md

Every network has random weights and random BatchNorm statistics, so nothing is downloaded. It gets a domain of seven
classes with the method mad on all layers, every parameter of which is then moved at random. The network works if

- the view returns logits of the right shape and every adapter gets a gradient,
- the merged network returns the same logits, up to LARGEST times the largest one, and
- the base is what it was.

It is refused if madlab says so in a sentence; anything else is a failure, and a defect. Of each of timm's families (the
modules of timm.models) the network with the fewest parameters is taken, among those that have a classifier. To save
time, networks whose names contain a word of BIG are skipped where there are others, and so are those made for timm's
own tests. Images are as small as the network accepts. Networks with more than LIMIT parameters or without a classifier
are left out, and listed with the reason.
"""

import argparse
import gc
import importlib.metadata
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from torch import nn
from tqdm import tqdm

from madlab.errors import MadlabError
from madlab.files.jsonfiles import read_json, write_json
from madlab.guard import fingerprint
from madlab.heads import find_heads
from madlab.network import MultiDomainNet
from madlab.sizes import image_size

OUT = Path(__file__).parents[1] / "madlab" / "records" / "networks.json"
LIMIT = 150_000_000
"""Parameters; with the adapters, their gradients and the merged copy that takes about 3 GB."""

BIG = ("base", "large", "huge", "giant")
LARGEST = 1e-4
CLASSES = 7
SIDES = (64, 96, 128, 160, 192, 224, 256)
"""Sides of images in pixels that are tried, before the network's own size."""

NAMES = {"family": "family", "network": "network", "million": "million parameters"}
WHY = NAMES | {"why": "why"}
TABLES = {
    "fails": WHY,
    "refused": WHY,
    "left out": WHY,
    "works": NAMES | {"adapted": "layers adapted", "head": "head", "difference": "merged - view, of the largest logit"},
}
"""The tables of the page: what becomes of a network -> field of its line -> title of the column."""


def networks() -> Iterator[tuple[str, str, str]]:
    """Library, family and name of every network to try; the name is empty where the family's smallest is taken."""
    for family in timm.list_modules():
        yield "timm", family, ""
    for name in torchvision.models.list_models(torchvision.models):
        family = torchvision.models.get_model_builder(name).__module__.rpartition(".")[2]
        yield "torchvision", family, name


def has_classifier(name: str) -> bool:
    config = timm.models.get_pretrained_cfg(name)
    return config is not None and bool(config.num_classes)


def smallest(family: str) -> str | None:
    """The network of one of timm's families with the fewest parameters, or None if none of them has a classifier."""
    names = [name for name in timm.list_models(module=family) if has_classifier(name)]
    names = [name for name in names if not name.startswith("test_")] or names
    names = [name for name in names if not any(word in name for word in BIG)] or names
    return min(names, key=lambda name: parameters(build("timm", name, "meta")), default=None)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def build(library: str, name: str, device: str) -> nn.Module:
    """A network with random weights, in eval mode."""
    torch.manual_seed(0)
    with torch.device(device):
        if library == "timm":
            return timm.create_model(name).eval()
        slow = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        return torchvision.models.get_model(name, weights=None, **slow).eval()


@torch.no_grad()
def enliven(network: nn.Module) -> None:
    """Give every BatchNorm random statistics, so that it shows if those of another are used."""
    for module in network.modules():
        mean, variance = getattr(module, "running_mean", None), getattr(module, "running_var", None)
        if mean is not None and variance is not None:
            mean.normal_(0, 0.1)
            variance.uniform_(0.5, 1.5)


@torch.no_grad()
def smallest_side(network: nn.Module) -> int:
    """The smallest of SIDES, in pixels, on which the network runs; its own size if it runs on none of them."""
    own = image_size(network).crop
    for side in (side for side in SIDES if side < own):
        try:
            network(torch.zeros(1, 3, side, side))
        except Exception:  # a network may raise anything for images that it does not accept
            continue
        return side
    return own


def try_to_adapt(network: Any) -> dict[str, Any]:
    """Adapt a network with random weights and check the result; returns its entries in the record."""
    enliven(network)
    side = smallest_side(network)
    network.resize = network.crop = side
    images = torch.randn(2, 3, side, side)
    found: dict[str, Any] = {"pixels": side}

    try:
        found |= {"head": ", ".join(find_heads(network))}
        net = MultiDomainNet(network)
        before = fingerprint(net.base)
        net.add_domain("domain", CLASSES, "mad")
        adapters = net.view("domain").adapters()
        found |= {"adapted": len(adapters)}
        with torch.no_grad():
            for parameter in net.trainable_parameters("domain"):
                parameter.add_(0.1 * torch.randn_like(parameter))
        logits = net(images, "domain")
        logits.sum().backward()
        idle = [name for name, adapter in adapters.items() if all(p.grad is None for p in adapter.parameters())]
        merged = net.merge("domain").eval()
        with torch.no_grad():
            difference = ((merged(images) - logits).abs().max() / logits.abs().max()).item()
    except MadlabError as error:
        return found | {"verdict": f"refused: {error}"}
    except Exception as error:  # a defect of madlab, which the record shows
        return found | {"verdict": f"fails: {type(error).__name__}: {error}".splitlines()[0]}

    faults = {
        f"logits of shape {tuple(logits.shape)}": logits.shape != (2, CLASSES),
        f"no gradient in {len(idle)} adapters, such as that of {', '.join(idle[:1])}": bool(idle),
        "merge differs": not difference <= LARGEST,
        "base changed": fingerprint(net.base) != before,
    }
    failed = [fault for fault, present in faults.items() if present]
    return found | {"difference": difference, "verdict": f"fails: {'; '.join(failed)}" if failed else "works"}


def row(library: str, family: str, name: str) -> dict[str, Any]:
    """One line of the record."""
    line: dict[str, Any] = {"library": library, "family": family, "network": name or smallest(family)}
    if line["network"] is None:
        return line | {"verdict": "left out: no network of this family has a classifier"}
    count = parameters(build(library, line["network"], "meta" if library == "timm" else "cpu"))
    line |= {"million": round(count / 1e6, 2)}
    if count > LIMIT:
        return line | {"verdict": f"left out: more than {LIMIT // 10**6} million parameters"}
    began = time.time()
    line |= try_to_adapt(build(library, line["network"], "cpu"))
    return line | {"seconds": round(time.time() - began, 1)}


def page(record: dict[str, Any]) -> str:
    """The record as the page notebooks/site/networks.md: what works, what is refused and why, what is left out."""
    groups: dict[str, list[dict[str, Any]]] = {"works": [], "refused": [], "left out": [], "fails": []}
    for line in record["networks"]:
        kind, _, why = line["verdict"].partition(": ")
        shown = line | {"family": f"{line['library']} {line['family']}", "why": why}
        if "difference" in line:
            shown["difference"] = f"{line['difference']:.0e}" if line["difference"] else "0"
        groups[kind].append(shown)
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    parts = [
        "# Networks that can be adapted",
        "One network of each of timm's families, that with the fewest parameters, and all of torchvision's "
        "classification networks: each with random weights, a domain of its own and all its layers adapted by MAD. It "
        "works if every adapter gets a gradient, the merged network gives the logits of the domain, and the base stays "
        "what it was.",
        f"Of {len(record['networks'])} networks {len(groups['works'])} work, {len(groups['refused'])} are refused with "
        f"a sentence, and {len(groups['left out'])} were left out"
        f"{f', and {len(failed)} fail' if (failed := groups['fails']) else ''}. Made with {versions} by "
        "`data_scripts/networks.py`, which can be run again; the record is `madlab/records/networks.json`.",
    ]
    for kind, columns in TABLES.items():
        if groups[kind]:
            rows = [[str(line.get(column) or "").replace("|", r"\|") for column in columns] for line in groups[kind]]
            titled = [list(columns.values()), ["---"] * len(columns), *rows]
            parts += [f"## {kind.capitalize()}", "\n".join(f"| {' | '.join(row)} |" for row in titled)]
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT, help="the record; what it already holds is not run again")
    parser.add_argument("--families", nargs="+", help="only these of timm's and torchvision's modules")
    parser.add_argument("--print", action="store_true", help="print the record as the site's page, and make nothing")
    args = parser.parse_args(arguments)
    if args.print:
        print(page(read_json(args.out)), end="")
        return
    versions = {name: importlib.metadata.version(name) for name in ("torch", "torchvision", "timm")}
    record: dict[str, Any] = read_json(args.out) if args.out.exists() else {"versions": versions, "networks": []}
    if record["versions"] != versions:
        raise SystemExit(f"{args.out} was made with {record['versions']}: move it away to make a new one.")
    done = {tuple(line[key] for key in ("library", "family", "network")) for line in record["networks"]}
    done |= {(library, family, "") for library, family, _ in done if library == "timm"}
    wanted = [network for network in networks() if args.families is None or network[1] in args.families]
    with tqdm([network for network in wanted if network not in done], unit="network") as bar:
        for library, family, name in bar:
            bar.set_description(f"{library} {name or family}")
            record["networks"].append(row(library, family, name))
            write_json(args.out, record)
            gc.collect()


if __name__ == "__main__":
    main()
