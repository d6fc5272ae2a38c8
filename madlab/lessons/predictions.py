"""A box for the reader's own prediction before a result is shown, and the comparison with it afterwards."""

import html
import math
import re
from typing import Any

from madlab.errors import MadlabError

THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")
"""Commas as they stand in this course's numbers; any other comma is a decimal one."""


class Prediction:
    """A question with a box for a number, to be answered before the cell that computes it is run.

    Its attribute `box` is the control: `prediction.box.value = "40"` does the same as typing. `compare` shows the
    result beside what was predicted, and follows the box if the prediction is changed or typed later.
    """

    def __init__(self, question: str, unit: str = ""):
        import ipywidgets

        self.question, self.unit = question, unit
        self._shown: Any = None
        wide = ipywidgets.Layout(width="auto", max_width="64em")
        self.box = ipywidgets.Text(placeholder="your number", layout=ipywidgets.Layout(width="9em"))
        self.box.observe(lambda _: self._compared(), names="value")
        title = ipywidgets.HTML(f"<b>Your prediction.</b> {question}", layout=wide)
        row = ipywidgets.Layout(display="flex", flex_flow="row", align_items="center")
        self.view = ipywidgets.VBox([title, ipywidgets.Box([self.box, ipywidgets.HTML(html.escape(unit))], layout=row)])

    @property
    def value(self) -> float | None:
        """The predicted number; None while the box is empty. Raises MadlabError if it holds anything else."""
        text = self.box.value.strip()
        if not text:
            return None
        try:
            forms = (self.unit, self._unit_of(1), *(("x", "×") if self.unit == "times" else ()))
            written = next((form for form in forms if form and text.endswith(form)), "")
            bare = text.removesuffix(written).strip().replace("−", "-")
            number = float(bare.replace(",", "" if THOUSANDS.fullmatch(bare) else "."))
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise MadlabError(f"The prediction {text!r} is not a number: type digits, such as 40 or 2.5.")
        return number

    def compare(self, result: float, digits: int = 0) -> None:
        """Show the result, with this many decimals, beside the prediction."""
        from IPython.display import Markdown, display

        self._result, self._digits = result, digits
        self._shown = display(Markdown(self.comparison()), display_id=True)

    def comparison(self) -> str:
        """The sentence that `compare` shows, in Markdown."""
        found = f"**Found: {self._number(self._result)}.**"
        try:
            guess = self.value
        except MadlabError as error:
            return f"{found} {error}"
        if guess is None:
            return f"{found} You have not predicted anything; the box is above."
        predicted = f"You predicted {_as_typed(guess)} {self._unit_of(guess)}".strip()
        if self._shown_as(guess) == self._shown_as(self._result):
            return f"{found} {predicted}: right."
        distance = guess - float(f"{self._result:z.{self._digits}f}")  # from what is shown
        side, points = "above" if distance > 0 else "below", _as_typed(abs(distance))
        # "3 times below it" would be a ratio.
        unit = {"%": "point" if points == "1" else "points", "times": ""}.get(
            self.unit, self._unit_of(1 if points == "1" else 2)
        )
        return f"{found} {predicted}, which is {f'{points} {unit}'.strip()} {side} it."

    def _number(self, value: float) -> str:
        shown = self._shown_as(value)
        return f"{shown} {self._unit_of(1 if shown == '1' else 2)}".strip()

    def _shown_as(self, value: float) -> str:
        return f"{value:z,.{self._digits}f}"

    def _unit_of(self, number: float) -> str:
        """The unit as it stands behind a number: "1 point", "2 points"."""
        return self.unit.removesuffix("s") if number == 1 else self.unit

    def _compared(self) -> None:
        if self._shown is not None:
            from IPython.display import Markdown

            self._shown.update(Markdown(self.comparison()))

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.view)


def _as_typed(number: float) -> str:
    """With as many digits as it has."""
    return f"{number:,.10g}"


def predict(question: str, unit: str = "") -> Prediction:
    """Ask the reader for a number before it is shown. unit: what stands behind the box, such as "%".

    Make it the last value of a cell, and call its `compare(result)` in the cell that has computed the result.
    """
    return Prediction(question, unit)
