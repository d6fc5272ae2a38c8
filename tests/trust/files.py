"""Single files that are damaged: adapters, base networks, checkpoints, JSON and lines of JSON against their readers."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from trust import damage
from trust.trials import Outcome, judged

import madlab
from madlab.files.jsonfiles import read_json, write_json
from madlab.files.tensors import load_tensors, save_tensors
from madlab.runs.record import read_lines

Judge = Callable[[Any, bytes, Path], str]
"""(what a reader returned, the damaged bytes, the undamaged file) -> the verdict."""


@dataclass(frozen=True)
class FileKind:
    """Files of one kind and how madlab reads them: `read` makes something of a path, `verdict` judges it.

    places: what may stand in the file's place, as `read` opens it and takes nothing else.
    """

    originals: Sequence[Path]
    damages: Mapping[str, damage.Damage]
    read: Callable[[Path], Any]
    verdict: Judge
    tries: int = 10_000
    places: Sequence[str] = tuple(damage.IN_ITS_PLACE)

    def attempt(self, number: int, random: Random) -> Outcome:
        """Damage one file, or put something in its place, and read it."""
        original = random.choice(self.originals)
        path = original.with_name(f"damaged-{original.name}")
        data = b""
        if self.places and random.random() < 0.05:
            way = random.choice(self.places)
            damage.put(way, path)
        else:
            way = list(self.damages)[number % len(self.damages)]
            data = self.damages[way](original.read_bytes(), random)
            damage.clear(path)
            path.write_bytes(data)
        return judged(way, path.name, lambda: self.read(path), lambda value: self.verdict(value, data, original))


def equal(one: Any, other: Any) -> bool:
    """Equal to the last bit: tensors with their dtypes, 1 is not 1.0, NaN is NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and _bytes(one) == _bytes(other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other or (isinstance(one, float) and math.isnan(one) and math.isnan(other))


def holds(value: Any, said: Any) -> bool:
    """Whether a value has all that was said; what was not said has its default."""
    if isinstance(said, dict):
        return isinstance(value, dict) and all(key in value and holds(value[key], said[key]) for key in said)
    if isinstance(said, list):
        return isinstance(value, list) and len(value) == len(said) and all(map(holds, value, said))
    return value == (float(said) if isinstance(value, float) else said)


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def hashed(read: Callable[[Path], Any]) -> Judge:
    """The judge of files with a hash: whatever is read must be what is read from the original."""
    wholes: dict[Path, Any] = {}

    def verdict(value: Any, data: bytes, original: Path) -> str:
        if original not in wholes:
            wholes[original] = read(original)
        return "right" if equal(value, wholes[original]) else "failed"

    return verdict


def unhashed(parse: Callable[[bytes], Any]) -> Judge:
    """The judge of files without: what is read must be what `parse`, which is not madlab's, makes of the same bytes."""

    def verdict(value: Any, data: bytes, original: Path) -> str:
        if equal(value, parse(original.read_bytes())):
            return "right"
        try:
            return "as written" if equal(value, parse(data)) else "failed"
        except Exception:  # madlab has read what nobody else can
            return "failed"

    return verdict


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

    return FileKind(paths, damage.BYTES | damage.TENSORS, read, hashed(read))


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
        paths.append(folder / f"adapter{number}.safetensors")
        net.save_domain(f"domain{number}", paths[-1])

    other = madlab.MultiDomainNet(base)  # once, because to examine a base takes longer than all of the rest

    def read(path: Path) -> Any:
        assert other.domains == [], "a file that was refused has left something"
        name = other.load_domain(path)
        view = other.view(name)
        other.remove_domain(name)
        return name, view.facts, dict(view.own_state())

    return FileKind(paths, damage.BYTES | damage.TENSORS, read, hashed(read))


def checkpoints(folder: Path) -> FileKind:
    torch.manual_seed(0)
    tensors = {f"state.{i}": torch.randn(4, 5) for i in range(5)} | {"momentum.0": torch.tensor([float("nan")])}
    log = [{"epoch": epoch, "val_loss": 1 / epoch} for epoch in range(1, 9)] + [{"epoch": 9, "val_loss": float("nan")}]
    path = folder / "checkpoint.safetensors"
    save_tensors(path, tensors, {"log": log, "seconds": 1.5}, finite=False)

    def read(path: Path) -> Any:
        return load_tensors(path, finite=False)

    return FileKind([path], damage.BYTES | damage.TENSORS, read, hashed(read))


def json_files(folder: Path) -> FileKind:
    path = folder / "config.json"
    config = {"domain": "signs", "rank": None, "recipe": {"epochs": 3, "rates": [0.1, 1e-3]}, "classes": ["ä", "b", ""]}
    write_json(path, config | {"deep": [[[{"a": [True, -5, 10**20]}]]]})
    parse = unhashed(lambda data: json.loads(data.decode("utf-8-sig")))
    return FileKind([path], damage.BYTES | damage.JSON, read_json, parse)


def json_lines(folder: Path) -> FileKind:
    path = folder / "metrics.jsonl"
    path.write_text("".join(json.dumps({"epoch": i, "loss": 1 / i, "rates": {"a": 0.1}}) + "\n" for i in range(1, 20)))
    parse = unhashed(lambda data: [json.loads(line) for line in data.splitlines()])
    return FileKind([path], damage.BYTES | damage.JSON_LINES, lambda p: read_lines(p, lambda line, _: line), parse)
