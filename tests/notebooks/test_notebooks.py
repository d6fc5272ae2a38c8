"""Every notebook is whole: in its committed form, built by the rules, with exercises that can be failed and solved.

That its cells run is nbval's work: pytest --nbval --nbval-current-env notebooks
"""

import importlib
import os
import re
import subprocess
import sys
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode
from notebook_tools import NOTEBOOKS, REPOSITORY, ROOT, solution, tagged, words

from madlab import lessons

sys.path.insert(0, str(ROOT / "data_scripts"))
normalise = importlib.import_module("normalise_notebooks")
links = importlib.import_module("links")

CARD = ("You will be able to", "Before this", "Reading", "Running", "Data", "Paper")
TAGS = {"install", "setup", "build", "exercise", "interactive", "controls", "hide-input", "nbval-check-output"}


@pytest.fixture(params=NOTEBOOKS, ids=[path.stem[:2] for path in NOTEBOOKS])
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def notebook(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def markdown(notebook: NotebookNode) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def headings(notebook: NotebookNode) -> list[tuple[int, str]]:
    text = re.sub(r"```.*?```", "", "\n".join(markdown(notebook)), flags=re.DOTALL)
    return [(len(marks), title) for marks, title in re.findall(r"^(#+) +(.+)$", text, re.MULTILINE)]


def test_is_in_its_committed_form(path: Path, notebook: NotebookNode) -> None:
    assert normalise.as_bytes(normalise.normalised(deepcopy(notebook))) == path.read_bytes(), (
        f"run: python data_scripts/normalise_notebooks.py notebooks/{path.name}"
    )
    assert "widgets" not in notebook.metadata
    nbformat.validate(notebook)


def test_tags_are_known(notebook: NotebookNode) -> None:
    used = {tag for cell in notebook.cells for tag in cell.metadata.get("tags", [])}
    assert used <= TAGS


def test_card(path: Path, notebook: NotebookNode) -> None:
    card = markdown(notebook)[0]
    assert notebook.cells[0].cell_type == "markdown"
    assert card.startswith(f"# {path.stem[:2]} · ")
    target = f"https://colab.research.google.com/github/{REPOSITORY}/blob/main/notebooks/{path.name}"
    assert re.findall(r"\((https://colab\.research\.google\.com/github[^)]*)\)", card) == [target]
    assert re.findall(r"^\| \*\*(.+?)\*\* \| .+ \|$", card, re.MULTILINE) == list(CARD)


def test_installs_in_colab_only_and_replaces_nothing(notebook: NotebookNode) -> None:
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert first.metadata.tags == ["install"]
    assert 'if not there and "google.colab" in sys.modules:' in first.source
    assert first.source == links.INSTALL.replace("{repository}", REPOSITORY)
    others = [cell.source for cell in notebook.cells if cell.cell_type == "code" and cell is not first]
    assert not any(re.search(r"^\s*[%!]", source, re.MULTILINE) for source in others)


def test_headings_are_in_order(notebook: NotebookNode) -> None:
    levels = [level for level, _ in headings(notebook)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    chapters = [title for level, title in headings(notebook) if level == 2 and not title.startswith("Appendix · ")]
    assert chapters[-3:] == ["Exercises", "Quiz", "Close"]


def test_cells_are_short_and_so_is_the_whole(notebook: NotebookNode) -> None:
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= 25, cell.source
    assert 1200 <= words(notebook) <= 2300


def test_pictures_have_alt_text(notebook: NotebookNode) -> None:
    for text in markdown(notebook):
        assert "<img" not in text
        assert all(alt.strip() for alt in re.findall(r"!\[(.*?)\]\(", text))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert "pyplot" not in cell.source
            assert cell.source.count("figures.show(") == len(re.findall(r"alt=", cell.source)), cell.source
            for output in cell.outputs:
                if "image/png" in output.get("data", {}):
                    assert output.data["text/plain"].strip() == output.metadata["image/png"]["alt"].strip()


def test_links_to_other_notebooks_are_right(notebook: NotebookNode) -> None:
    names = {path.name for path in NOTEBOOKS}
    for link in re.findall(r"\]\(([^)/:]+\.ipynb)\)", "\n".join(markdown(notebook))):
        assert link in names


def test_shows_something_to_move_and_moves_it(notebook: NotebookNode) -> None:
    assert tagged(notebook, "interactive")
    for cell in tagged(notebook, "controls"):
        assert "assert " in cell.source
        # Before it comes the reader, who has moved things, and perhaps this cell itself.
        panels = dict.fromkeys(re.findall(r"^ *(\w+)\.\w+(?:\.value = |\.click\(\))", cell.source, re.MULTILINE))
        assert [name for name in panels if f"{name}.restart()\n" not in cell.source] == []
    assert tagged(notebook, "controls")


def test_exercises_fail_bare_and_pass_solved(notebook: NotebookNode) -> None:
    exercises = tagged(notebook, "exercise")
    titles = [title for level, title in headings(notebook) if level == 3 and title.startswith("Exercise ")]
    assert 2 <= len(exercises) <= 3
    assert len(titles) == len(exercises)
    assert all(re.fullmatch(r"Exercise \d · .+ · (★☆☆|★★☆|★★★) · \d+ minutes", title) for title in titles), titles
    for exercise in exercises:
        space: dict[str, Any] = {}
        for cell in tagged(notebook, "setup", "build"):
            exec(cell.source, space)
        stub, _, check = exercise.source.rpartition("\n")
        assert check.startswith("lessons.check("), check
        exec(stub, space)
        verdict = eval(check, space)
        assert not verdict.passed, f"the bare stub passes: {check}"
        exec(solution(notebook, exercise), space)
        verdict = eval(check, space)
        assert verdict.passed, f"{check}: {verdict.message}"


def test_quiz_has_feedback_for_every_answer(path: Path, notebook: NotebookNode) -> None:
    number = path.stem[:2]
    assert any(cell.source == f'lessons.quiz("{number}")' for cell in notebook.cells)
    quiz = lessons.quiz(number)
    assert len(quiz.questions) == 3
    for question, choice, feedback in zip(quiz.questions, quiz.choices, quiz.feedback, strict=True):
        assert len(question.answers) >= 3
        said = set()
        for answer in question.answers:
            choice.value = answer
            assert ("Right" in feedback.value) == (answer == question.right)
            assert len(feedback.value) > 30
            said.add(feedback.value)
        assert len(said) == len(question.answers)
        choice.value = question.right
    assert quiz.right == 3
    assert "3 of 3" in quiz.total.value


@pytest.mark.slow
def test_normaliser_empties_all_but_tagged_cells(tmp_path: Path) -> None:
    new = nbformat.v4
    kept = new.new_code_cell("1 + 1", metadata={"tags": ["nbval-check-output"], "collapsed": True}, execution_count=7)
    kept.outputs = [new.new_output("execute_result", {"text/plain": "2"}, execution_count=7)]
    other = new.new_code_cell("import time\ntime.time()", execution_count=8)
    other.outputs = [new.new_output("stream", name="stdout", text="now")]
    moves = new.new_code_cell("assert True", metadata={"tags": ["controls"]})
    made = new.new_notebook(cells=[kept, other, new.new_markdown_cell("text"), moves, new.new_markdown_cell("## A")])
    made.metadata = nbformat.from_dict({"widgets": {}, "kernelspec": {"name": "mine", "display_name": "My kernel"}})
    file = tmp_path / "made.ipynb"
    nbformat.write(made, file)
    ids = [cell.id for cell in made.cells]
    command = [sys.executable, ROOT / "data_scripts" / "normalise_notebooks.py", file]
    for _ in range(2):
        subprocess.run(command, check=True, capture_output=True, env=os.environ)
        got = nbformat.read(file, as_version=4)
        assert [cell.id for cell in got.cells] == ids
        assert got.cells[0].execution_count == 1 and got.cells[0].outputs[0].execution_count == 1
        assert got.cells[0].outputs[0].data["text/plain"] == "2"
        assert got.cells[1].outputs == [] and got.cells[1].execution_count is None
        places = [cell.metadata.pop("slideshow").slide_type for cell in got.cells]
        assert places == ["-", "-", "subslide", "skip", "slide"]
        assert got.cells[0].metadata == {"tags": ["nbval-check-output"]}
        folded = {"cellView": "form", "jupyter": {"source_hidden": True}}
        assert got.cells[3].metadata == {"tags": ["controls", "hide-input"], **folded}
        assert got.metadata.kernelspec.name == "python3" and "widgets" not in got.metadata
