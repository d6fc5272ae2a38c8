"""Sphinx: makes elements of the page from what the kernels recorded; static/living.js moves them.

Also folds cells that only a person with a kernel needs, draws the badge from a file of our own, and gives pictures the
alternative texts that the notebooks have for them.
"""

import html
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from myst_nb.sphinx_ import HideCodeCellNode, NbMetadataCollector
from PIL import Image
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.logging import getLogger
from sphinx.writers.html5 import HTML5Translator

from living import course, markup
from living.pictures import SCALE
from living.record import COMPARISON, PANEL, PREDICTION, QUIZ

DRAW = {
    PANEL: markup.panel,
    QUIZ: markup.quiz,
    PREDICTION: markup.prediction,
    COMPARISON: markup.comparison,
    "exercise": markup.exercise,
}
RECORDED = "|".join((PANEL, QUIZ, PREDICTION, COMPARISON))
DATA = re.compile(rf'<script type="application/json" class="({RECORDED})">(.*)</script>', re.DOTALL)
CODE_OF = {PANEL: "The code of this figure", QUIZ: "The code of this quiz", PREDICTION: "The code of this box"}
FOLDED = {
    "install": "Only for Colab: install madlab",
    "setup": "Set-up: imports, versions, device",
    "controls": "The same by code: every control is moved and checked",
}
BADGE = "colab.research.google.com/assets/colab-badge.svg"
CHECK = re.compile(r"lessons\.check\(\s*[\"']([\w.]+)[\"']")
WIDGET = "application/vnd.jupyter.widget-view+json"
NEEDS_A_KERNEL = "This control needs a running kernel: open the notebook in JupyterLab or Colab."
WIDE = 600
"""Pixels: a picture that has more is not shrunk to the width of a phone, where its labels could not be read."""
log = getLogger(__name__)


class live(nodes.General, nodes.Element):
    """What static/*.js move: `kind`, a key of DRAW, and `data`."""


class covered(nodes.General, nodes.Element):
    """Outputs that stay closed until the reader has made the prediction with the id `prediction`."""


class elsewhere(nodes.General, nodes.Element):
    """A panel of another notebook: `notebook`, the beginning of its name, and `panel`, the variable there."""


def recorded(app: Sphinx) -> dict[str, dict[str, Any]]:
    """Page -> id -> data of what is live there."""
    if not hasattr(app.env, "madlab_live"):
        app.env.madlab_live = {}  # type: ignore[attr-defined]
    found: dict[str, dict[str, Any]] = app.env.madlab_live  # type: ignore[attr-defined]
    return found


def parts(tree: nodes.Node, kind: str) -> Iterator[nodes.container]:
    """The containers of MyST-NB of this kind: "cell_code", or "mime_bundle", an output in all of its forms."""
    yield from tree.findall(lambda node: isinstance(node, nodes.container) and node.get("nb_element") == kind)


def make_live(app: Sphinx, doctree: nodes.document) -> None:
    """Replace recorded data by live elements, fold what is to be folded, and end exercises with a box to tick."""
    page = app.env.docname
    here = recorded(app)[page] = {}
    awaited: list[str] = []  # predictions whose results are not shown yet
    NbMetadataCollector.get_js_files(app.env, page).pop("ipywidgets_state", None)  # megabytes that need a kernel
    for cell in list(parts(doctree, "cell_code")):
        tags = cell["cell_metadata"].get("tags", [])
        if cell["cell_metadata"].get("jupyter", {}).get("source_hidden"):
            fold(cell, "input", "The code of this cell")
        for tag in set(tags) & FOLDED.keys():
            fold(cell, "all", FOLDED[tag])
        before = list(awaited)
        for output in list(parts(cell, "mime_bundle")):
            kind, data = make_live_output(cell, output, page)
            if kind == PANEL:
                here[data["id"]] = data
            elif kind == PREDICTION:
                awaited.append(data["id"])
            elif kind == COMPARISON:
                awaited.remove(data["id"])
        if before and not any(found["kind"] == PANEL for found in cell.findall(live)):
            cover(cell, before[0])
        exercise = CHECK.search(cell.children[0].astext()) if "exercise" in tags else None
        if exercise:
            del cell.children[1:]  # the verdict on the empty stub
            cell += live(kind="exercise", data={"id": exercise[1]}, page=page)
    for prediction in awaited:
        log.warning(f"{page} asks for the prediction {prediction!r}, and compares nothing with it")
    for image in doctree.findall(nodes.image):
        describe_picture(image, Path(app.outdir).parent / "jupyter_execute")


def make_live_output(cell: nodes.container, output: nodes.container, page: str) -> tuple[str, dict[str, Any]]:
    """Replace one output of a cell if it is live, in which case kind and data are returned, or another control."""
    raw = next(iter(output.findall(nodes.raw)), None)
    match = DATA.fullmatch(raw.astext().strip()) if raw is not None else None
    if match is None:
        if any(part.get("mime_type") == WIDGET for part in output.children):
            output.parent.replace(output, nodes.paragraph("", "", nodes.emphasis("", NEEDS_A_KERNEL)))
        return "", {}
    kind, data = match[1], json.loads(match[2])
    output.parent.replace(output, live(kind=kind, data=data, page=page))
    if kind in CODE_OF:
        fold(cell, "input", CODE_OF[kind])
    return kind, data


def fold(cell: nodes.container, mode: str, summary: str) -> None:
    """Fold a cell ("all") or its code ("input") under a line that says what is there."""
    cell["hide_mode"] = mode
    cell["prompt_show"] = cell["prompt_hide"] = summary


def cover(cell: nodes.container, prediction: str) -> None:
    """Close what a cell shows, because it gives away what the reader is asked to predict."""
    output = cell.children[-1]
    if output.get("nb_element") == "cell_code_output":
        cell.replace(output, covered("", output, prediction=prediction))


def describe_picture(image: nodes.image, folder: Path) -> None:
    """A picture that a cell has drawn gets the text with which it is shown, and its size: it has SCALE pixels for one.

    folder: where MyST-NB keeps what cells have drawn.
    """
    holder = image.parent
    while holder is not None and holder.get("nb_element") != "mime_bundle":
        holder = holder.parent
    if holder is not None:
        texts = [part.astext() for part in holder.children if part.get("mime_type") == "text/plain"]
        image["alt"] = " ".join(texts)
        image["classes"].append("drawn")
        with Image.open(folder / Path(image["uri"]).name) as picture:
            width = picture.width // SCALE
        image["width"] = f"{width}px"
        image["classes"] += ["wide"] if width > WIDE else []


def local_badges(app: Sphinx, docname: str, source: list[str]) -> None:
    """The badge comes from a file of the site: no page asks another host for anything."""
    up = "../" * docname.count("/")
    source[0] = source[0].replace(f"https://{BADGE}", f"{up}site/static/colab.svg")


def fetch_elsewhere(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Put panels of notebooks on the pages that ask for them, and the list of the course."""
    for node in list(doctree.findall(elsewhere)):
        pages = [page for page in recorded(app) if page.startswith(node["notebook"])]
        data = recorded(app)[pages[0]].get(node["panel"]) if pages else None
        if data is None:
            log.warning(f"{docname} shows {node['panel']!r} of notebook {node['notebook']}, which has no such panel")
            node.parent.remove(node)
        else:
            node.replace_self(live(kind=PANEL, data=data, page=""))  # to try it here is not to begin the notebook


def visit_live(translator: HTML5Translator, node: live) -> None:
    up = "../" * translator.builder.current_docname.count("/")
    translator.body.append(DRAW[node["kind"]](node["data"], page=node["page"], pictures=f"{up}_static/panels/"))
    raise nodes.SkipNode


def visit_covered(translator: HTML5Translator, node: covered) -> None:
    translator.body.append(
        f'<details class="covered" data-prediction="{node["prediction"]}"><summary>Predict first, then open: what came '
        "out</summary>"
    )


def depart_details(translator: HTML5Translator, node: nodes.Element) -> None:
    translator.body.append("</details>\n")


def visit_folded(translator: HTML5Translator, node: HideCodeCellNode) -> None:
    """A folded cell, with one line that says what is in it; MyST-NB's own says the same twice to a screen reader."""
    translator.body.append(f'<details class="folded"><summary>{html.escape(node["prompt_show"])}</summary>\n')


def level_headings(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.Node | None) -> None:
    """The captions in the theme's list of pages call themselves headings, but do not say of which level."""
    tree = context.get("furo_navigation_tree", "")
    context["furo_navigation_tree"] = tree.replace('role="heading"', 'role="heading" aria-level="2"')


def copy_pictures(app: Sphinx, error: Exception | None) -> None:
    """Copy what the pages show out of the folder into which the kernels write."""
    if error is not None or app.builder.format != "html":
        return
    folder = Path(app.outdir) / "_static" / "panels"
    names = {name for page in recorded(app).values() for data in page.values() for name in data.get("parts", [])}
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.webp"):
        if old.stem not in names:
            old.unlink()
    for name in sorted(names):
        if not (folder / f"{name}.webp").exists():
            shutil.copy(Path(app.config.madlab_pictures) / f"{name}.webp", folder)


def forget(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    recorded(app).pop(docname, None)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("madlab_pictures", "", "env")
    app.add_node(live, html=(visit_live, None))
    app.add_node(covered, html=(visit_covered, depart_details))
    app.add_node(elsewhere)
    app.add_node(HideCodeCellNode, override=True, html=(visit_folded, depart_details))
    app.add_directive("panel", course.PanelOf)
    app.add_directive("course", course.Course)
    app.connect("source-read", local_badges)
    app.connect("doctree-read", make_live)
    app.connect("doctree-resolved", fetch_elsewhere)
    app.connect("env-purge-doc", forget)
    app.connect("html-page-context", level_headings, priority=900)
    app.connect("build-finished", copy_pictures)
    for script in ("living.js", "recorded.js", "arithmetic.js", "lessons.js", "predictions.js"):
        app.add_js_file(script, loading_method="defer")
    return {"parallel_read_safe": False, "parallel_write_safe": True}
