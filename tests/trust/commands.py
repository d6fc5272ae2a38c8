"""Command lines made of the real parser's options, with values that a person, a script or an enemy may write.

500 run in this process, with the work stubbed where it would train, and 40 as real commands, whose standard output
may lead nowhere. Each ends with exit code 0, or with 2 and sentences on standard error, the last of which says why; a
value that no option of its type can mean must be refused. Every line starts from one that works, or from nothing.
"""

import argparse
import contextlib
import io
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import tiny
from made_runs import made_run
from trust.trials import Outcome

from madlab import cli
from madlab.benchmarks import fetch
from madlab.cli import parser as options_of
from madlab.lessons import course
from madlab.runs.engines import local
from madlab.runs.record import write_runs
from madlab.runs.training import Training

OFFLINE = Path(__file__).parents[1] / "offline"
NO_NUMBER = ("nan", "inf", "-inf", "-1", "1e999", "-1e-9", "", " ", "x", "0x10", "1,5", "½", "9" * 5000)
NO_WHOLE = (*NO_NUMBER, "1.5", "1e3", "99999999999999999999")
NO_TEXT = ("", " ", "x" * 5000, "/".join(["y" * 300] * 2))
TEXTS = (
    "x", ",", "a,b", "../x", "~", "-", "mad:0", "mad:-1", "mad:x", "mad:9999", "mad:3:3", ":3", "mad+", "peft:none",
    "\x1b[31mred\x1b[0m", "two\nlines", "right\u202eleft", "half\udcff", "torchvision:none", "torchvision:resnet18",
    "timm:none", "decathlon:none", "decathlon:gtsrb", "sketch:",
    "cpu", "small.safetensors", "cuda:99", "tpu", "cuda", "meta", "cpu:-1", "xla",
    "all", "3x3", "conv1,conv1", "inductor", "none", "../../../etc/passwd", "127.0.0.1:1", "a=1", "a=[1]", "a=nan",
    "rank=0", "rank=2", "alpha=1e400", "=1", "frame=-1",
)  # fmt: skip
PLACES = (
    "nothing", "a folder", "a file.txt", "a file.txt/x", "a FIFO", "a device", "a loop", "a dangling link", "read/only",
    "images", "images/train", "images/run", "small.safetensors", "done", "done/result.json", "../beside", "n" * 255,
    "\x1b[31mred.csv", "two\nlines.svg", "half\udcff.csv", "table.csv", "figure.png", "figure.gif", "deep/er/table.csv",
)  # fmt: skip
STRAY = ("--nonsense", "--epoch", "-x", "stray", "--", "--help", "--out", "--rank=2=3", "@file", "\x1b[2J", "--resum")
OUTLETS = ("somewhere", "a pipe without a reader", "a full disk", "nothing")
"""Where the standard output of a real command may lead."""
NO_OUTPUT, BROKEN_PIPE = 1, 141
"""Exit codes that mean that nobody can read what was said."""


@dataclass(frozen=True)
class Line:
    """A command line and, if it has one, the option whose value no meaning can be given to."""

    words: list[str]
    nonsense: str = ""


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code and standard error, and where its standard output led."""

    code: int
    told: str
    outlet: str = OUTLETS[0]


@dataclass(frozen=True)
class CommandLines:
    """Trial after trial in a folder with a few things to name; call: how line after line is run."""

    folder: Path
    tries: int
    call: Callable[[Sequence[str], int], Ended]

    def attempt(self, number: int, random: Random) -> Outcome:
        return self.ended(command_line(number, random), number)

    def ended(self, line: Line, number: int = 0) -> Outcome:
        """What comes of a command line."""
        place = self.folder / "place"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.folder / "template", place, symlinks=True, copy_function=shutil.copy2, ignore=_special)
        _make_special(place)
        way = line.words[0] if line.words and line.words[0] in commands() else "no command"
        before = Path.cwd()
        os.chdir(place)
        try:
            ended = self.call(line.words, number)
        except Exception:
            return Outcome("failed", way, f"{line.words!r:.600}: {traceback.format_exc()}")
        finally:
            os.chdir(before)
        return Outcome(*_verdict(line, way, ended))


def _verdict(line: Line, way: str, ended: Ended) -> tuple[str, str, str]:
    code, told = ended.code, ended.told
    lines = told.splitlines()
    if ended.outlet != OUTLETS[0]:
        way = f"{way}, output into {ended.outlet}"
    story = f"{line.words!r:.600}: exit code {code}, {told:.1500}"
    if not told.replace("\n", "").isprintable() or "Traceback" in told:
        return "failed", way, story
    said = bool(lines) and all(each.startswith(("madlab: ", "  ")) for each in lines)
    if (code, ended.outlet) in ((BROKEN_PIPE, OUTLETS[1]), (NO_OUTPUT, OUTLETS[2])):
        return ("refused", way, lines[-1] if said else "") if said or code == BROKEN_PIPE else ("failed", way, story)
    if code == 0:
        return ("failed", way, f"{line.nonsense} was accepted. {story}") if line.nonsense else ("right", way, "")
    return ("refused", way, lines[-1].removeprefix("madlab: ")) if code == 2 and said else ("failed", way, story)


def commands() -> dict[str, argparse.ArgumentParser]:
    """Every command by name, with its parser: a new one is tried as soon as it is there."""
    return options_of._parser()._subparsers._group_actions[0].choices


def command_line(number: int, random: Random) -> Line:
    """One command line: a line that works, of one command after the other, with one to three hostile additions."""
    if random.random() < 0.03:
        return Line(random.sample([*STRAY, *TEXTS, "train", "doctors"], random.randint(0, 3)))
    command = list(commands())[number % len(commands())]
    words, nonsense = working(command, random), ""
    actions = [action for action in commands()[command]._actions if action.option_strings and action.dest != "help"]
    for action in random.sample(actions, min(len(actions), random.choice((1, 1, 1, 2, 3)))):
        name, value = random.choice(action.option_strings), None
        if action.nargs != 0:
            pool, bad = _values(action)
            value = random.choice(bad if bad and random.random() < 0.6 else pool)
            if value in bad:
                nonsense = f"{name} {value!r:.60}"
        words += [name] if value is None else random.choice(([name, value], [f"{name}={value}"]))
        # argparse takes the last of two values: an earlier one that is nonsense may be replaced, but not parsed wrongly
    if random.random() < 0.1:
        words.insert(random.randint(0, len(words)), random.choice(STRAY))
        nonsense = ""
    return Line(words, nonsense)


def working(command: str, random: Random) -> list[str]:
    common = ["--base", "small.safetensors", "--epochs", "1"]
    known = {
        "train": ["--domain", "images", "--out", "new", *common],
        "sweep": ["--domains", "images", "--methods", "mad,frozen", "--out", "grid", *common],
        "evaluate": ["done"],
        "report": [random.choice(("done", "grid.jsonl"))],
        "diagnose": ["done"],
        "predict": ["done", "images/test"],
        "inspect": ["done"],
        "compare": ["done", "done"],
        "export": ["done", "small.pt2"],
        "course": ["new", "--no-open"],
        "prepare": [random.choice(("decathlon", "sketch", "open")), "--root", "data", "--domains", "gtsrb"],
        "bench": ["--parts", "files", "--width", "4", "--size", "32", "--batch", "2", "--methods", "mad"],
    }
    return [command, *(known[command] if command in known else _required(commands()[command]))]


def _required(parser: argparse.ArgumentParser) -> list[str]:
    """What a command that is not known here must be given: a run and new files, by the kinds of its options."""
    words = []
    for action in parser._actions:
        kind = getattr(action.type, "__name__", "")
        value = str(next(iter(action.choices))) if action.choices else {"_whole": "1", "_number": "1"}.get(kind, "done")
        if not action.option_strings:
            words.append(value)
        elif action.required:
            words += [action.option_strings[0], "new" if action.dest == "out" else value]
    return words


def _values(action: argparse.Action) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Values for an option, all and those that cannot mean anything."""
    if action.choices is not None:
        return TEXTS, TEXTS
    kinds = {"_whole": (("0", "1", "2", "٣", "1_0"), NO_WHOLE), "_number": (("0", "0.5", "1", "1e-3"), NO_NUMBER)}
    kinds |= {"_path": (PLACES, NO_TEXT), "_text": (TEXTS, NO_TEXT), "_names": (TEXTS, (*NO_TEXT, ",", "a,,b"))}
    kinds |= {"_option": (TEXTS, ("", "=1", "a", "a=[1]", "a=1e999"))}
    pool, bad = kinds.get(getattr(action.type, "__name__", ""), (TEXTS, ()))
    if action.dest == "parts":  # what it measures takes its time
        pool = ("files", "x", "files,x")
    if action.dest in ("domain", "domains"):
        pool = (*pool, *PLACES)
    return pool, bad


# What there is to name


def _template(folder: Path) -> None:
    place = folder / "template"
    tiny.write_folder(place / "images", counts=(4, 2, 2))
    tiny.write_base(place / "small.safetensors")
    (place / "a file.txt").write_text("not what you think\n")
    (place / "a folder" / "x").mkdir(parents=True)
    before = Path.cwd()
    os.chdir(place)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            code = cli.main([*working("train", Random(0)), "--out", "done", "--method", "mad:2"])
    finally:
        os.chdir(before)
    assert code == 0
    write_runs(place / "grid.jsonl", [made_run("signs", "mad", 70.0), made_run("signs", "finetune", 75.0)])


SPECIAL = ("a FIFO", "a device", "a loop", "a dangling link", "read")


def _special(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name in SPECIAL]


def _make_special(place: Path) -> None:
    os.mkfifo(place / "a FIFO")
    with contextlib.suppress(PermissionError):  # only root makes devices: this one is /dev/null once more
        os.mknod(place / "a device", 0o666 | 0o020000, os.makedev(1, 3))
    (place / "a loop").symlink_to("a loop")
    (place / "a dangling link").symlink_to("nowhere")
    (place / "read").mkdir(mode=0o555)


# How a line is run


@contextlib.contextmanager
def _without_work() -> Iterator[None]:
    """No training, no processes, no pauses between downloads that fail."""

    def result(training: Training, *_: Any) -> Any:
        return made_run(training.config.domain, training.config.method, 50.0).result

    with (
        mock.patch.object(Training, "run", result),
        mock.patch.object(local, "finish", lambda cell, **_: None),
        mock.patch.object(local, "finish_in_worker", lambda cell, folder: None),
        mock.patch.object(local, "_in_processes", lambda workers, cells, *_: ((cell, None) for cell in cells)),
        mock.patch.object(fetch, "PAUSE", 0),
        mock.patch.object(course, "open_course", lambda folder: mock.Mock(wait=lambda: 0)),
    ):
        yield


def _in_this_process(words: Sequence[str], number: int) -> Ended:
    told = io.StringIO()
    with _without_work(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(told):
        try:
            code = cli.main(words)
        except SystemExit as end:  # --help
            code = end.code if isinstance(end.code, int) else 1
    return Ended(code, told.getvalue())


def _as_a_command(words: Sequence[str], number: int) -> Ended:
    path = os.pathsep.join([str(OFFLINE), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = os.environ | {"PYTHONPATH": path, "MADLAB_DATA": "cache", "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "madlab", *words]
    outlet = OUTLETS[number // len(commands()) % len(OUTLETS)]
    with _opened(outlet) as output:
        if outlet == "nothing":
            command = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
        ran = subprocess.run(
            command, env=env, stdout=output, stderr=subprocess.PIPE, timeout=3600, stdin=subprocess.DEVNULL
        )
    return Ended(ran.returncode, ran.stderr.decode(errors="replace"), outlet)


@contextlib.contextmanager
def _opened(outlet: str) -> Iterator[int]:
    """The file descriptor of an outlet."""
    if outlet == "a full disk":
        output = os.open("/dev/full", os.O_WRONLY)
    elif outlet == "a pipe without a reader":
        reader, output = os.pipe()
        os.close(reader)
    else:
        output = os.open(os.devnull, os.O_WRONLY)
    try:
        yield output
    finally:
        os.close(output)


def command_lines(folder: Path) -> CommandLines:
    _template(folder)
    return CommandLines(folder, 500, _in_this_process)


def real_command_lines(folder: Path) -> CommandLines:
    _template(folder)
    return CommandLines(folder, max(40, len(OUTLETS) * len(commands())), _as_a_command)
