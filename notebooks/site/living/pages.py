"""Sphinx: makes elements of the page from what the kernels recorded; static/living.js moves them.

Also folds cells that only a person with a kernel needs, draws the badge from a file of our own, and gives pictures the
alternative texts that the notebooks have for them.
"""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.logging import getLogger
from sphinx.writers.html5 import HTML5Translator

from living import course, markup
from living.record import PANEL, QUIZ

DATA = re.compile(rf'<script type="application/json" class="({PANEL}|{QUIZ})">(.*)</script>', re.DOTALL)
FOLDED = {
    "install": "Only for Colab: install madlab",
    "setup": "Set-up: imports, versions, device",
    "controls": "The same by code: every control is moved and checked",
}
BADGE = "colab.research.google.com/assets/colab-badge.svg"
CHECK = re.compile(r"lessons\.check\(\s*[\"']([\w.]+)[\"']")
log = getLogger(__name__)


class live(nodes.General, nodes.Element):
    """A panel, a quiz, or the box for a solved exercise: `kind` and `data`."""


class elsewhere(nodes.General, nodes.Element):
    """A panel of another notebook: `notebook`, the beginning of its name, and `panel`, the variable there."""


def recorded(app: Sphinx) -> dict[str, dict[str, Any]]:
    """Page -> id -> data of what is live there."""
    if not hasattr(app.env, "madlab_live"):
        app.env.madlab_live = {}  # type: ignore[attr-defined]
    found: dict[str, dict[str, Any]] = app.env.madlab_live  # type: ignore[attr-defined]
    return found


def cells(doctree: nodes.document) -> Iterator[nodes.container]:
    yield from doctree.findall(lambda n: isinstance(n, nodes.container) and n.get("nb_element") == "cell_code")


def make_live(app: Sphinx, doctree: nodes.document) -> None:
    """Replace recorded data by live elements, fold what is to be folded, and end exercises with a box to tick."""
    here = recorded(app)[app.env.docname] = {}
    for cell in list(cells(doctree)):
        tags = cell["cell_metadata"].get("tags", [])
        if cell["cell_metadata"].get("jupyter", {}).get("source_hidden"):
            fold(cell, "input", "The code of this cell")
        for tag in set(tags) & FOLDED.keys():
            fold(cell, "all", FOLDED[tag])
        for output in list(
            cell.findall(lambda n: isinstance(n, nodes.container) and n.get("nb_element") == "mime_bundle")
        ):
            raw = next(iter(output.findall(nodes.raw)), None)
            match = DATA.fullmatch(raw.astext().strip()) if raw is not None else None
            if match:
                data = json.loads(match[2])
                here[data["id"]] = data
                output.parent.replace(output, live(kind=match[1], data=data, page=app.env.docname))
                fold(cell, "input", "The code of this figure" if match[1] == PANEL else "The code of this quiz")
        exercise = CHECK.search(cell.children[0].astext()) if "exercise" in tags else None
        if exercise:
            del cell.children[1:]  # the verdict on the empty stub
            here[exercise[1]] = {}
            cell += live(kind="exercise", data={"id": exercise[1]}, page=app.env.docname)
    for image in doctree.findall(nodes.image):
        name_picture(image)


def fold(cell: nodes.container, mode: str, summary: str) -> None:
    """Fold a cell ("all") or its code ("input") under a line that says what is there."""
    cell["hide_mode"] = mode
    cell["prompt_show"] = cell["prompt_hide"] = summary


def name_picture(image: nodes.image) -> None:
    """A picture that a cell has drawn is described by the text that it is shown with."""
    holder = image.parent
    while holder is not None and holder.get("nb_element") != "mime_bundle":
        holder = holder.parent
    if holder is not None:
        texts = [part.astext() for part in holder.children if part.get("mime_type") == "text/plain"]
        image["alt"] = " ".join(texts)
        image["classes"].append("drawn")


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
            node.replace_self(live(kind=PANEL, data=data, page=pages[0]))


def visit_live(translator: HTML5Translator, node: live) -> None:
    up = "../" * translator.builder.current_docname.count("/")
    draw = {PANEL: markup.panel, QUIZ: markup.quiz, "exercise": markup.exercise}[node["kind"]]
    translator.body.append(draw(node["data"], page=node["page"], pictures=f"{up}_static/panels/"))
    raise nodes.SkipNode


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
    app.add_node(elsewhere)
    app.add_directive("panel", course.PanelOf)
    app.add_directive("course", course.Course)
    app.connect("source-read", local_badges)
    app.connect("doctree-read", make_live)
    app.connect("doctree-resolved", fetch_elsewhere)
    app.connect("env-purge-doc", forget)
    app.connect("build-finished", copy_pictures)
    for script in ("living.js", "recorded.js", "arithmetic.js", "lessons.js"):
        app.add_js_file(script, loading_method="defer")
    return {"parallel_read_safe": False, "parallel_write_safe": True}
