"""What a sweep shows while it runs: accuracies where runs are finished, epochs where they are not."""

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from made_runs import made_run
from rich.console import Console
from tiny import write_base, write_folder

from madlab.runs.cell import Cell
from madlab.runs.live import State, grid


@pytest.fixture
def cells(tmp_path: Path) -> list[Cell]:
    """Two methods on two domains with two seeds of four epochs each; nothing is on disk yet."""
    return [
        Cell(tmp_path / domain / method / f"seed{seed}", f"./{domain}", {"method": name, "options": options}, 4)
        for domain in ("ants", "bees")
        for method, name, options in (("mad-8", "mad", {"rank": 8}), ("filter-subspace", "filter-subspace", {}))
        for seed in range(2)
    ]


def shown(cells: list[Cell], state: State) -> dict[str, list[str]]:
    """Method -> what its columns say."""
    table = grid(cells, state)
    columns = [[getattr(cell, "plain", cell) for cell in column.cells] for column in table.columns]
    return {row[0]: list(row[1:]) for row in zip(*columns, strict=True)}


def finish(cell: Cell, state: State, accuracy: float) -> None:
    cell.folder.mkdir(parents=True)
    made_run(cell.domain[2:], cell.options["method"], accuracy).result.write(cell.folder)
    state.settled.add(cell.folder)


def test_a_cell_fills_as_its_runs_do(cells: list[Cell]) -> None:
    state = State()
    assert shown(cells, state) == {
        "mad:8": ["0/8 epochs", "0/8 epochs"],
        "filter-subspace": ["0/8 epochs", "0/8 epochs"],
    }
    cells[0].folder.mkdir(parents=True)
    (cells[0].folder / "metrics.jsonl").write_text("{}\n{}\n{}\n")
    assert shown(cells, state)["mad:8"][0] == "3/8 epochs"
    finish(cells[1], state, 61.0)
    assert shown(cells, state)["mad:8"][0] == "61.00 (7/8 epochs)"
    (cells[0].folder / "metrics.jsonl").unlink()
    cells[0].folder.rmdir()
    finish(cells[0], state, 62.0)
    assert shown(cells, state)["mad:8"] == ["61.50", "0/8 epochs"]


def test_failures_are_counted(cells: list[Cell]) -> None:
    state = State()
    for cell in cells[2:4]:
        state.settled.add(cell.folder)
        state.failures[cell.folder] = "The loss became nan."
    assert shown(cells, state)["filter-subspace"] == ["2 failed", "0/8 epochs"]
    assert state.summary(cells) == "2/8 runs, 2 failed"


def test_names_are_text_and_not_markup(cells: list[Cell]) -> None:
    odd = [Cell(cell.folder, "./[bold]a\x1b[2Jb", cell.options, cell.epochs) for cell in cells[:2]]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(grid(odd, State()))
    text = console.export_text()
    assert "[bold]a" in text and "\x1b" not in text


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_a_sweep_shows_the_table_on_a_terminal_only(tmp_path: Path) -> None:
    write_folder(tmp_path / "noise")
    command = [sys.executable, "-m", "madlab", "sweep", "--domains", str(tmp_path / "noise"), "--methods", "mad"]
    command += ["--base", write_base(tmp_path / "small.safetensors"), "--epochs", "1", "--out", str(tmp_path / "runs")]
    environment = {key: value for key, value in os.environ.items() if key != "TQDM_DISABLE"} | {"TERM": "xterm"}
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other side was closed
                break
            if not part:
                break
            seen += part
    os.close(ours)
    assert process.returncode == 0 and b"Test accuracy in percent" in seen and b"1/1 runs" in seen
    plain = subprocess.run([*command[:-1], str(tmp_path / "other")], capture_output=True, env=environment)
    assert plain.returncode == 0 and b"Test accuracy in percent" not in plain.stderr
