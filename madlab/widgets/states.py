"""All states that the site shows of a panel, and how its controls lead from one to the other; see `Panel.states`."""

from collections import deque
from dataclasses import dataclass
from typing import Any

from madlab.errors import MadlabError
from madlab.widgets.panel import Panel

MOST = 2000
"""So many states are about 20 MB of pictures, and ten minutes of drawing."""


@dataclass(frozen=True)
class Setting:
    """Where the controls of a panel stand, as (name, value) pairs, and the button that was pressed last: how often."""

    values: tuple[tuple[str, Any], ...]
    pressed: str = ""
    times: int = 0

    @classmethod
    def of(cls, panel: Panel) -> "Setting":
        """The present setting of a panel none of whose buttons has been pressed."""
        return cls(tuple(panel.values.items()))

    def show(self, panel: Panel) -> None:
        """Bring a panel into this setting; nothing is drawn."""
        panel.go(dict(self.values), *[(self.pressed, None)] * self.times)


Moves = dict[tuple[Setting, str, Any], Setting]


def walk(panel: Panel) -> tuple[list[Setting], Moves]:
    """Every setting that can be reached from the present one with the values of `panel.states`, and every move.

    Returns (settings, moves), with moves: (setting, control, value) -> setting. If the panel remembers more than its
    controls show, buttons are pressed only where nothing else was done, and every other move forgets them. The panel
    is not drawn; it ends somewhere. Raises MadlabError for more than MOST settings.
    """
    start = Setting.of(panel)
    found, waiting = {start: None}, deque([start])
    moves: Moves = {}
    while waiting:
        here = waiting.popleft()
        here.show(panel)
        for name, values in panel.states.items():
            for value in values:
                there = moves[here, name, value] = _after(panel, here, name, value)
                if there not in found:
                    found[there] = None
                    if not there.pressed:
                        waiting.append(there)
        if len(found) > MOST:
            axes = ", ".join(f"{name} {len(values)}" for name, values in panel.states.items())
            raise MadlabError(f"A panel has more than {MOST:,} states: declare fewer values in its `states` ({axes}).")
    return list(found), moves


def _after(panel: Panel, here: Setting, name: str, value: Any) -> Setting:
    """The setting to which a move leads; value: of the control, or how often a button is pressed."""
    if name not in panel.values:
        if panel.remembers:
            return Setting(here.values, name, value) if value else here
        panel.go(dict(here.values), *[(name, None)] * value)
    elif panel.has_rules:
        panel.go(dict(here.values), (name, value))
    else:
        return Setting(tuple((other, value if other == name else old) for other, old in here.values))
    return Setting.of(panel)
