"""The states of a panel, for the site: what is drawn is what the panel itself shows after the same moves by hand."""

import random
from typing import Any

import pytest

from madlab import widgets
from madlab.errors import MadlabError
from madlab.widgets import Panel, button, choice, slider, switch
from madlab.widgets.states import MOST, Setting, walk


def panel_with_rules() -> Panel:
    """A menu that changes the options of another and the end of a slider, and a slider that ticks a box."""

    def draw(figure: Any, kind: str, item: str, cut: bool, rank: int) -> dict[str, Any]:
        return {"note": f"{kind} {item} {cut} {rank}"}

    def before(panel: Panel, moved: str) -> None:
        if moved == "kind":
            panel.item.options = {"letters": ["a", "b"], "numbers": ["1", "2", "3"]}[panel.kind.value]
            panel.rank.max = 4 if panel.kind.value == "letters" else 2
        if moved == "rank":
            panel.cut.value = True

    controls = {
        "kind": choice("kind", ["letters", "numbers"]),
        "item": choice("item", ["a", "b"]),
        "cut": switch("cut"),
        "rank": slider("rank", 1, 4, 1),
        "clear": button("clear"),
    }

    def rules(panel: Panel, moved: str) -> None:
        if moved == "clear":
            panel.cut.value, panel.rank.value = False, 1
        before(panel, moved)

    return Panel(draw, controls, size=(1, 1), before=rules, states={"rank": (1, 2, 4), "clear": (0, 1)})


def panel_that_counts() -> Panel:
    """A button whose presses are remembered, and forgotten when the menu moves."""
    place = {"page": 0}

    def draw(figure: Any, name: str) -> dict[str, Any]:
        return {"note": f"{name} {place['page']}"}

    def before(panel: Panel, moved: str) -> None:
        place["page"] = place["page"] + 1 if moved == "more" else 0

    controls = {"name": choice("name", ["a", "b", "c"]), "more": button("more")}
    start = {"states": {"more": (0, 1, 2)}, "start": lambda: place.update(page=0)}
    return Panel(draw, controls, size=(1, 1), before=before, **start)


def test_what_is_not_declared_is_found_from_the_controls() -> None:
    controls = {
        "name": choice("name", [("one", 1), ("two", 2)]),
        "on": switch("on"),
        "few": slider("few", 1, 5, 2),
        "many": slider("many", 0.0, 1.0, 0.3, 0.01),
        "go": button("go"),
    }
    panel = Panel(lambda figure, **values: {}, controls, size=(1, 1))
    assert panel.states["name"] == [1, 2] and panel.states["on"] == [False, True]
    assert panel.states["few"] == [1, 2, 3, 4, 5] and panel.states["go"] == [0]
    many = panel.states["many"]
    assert {0.0, 0.3, 1.0} <= set(many) and len(many) <= 10 and many == sorted(many)


def test_a_panel_without_rules_has_every_combination() -> None:
    controls = {"name": choice("name", ["a", "b"]), "on": switch("on"), "rank": slider("rank", 1, 9, 4)}
    panel = Panel(lambda figure, **values: {}, controls, size=(1, 1), states={"rank": (1, 9)})
    settings, moves = walk(panel)
    assert {setting.values for setting in settings} == {
        (("name", name), ("on", on), ("rank", rank)) for name in "ab" for on in (False, True) for rank in (1, 4, 9)
    }
    for (here, name, value), there in moves.items():
        assert dict(there.values) == dict(here.values) | {name: value}


@pytest.mark.parametrize("make", [panel_with_rules, panel_that_counts])
def test_moves_lead_where_the_panel_goes_by_hand(make: Any) -> None:
    settings, moves = walk(make())
    rng = random.Random(0)
    for _ in range(30):
        panel, shown = make(), make()
        here = Setting.of(panel)
        for _ in range(6):
            name, value = rng.choice([(name, value) for at, name, value in moves if at == here])
            if name in panel.values:
                panel.controls[name].value = value
            else:
                for _ in range(value):
                    panel.controls[name].click()
            here = moves[here, name, value]
            here.show(shown)
            shown.redraw()
            assert shown.note.value == panel.note.value
            assert here in settings
            if here.pressed:  # the site goes on from where the button was pressed: so must the hand
                break


def test_a_panel_is_not_drawn_on_the_way() -> None:
    drawn = []
    panel = Panel(lambda figure, name: drawn.append(name), {"name": choice("name", ["a", "b"])}, size=(1, 1))
    walk(panel)
    panel.go({"name": "b"})
    assert drawn == ["a"] and panel.values == {"name": "b"}
    panel.name.value = "a"
    assert drawn == ["a", "a"]


def test_too_many_states_are_refused_with_their_numbers() -> None:
    controls = {f"menu{i}": choice("menu", list(range(20))) for i in range(3)}
    panel = Panel(lambda figure, **values: {}, controls, size=(1, 1))
    with pytest.raises(MadlabError, match=f"more than {MOST:,} states.*menu0 20"):
        walk(panel)


def test_arithmetic_panels_name_their_script() -> None:
    assert widgets.score_board().arithmetic[0] == "score"
    assert widgets.budget_calculator().arithmetic[0] == "budget"
