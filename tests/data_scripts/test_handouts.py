"""Slides of notebooks: what is folded is left out, what is too much for one slide goes on several."""

import base64
from io import BytesIO

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image
from scripts import load_script

pytest.importorskip("docutils", reason="handouts are made with the extra 'site'")
handouts = load_script("handouts")


def text(source: str, kind: str = "slide"):
    return new_markdown_cell(source, metadata={"slideshow": {"slide_type": kind}})


def code(source: str, *outputs, tags: tuple[str, ...] = (), kind: str = "-"):
    metadata = {"slideshow": {"slide_type": kind}, "tags": list(tags)}
    return new_code_cell(source, metadata=metadata, outputs=list(outputs))


def printed(lines: int):
    return new_output("stream", text="a line\n" * lines)


def picture(height: int):
    data = BytesIO()
    Image.new("RGB", (600, height)).save(data, "png")
    return new_output("display_data", {"image/png": base64.b64encode(data.getvalue()).decode()})


def slides(*cells) -> list[tuple[str, str, int]]:
    """Slide type, visible source and number of outputs of every cell."""
    made = handouts.in_slides(new_notebook(cells=[text("# 01 · Title"), *cells])).cells[1:]
    return [
        (
            cell.metadata.slideshow.slide_type,
            "" if "transient" in cell.metadata else cell.source,
            len(cell.get("outputs", [])),
        )
        for cell in made
    ]


def test_what_fits_stays_with_its_text_and_the_rest_goes_below() -> None:
    first, long, last = code("x = 1", printed(2)), code("y = 2\n" * 28), code("x = 1", printed(2))
    assert slides(text("## One"), first, long, last) == [
        ("slide", "## One", 0),
        ("-", "x = 1", 1),
        ("subslide", "y = 2\n" * 28, 0),
        ("-", "x = 1", 1),
    ]


def test_a_cell_that_is_larger_than_a_slide_is_followed_by_its_outputs() -> None:
    large = code("draw()\n" * 20, picture(300), printed(10))
    assert slides(text("## One"), large) == [
        ("slide", "## One", 0),
        ("-", "draw()\n" * 20, 0),
        ("subslide", "", 1),
        ("-", "", 1),
    ]


def test_folded_code_is_left_out_and_so_is_the_verdict_on_a_stub() -> None:
    shown = slides(
        text("## One"),
        code("helper()", tags=("hide-input",)),
        code("table()", printed(3), tags=("hide-input",)),
        code("imports()", printed(3), tags=("setup",), kind="skip"),
        code("def stub(): ...", printed(1), tags=("exercise",)),
        code('lessons.quiz("01")', printed(3)),
    )
    assert shown[1:] == [("-", "", 1), ("skip", "imports()", 1), ("-", "def stub(): ...", 0), ("-", "", 1)]


def test_a_quiz_and_a_panel_show_what_can_be_seen_without_a_kernel() -> None:
    data = base64.b64encode(b"png").decode()
    models = {
        "box": {
            "model_name": "VBoxModel",
            "state": {"children": [f"IPY_MODEL_{name}" for name in ("title", "empty", "choice", "image", "slider")]},
        },
        "title": {"model_name": "HTMLModel", "state": {"value": "<b>Why?</b>"}},
        "empty": {"model_name": "HTMLModel", "state": {"value": ""}},
        "choice": {"model_name": "RadioButtonsModel", "state": {"_options_labels": ["a < b", "b"]}},
        "image": {"model_name": "ImageModel", "state": {}, "buffers": [{"path": ["value"], "data": data}]},
        "slider": {"model_name": "IntSliderModel", "state": {"value": 3}},
    }
    view = new_output("display_data", {handouts.WIDGET: {"model_id": "box"}})
    assert [next(iter(still.data.items())) for still in handouts._still(view, models)] == [
        ("text/html", "<b>Why?</b>"),
        ("text/html", "<ul><li>a &lt; b</li><li>b</li></ul>"),
        ("image/png", data),
    ]


def test_slides_ask_no_other_host_for_anything() -> None:
    theme = "@import url(./fonts/own.css);\n@import url(https://fonts.example/css?family=Lato:400,700italic);\nbody {}"
    assert handouts.FONTS.sub("", theme) == "@import url(./fonts/own.css);\nbody {}"
    head = "<script type=\"module\">\n  import mermaid from '';\n</script><script>other()</script>"
    assert handouts.MERMAID.sub("", head) == "<script>other()</script>"
