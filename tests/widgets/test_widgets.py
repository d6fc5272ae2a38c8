"""Controls wired to figures: each movement draws once, and an error is seen and raised."""

from io import BytesIO

import pytest
import torch
from PIL import Image
from torch import nn

from madlab import figures, widgets
from madlab.widgets import Panel, button, choice, slider, switch
from madlab.widgets.panel import offer


def make(before=None):
    drawn = []

    def draw(figure, rank, name):
        if rank == 13:
            raise ValueError("unlucky <b>")
        drawn.append((rank, name))
        figure.add_axes((0, 0, rank / 20, 1))
        return {"note": f"rank {rank}", "rank": rank}

    controls = {"rank": slider("rank", 1, 16, 4), "name": choice("name", ["a", "b"]), "reset": button("reset")}
    return Panel(draw, controls, size=(3, 1), before=before), drawn


def test_each_movement_draws_once() -> None:
    panel, drawn = make()
    panel.rank.value = 8
    panel.name.value = "b"
    panel.rank.value = 8
    panel.reset.click()
    assert drawn == [(4, "a"), (8, "a"), (8, "b"), (8, "b")]
    assert panel.state["rank"] == 8 and panel.note.value == "rank 8"


def test_a_panel_begins_again_as_it_began() -> None:
    counted = []

    def draw(figure, rank, name):
        return {"rank": rank, "name": name, "pressed": len(counted)}

    def before(panel, moved):
        if moved == "press":
            counted.append(moved)
        if moved == "name":  # as a table brings its own methods
            offer(panel.rank, [2, 4] if panel.name.value == "b" else [1, 2, 3])

    controls = {"name": choice("name", ["a", "b"]), "rank": choice("rank", [1, 2, 3], 3), "press": button("press")}
    panel = Panel(draw, controls, size=(3, 1), before=before, start=counted.clear)
    first, picture = panel.state, panel.image.value
    panel.name.value, panel.rank.value = "b", 4
    panel.press.click()
    assert panel.state == {"rank": 4, "name": "b", "pressed": 1}
    panel.restart()
    assert panel.state == first and panel.image.value == picture


def test_a_menu_with_other_options_keeps_what_it_still_offers() -> None:
    menu = choice("menu", ["a", "b", "c"], "b")
    for options, otherwise, kept in (("cba", None, "b"), ("xyz", "z", "z"), ("pq", "z", "p"), ("qp", None, "p")):
        offer(menu, list(options), otherwise)
        assert menu.value == kept and menu.options == tuple(options)


def test_a_slow_answer_is_announced_and_the_note_keeps_its_room() -> None:
    seen = []

    def draw(figure, rank):
        seen.append(panel.note.value if rank > 1 else "")
        return {"note": f"rank {rank}"}

    panel = Panel(draw, {"rank": slider("rank", 1, 4, 1)}, size=(1, 1), slow=lambda rank: rank == 3)
    for rank in (2, 3, 4):
        panel.rank.value = rank
    hidden = "<span style='visibility: hidden'>rank 2</span>"
    assert seen == ["", "rank 1", f"<i>measuring …</i> {hidden}", "rank 3"] and panel.note.value == "rank 4"


def test_the_picture_changes_and_keeps_its_size() -> None:
    panel, _ = make()
    first = panel.image.value
    panel.rank.value = 16
    assert panel.image.value != first
    assert Image.open(BytesIO(panel.image.value)).size == (300, 100)
    assert panel.image.layout.height == "100px"


def test_before_may_move_other_controls_without_drawing_twice() -> None:
    def before(panel, moved):
        if moved == "reset":
            panel.rank.value, panel.name.value = 2, "b"

    panel, drawn = make(before)
    panel.reset.click()
    assert drawn == [(4, "a"), (2, "b")]


def test_errors_are_shown_raised_and_forgotten() -> None:
    panel, _ = make()
    with pytest.raises(ValueError, match="unlucky"):
        panel.rank.value = 13
    assert "unlucky &lt;b&gt;" in panel.error.value
    panel.rank.value = 5
    assert panel.error.value == "" and panel.state["rank"] == 5
    with pytest.raises(AttributeError, match="its controls are rank, name, reset"):
        _ = panel.ranks


def test_controls_answer_when_let_go_and_know_their_kind() -> None:
    assert slider("a", 0, 4, 1).value == 1 and slider("a", 0, 4, 1).continuous_update is False
    assert slider("a", 0, 4, 1, continuous=True).continuous_update is True
    assert slider("a", 0.0, 4, 1, 0.5).step == 0.5
    assert choice("c", [("one", 1), ("two", 2)]).value == 1
    assert choice("c", ["x", "y"], "y").value == "y"
    assert switch("s", True).value is True


def test_alpha_editor_convolves_with_what_is_set() -> None:
    conv = nn.Conv2d(3, 4, 3, padding=1)
    picture = torch.randint(0, 256, (9, 9, 3), dtype=torch.uint8)
    neutral = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
    desk = widgets.alpha_editor(conv, {"one": picture, "two": 255 - picture}, neutral)
    desk.out.value, desk.into.value, desk.alpha_mn.value = 2, 1, -0.5
    changed = nn.Conv2d(3, 4, 3, padding=1)
    with torch.no_grad():
        changed.weight.copy_(conv.weight)
        changed.weight[2, 1] *= -0.5
        changed.bias.copy_(conv.bias)
        for name, pixels in (("one", picture), ("two", 255 - picture)):
            desk.picture.value = name
            x = pixels.permute(2, 0, 1)[None] / 255
            torch.testing.assert_close(desk.state["maps"][0], conv(x)[0].relu())
            torch.testing.assert_close(desk.state["maps"][1], changed(x)[0].relu())
            whole = desk.state["parts"][1].sum(0) + conv.bias[2]
            torch.testing.assert_close(whole.relu(), desk.state["maps"][1, 2])
    assert desk.state["parts"].shape == (2, 3, 9, 9) and "probabilities" not in desk.state
    desk.out.value = 0
    assert desk.alpha_mn.value == 1  # the slider shows the cell that is chosen
    drawn = []
    desk.image.observe(lambda change: drawn.append(change), names="value")
    desk.cells[2][1].click()
    assert (desk.out.value, desk.into.value, desk.alpha_mn.value) == (2, 1, -0.5) and len(drawn) == 1
    for value in (0.0, 1.0):  # the chosen cell is switched off, then back to one
        desk.cells[2][1].click()
        assert desk.state["alpha"][2, 1] == desk.alpha_mn.value == value
    desk.ones.click()
    assert desk.state["change"] == 0


def test_gallery_shows_the_images_of_the_domain() -> None:
    from madlab.benchmarks.pocket import SPECS

    gallery = widgets.domain_gallery()
    gallery.domain.value = "textures"
    recipe = SPECS["textures"]
    assert (gallery.state["images"][1] == recipe.image(1, 0)).all()
    gallery.label.value = recipe.class_names[2]
    gallery.more.click()
    assert (gallery.state["images"][5] == recipe.image(2, 29)).all()
    assert str(recipe.counts[0] * len(recipe.class_names)) in gallery.note.value


def test_style_does_not_leak() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    figures.new()
    make()
    assert dict(matplotlib.rcParams) == before
