"""Controls wired to a figure: every interactive figure of the course is a `Panel`.

Only what ipywidgets 7.7 (Colab) and 8.1 have in common is used here: sliders, dropdowns, buttons, an Image and HTML.
"""

import gc
import html
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ipywidgets
import matplotlib

from madlab.figures import STYLE, blank, few_ticks, png

_LABEL = {"description_width": "initial"}


def slider(label: str, low: float, high: float, value: float, step: float | None = None) -> Any:
    """A slider of integers, or of floats if one of the numbers is a float. It responds when it is released."""
    numbers = (low, high, value, step or 0)
    kind = ipywidgets.FloatSlider if any(isinstance(n, float) for n in numbers) else ipywidgets.IntSlider
    return kind(
        value=value, min=low, max=high, step=step or 1, description=label, continuous_update=False, style=_LABEL
    )


def choice(label: str, options: Sequence[Any] | Sequence[tuple[str, Any]], value: Any = None) -> Any:
    """A dropdown of values, or of (text, value) pairs. Without `value` the first is selected."""
    first = options[0][1] if isinstance(options[0], tuple) else options[0]
    return ipywidgets.Dropdown(
        options=list(options), value=first if value is None else value, description=label, style=_LABEL
    )


def switch(label: str, value: bool = False) -> Any:
    """A checkbox."""
    return ipywidgets.Checkbox(value=value, description=label, indent=False, style=_LABEL)


def button(label: str) -> Any:
    """A button. Pressing it calls the panel's `before` with its name and then draws."""
    return ipywidgets.Button(description=label, layout=ipywidgets.Layout(width="auto"))


@contextmanager
def _collect_afterwards() -> Iterator[None]:
    """Keep the garbage collector from running while a figure is drawn, and collect the young objects afterwards.

    A figure consists of thousands of objects that refer to each other. Without this, a full collection interrupts about
    every tenth figure: the slowest of 120 pictures of the rank slider took 150 ms of CPU time instead of 52, and one in
    twenty took 100 ms instead of 50. The median is 48 ms either way.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.collect(0)
        if was_on:
            gc.enable()


class Panel:
    """Controls above a figure that is redrawn whenever one of them moves.

    draw(figure, **values): puts axes on an empty figure and returns the panel's `state`, a dict of what is shown; its
    entry "note" is shown as text below the figure. controls: name -> ipywidgets control; each is also an attribute of
    the panel, so that `panel.rank.value = 4` does the same as moving the slider. before(panel, name): runs after the
    control `name` has moved and before the figure is drawn; controls that it sets do not cause another drawing. size:
    width and height in inches, at 100 dots per inch. slow(**values): whether something has to be measured first for
    these values; in the meantime the note says so.

    An error in `draw` or `before` is shown below the figure and raised.
    """

    def __init__(
        self,
        draw: Callable[..., dict[str, Any] | None],
        controls: Mapping[str, Any],
        *,
        size: tuple[float, float] = (8, 4),
        before: Callable[["Panel", str], None] | None = None,
        slow: Callable[..., bool] | None = None,
    ):
        self.controls = dict(controls)
        self.state: dict[str, Any] = {}
        self._draw, self._before, self._slow = draw, before, slow
        self._size = size
        self._quiet = False  # True while `before` sets controls

        width, height = (round(100 * side) for side in size)
        fixed = ipywidgets.Layout(width=f"{width}px", height=f"{height}px", max_width="none")
        self.image = ipywidgets.Image(format="png", width=width, height=height, layout=fixed)
        self.note = ipywidgets.HTML(layout=ipywidgets.Layout(min_height="28px"))
        self.error = ipywidgets.HTML()
        row = ipywidgets.Layout(display="flex", flex_flow="row wrap", align_items="center")
        self.box = ipywidgets.VBox(
            [ipywidgets.Box(list(self.controls.values()), layout=row), self.image, self.note, self.error]
        )

        for name, control in self.controls.items():
            if isinstance(control, ipywidgets.Button):
                control.on_click(lambda _, name=name: self._moved(name))
            else:
                control.observe(lambda _, name=name: self._moved(name), names="value")
        self.redraw()

    def __getattr__(self, name: str) -> Any:
        controls = self.__dict__.get("controls", {})
        if name not in controls:
            raise AttributeError(f"This panel has no {name!r}; its controls are {', '.join(controls)}.")
        return controls[name]

    @property
    def values(self) -> dict[str, Any]:
        """The current values of the controls, by name; buttons have none."""
        return {name: control.value for name, control in self.controls.items() if hasattr(control, "value")}

    def redraw(self) -> None:
        """Draw for the current values."""
        if self._slow is not None and self._slow(**self.values):
            # The old note still takes up its space, invisibly, so that nothing below it moves.
            self.note.value = f"<i>measuring …</i> <span style='visibility: hidden'>{self.note.value}</span>"
        with _collect_afterwards():
            self._shown(self._picture)

    def _moved(self, name: str) -> None:
        if self._quiet:
            return
        if self._before is not None:
            self._quiet = True
            try:
                self._shown(lambda: self._before(self, name))  # type: ignore[misc]
            finally:
                self._quiet = False
        self.redraw()

    def _picture(self) -> None:
        with matplotlib.rc_context(STYLE):
            figure = blank(self._size)
            state = self._draw(figure, **self.values) or {}
            few_ticks(figure)
        self.image.value = png(figure)
        self.note.value = str(state.get("note", ""))
        self.state = state
        self.error.value = ""

    def _shown(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception:
            self.error.value = f"<pre style='color: #D55E00'>{html.escape(traceback.format_exc(limit=-3))}</pre>"
            raise

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.box)
