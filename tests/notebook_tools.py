"""What the tests of notebooks share: reading them, and taking code out of them."""

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REPOSITORY = PROJECT["urls"]["Repository"].removeprefix("https://github.com/")
"""Owner and name."""


def read(number: str) -> NotebookNode:
    """The notebook whose file name starts with this number, e.g. "02"."""
    (path,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    return nbformat.read(path, as_version=4)


def tagged(notebook: NotebookNode, *tags: str) -> list[NotebookNode]:
    """Code cells with one of these tags, in order."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [cell for cell in cells if set(tags) & set(cell.metadata.get("tags", []))]


def definitions(notebook: NotebookNode, *names: str) -> list[Any]:
    """Classes and functions that the notebook defines, taken out of its source and run with its imports alone.

    What an exercise leaves to the reader is not a definition.
    """
    space: dict[str, Any] = {}
    found: set[str] = set()
    for cell in notebook.cells:
        if cell.cell_type != "code" or {"install", "exercise"} & set(cell.metadata.get("tags", [])):
            continue
        for node in ast.parse(cell.source).body:
            wanted = isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name in names and node.name not in found
            if isinstance(node, ast.Import | ast.ImportFrom) or wanted:
                exec(compile(ast.Module([node], []), "notebook", "exec"), space)
            if wanted:
                found.add(node.name)
    return [space[name] for name in names]


def solution(notebook: NotebookNode, exercise: NotebookNode) -> str:
    """The Python code of the folded solution that follows an exercise cell."""
    after = notebook.cells[notebook.cells.index(exercise) + 1 :]
    text = next(c.source for c in after if c.cell_type == "markdown" and "<summary>Solution" in c.source)
    match = re.search(r"<summary>Solution.*?```python\n(.*?)```", text, re.DOTALL)
    assert match, "the solution has no ```python block"
    return match[1]


def words(notebook: NotebookNode) -> int:
    """Words of prose: Markdown without code, formulas, addresses and tags."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for pattern in (r"```.*?```", r"\$\$.*?\$\$", r"\$[^$\n]*\$", r"\]\([^)]*\)", r"<[^>]*>", r"`[^`]*`"):
        text = re.sub(pattern, " ", text, flags=re.DOTALL)
    return len(re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", text))
