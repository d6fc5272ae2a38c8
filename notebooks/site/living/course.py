"""Directives of the landing page: a panel out of a notebook, and the list of the course with the reader's progress."""

import html
import json
import re
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

NOTEBOOKS = Path(__file__).parents[2]
ROW = re.compile(
    r"^\| \[(?P<number>\d\d) (?P<title>[^\]]+)\]\((?P<file>[^)]+)\.ipynb\) \| (?P<question>[^|]+) \|", re.MULTILINE
)
MINUTES = re.compile(r"\*\*Reading\*\* \| (\d+) minutes")


def sources(notebook: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in json.loads(notebook.read_text())["cells"]]


class PanelOf(SphinxDirective):
    """`{panel} 05 dial`: the panel that notebook 05 shows as its variable `dial`."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        from living.pages import elsewhere

        notebook, panel = self.arguments
        for path in NOTEBOOKS.glob(f"{notebook}_*.ipynb"):
            self.env.note_dependency(str(path))
        return [elsewhere(notebook=notebook, panel=panel)]


class Course(SphinxDirective):
    """`{course}`: every notebook with its question, as in the table of notebook 00, its minutes, and the progress."""

    def run(self) -> list[nodes.Node]:
        (first,) = NOTEBOOKS.glob("00_*.ipynb")
        self.env.note_dependency(str(first))
        rows = [match.groupdict() for text in sources(first) for match in ROW.finditer(text)]
        title = sources(first)[0].splitlines()[0].removeprefix("# 00 · ")
        start = {"number": "00", "title": title, "file": first.stem, "question": "what is this about?"}
        items = "".join(self._card(**row) for row in [start, *rows])
        return [nodes.raw("", f'<ol class="course">{items}</ol>', format="html")]

    def _card(self, number: str, title: str, file: str, question: str) -> str:
        path = NOTEBOOKS / f"{file}.ipynb"
        self.env.note_dependency(str(path))
        minutes = MINUTES.search(sources(path)[0])
        question = html.escape(question[:1].upper() + question[1:])
        return (
            f'<li><a href="{"../" * self.env.docname.count("/")}{file}.html" data-page="{file}"><span class="number">'
            f"{number}</span><strong>{html.escape(title)}</strong><span class=question>{question}</span><span class="
            f'"minutes">{minutes[1] if minutes else "?"} min<span class="progress"></span></span></a></li>'
        )
