"""What the site records of a panel: the pictures that the panel itself draws, each once, and nothing disturbed."""

import html
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from living import markup, record
from living.pictures import NARROW, SCALE, cuts, pixels, spans
from living.record import describe, panel_data, quiz_data
from PIL import Image

from madlab import lessons, widgets
from madlab.figures import blank
from madlab.widgets import Panel, button, choice, slider


def two_axes() -> Panel:
    """Left a curve that follows the slider, right one that follows the menu; a button that counts until one moves."""
    count = {"presses": 0}

    def draw(figure: Any, power: int, name: str) -> dict[str, Any]:
        left, right = figure.add_axes((0.1, 0.2, 0.3, 0.7)), figure.add_axes((0.6, 0.2, 0.3, 0.7))
        left.plot([0, 1, 2], [x**power for x in (0, 1, 2)])
        right.set_title(f"{name} {count['presses']}")
        return {"note": f"<b>{power}</b> & {name} {count['presses']} </script>"}

    def before(panel: Panel, moved: str) -> None:
        count["presses"] = count["presses"] + 1 if moved == "more" else 0

    controls = {"power": slider("power", 1, 3, 2), "name": choice("name", ["a", "b"]), "more": button("more")}
    start = {"states": {"more": (0, 1)}, "start": lambda: count.update(presses=0)}
    return Panel(draw, controls, size=(4, 2), before=before, **start)


@pytest.mark.slow
def test_every_state_has_the_picture_and_the_note_that_the_panel_draws(tmp_path: Path) -> None:
    data, panel = panel_data(two_axes(), tmp_path), two_axes()
    assert len(data["states"]) == 3 * 2 * 2
    names = [control["name"] for control in data["controls"] if control["kind"] != "button"]
    for key, row in data["states"].items():
        places, _, presses = key.partition(",more*")
        for name, place in zip(names, places.split(","), strict=False):
            control = next(control for control in data["controls"] if control["name"] == name)
            text = control["values"][int(place)]
            panel.controls[name].value = int(text) if name == "power" else text
        panel.power.value, panel.power.value = 3 - panel.power.value % 3, panel.power.value  # forgets the presses
        for _ in range(int(presses or 0)):
            panel.more.click()
        assert data["notes"][row[-1]] == panel.note.value
        parts = [Image.open(tmp_path / f"{data['parts'][part]}.webp").convert("RGB") for part in row[:-1]]
        whole = np.concatenate([np.asarray(part) for part in parts], axis=1)
        assert whole.shape == (SCALE * 200, SCALE * 400, 3)
        assert np.abs(whole.astype(int) - pixels(panel.figure())).mean() < 1


def test_the_alternative_text_is_the_panels_own_or_its_note(tmp_path: Path) -> None:
    def draw(figure: Any, power: int) -> dict[str, Any]:
        return {"note": "", "alt": f"The power is {power} & more."}

    panel = Panel(draw, {"power": slider("power", 1, 3, 2)}, size=(4, 2))
    data = panel_data(panel, tmp_path)
    assert data["alts"].keys() == data["states"].keys() and all(data["alts"].values())
    shown = markup.panel(data | {"id": "board"}, page="08", pictures="")
    assert f'alt="{html.escape(data["alts"][data["start"]])}"' in shown
    noted = markup.panel(data | {"id": "board", "alts": {}, "notes": ["|a| &lt; 1: <b>x</b>"]}, page="08", pictures="")
    assert 'alt="|a| &lt; 1: x"' in noted


def test_a_part_that_does_not_change_is_stored_once(tmp_path: Path) -> None:
    data = panel_data(two_axes(), tmp_path)
    assert len(data["columns"]) == 2 and sum(data["columns"]) == pytest.approx(400)
    assert (
        len(data["parts"]) == len(list(tmp_path.glob("*.webp"))) == 3 + 2 * 2
    )  # left by power; right by name, presses


@pytest.mark.slow
def test_a_recorded_panel_is_as_it_was(tmp_path: Path) -> None:
    panel = two_axes()
    panel.power.value = 3
    picture, values, state = panel.image.value, panel.values, torch.get_rng_state()
    panel_data(panel, tmp_path)
    assert panel.values == values and panel.image.value == picture
    assert torch.equal(torch.get_rng_state(), state)


def test_a_cut_is_in_the_first_wide_white_between_two_axes() -> None:
    figure = blank((4, 2))
    for place in ((0.1, 0.5, 0.2, 0.4), (0.15, 0.1, 0.2, 0.3), (0.7, 0.1, 0.2, 0.8)):
        figure.add_axes(place)
    assert np.allclose(spans([figure]), [(0.1, 0.35), (0.7, 0.9)])
    ink = np.zeros(400, bool)
    ink[40:140] = ink[200:210] = ink[280:360] = True
    assert cuts(spans([figure]), ink) == [0, pytest.approx(170, abs=1), 400]
    ink[140:200] = True
    assert cuts(spans([figure]), ink) == [0, pytest.approx(245, abs=1), 400]
    ink[140 : 280 : NARROW * SCALE] = True  # no white is wide enough
    assert cuts(spans([figure]), ink) == [0, 400]


def test_data_cannot_end_their_own_script(tmp_path: Path) -> None:
    data = {"id": "panel", **panel_data(two_axes(), tmp_path)}
    text = markup.panel(data, page="05", pictures="_static/panels/")
    assert text.count("</script>") == 2  # that of the note, which a browser reads as text of a paragraph, and the last
    script = text.split('class="live-data">')[1].removesuffix("</script></figure>")
    assert json.loads(script) == json.loads(json.dumps(data))


def test_a_panel_that_computes_itself_draws_no_pictures(tmp_path: Path) -> None:
    panel = widgets.score_board()
    data = panel_data(panel, tmp_path)
    assert data["script"] == "score" and not list(tmp_path.iterdir())
    json.dumps(data)
    assert {entry["name"]: entry["value"] for entry in describe(panel)} == panel.values


def test_a_quiz_is_recorded_with_the_feedback_that_it_gives() -> None:
    quiz = lessons.quiz("02")
    for number, question in enumerate(quiz_data(quiz)["questions"]):
        assert sum(right for *_, right in question["answers"]) == 1
        for answer, feedback, _ in question["answers"]:
            quiz.choices[number].value = answer
            assert quiz.feedback[number].value == feedback


def test_a_comparison_is_recorded_with_what_the_page_needs_for_its_own(monkeypatch) -> None:
    recorded = []
    monkeypatch.setattr(record, "publish", lambda kind, shown, data: recorded.append((kind, shown, data)))
    prediction = lessons.predict("How large?", "kB")
    record.publish_comparison(prediction, np.float32(1243.0), 1)
    assert recorded == [(record.COMPARISON, prediction, {"result": 1243.0, "digits": 1, "unit": "kB"})]
    data = {"id": "size", **json.loads(json.dumps(recorded[0][2]))}
    assert "<strong>Found: 1,243.0 kB.</strong>" in markup.comparison(data, page="05", pictures="")
