"""Damaged files against madlab's readers: how many were tried, read rightly, refused with a sentence, or neither.

    make test-trust                                             (10,000 files of each kind)
    cd tests && python -m trust.runner --tries 100 --out /tmp/record.json

Each kind of file has originals, ways to damage them, a reader, and a judge that knows without madlab whether what was
read is right. The outcome depends on the number of tries and the seed alone.
"""

import argparse
import json
import math
import os
import resource
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from trust import damage

import madlab
from madlab.errors import MadlabError
from madlab.files.jsonfiles import read_json, read_json_lines, write_json
from madlab.files.tensors import load_tensors, save_tensors

LONGEST = 1000
"""Letters that a sentence of refusal has at most."""
EXAMPLES = 5
"""Failures of which the record tells the whole story."""


@dataclass(frozen=True)
class FileKind:
    """Files of one kind and how madlab reads them.

    read: what a reader makes of a path. right: whether that, read from these bytes, is what it must be; given the path
    of the undamaged original too.
    """

    originals: Sequence[Path]
    damages: Mapping[str, damage.Damage]
    read: Callable[[Path], Any]
    right: Callable[[Any, bytes, Path], bool]


def attempt(kind: FileKind, name: str, number: int, seed: int, folder: Path) -> tuple[str, str, str]:
    """Damage one file and read it: ("right" | "refused" | "failed", the damage's name, what went wrong)."""
    random = Random(f"{seed} {name} {number}")
    original = random.choice(kind.originals)
    which = list(kind.damages)[number % len(kind.damages)]
    data = kind.damages[which](original.read_bytes(), random)
    path = folder / f"damaged{original.suffix}"
    path.write_bytes(data)
    try:
        value = kind.read(path)
    except MadlabError as error:
        sentence = str(error)
        if "\n" in sentence or path.name not in sentence or len(sentence) > LONGEST or not sentence.isprintable():
            return "failed", which, f"not one sentence that names the file: {sentence}"
        return "refused", which, ""
    except Exception:
        return "failed", which, traceback.format_exc()
    return ("right", which, "") if kind.right(value, data, original) else ("failed", which, "taken for something else")


def run(kinds: Mapping[str, FileKind], tries: int, seed: int, folder: Path) -> dict[str, Any]:
    """The record: for each kind of file and of damage how many were tried, right, refused and failed, and examples."""
    record: dict[str, Any] = {"tries": tries, "seed": seed, "kinds": {}, "failures": []}
    for name, kind in kinds.items():
        outcomes: dict[str, Counter[str]] = {which: Counter() for which in kind.damages}
        for number in range(tries):
            outcome, which, story = attempt(kind, name, number, seed, folder)
            outcomes[which].update((outcome, "tried"))
            if outcome == "failed" and len(record["failures"]) < EXAMPLES:
                record["failures"].append({"kind": name, "damage": which, "number": number, "story": story})
        total = sum(outcomes.values(), Counter())
        record["kinds"][name] = _counts(total) | {"by damage": {which: _counts(c) for which, c in outcomes.items()}}
    return record


def _counts(counter: Counter[str]) -> dict[str, int]:
    return {key: counter[key] for key in ("tried", "right", "refused", "failed")}


# Kinds of files


def _equal(one: Any, other: Any) -> bool:
    """Equal to the last bit: tensors with their dtypes, 1 is not 1.0, NaN is NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and _bytes(one) == _bytes(other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return one == other or (isinstance(one, float) and math.isnan(one) and math.isnan(other))


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _as_the_original(read: Callable[[Path], Any]) -> Callable[[Any, bytes, Path], bool]:
    """The judge of files with a hash: whatever is read must be what is read from the original."""
    wholes: dict[Path, Any] = {}

    def right(value: Any, data: bytes, original: Path) -> bool:
        if original not in wholes:
            wholes[original] = read(original)
        return _equal(value, wholes[original])

    return right


def base_networks(folder: Path) -> FileKind:
    paths = []
    for width, options in ((2, {}), (3, {"resize": 36, "crop": 32})):
        torch.manual_seed(width)
        network = madlab.resnet26(num_classes=3, width=width)
        for key, value in options.items():
            setattr(network, key, value)
        paths.append(folder / f"base{width}.safetensors")
        madlab.save_base(network, paths[-1], name=f"base{width}", architecture="resnet26", width=width)

    def read(path: Path) -> Any:
        network = madlab.load_base(str(path))
        facts = {key: getattr(network, key, None) for key in ("name", "normalization", "resize", "crop")}
        return facts, dict(network.state_dict())

    return FileKind(paths, damage.BYTES | damage.TENSORS, read, _as_the_original(read))


METHODS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("mad", {}), ("mad", {"rank": 2}), ("piggyback", {}), ("mad+wtpb", {}), ("series", {}), ("lora", {"rank": 1}),
    ("prompt", {}), ("finetune", {}), ("frozen", {}),
)  # fmt: skip


def adapters(folder: Path) -> FileKind:
    torch.manual_seed(0)
    base = madlab.resnet26(num_classes=3, width=2)
    base.crop = 32
    net, paths = madlab.MultiDomainNet(base), []
    for number, (method, options) in enumerate(METHODS):
        net.add_domain(f"domain{number}", 3, method, class_names=["a", "b\u202e", "c"], **options)
        with (
            torch.no_grad()
        ):  # as training would: otherwise many tensors are equal, and exchanging them changes nothing
            for parameter in net.trainable_parameters(f"domain{number}"):
                parameter.add_(0.1 * torch.randn_like(parameter))
        paths += [folder / f"adapter{number}.safetensors", folder / f"packed{number}.safetensors"]
        net.save_domain(f"domain{number}", paths[-2])
        net.save_domain(f"domain{number}", paths[-1], bits=4, norms="folded")

    def read(path: Path) -> Any:
        other = madlab.MultiDomainNet(base)
        name = other.load_domain(path)
        return name, other.view(name).facts, dict(other.view(name).own_state())

    return FileKind(paths, damage.BYTES | damage.TENSORS, read, _as_the_original(read))


def checkpoints(folder: Path) -> FileKind:
    torch.manual_seed(0)
    tensors = {f"state.{i}": torch.randn(4, 5) for i in range(5)} | {"momentum.0": torch.tensor([float("nan")])}
    log = [{"epoch": epoch, "val_loss": 1 / epoch} for epoch in range(1, 9)] + [{"epoch": 9, "val_loss": float("nan")}]
    path = folder / "checkpoint.safetensors"
    save_tensors(path, tensors, {"log": log, "seconds": 1.5}, finite=False)

    def read(path: Path) -> Any:
        return load_tensors(path, finite=False)

    return FileKind([path], damage.BYTES | damage.TENSORS, read, _as_the_original(read))


def json_files(folder: Path) -> FileKind:
    """No hash protects JSON, so right is what the standard library reads in the same bytes."""
    path = folder / "config.json"
    config = {"domain": "signs", "rank": None, "recipe": {"epochs": 3, "rates": [0.1, 1e-3]}, "classes": ["ä", "b", ""]}
    write_json(path, config | {"deep": [[[{"a": [True, -5, 10**20]}]]]})

    def right(value: Any, data: bytes, original: Path) -> bool:
        return _equal(value, json.loads(data.decode("utf-8-sig"), parse_constant=float.fromhex))

    return FileKind([path], damage.BYTES | damage.JSON, read_json, right)


def json_lines(folder: Path) -> FileKind:
    path = folder / "metrics.jsonl"
    path.write_text("".join(json.dumps({"epoch": i, "loss": 1 / i, "rates": {"a": 0.1}}) + "\n" for i in range(1, 20)))

    def right(value: Any, data: bytes, original: Path) -> bool:
        return _equal(value, [json.loads(line) for line in data.removesuffix(b"\n").split(b"\n")])

    return FileKind([path], damage.BYTES | damage.JSON_LINES, read_json_lines, right)


def all_kinds(folder: Path) -> dict[str, FileKind]:
    """Every kind of file that is tried, with its originals in `folder`.

    To come with the readers that the other rooms get: run folders, annotations, manifests and archives; command lines
    have no file and will need a runner of their own.
    """
    makers = (adapters, base_networks, checkpoints, json_files, json_lines)
    return {maker.__name__.replace("_", " "): maker(folder) for maker in makers}


def limit_memory(spare: int = 2**30) -> None:
    """Let this process take `spare` bytes more than it has now: PyTorch alone maps up to 3.5 GB, mostly untouched."""
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    resource.setrlimit(resource.RLIMIT_AS, (mapped + spare, resource.RLIM_INFINITY))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=10_000, help="damaged files of each kind (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="the record, a JSON file")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        kinds = all_kinds(Path(folder))
        limit_memory()
        record = run(kinds, options.tries, options.seed, Path(folder))
    write_json(options.out, record)
    for name, counts in record["kinds"].items():
        print(f"{name}: " + ", ".join(f"{counts[key]} {key}" for key in ("tried", "right", "refused", "failed")))
    return 1 if record["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
