"""Commands that are killed, and then given once more: they must end with the bytes of one that was not disturbed.

Each command runs in a fork of this process, which has PyTorch already, and ends by SIGKILL: at a random moment, or
(half of all kills) just before one of its calls that change what is on disk, so that files are half-written, written
and not renamed, or renamed and nothing else yet. The hook that counts these calls is in the fork, not in madlab.
"""

import contextlib
import itertools
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import archives as miniature
import numpy as np
import tiny
import torch
from scripts import load_script
from trust import damage
from trust.trials import PERISHABLE, Outcome

from madlab import cli
from madlab.adapters import METHODS
from madlab.benchmarks.decathlon import prepare_decathlon
from madlab.files.locks import LOCK
from madlab.runs import sweep, train  # noqa: F401  # imported once, before the forks

RANKED = {name: f"{name}:2" for name, method in METHODS.items() if method.options.get("rank")}
TRAINED = [*(RANKED.get(name, name) for name in METHODS), "mad:2"]
"""Every method, with a rank that the small network has; mad as it is and factorised."""
CHANGES = {"write", "pwrite", "fsync", "truncate", "ftruncate", "replace", "rename", "mkdir", "unlink", "rmdir"}
"""C functions before which a fork may be killed: between any two of them the disk is in another state."""

Work = Callable[[Path], object]
"""Does everything there is to do in a folder, from whatever is there."""


@dataclass(frozen=True)
class Kills:
    """Trial after trial in a folder of its own; works: by name, what is killed."""

    folder: Path
    works: dict[str, Work]
    whole: dict[str, tuple[dict[str, Any], int, float]]
    tries: int = 60

    def attempt(self, number: int, random: Random) -> Outcome:
        name = list(self.works)[number // 2 % len(self.works)]
        content, changes, seconds = self._undisturbed(name)
        way = f"{name}, {('at a random moment', 'while it writes')[number % 2]}"
        code = 0
        while code == 0:  # who had finished before was not killed
            place = self.folder / f"{number}-{random.random()}"
            if number % 2:
                code = run(self.works[name], place, at=random.randint(1, changes))
            else:
                code = run(self.works[name], place, after=random.uniform(0, 1) * seconds)
        if code != -signal.SIGKILL:
            return Outcome("failed", way, f"exit code {code} of what was to be killed: {_story(place)}")
        code = run(self.works[name], place)
        if code:
            return Outcome("failed", way, f"exit code {code} of the second call: {_story(place)}")
        found = contents(place)
        if found != content:
            differ = sorted(key for key in found.keys() | content.keys() if found.get(key) != content.get(key))
            return Outcome("failed", way, f"other bytes than of an undisturbed run: {', '.join(differ)}")
        shutil.rmtree(place)
        return Outcome("right", way)

    def _undisturbed(self, name: str) -> tuple[dict[str, Any], int, float]:
        """Content, number of changes on disk and seconds of a run that nobody kills."""
        if name not in self.whole:
            place, began = self.folder / f"whole {name}", time.time()
            assert run(self.works[name], place, count=True) == 0, _story(place)
            self.whole[name] = contents(place), int(_beside(place, "changes").read_text()), time.time() - began
        return self.whole[name]


def run(work: Work, place: Path, at: int | None = None, after: float | None = None, count: bool = False) -> int:
    """Run in a fork, killed before its change number `at` or `after` so many seconds; the exit code, -9 for a kill."""
    process = os.fork()
    if process == 0:
        _in_the_fork(work, place, at, count)
    if after is not None:
        time.sleep(after)
        os.kill(process, signal.SIGKILL)  # a process that has ended waits for us, so its number is nobody else's
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _in_the_fork(work: Work, place: Path, at: int | None, count: bool) -> None:
    changes, code = itertools.count(1), 1

    def on_call(_: object, event: str, function: object) -> None:
        if event == "c_call" and function.__name__ in CHANGES and next(changes) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        with (
            _beside(place, "told").open("w") as told,
            contextlib.redirect_stdout(told),
            contextlib.redirect_stderr(told),
        ):
            if at is not None or count:
                sys.setprofile(on_call)
            code = int(work(place) or 0)
            sys.setprofile(None)
        if count:
            _beside(place, "changes").write_text(str(next(changes)))
    except BaseException:
        sys.setprofile(None)
        _beside(place, "told").write_text(traceback.format_exc())
    finally:
        os._exit(code)


def _beside(place: Path, what: str) -> Path:
    return place.with_name(f"{place.name}.{what}")


def _story(place: Path) -> str:
    return _beside(place, "told").read_text()[-1500:]


def contents(place: Path) -> dict[str, Any]:
    """Everything below a folder by its path but locks, which mean nothing once their holder is dead."""
    files = (file for file in place.rglob("*") if file.is_file() and file.name != LOCK)
    return {file.relative_to(place).as_posix(): _content(file) for file in files}


def _content(file: Path) -> Any:
    """Its bytes, without what depends on the clock: seconds in JSON, and in the log of a checkpoint."""
    data = file.read_bytes()
    if file.parent.name == "checkpoint":
        return damage.split(data)[1]
    return _timeless(json.loads(data)) if file.suffix == ".json" else data


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: PERISHABLE.get(key, _timeless(inner)) for key, inner in value.items()}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value


# What is killed


def kills(folder: Path) -> Kills:
    """Train with every method, a sweep, a preparation, and a pre-training."""
    torch.set_num_threads(1)  # a fork has no other threads
    images, base = tiny.write_folder(folder / "images", counts=(4, 2, 3)), tiny.write_base(folder / "base.safetensors")
    common = ["--base", base, "--epochs", "2", "--batch-size", "6", "--device", "cpu"]
    works: dict[str, Work] = {}
    for method in TRAINED:
        words = ["train", "--domain", str(images), "--method", method, "--resume", *common]
        words += ["--option", "block=2"] if method == "peft:oft" else []
        works[f"train {method}"] = lambda place, words=words: cli.main([*words, "--out", str(place)])
    words = ["sweep", "--domains", str(images), "--methods", "mad,frozen", "--seeds", "2", *common]
    works["sweep"] = lambda place: cli.main([*words, "--out", str(place)])
    works["prepare"] = _preparation(folder)
    works["pretrain"] = _pretraining(folder)
    return Kills(folder, works, {}, max(60, 2 * len(works)))


def _preparation(folder: Path) -> Work:
    """Two domains and the labels of their test images, from archives that are there already."""
    minis = [miniature.tiny("aircraft", 3, (4, 2, 3), width=107), miniature.tiny("gtsrb", 4, (5, 3, 2))]
    protocol = miniature.decathlon(folder / "shelf", minis)
    labels = folder / "shelf" / "labels_test.zip"

    def work(place: Path) -> None:
        downloads = place / "decathlon" / "downloads"
        downloads.mkdir(parents=True, exist_ok=True)
        for key in ("devkit", "data"):
            name = protocol.archives[key].name
            if not (downloads / name).exists():
                (downloads / name).symlink_to(folder / "shelf" / name)
        prepare_decathlon(place, labels=labels, protocol=protocol)

    return work


def _pretraining(folder: Path) -> Work:
    script, data = load_script("pretrain_base"), folder / "pictures.npz"
    generator, arrays = np.random.default_rng(0), {}
    for split, count in (("train", 24), ("val", 8), ("test", 8)):
        pictures = [miniature.jpeg(generator.integers(0, 256, (36, 36, 3), np.uint8)) for _ in range(count)]
        arrays[f"{split}_blob"] = np.frombuffer(b"".join(pictures), np.uint8)
        arrays[f"{split}_offsets"] = np.cumsum([0, *map(len, pictures)])
        arrays[f"{split}_labels"] = np.arange(count) % 4
    np.savez(data, **arrays)
    words = [
        "--data",
        str(data),
        "--width",
        "2",
        "--sizes",
        "1x20,1x32",
        "--batch",
        "8",
        "--lr",
        "0.05",
        "--name",
        "small",
    ]

    def work(place: Path) -> None:
        script.main([*words, "--checkpoint", str(place / "checkpoint"), "--out", str(place / "out")])

    return work
