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
from matplotlib.figure import Figure

from madlab.figures import STYLE, blank, few_ticks, png, say_cut_axes

SHOWN_STEPS = 9
"""How many values of a slider the site draws if its panel does not say which."""

_LABEL = {"description_width": "initial"}


def slider(
    label: str, low: float, high: float, value: float, step: float | None = None, *, continuous: bool = False
) -> Any:
    """A slider of integers, or of floats if one of the numbers is a float.

    continuous: whether it responds while it is moved, for pictures that take less than about 60 ms, or when it is
    released.
    """
    numbers = (low, high, value, step or 0)
    kind = ipywidgets.FloatSlider if any(isinstance(n, float) for n in numbers) else ipywidgets.IntSlider
    ends = {"min": low, "max": high, "step": step or 1}
    return kind(value=value, description=label, continuous_update=continuous, style=_LABEL, **ends)


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


def offered(menu: Any) -> dict[str, Any]:
    """The options of a menu: text -> value."""
    return dict(option if isinstance(option, tuple) else (str(option), option) for option in menu.options)


def offer(menu: Any, options: Sequence[Any], otherwise: Any = None) -> None:
    """Give a menu other options; what was chosen stays, if it is among them, or else `otherwise`, or the first."""
    wanted = [menu.value, otherwise]
    menu.options = list(options)  # which selects the first
    menu.value = next((value for value in wanted if value in offered(menu).values()), menu.value)


def steps_of(control: Any) -> list[Any]:
    """At most SHOWN_STEPS values of a slider, evenly spread over its steps, with both ends."""
    steps = round((control.max - control.min) / control.step)
    last = min(steps, SHOWN_STEPS - 1)
    chosen = [round(place * steps / last) for place in range(last + 1)] if last else [0]
    kind = type(control.value)
    return [kind(round(control.min + step * control.step, 10)) for step in chosen]


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

    The site draws a panel once for each of its states (states.py) and shows these pictures without a kernel. states:
    name of a control -> the values that the site draws; for a button (0, 1) is one press, (0, 1, 2) up to two in a row.
    Controls that are not named have the values that the property `states` says. start(): forgets what the panel
    remembers besides its controls. arithmetic: the name of a script in the site's static/arithmetic.js that computes
    the panel in the page instead, and the numbers that it needs.

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
        states: Mapping[str, Sequence[Any]] | None = None,
        start: Callable[[], None] | None = None,
        arithmetic: tuple[str, Mapping[str, Any]] | None = None,
    ):
        self.controls = dict(controls)
        self.state: dict[str, Any] = {}
        self.size, self.arithmetic = size, arithmetic
        self._draw, self._before, self._slow = draw, before, slow
        self._states, self._start = dict(states or {}), start
        self._first = self.values
        self._quiet = False  # True while `before` sets controls
        self._undrawn = False  # True while the panel goes from state to state without a picture
        self.cells: Sequence[Sequence[Any]] = ()  # rows of buttons that lie over the picture

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

    @property
    def states(self) -> dict[str, list[Any]]:
        """Control -> the values that the site draws; for a button the numbers of presses in a row, beginning with 0.

        Where nothing is declared: every option of a menu, both values of a switch, SHOWN_STEPS values of a slider, no
        press of a button. Options and ends that `before` changes are those of the moment. The first and the current
        value of a control always belong to them.
        """
        return {name: self._shown_values(name, control) for name, control in self.controls.items()}

    @property
    def remembers(self) -> bool:
        """Whether what is drawn depends on more than the values of the controls, e.g. on how often one was pressed."""
        return self._start is not None

    @property
    def must_measure(self) -> bool:
        """Whether something has to be measured before the present values can be drawn."""
        return self._slow is not None and bool(self._slow(**self.values))

    @property
    def has_rules(self) -> bool:
        """Whether a move of one control can move others, too."""
        return self._before is not None

    def _shown_values(self, name: str, control: Any) -> list[Any]:
        declared = self._states.get(name)
        if isinstance(control, ipywidgets.Button):
            return list(declared or (0,))
        if isinstance(control, ipywidgets.Dropdown):
            values = offered(control).values()
            kept = {control.value, self._first[name]}
            return [value for value in values if declared is None or value in declared or value in kept]
        if isinstance(control, ipywidgets.Checkbox):
            return [False, True]
        wanted = {*(steps_of(control) if declared is None else declared), self._first[name], control.value}
        return sorted(value for value in wanted if control.min <= value <= control.max)

    def go(self, values: Mapping[str, Any], *moves: tuple[str, Any]) -> None:
        """Bring the controls to these values, then move some of them, and wait until all is done; nothing is drawn.

        moves: (name, value) of controls; the value of a button does not matter. On the way to `values` the controls
        move one after the other, in their order, as by hand; what `before` then sets otherwise is put right.
        """
        self._undrawn = True
        try:
            if self._start is not None:
                self._start()
            self._set(values)
            self._quiet = True
            self._set(values)
            self._quiet = False
            for name, value in moves:
                if isinstance(self.controls[name], ipywidgets.Button):
                    self.controls[name].click()
                else:
                    self.controls[name].value = value
                self.wait()
        finally:
            self._quiet = self._undrawn = False

    def restart(self) -> None:
        """Bring the panel to where it started, whatever was done with it, and draw that."""
        self.go(self._first)
        self.redraw()

    def choose(self, **values: Any) -> None:
        """Move several controls as one: the last of them counts as the one that has moved, and is drawn once."""
        self._quiet = True
        try:
            for name, value in values.items():
                self.controls[name].value = value
        finally:
            self._quiet = False
        self._moved(next(reversed(values)))

    def overlay(self, place: tuple[float, float, float, float], cells: Sequence[Sequence[Any]]) -> None:
        """Lay a grid of buttons over a part of the picture, so that what is drawn there can be clicked.

        place: left, bottom, width and height, as shares of the figure. cells: rows of buttons without text.
        """
        rows, columns = len(cells), len(cells[0])
        width, height = (100 * side for side in self.size)
        left, bottom, across, up = place
        for cell in (one for row in cells for one in row):
            cell.layout = ipywidgets.Layout(width="auto", height="auto", min_width="0", margin="0", padding="0")
            cell.style.button_color = "transparent"
        grid = ipywidgets.Layout(
            grid_area="1 / 1",
            margin=f"{height * (1 - bottom - up):.0f}px 0 0 {width * left:.0f}px",
            width=f"{width * across:.0f}px",
            height=f"{height * up:.0f}px",
            grid_template_columns=f"repeat({columns}, minmax(0, 1fr))",
            grid_template_rows=f"repeat({rows}, minmax(0, 1fr))",
            grid_gap="0",
            overflow="hidden",
        )
        self.cells = cells
        self.image.layout.grid_area = "1 / 1"
        above = ipywidgets.GridBox([one for row in cells for one in row], layout=grid)
        sheet = ipywidgets.Layout(grid_template_columns=f"{width:.0f}px", overflow="visible")
        controls, _, *below = self.box.children
        self.box.children = (controls, ipywidgets.GridBox([self.image, above], layout=sheet), *below)

    def _set(self, values: Mapping[str, Any]) -> None:
        for name in self.values:
            self.controls[name].value = values[name]

    def wait(self, seconds: float = 120) -> None:
        """Wait until what a control has started is done. Only a panel that works in a thread of its own has to."""

    def figure(self) -> Figure:
        """A figure of the current values; `state` is then what it shows."""
        with matplotlib.rc_context(STYLE):
            figure = blank(self.size)
            self.state = self._draw(figure, **self.values) or {}
            few_ticks(figure)
            say_cut_axes(figure)
        return figure

    def redraw(self) -> None:
        """Draw for the current values."""
        if self._undrawn:
            return
        if self.must_measure:
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
        self.image.value = png(self.figure())
        self.note.value = str(self.state.get("note", ""))
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
