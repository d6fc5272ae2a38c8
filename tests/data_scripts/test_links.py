"""The repository's address stands once; what repeats it is written by data_scripts/links.py."""

import contextlib
import importlib.util
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import nbformat
import pytest
from notebook_tools import NOTEBOOKS, REPOSITORY, ROOT, tagged

SCRIPT = ROOT / "data_scripts" / "links.py"
PAGE = ROOT / "notebooks" / "site" / "own_images.md"
FILES = [ROOT / "README.md", ROOT / "CITATION.cff", ROOT / "pyproject.toml", PAGE, *NOTEBOOKS]


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments, "--root", str(root)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    for name in ("README.md", "CITATION.cff", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_what_is_committed_is_what_the_script_writes(copy: Path) -> None:
    done = run(copy)
    assert (done.returncode, done.stdout) == (0, "")
    assert all((copy / path.relative_to(ROOT)).read_bytes() == path.read_bytes() for path in FILES)


@pytest.mark.slow
def test_a_new_address_replaces_the_old_one_everywhere_and_back(copy: Path) -> None:
    assert run(copy, "some-one/her.lab").returncode == 0
    for path in FILES:
        text = (copy / path.relative_to(ROOT)).read_text()
        assert REPOSITORY not in text and text.count("some-one/her.lab") == path.read_text().count(REPOSITORY) > 0
    assert run(copy, REPOSITORY).returncode == 0
    assert all((copy / path.relative_to(ROOT)).read_bytes() == path.read_bytes() for path in FILES)


@pytest.mark.slow
@pytest.mark.parametrize("address", ["madlab", "https://github.com/a/b", "a/b/c", "a/b c", "../b"])
def test_what_is_no_address_is_refused(copy: Path, address: str) -> None:
    done = run(copy, address)
    assert done.returncode == 1 and "write OWNER/NAME" in done.stderr
    assert REPOSITORY in (copy / "pyproject.toml").read_text()


def test_the_readme_lists_every_notebook_with_its_minutes() -> None:
    rows = re.findall(
        r"\[(\d\d) · .*\]\(notebooks/(.*)\) \| (\d+) \+ (\d+) \|$", (ROOT / "README.md").read_text(), re.M
    )
    assert [name for _, name, _, _ in rows] == [path.name for path in NOTEBOOKS]
    for path, (_, _, read, exercises) in zip(NOTEBOOKS, rows, strict=True):
        card = nbformat.read(path, as_version=4).cells[0].source
        assert f"{read} minutes, and {exercises} for the exercises" in card


HERE = "madlab is not installed here: pip install git"
AWAY = "pip could not install madlab; above, it says why"


@pytest.mark.parametrize(
    "colab, there, code, tried, words",
    [
        (True, False, 0, 1, None),
        (True, False, 1, 1, AWAY),
        (True, True, 0, 0, None),  # as a wheel that the reader has uploaded
        (False, True, 0, 0, None),
        (True, "package", 0, 0, "is another project: remove it"),
        (False, "module", 0, 0, "is another project: remove it"),  # a madlab.py beside the notebook
        (False, False, 0, 0, HERE),  # on another service, or in an editor with another Python
    ],
)
def test_the_install_cell_installs_in_colab_alone_and_says_what_is_missing(
    monkeypatch, colab, there, code, tried, words
) -> None:
    commands = []

    def install(command):
        commands.append(command)
        return subprocess.CompletedProcess(command, code)

    monkeypatch.setattr(subprocess, "run", install)
    if colab:
        monkeypatch.setitem(sys.modules, "google.colab", sys)
    origin = "madlab/__init__.py" if there else None  # without one for a folder
    spec = types.SimpleNamespace(origin=origin, submodule_search_locations=None if there == "module" else ["madlab"])
    foreign = there == "package" and "madlab.lessons"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == foreign else spec)
    (cell,) = tagged(nbformat.read(NOTEBOOKS[0], as_version=4), "install")
    with pytest.raises(SystemExit, match=words) if words else contextlib.nullcontext():
        exec(cell.source, {})
    assert [command[-1] for command in commands] == [f"git+https://github.com/{REPOSITORY}"] * tried
    assert all("--no-deps" in command for command in commands)
