"""Every notebook in a real JupyterLab in a real Chromium: all cells run, and every control changes what is seen.

    make test-browser
    .venv/bin/pytest -m browser tests/browser -k 02        one notebook

What a control has to do is asserted in the notebooks themselves; here it is moved by keyboard and mouse, and what
counts is the picture or the text below it. A failure leaves a picture of the page in build/browser.
"""

from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from jupyter_driver import Notebook

LIVE_AND_DEAD = """
import ipywidgets
from IPython.display import display

live, dead, broken = (ipywidgets.IntSlider(description=name) for name in ("live", "dead", "broken"))
note = ipywidgets.HTML("0")
live.observe(lambda change: setattr(note, "value", str(change.new)), "value")
broken.observe(lambda change: setattr(note, "value", "Traceback (most recent call last): no"), "value")
display(ipywidgets.VBox([live, dead, broken, note]))
"""
ROOT = Path(__file__).parents[2]
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
pytestmark = pytest.mark.browser


@pytest.mark.parametrize("path", PATHS, ids=[path.stem[:2] for path in PATHS])
def test_notebook(
    path: Path, open_notebook: Callable[[Path], Notebook], record_property: Callable[[str, object], None]
) -> None:
    notebook = open_notebook(path)
    try:
        notebook.run_all()
        assert notebook.troubles() == []
        dead = move_all(notebook, path.stem[:2], record_property)
        assert notebook.troubles() == []
        assert dead == [], "these controls change nothing that is seen"
        assert notebook.console == []
    except BaseException:
        pictures = ROOT / "build" / "browser"
        pictures.mkdir(parents=True, exist_ok=True)
        notebook.page.screenshot(path=pictures / f"{path.stem}.png")
        raise
    finally:
        notebook.close()


def move_all(notebook: Notebook, number: str, record_property: Callable[[str, object], None]) -> list[str]:
    """Move every control; returns those that changed nothing, and records how quickly the others answered."""
    controls = notebook.controls()
    assert controls, "a notebook without any control"
    dead = []
    for control in sorted(controls, key=lambda control: control["kind"] == "dropdown"):
        # Menus last: a layer that shows all its filters has nothing left for the slider that pages through them.
        moves = notebook.moves(control)
        if not any(move.changed for move in moves) and control["kind"] == "button":
            others = [c for c in controls if c["cell"] == control["cell"] and c["kind"] != "button"]
            for other in others[-1:]:  # a button that sets things back needs something to set back
                notebook.moves(other)
                moves += notebook.moves(control)
        name = f"{control['label'] or control['kind']} ({control['kind']})"
        if not any(move.changed for move in moves):
            dead.append(f"cell {control['cell']}: {name}")
        # A button may start work that goes on and shows its progress: there the first answer counts.
        times = [move.first_ms if control["kind"] == "button" else move.last_ms for move in moves]
        record_property("control", (number, name, [t for t in times if t is not None]))
    notebook.settle()
    return dead


def test_what_is_dead_or_broken_is_found(tmp_path: Path, open_notebook: Callable[[Path], Notebook]) -> None:
    cells = [nbformat.v4.new_code_cell(source) for source in (LIVE_AND_DEAD, "1 / 0")]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "tried.ipynb")
    notebook = open_notebook(tmp_path / "tried.ipynb")
    notebook.run_all()
    assert notebook.troubles() == ["cell 1: ZeroDivisionError: division by zero", "cell 1 shows a traceback"]
    assert move_all(notebook, "", lambda name, value: None) == ["cell 0: dead (slider)"]
    assert "cell 0 shows a traceback" in notebook.troubles()
    notebook.close()
