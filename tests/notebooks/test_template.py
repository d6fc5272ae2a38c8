"""The template notebook has the parts of a notebook of the course. `make test` runs its cells with all others."""

import importlib
import re
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from notebook_tools import NOTEBOOKS, ROOT, solution, tagged

from madlab import lessons

sys.path.insert(0, str(ROOT / "data_scripts"))
normalise = importlib.import_module("normalise_notebooks")

TEMPLATE = ROOT / "notebooks" / "site" / "template.ipynb"


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def tags(notebook: NotebookNode) -> set[str]:
    return {tag for cell in notebook.cells for tag in cell.metadata.get("tags", [])}


def card(notebook: NotebookNode) -> list[str]:
    return re.findall(r"^\| \*\*(.+?)\*\* \|", notebook.cells[0].source, re.MULTILINE)


def chapters(notebook: NotebookNode) -> list[str]:
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return re.findall(r"^## (?!Appendix · )(.+)$", text, re.MULTILINE)


def test_it_is_in_its_committed_form() -> None:
    template = read(TEMPLATE)
    assert normalise.as_bytes(normalise.normalised(deepcopy(template))) == TEMPLATE.read_bytes()


def test_it_has_what_every_notebook_of_the_course_has() -> None:
    template, course = read(TEMPLATE), [read(path) for path in NOTEBOOKS]
    assert tags(template) == set.union(*map(tags, course))
    assert all(card(template) == card(notebook) for notebook in course)
    assert all(chapters(template)[-3:] == chapters(notebook)[-3:] for notebook in course)
    assert tagged(template, "install")[0].source == tagged(course[0], "install")[0].source


def test_its_exercise_fails_bare_and_passes_solved() -> None:
    template = read(TEMPLATE)
    (exercise,) = tagged(template, "exercise")
    space: dict[str, Any] = {"lessons": lessons}
    for cell in tagged(template, "setup", "build"):
        exec(cell.source, space)
    stub, _, check = exercise.source.rpartition("\n")
    exec(stub, space)
    assert not eval(check, space).passed
    exec(solution(template, exercise), space)
    assert eval(check, space).passed
