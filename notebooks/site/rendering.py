"""What makes the pages complete without network access and without a kernel: formulas, and pictures of controls.

docutils translates formulas to MathML, which browsers draw themselves. Interactive figures and quizzes are replaced by
what they showed after the notebook had run, with a note that says where they are interactive.
"""

import html
import json
import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx.application import Sphinx
from sphinx.util.logging import getLogger
from sphinx.writers.html5 import HTML5Translator

VIEW = "application/vnd.jupyter.widget-view+json"
MOVES = "This is a still picture. The controls work in JupyterLab and in Colab."
log = getLogger(__name__)


def mathml(formula: str, block: bool) -> str:
    """A LaTeX formula as MathML."""
    formula = re.sub(r"\\dots(?![a-z])", r"\\ldots", formula)  # two spellings unknown to docutils
    formula = re.sub(r"\\tfrac(\d)(\d)", r"\\tfrac{\1}{\2}", formula)
    try:
        return tex2mathml(formula, as_block=block)
    except MathError as error:
        log.warning(f"no MathML for the formula {formula!r}: {error}")
        return f"<code>{html.escape(formula)}</code>"


def visit_math(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(mathml(node.astext(), block=False))
    raise nodes.SkipNode


def visit_math_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math">{mathml(node.astext(), block=True)}</div>')
    raise nodes.SkipNode


def drawn(models: dict[str, Any], model_id: str) -> Iterator[str]:
    """The HTML of a widget and everything in it, from the widget state that running the notebook left behind."""
    model = models[model_id]
    state, name = model["state"], model["model_name"]
    label, value = html.escape(state.get("description") or ""), state.get("value")
    if name == "ImageModel":
        (data,) = [buffer["data"] for buffer in model["buffers"] if buffer["path"] == ["value"]]
        yield f'<img alt="the figure after the notebook had run" src="data:image/png;base64,{data}">'
    elif name == "HTMLModel":
        yield f"<div>{value}</div>"
    elif name == "RadioButtonsModel":
        yield "".join(["<ul>", *(f"<li>{html.escape(answer)}</li>" for answer in state["_options_labels"]), "</ul>"])
    elif name == "ButtonModel":
        yield f"<kbd>{label}</kbd> "
    elif name == "DropdownModel":
        yield f"<kbd>{label}: {html.escape(state['_options_labels'][state['index']])}</kbd> "
    elif name == "CheckboxModel":
        yield f"<kbd>{'☑' if value else '☐'} {label}</kbd> "
    elif name.endswith("SliderModel"):
        yield f"<kbd>{label}: {value:g}</kbd> "
    for child in state.get("children", []):
        yield from drawn(models, child.removeprefix("IPY_MODEL_"))


def still(app: Sphinx, doctree: nodes.document) -> None:
    """Replace each widget by what it showed, and drop its state, which the page no longer needs."""
    scripts = NbMetadataCollector.get_js_files(app.env, app.env.docname)
    kept = scripts.pop("ipywidgets_state", None)
    models = json.loads(kept[1]["body"])["state"] if kept else {}
    for view in list(doctree.findall(lambda node: isinstance(node, nodes.container) and node.get("mime_type") == VIEW)):
        model_id = json.loads(re.sub(r"<[^>]*>", "", view.astext()))["model_id"]
        text = "".join([*drawn(models, model_id), f"<p><em>{MOVES}</em></p>"])
        view.parent.replace_self(nodes.raw("", f'<div class="still">{text}</div>', format="html"))


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    app.connect("doctree-read", still)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
