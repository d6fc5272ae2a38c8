"""`madlab course`: the notebooks that a wheel carries, and a folder of one's own to work in."""

import json
import subprocess
import sys
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
from notebook_tools import NOTEBOOKS, ROOT

from madlab.cli import main
from madlab.errors import MadlabError
from madlab.lessons import course


def test_the_notebooks_are_copied_and_answers_are_never_overwritten(tmp_path, capsys):
    folder = tmp_path / "a" / "course"
    assert main(["course", str(folder), "--no-open"]) == 0
    assert [path.name for path in sorted(folder.iterdir())] == [path.name for path in NOTEBOOKS]
    assert all((folder / path.name).read_bytes() == path.read_bytes() for path in NOTEBOOKS)

    answered, lost = folder / NOTEBOOKS[1].name, folder / NOTEBOOKS[2].name
    answered.write_text("my answers")
    lost.unlink()
    capsys.readouterr()
    assert main(["course", str(folder), "--no-open"]) == 0
    assert capsys.readouterr().out.startswith("1 notebook ")
    assert answered.read_text() == "my answers" and lost.read_bytes() == NOTEBOOKS[2].read_bytes()


def test_jupyterlab_opens_on_the_first_notebook_in_the_folder(tmp_path, monkeypatch):
    started = []

    def run(command, cwd):
        started.append((command[1:], cwd))

    monkeypatch.setattr(course.subprocess, "Popen", run)
    for user, more in ((1000, []), (0, ["--allow-root"])):
        monkeypatch.setattr(course.os, "geteuid", lambda user=user: user)
        course.open_course(tmp_path)
        assert started.pop() == (["-m", "jupyterlab", *more, NOTEBOOKS[0].name], tmp_path)


def test_what_is_missing_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    assert main(["course", str(tmp_path / "file" / "below")]) == 2
    assert "name another one" in capsys.readouterr().err
    monkeypatch.setattr(course, "find_spec", lambda name: None)
    with pytest.raises(MadlabError, match=r'pip install "madlab\[lab\]"'):
        course.open_course(tmp_path)
    monkeypatch.setattr(course, "PACKED", tmp_path / "none")
    monkeypatch.setattr(course, "CHECKOUT", tmp_path / "none")
    with pytest.raises(MadlabError, match="has no notebooks"):
        course.notebooks()


def test_a_wheel_carries_every_notebook_with_empty_outputs(tmp_path, monkeypatch):
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    monkeypatch.setattr(course, "PACKED", tmp_path / "madlab" / "course.zip")
    packed = course.notebooks()
    assert list(packed) == [path.name for path in NOTEBOOKS]
    for path in NOTEBOOKS:
        source, copy = json.loads(path.read_text()), json.loads(packed[path.name])
        assert [cell["source"] for cell in copy["cells"]] == [cell["source"] for cell in source["cells"]]
        code = [cell for cell in copy["cells"] if cell["cell_type"] == "code"]
        assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) <= 250 - 7  # setuptools adds the licence and six of its own
    with ZipFile(tmp_path / "wheel.zip", "w", ZIP_DEFLATED) as archive:
        for path in files:
            archive.write(path, path.relative_to(tmp_path))
    assert (tmp_path / "wheel.zip").stat().st_size < 20e6
