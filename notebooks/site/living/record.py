"""Runs in the kernel of each notebook while the site is built: panels, quizzes and predictions are recorded as data.

The display formatter of IPython is told to show a panel not as widgets but as JSON: its controls, its states, and the
names of their pictures. pages.py makes elements of the page from it.
"""

import json
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

PANEL, QUIZ, PREDICTION, COMPARISON = "madlab-panel", "madlab-quiz", "madlab-prediction", "madlab-comparison"
SAMPLE = 8
"""From so many states it is found out where a panel's pictures can be cut."""


def install() -> None:
    """Tell this kernel to record what is live when it is shown, and to draw sharp figures."""
    from IPython import get_ipython

    from living.pictures import SCALE
    from madlab.figures import STYLE
    from madlab.lessons import Prediction

    STYLE["figure.dpi"] = 100 * SCALE
    formatter = get_ipython().display_formatter.ipython_display_formatter
    formatter.for_type_by_name("madlab.widgets.panel", "Panel", lambda panel: publish(PANEL, panel, panel_data(panel)))
    formatter.for_type_by_name("madlab.lessons.quizzes", "Quiz", lambda quiz: publish(QUIZ, quiz, quiz_data(quiz)))
    formatter.for_type(Prediction, lambda box: publish(PREDICTION, box, {"question": box.question, "unit": box.unit}))
    Prediction.compare = publish_comparison  # type: ignore[method-assign]


def publish(kind: str, shown: Any, data: dict[str, Any]) -> None:
    """Show data as the output of the cell. They are called as the notebook's variable is."""
    from IPython import get_ipython
    from IPython.display import publish_display_data

    names = [name for name, value in get_ipython().user_ns.items() if value is shown and not name.startswith("_")]
    text = json.dumps({"id": names[0] if names else kind.removeprefix("madlab-"), **data}, ensure_ascii=False)
    text = text.replace("</", "<\\/")
    publish_display_data({"text/html": f'<script type="application/json" class="{kind}">{text}</script>'})


def publish_comparison(prediction: Any, result: float, digits: int = 0) -> None:
    """What `Prediction.compare` does here: show the result, which the page compares with what its reader types."""
    publish(COMPARISON, prediction, {"result": float(result), "digits": digits, "unit": prediction.unit})


def quiz_data(quiz: Any) -> dict[str, Any]:
    """Every question with its answers, the feedback for each, and which is right."""
    questions = []
    for question in quiz.questions:
        answers = [[answer, question.feedback(answer), answer == question.right] for answer in question.answers]
        questions.append({"text": question.text, "answers": answers})
    return {"questions": questions}


def panel_data(panel: Any, folder: Path | None = None) -> dict[str, Any]:
    """Drive a panel through all of its states, write their pictures, and leave it and all random numbers as they were.

    Returns controls: a list with name, kind, label and the texts of their values; parts: names of pictures; notes;
    alts: key -> alternative text, where that is not the note; and states: key -> [picture of each column ..., note],
    where a key has the index of each control's value and what was pressed; moves: key -> {control.value: key} for moves
    that set more than one control; start: the first key.
    """
    with undisturbed(panel):
        if panel.arithmetic is not None:
            script, numbers = panel.arithmetic
            return {"controls": describe(panel), "script": script, "numbers": numbers}
        return Recording(panel, folder or Path(os.environ["MADLAB_SITE_PICTURES"])).data()


@contextmanager
def undisturbed(panel: Any) -> Iterator[None]:
    """Put the panel and the states of random numbers back afterwards."""
    import torch

    values = panel.values
    states = torch.get_rng_state(), random.getstate()
    try:
        yield
    finally:
        panel.go(values)
        panel.redraw()
        torch.set_rng_state(states[0])
        random.setstate(states[1])


def kind_of(control: Any) -> str:
    """button, choice, switch or slider."""
    name = type(control).__name__
    return {"Button": "button", "Dropdown": "choice", "Checkbox": "switch"}.get(name, "slider")


def describe(panel: Any) -> list[dict[str, Any]]:
    """The controls of a panel that computes itself: their labels, ends and present values."""
    from madlab.widgets.panel import offered

    described = []
    for name, control in panel.controls.items():
        kind = kind_of(control)
        entry = {"name": name, "kind": kind, "label": control.description, "value": getattr(control, "value", None)}
        if kind == "choice":
            texts = offered(control)
            entry |= {"values": list(texts), "value": next(text for text in texts if texts[text] == control.value)}
        elif kind == "slider":
            entry |= {"min": control.min, "max": control.max, "step": control.step}
        described.append(entry)
    return described


class Recording:
    """One panel on its way through its states."""

    def __init__(self, panel: Any, folder: Path):
        from madlab.widgets.states import walk

        self.panel, self.folder = panel, folder
        self.settings, self.moves = walk(panel)
        self.values = {name: self._values(name) for name in panel.values}
        self.texts: dict[str, dict[Any, str]] = {name: {} for name in panel.values}
        self.rows: dict[str, list[Any]] = {}

    def _values(self, name: str) -> list[Any]:
        """The values of a control that occur, in its order."""
        found = list(dict.fromkeys(dict(setting.values)[name] for setting in self.settings))
        return found if kind_of(self.panel.controls[name]) == "choice" else sorted(found)

    def data(self) -> dict[str, Any]:
        from living.pictures import SCALE, Album

        self._measure()
        some = self.settings[:: max(1, len(self.settings) // SAMPLE)]
        album = Album(self.folder, [self._figure(setting) for setting in some])
        parts: dict[str, int] = {}
        notes: dict[str, int] = {}
        states: dict[str, list[Any]] = {}
        alts: dict[str, str] = {}
        for setting in self.settings:
            names = album.add(self._figure(setting))
            note = str(self.panel.state.get("note", ""))
            row: list[Any] = [parts.setdefault(name, len(parts)) for name in names]
            row.append(notes.setdefault(note, len(notes)))
            states[self.key(setting)] = row
            if "alt" in self.panel.state:
                alts[self.key(setting)] = str(self.panel.state["alt"])
            self._read_texts()
        return {
            "controls": [self._control(name) for name in self.panel.controls],
            "size": [round(100 * side) for side in self.panel.size],
            "columns": [(after - before) / SCALE for before, after in pairwise(album.places)],
            "parts": list(parts),
            "notes": list(notes),
            "alts": alts,
            "states": states,
            "moves": self._moves(),
            "start": self.key(self.settings[0]),
        }

    def _measure(self) -> None:
        """Measure all that will be measured: figures that show what is known so far are then the same on every way."""
        for setting in self.settings:
            setting.show(self.panel)
            if self.panel.must_measure:
                self.panel.figure()

    def _figure(self, setting: Any) -> Any:
        import torch

        torch.manual_seed(0)  # what a button draws at random is the same in every picture of it
        random.seed(0)
        setting.show(self.panel)
        return self.panel.figure()

    def key(self, setting: Any) -> str:
        places = ",".join(str(self.values[name].index(value)) for name, value in setting.values)
        return f"{places},{setting.pressed}*{setting.times}" if setting.pressed else places

    def _read_texts(self) -> None:
        """Note how the controls write their values: menus have texts for them."""
        from madlab.widgets.panel import offered

        for name, texts in self.texts.items():
            control = self.panel.controls[name]
            if kind_of(control) == "choice":
                texts.update({value: text for text, value in offered(control).items()})

    def _control(self, name: str) -> dict[str, Any]:
        control = self.panel.controls[name]
        entry = {"name": name, "kind": kind_of(control), "label": control.description}
        if entry["kind"] == "button":
            entry["presses"] = self.panel.states[name][-1]
        else:
            entry["values"] = [self.texts[name].get(value, written(control, value)) for value in self.values[name]]
        return entry

    def _moves(self) -> dict[str, dict[str, str]]:
        """The moves that lead elsewhere than to the same setting with one other value."""
        found: dict[str, dict[str, str]] = {}
        for (here, name, value), there in self.moves.items():
            if name in self.panel.values:
                plain = tuple((other, value if other == name else old) for other, old in here.values)
                if there.values != plain and value in self.values[name]:
                    found.setdefault(self.key(here), {})[f"{name}.{self.values[name].index(value)}"] = self.key(there)
            elif value == 1 and not there.pressed and there != here:
                found.setdefault(self.key(here), {})[name] = self.key(there)
        return found


def written(control: Any, value: Any) -> str:
    """A value as the control writes it."""
    form = getattr(control, "readout_format", "")
    return format(value, form) if form and not isinstance(value, bool) else str(value)
