"""What the machine refuses: a full disk, a folder that cannot be written, another writer. It takes root, who may mount.

Each case runs in forks of this process. It is right when the command ends with a sentence (or, of two writers, when one
ends well and the other is told so), when what was there before is whole, and when the same command ends well as soon as
nothing is in its way.
"""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import tiny
import torch
from trust import kills
from trust.trials import Outcome

from madlab import cli

NOBODY = 65534


@dataclass(frozen=True)
class Limits:
    """Trial after trial: each case as often as the next, with other sizes and moments."""

    folder: Path
    tries: int = 40

    def attempt(self, number: int, random: Random) -> Outcome:
        case = CASES[number % len(CASES)]
        place = self.folder / str(number)
        place.mkdir()
        told = case(self, place, random)
        way = case.__name__.replace("_", " ")
        return Outcome("right", way) if told is None else Outcome("failed", way, told)

    def train(self, out: Path, *more: str) -> int:
        return cli.main(["train", *self._common("--domain"), "--method", "mad:2", "--out", str(out), "--resume", *more])

    def sweep(self, out: Path) -> int:
        return cli.main(["sweep", *self._common("--domains"), "--methods", "mad,frozen", "--out", str(out)])

    def _common(self, domain: str) -> list[str]:
        base = ["--base", str(self.folder / "base.safetensors"), "--epochs", "2", "--device", "cpu"]
        return [domain, str(self.folder / "images"), *base]


# The cases: each returns what is wrong, or None


def full_disk(kind: Limits, place: Path, random: Random) -> str | None:
    """A tmpfs with room for some of the run's files and not for all; then it grows."""
    with _tmpfs(place / "disk", f"size={random.randint(1, 40) * 4}k"):
        out = place / "disk" / "run"
        code, told = _ended(kind.train, out)
        if code == 0:
            return None  # it fitted
        if code != 2 or not _one_sentence(told):
            return f"exit code {code}: {told}"
        subprocess.run(["mount", "-o", "remount,size=8m", place / "disk"], check=True)
        code, told = _ended(kind.train, out)
        return None if code == 0 and _whole(out) else f"exit code {code} with room: {told}"


def read_only_folder(kind: Limits, place: Path, random: Random) -> str | None:
    """Nobody in particular, in a folder of ours, before the run and in the middle of it."""
    out = place / "run"
    if random.random() < 0.5:
        kills.run(kind.train, out, after=random.uniform(0.2, 1.0))
    if (out / "result.json").exists():
        return None
    out.mkdir(exist_ok=True)
    before = kills.contents(out)
    out.chmod(0o555)
    code, told = _ended(_as_nobody(kind.train), out)
    if code != 2 or not _one_sentence(told) or kills.contents(out) != before:
        return f"exit code {code}: {told}"
    out.chmod(0o755)
    code, told = _ended(kind.train, out)
    return None if code == 0 and _whole(out) else f"exit code {code} when it may write: {told}"


def two_writers(kind: Limits, place: Path, random: Random) -> str | None:
    """The same run twice, the second a little later: one writes it, the other is told so or finds it finished."""
    return _beside_each_other(kind.train, place / "run", random, both=False)


def two_sweeps(kind: Limits, place: Path, random: Random) -> str | None:
    """The same sweep twice: the run that one of them has in hand is told by the other one, and left alone."""
    return _beside_each_other(kind.sweep, place / "runs", random, both=True)


CASES: tuple[Callable[[Limits, Path, Random], str | None], ...] = (
    full_disk,
    read_only_folder,
    two_writers,
    two_sweeps,
)


@contextlib.contextmanager
def _tmpfs(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def _ended(work: Callable[[Path], int], out: Path) -> tuple[int, str]:
    """Exit code, and what was said on both streams."""
    told = out.parent if os.access(out.parent, os.W_OK) else out
    name = (told.parent if os.path.ismount(told) else told) / out.name  # a full disk does not take the story either
    code = kills.run(lambda _: work(out), name)
    return code, kills._beside(name, "told").read_text()


def _one_sentence(told: str) -> bool:
    lines = [line for line in told.splitlines() if line.startswith("madlab: ")]
    return len(lines) == 1 and "Traceback" not in told


def _whole(out: Path) -> bool:
    return {path.name for path in out.iterdir()} == {
        "config.json", "metrics.jsonl", "result.json", "adapter.safetensors", "batch.png",
    }  # fmt: skip


def _as_nobody(work: Callable[[Path], int]) -> Callable[[Path], int]:
    def worked(out: Path) -> int:
        if os.getuid() == 0:  # to whom nothing is read-only
            os.setuid(NOBODY)
        return work(out)

    return worked


def _beside_each_other(work: Callable[[Path], int], out: Path, random: Random, both: bool) -> str | None:
    """Start the work twice, wait for both, and do it once more; both: whether both may be told of the other."""
    processes = []
    for number in range(2):
        process = os.fork()
        if process == 0:
            kills._in_the_fork(lambda _: work(out), out.with_name(f"{out.name}{number}"), None, False)
        processes.append(process)
        time.sleep(random.uniform(0, 1.5))
    ended = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
    told = [kills._beside(out.with_name(f"{out.name}{number}"), "told").read_text() for number in range(2)]
    if not set(ended) <= {0, 2} or not (both or 0 in ended) or any("Traceback" in each for each in told):
        return f"exit codes {ended}: {told}"
    code, last = _ended(work, out)
    runs = [path.parent for path in out.rglob("result.json")]
    return None if code == 0 and runs and all(map(_whole, runs)) else f"exit code {code} afterwards: {last}"


def limits(folder: Path) -> Limits:
    torch.set_num_threads(1)
    folder.chmod(0o755)  # nobody reads from it
    tiny.write_folder(folder / "images", counts=(4, 2, 3))
    tiny.write_base(folder / "base.safetensors")
    return Limits(folder)
