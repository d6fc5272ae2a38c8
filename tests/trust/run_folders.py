"""Run folders whose files are damaged, singly and together, against evaluate, report and resume.

A finished run is evaluated, reported or asked to go on; a half-done one goes on. Right is the accuracy of the test in
the training itself, the run as it was recorded, and the bytes of a run that was never stopped.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import tiny
import torch
from torch import nn
from trust import damage
from trust.files import holds
from trust.trials import PERISHABLE, Outcome, judged

import madlab
from madlab.runs.evaluate import evaluate
from madlab.runs.record import read_runs
from madlab.tables.report import write_report

METHODS = ("mad", "mad:2", "piggyback", "series", "lora:1", "prompt", "finetune")
OPTIONS: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 4,
    "head_lr": 0.1,
    "device": "cpu",
    "progress": False,
    "coarse": 0.0,
}
CONFIG, METRICS, RESULT, ADAPTER, CHECKPOINT = (
    "config.json", "metrics.jsonl", "result.json", "adapter.safetensors", "checkpoint.safetensors",
)  # fmt: skip
KINDS = {
    CONFIG: damage.BYTES | damage.JSON,
    RESULT: damage.BYTES | damage.JSON,
    METRICS: damage.BYTES | damage.JSON_LINES,
    ADAPTER: damage.BYTES | damage.TENSORS,
    CHECKPOINT: damage.BYTES | damage.TENSORS,
}
NAMES = (*KINDS, "failure.txt", ".lock")

Files = dict[str, bytes]


class Stopped(BaseException):
    """Nothing in madlab may catch it, as nothing can catch a kill."""


@dataclass(frozen=True)
class Trained:
    """A run that went through: what it was asked for, and its files when it was half-done and when it was whole."""

    method: str
    base: nn.Module | str
    half: Files
    whole: Files

    @property
    def result(self) -> dict[str, Any]:
        return json.loads(self.whole[RESULT])


@dataclass(frozen=True)
class RunFolders:
    """Trial after trial in FOLDER/run, of runs on FOLDER/images."""

    folder: Path
    runs: list[Trained] = field(default_factory=list)
    tries: int = 10_000

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def train(self, method: str, base: nn.Module | str, **more: Any) -> Any:
        options = OPTIONS | {"seed": METHODS.index(method)} | more
        return madlab.train(self.folder / "images", method, base=base, out=self.run, resume=True, **options)

    def attempt(self, number: int, random: Random) -> Outcome:
        one = random.choice(self.runs)
        command = COMMANDS[number % len(COMMANDS)]
        before = one.half if command is go_on else one.whole
        count = random.choice((1, 1, 1, 2, 3))
        names = random.sample([name for name in NAMES if name in before or random.random() < 0.1], count)
        shutil.rmtree(self.run, ignore_errors=True)
        self.run.mkdir()
        for name, data in before.items():
            (self.run / name).write_bytes(data)
        ways = sorted({self._damage(name, before.get(name), random) for name in names})
        way = f"{command.__name__.replace('_', ' ')}: {ways[0] if len(ways) == 1 else 'several'}"
        return judged(way, self.folder.name, lambda: command(self, one), lambda value: value)

    def _damage(self, name: str, data: bytes | None, random: Random) -> str:
        """Damage one file of the run, or put something where the run has none; what was done."""
        path = self.run / name
        if data is None or random.random() < 0.15:
            way = random.choice(list(damage.IN_ITS_PLACE))
            damage.put(way, path)
            return way
        if random.random() < 0.1:
            other = random.choice(self.runs)
            path.write_bytes((other.half if name == CHECKPOINT else other.whole)[name])
            return "another run's"
        way = random.choice(list(KINDS[name]))
        path.write_bytes(KINDS[name][way](data, random))
        return way


# The commands: each returns the verdict, or raises what madlab raises


def evaluated(kind: RunFolders, one: Trained) -> str:
    base = None if isinstance(one.base, str) else one.base
    if evaluate(kind.run, base=base, device="cpu") == one.result["test_accuracy"]:
        return "right"
    # The adapter file is hashed, so another accuracy can only be that of other images or of another cut.
    here, before = json.loads((kind.run / CONFIG).read_bytes()), json.loads(one.whole[CONFIG])
    asked = [(config["source"], config.get("recipe", {}).get("crop")) for config in (here, before)]
    return "as written" if asked[0] != asked[1] else "failed"


def reported(kind: RunFolders, one: Trained) -> str:
    if not (runs := read_runs(kind.run)):
        write_report(kind.run)  # says so
    (run,) = runs
    read = json.loads(json.dumps(run.to_json()))
    whole = {"config": json.loads(one.whole[CONFIG]), "result": one.result, "log": _lines(one.whole[METRICS])}
    if read == whole:
        return "right"
    here = {name: (kind.run / name).read_bytes() if (kind.run / name).is_file() else b"" for name in KINDS}
    said = {"config": json.loads(here[CONFIG]), "result": json.loads(here[RESULT]), "log": _lines(here[METRICS])}
    return "as written" if holds(read, said) else "failed"


def asked_again(kind: RunFolders, one: Trained) -> str:
    """`--resume` with a finished run returns its result."""
    result = json.loads(json.dumps(asdict(kind.train(one.method, one.base))))
    if _without_time(result) == _without_time(one.result):
        return "right"
    return "as written" if holds(result, json.loads((kind.run / RESULT).read_bytes())) else "failed"


def go_on(kind: RunFolders, one: Trained) -> str:
    kind.train(one.method, one.base)
    files = {name: (kind.run / name).read_bytes() for name in (METRICS, ADAPTER)}
    result = json.loads((kind.run / RESULT).read_bytes())
    same = all(data == one.whole[name] for name, data in files.items())
    return "right" if same and _without_time(result) == _without_time(one.result) else "failed"


COMMANDS = (evaluated, reported, asked_again, reported, go_on, reported)  # the quick one more often


def _without_time(result: dict[str, Any]) -> dict[str, Any]:
    return result | PERISHABLE


def _lines(data: bytes) -> list[Any]:
    return [json.loads(line) for line in data.splitlines()]


class Small(nn.Module):
    """Three convolutions: most of the time of a trial goes into what madlab does with each."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4, momentum=0.5), nn.ReLU(),
            nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6, momentum=0.5), nn.ReLU(),
            nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6, momentum=0.5), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(6, 3)
        self.resize, self.crop = 12, 10

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images).mean((2, 3)))


def run_folders(folder: Path, methods: Sequence[str] = METHODS) -> RunFolders:
    kind = RunFolders(folder)
    tiny.write_folder(folder / "images", counts=(8, 3, 20))
    torch.manual_seed(0)
    small, named = Small(), tiny.write_base(folder / "base.safetensors")

    def stop(entry: Any) -> None:
        raise Stopped

    def files() -> Files:
        return {path.name: path.read_bytes() for path in kind.run.iterdir() if path.name in KINDS}

    for method, base in [*((method, small) for method in methods), ("mad", named)]:
        shutil.rmtree(kind.run, ignore_errors=True)
        try:
            kind.train(method, base, on_epoch=stop)
        except Stopped:
            half = files()
        kind.train(method, base)
        kind.runs.append(Trained(method, base, half, files()))
    return kind
