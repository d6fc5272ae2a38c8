"""Bring notebooks into their committed form, so that diffs are small and nbval compares what it should.

    python data_scripts/normalise_notebooks.py [--run] [NOTEBOOK ...]

Without NOTEBOOK it takes the whole course and the template. Outputs are kept only in cells tagged `nbval-check-output`,
with execution count 1; all others are removed. The input of a cell tagged `hide-input` is folded: the site reads the
tag, JupyterLab `source_hidden`, Colab `cellView`. Cells tagged `controls` get that tag. Widget state is removed, every
notebook names the same kernel, and every cell keeps its id and gets its place in a slide show. With --run the notebook
is executed first, so that the outputs are up to date; if a cell fails, the file stays as it was.
"""

import argparse
import hashlib
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
KEEP = "nbval-check-output"
FOLD, FOLDED = "hide-input", {"cellView": "form", "jupyter": {"source_hidden": True}}
SKIPPED = {"install", "setup", "controls"}
"""Cells that a slide show leaves out."""
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def normalised(notebook: NotebookNode) -> NotebookNode:
    """The notebook in its committed form. The argument is changed in place."""
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    seen: set[str] = set()
    for cell in notebook.cells:
        cell.source = cell.source.rstrip()
        tags = set(cell.metadata.get("tags", []))
        if "controls" in tags:
            tags.add(FOLD)
        metadata: dict[str, Any] = {"slideshow": {"slide_type": slide_type(cell, tags)}}
        metadata |= {"tags": sorted(tags)} if tags else {}
        cell.metadata = nbformat.from_dict(metadata | FOLDED if FOLD in tags else metadata)
        if not cell.get("id") or cell.id in seen:
            cell.id = new_id(cell, seen)
        seen.add(cell.id)
        if cell.cell_type != "code":
            continue
        cell.outputs = [_plain(output) for output in cell.outputs] if KEEP in tags else []
        cell.execution_count = 1 if cell.outputs else None
    return notebook


def slide_type(cell: NotebookNode, tags: set[str]) -> str:
    """Where the cell stands in a slide show: sections side by side, what belongs to them below, code with its text."""
    if cell.cell_type == "code":
        return "skip" if SKIPPED & tags else "-"
    return "slide" if re.match(r"##? ", cell.source) else "subslide"


def new_id(cell: NotebookNode, taken: set[str]) -> str:
    """An id derived from the cell's source, so that the same notebook always gets the same ids."""
    number = 0
    while (name := hashlib.sha256(f"{cell.cell_type} {cell.source} {number}".encode()).hexdigest()[:8]) in taken:
        number += 1
    return name


def _plain(output: NotebookNode) -> NotebookNode:
    if "execution_count" in output:
        output.execution_count = 1
    return output


def as_bytes(notebook: NotebookNode) -> bytes:
    """The bytes of the notebook's file: one line per line of source, keys in a fixed order."""
    return (nbformat.writes(notebook, version=4).rstrip() + "\n").encode()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK")
    parser.add_argument("--run", action="store_true", help="execute the notebook first")
    options = parser.parse_args()
    everything = [*sorted(NOTEBOOKS.glob("*.ipynb")), NOTEBOOKS / "site" / "template.ipynb"]
    for path in options.notebooks or everything:
        notebook = nbformat.read(path, as_version=4)
        if options.run:
            from nbclient import NotebookClient

            NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}}).execute()
        data = as_bytes(normalised(notebook))
        if data != path.read_bytes():
            from madlab.files.plain import write_bytes  # imports PyTorch, so only when there is something to write

            write_bytes(path, data)
            print(f"{path} normalised")
    return 0


if __name__ == "__main__":
    sys.exit(main())
