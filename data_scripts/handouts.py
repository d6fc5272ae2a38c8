"""Make handouts for a class: slides of every notebook, and one sheet of all exercises, with solutions and without.

    make handouts

Slides are reveal.js by nbconvert, with the slide types that stand in the notebooks' metadata; what does not fit on a
slide goes on one below it. Each notebook is executed first; its figures with controls stand still, as they were when it
had run, and quizzes and predictions are lists. Folded code is left out. reveal.js and what nbconvert's template needs
beside it are copied into the handouts, so that they need no network; formulas are MathML, which browsers draw.
"""

import argparse
import base64
import html
import re
import shutil
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import nbformat
from docutils.utils.math.latex2mathml import tex2mathml
from nbclient import NotebookClient
from nbconvert import HTMLExporter, SlidesExporter
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image
from tqdm import tqdm

from madlab.files.plain import write_bytes

ROOT = Path(__file__).parents[1]
MODULES = ROOT / "build" / "site-tools" / "node_modules"
"""Where `make handouts` lets npm put them."""
WIDGET = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
NO_NETWORK = {f"{name}_url": "" for name in ("mathjax", "mermaid_js", "jupyter_widgets_base")}
SHEETS = {"exercises": "Exercises, with hints", "exercises_with_solutions": "Exercises, with hints and solutions"}
"""File name -> title."""
TALLEST = 640
"""Pixels of a picture on a slide."""
STYLE = f"""<style>
.reveal pre, .reveal .highlight {{ font-size: 75%; white-space: pre-wrap; }}
.reveal section img {{ max-height: {TALLEST}px; width: auto; }}
</style></head>"""
"""Added to the head of slides: lines of code have up to 120 characters."""
FONTS = re.compile(r"@import url\(https?:[^)]*\);\s*")
MERMAID = re.compile(r'<script type="module">\s*import mermaid.*?</script>', re.DOTALL)
"""What themes of reveal.js and nbconvert's template would fetch from other hosts; diagrams of Mermaid we have none."""
WIDTH, ROOM = 1200, 680
"""Pixels: the width of a slide, and the height of what fits on it."""
LINE, CODE, CHARACTERS = 24, 18, 110
"""Pixels of a line of text and of code, and how many characters either has."""


def executed(path: Path) -> NotebookNode:
    """The notebook after it has run, with a still picture in place of every figure with controls."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}}).execute()
    models = notebook.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    for cell in notebook.cells:
        cell.outputs = [still for output in cell.get("outputs", []) for still in _still(output, models)]
    notebook.metadata.pop("widgets", None)
    return notebook


def _still(output: NotebookNode, models: dict[str, Any]) -> list[NotebookNode]:
    """The pictures, texts and answers that a widget shows, as outputs of their own; any other output as it is."""
    view = output.get("data", {}).get(WIDGET)
    if view is None:
        return [output]
    shown = _shown(models, view["model_id"])
    return [new_output("display_data", {kind: data, "text/plain": "a figure"}) for kind, data in shown]


def _shown(models: dict[str, Any], model_id: str) -> list[tuple[str, str]]:
    """MIME type and data of everything in a widget that can be seen without a kernel."""
    model = models[model_id]
    state = model["state"]
    if model["model_name"] == "ImageModel":
        return [("image/png", buffer["data"]) for buffer in model["buffers"] if buffer["path"] == ["value"]]
    if model["model_name"] == "HTMLModel":
        return [("text/html", state["value"])] if state.get("value") else []
    if model["model_name"] == "RadioButtonsModel":
        answers = "".join(f"<li>{html.escape(answer)}</li>" for answer in state["_options_labels"])
        return [("text/html", f"<ul>{answers}</ul>")]
    children = state.get("children", [])
    return [part for child in children for part in _shown(models, child.removeprefix("IPY_MODEL_"))]


def in_slides(notebook: NotebookNode) -> NotebookNode:
    """Split its Markdown at headings: a section is a slide; a subsection, and what finds no room, is one below it."""
    notebook.cells[0].source = re.sub(r"^\[!\[.*\n", "", notebook.cells[0].source, flags=re.M)  # the badge of Colab
    cells = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cells += _in_parts(cell)
            continue
        kind = cell.metadata.slideshow.slide_type
        for number, part in enumerate(re.split(r"\n(?=#{2,3} )", cell.source)):
            below = "subslide" if part.startswith("### ") else "slide"
            slideshow = {"slide_type": below if number else kind}
            cells.append(new_markdown_cell(_with_mathml(part), metadata={"slideshow": slideshow}))
    notebook.cells = cells
    _fill(notebook)
    return notebook


def _in_parts(cell: NotebookNode) -> list[NotebookNode]:
    """A cell of code, without the code if that is folded; outputs are cells of their own if one slide is too small."""
    tags = cell.metadata.get("tags", [])
    if "exercise" in tags:
        cell.outputs = []  # the verdict on the empty stub
    interactive = "lessons.quiz(" in cell.source or "lessons.predict(" in cell.source
    folded = "hide-input" in tags or interactive
    if folded:
        cell.metadata.transient = {"remove_source": True}
    if _height(cell) <= ROOM:
        return [cell] if cell.outputs or not folded else []
    parts = [] if folded else [cell]
    for output in cell.outputs:
        metadata = {**cell.metadata, "transient": {"remove_source": True}}
        parts.append(new_code_cell(cell.source, metadata=metadata, outputs=[output]))
    cell.outputs = []
    return parts


def _fill(notebook: NotebookNode) -> None:
    """Begin a slide below the present one with every cell of code that finds no room on it."""
    used = 0
    for cell in notebook.cells:
        slideshow = cell.metadata.slideshow
        if slideshow.slide_type == "skip":
            continue
        height = _height(cell)
        if slideshow.slide_type == "-" and used + height > ROOM:
            slideshow.slide_type = "subslide"
        used = height if slideshow.slide_type != "-" else used + height


def _height(cell: NotebookNode) -> int:
    """Pixels that a cell takes on a slide, roughly."""
    if cell.cell_type == "markdown":
        bare = re.sub(r"<math.*?</math>", "formula", cell.source, flags=re.DOTALL)
        folded = re.sub(r"<details>.*?</details>", "<details>", bare, flags=re.DOTALL)
        return _lines(folded) * LINE + 40 * len(re.findall(r"^#", folded, re.M))
    code = 0 if "transient" in cell.metadata else _lines(cell.source) * CODE + 30
    return code + sum(_height_of(output) for output in cell.outputs)


def _height_of(output: NotebookNode) -> int:
    data = output.get("data", {})
    if "image/png" in data:
        with Image.open(BytesIO(base64.b64decode(data["image/png"]))) as picture:
            return round(min(TALLEST, picture.height * min(1, WIDTH / picture.width))) + 20
    text = data.get("text/markdown") or data.get("text/html") or data.get("text/plain") or output.get("text", "")
    return _lines(re.sub(r"<[^>]*>", "", text)) * LINE + 20


def _lines(text: str) -> int:
    return sum(1 + len(line) // CHARACTERS for line in text.splitlines())


def sheet(paths: list[Path], title: str, solutions: bool) -> NotebookNode:
    """One notebook with the exercises of all: text, hint and stub, and with them the solutions if they are wanted."""
    cells = [new_markdown_cell(f"# {title}")]
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        cells.append(new_markdown_cell("## " + notebook.cells[0].source.splitlines()[0].removeprefix("# ")))
        for before, cell, after in zip(notebook.cells, notebook.cells[1:], notebook.cells[2:], strict=False):
            if "exercise" in cell.metadata.get("tags", []):
                task = "### " + before.source.split("\n### ")[-1]
                cells += [new_markdown_cell(_unfolded(task)), cell]
                if solutions:
                    cells.append(new_markdown_cell(_unfolded(after.source.split("\n### ")[0].split("\n## ")[0])))
    return new_notebook(cells=cells)


def _unfolded(markdown: str) -> str:
    """Hints and solutions open, because nobody can click on paper."""
    return _with_mathml(re.sub(r"<details><summary>(.*?)</summary>", r"**\1.**", markdown).replace("</details>", ""))


def _with_mathml(markdown: str) -> str:
    """Markdown whose formulas are MathML; what looks like a formula in code stays code."""
    parts = re.split(r"(```.*?```|`[^`]*`)", markdown, flags=re.DOTALL)
    return "".join(part if number % 2 else _formulas(part) for number, part in enumerate(parts))


def _formulas(text: str) -> str:
    text = re.sub(r"\$\$(.+?)\$\$", lambda found: _mathml(found[1], as_block=True), text, flags=re.DOTALL)
    return re.sub(r"\$([^$\n]+)\$", lambda found: _mathml(found[1], as_block=False), text)


def _mathml(formula: str, as_block: bool) -> str:
    formula = re.sub(r"\\dots(?![a-z])", r"\\ldots", formula)  # two spellings unknown to docutils
    formula = re.sub(r"\\tfrac(\d)(\d)", r"\\tfrac{\1}{\2}", formula)
    return re.sub(r"\s*\n\s*", " ", tex2mathml(formula, as_block=as_block))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder for the handouts")
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK", help="default: the whole course")
    options = parser.parse_args()
    for name in ("reveal.js", "requirejs", "jquery"):
        if not (MODULES / name).is_dir():
            sys.exit(f"{name} is missing: `make handouts` fetches it with npm, which comes with Node.js.")
    options.out.mkdir(parents=True, exist_ok=True)
    shutil.copytree(MODULES / "reveal.js", options.out / "reveal.js", dirs_exist_ok=True)
    for theme in (options.out / "reveal.js" / "dist" / "theme").glob("*.css"):
        write_bytes(theme, FONTS.sub("", theme.read_text()).encode())
    shutil.copy(MODULES / "requirejs" / "require.js", options.out)
    shutil.copy(MODULES / "jquery" / "dist" / "jquery.min.js", options.out)

    paths = options.notebooks or sorted((ROOT / "notebooks").glob("*.ipynb"))
    bare = HTMLExporter(require_js_url="", jquery_url="", **NO_NETWORK)
    for name, title in SHEETS.items():
        page, _ = bare.from_notebook_node(sheet(paths, title, solutions="solutions" in title))
        write_bytes(options.out / f"{name}.html", page.encode())
    slides = SlidesExporter(
        reveal_url_prefix="reveal.js",
        reveal_width=str(WIDTH),
        reveal_height="800",
        reveal_scroll=True,
        require_js_url="require.js",
        jquery_url="jquery.min.js",
        font_awesome_url="",
        exclude_input_prompt=True,
        **NO_NETWORK,
    )
    for path in tqdm(paths, desc="slides", unit="notebook"):
        page, _ = slides.from_notebook_node(in_slides(executed(path)))
        page = MERMAID.sub("", page).replace("</head>", STYLE, 1)
        write_bytes(options.out / f"{path.stem}.html", page.encode())
    print(f"{len(paths)} slide shows and {len(SHEETS)} sheets are in {options.out}")


if __name__ == "__main__":
    main()
