"""Formulas, drawn by KaTeX while the site is built: the pages need its style sheet but none of its script.

KaTeX comes from npm (package.json); `make site` installs it into build/site-tools.
"""

import base64
import html
import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.logging import getLogger
from sphinx.writers.html5 import HTML5Translator

TOOLS = Path(__file__).parents[3] / "build" / "site-tools" / "node_modules"
SCRIPT = Path(__file__).with_name("formulas.js")
FACE = re.compile(r"src:url\((fonts/[^)]*\.woff2)\) format\(\"woff2\"\)[^;}]*")
log = getLogger(__name__)


@cache
def katex() -> Path:
    """The folder of the npm package."""
    if not (TOOLS / "katex").is_dir():
        raise ExtensionError(
            "Formulas are drawn by the npm package katex, which is missing: run `make site` where npm can reach its "
            f"registry, or unpack katex into {TOOLS.relative_to(TOOLS.parents[2])}/katex."
        )
    return TOOLS / "katex"


@cache
def _node() -> subprocess.Popen[str]:
    program = shutil.which("node")
    if program is None:
        raise ExtensionError("Formulas are drawn by KaTeX, which runs in Node.js: install Node.js, then try again.")
    command = [program, str(SCRIPT), str(katex() / "dist" / "katex.js")]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")


@cache
def drawn(formula: str, block: bool) -> str:
    """A LaTeX formula as HTML. A formula that KaTeX cannot read is shown as it is written, with a warning."""
    node = _node()
    assert node.stdin is not None and node.stdout is not None
    node.stdin.write(json.dumps({"formula": formula, "block": block}) + "\n")
    node.stdin.flush()
    answer = json.loads(node.stdout.readline())
    if "error" in answer:
        log.warning(f"KaTeX cannot draw the formula {formula!r}: {answer['error']}")
        return f"<code>{html.escape(formula)}</code>"
    return str(answer["html"])


def style_sheet() -> str:
    """KaTeX's style sheet with its fonts inside, because some browsers load no font from a file beside the page."""

    def inside(match: re.Match[str]) -> str:
        font = base64.b64encode((katex() / "dist" / match[1]).read_bytes()).decode()
        return f'src:url(data:font/woff2;base64,{font}) format("woff2")'

    return FACE.sub(inside, (katex() / "dist" / "katex.min.css").read_text())


def visit_math(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(drawn(node.astext(), block=False))
    raise nodes.SkipNode


def visit_math_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="formula">{drawn(node.astext(), block=True)}</div>')
    raise nodes.SkipNode


def write_style_sheet(app: Sphinx, error: Exception | None) -> None:
    if error is None:
        (Path(app.outdir) / "_static" / "katex.css").write_text(style_sheet())


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("katex", (visit_math, None), (visit_math_block, None))
    app.add_css_file("katex.css")
    app.connect("build-finished", write_style_sheet)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
