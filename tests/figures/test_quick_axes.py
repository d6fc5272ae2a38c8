"""Quick ticks against matplotlib's own: the same picture, but for the edges of some letters."""

from collections.abc import Callable

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from madlab import figures

SIZE = (4, 3)


def plain(ax) -> None:
    ax.plot([0, 7.3], [-2, 113])
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.yaxis.set_major_locator(MaxNLocator(4))
    ax.set(xlabel="rank I", ylabel="accuracy (%)")


def named_rows(ax) -> None:
    ax.barh([0, 1], [3, 5])
    ax.set_yticks([0, 1], ["one network", "base + adapters"])
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.tick_params(axis="y", length=0, labelsize=8)
    ax.invert_yaxis()
    ax.set(xlabel="million parameters")


def logarithmic(ax) -> None:
    ax.plot([1, 64], [0.01, 80])
    ax.set(xscale="log", yscale="log", xlabel="direction", ylabel="singular value")
    ax.set_xticks([1, 4, 16, 64], ["1", "4", "16", "64"])
    ax.set_yticks([0.01, 1, 100], ["0.01", "1", "100"])
    ax.set_ylim(0.005, 90)
    ax.minorticks_off()


def picture(ax) -> None:
    ax.imshow(np.eye(5))
    ax.set(xticks=[0, 4], yticks=[0, 2, 4], xlabel="output channel m", ylabel="input channel n")


def turned(ax) -> None:
    plain(ax)
    ax.tick_params(rotation=40)


def common_factor(ax) -> None:
    ax.plot([0, 3e7], [1e-9, 4e-9])
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.yaxis.set_major_locator(MaxNLocator(4))


def with_grid(ax) -> None:
    plain(ax)
    ax.grid(True)


def pixels(draw: Callable, quick: bool) -> np.ndarray:
    """Drawn by matplotlib alone, or with quick axes and their quick ticks."""
    with matplotlib.rc_context(figures.STYLE):
        figure = figures.blank(SIZE) if quick else by_matplotlib()
        draw(figure.add_axes((0.3, 0.3, 0.6, 0.6)))
        if quick:
            figures.quick_axes(figure)
        return picture_of(figure)


def by_matplotlib() -> Figure:
    figure = Figure(figsize=SIZE)
    FigureCanvasAgg(figure)
    return figure


def picture_of(figure: Figure) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)


def unlike(one: np.ndarray, other: np.ndarray) -> int:
    return (abs(one - other).max(-1) > 96).sum()


def without_axis(ax) -> None:
    ax.imshow(np.eye(5))
    ax.set_axis_off()
    ax.set_title("α")


def minor_ticks(ax) -> None:
    ax.plot([1, 64], [0.01, 80])
    ax.set(xscale="log", yscale="log")
    ax.tick_params(axis="x", which="minor", length=6, color="red")


ALL = [plain, named_rows, logarithmic, picture, turned, common_factor, with_grid, without_axis, minor_ticks]


@pytest.mark.parametrize("draw", ALL)
def test_axes_that_begin_without_ticks_draw_what_matplotlib_draws(draw: Callable) -> None:
    pictures = []
    with matplotlib.rc_context(figures.STYLE):
        for figure in (figures.blank(SIZE), by_matplotlib()):
            draw(figure.add_axes((0.3, 0.3, 0.6, 0.6)))
            pictures.append(picture_of(figure))
    assert (pictures[0] == pictures[1]).all()


@pytest.mark.parametrize("draw", [plain, named_rows, logarithmic, picture])
def test_quick_ticks_look_as_matplotlib_draws_them(draw: Callable) -> None:
    slow, quick = pixels(draw, False), pixels(draw, True)
    nameless = pixels(lambda ax: (draw(ax), ax.set(xlabel="", ylabel="")), False)
    assert unlike(slow, quick) < 0.1 * unlike(slow, nameless)


@pytest.mark.parametrize("draw", [turned, common_factor, with_grid])
def test_an_axis_with_more_than_plain_ticks_stays_as_it_is(draw: Callable) -> None:
    assert (pixels(draw, False) == pixels(draw, True)).all()


def test_an_axis_that_chooses_its_ticks_gets_five_at_most() -> None:
    figure = figures.blank(SIZE)
    ax = figure.add_axes((0.2, 0.2, 0.7, 0.7))
    ax.plot([0, 100], [0, 1])
    ax.set(xlim=(0, 100), yticks=np.linspace(0, 1, 9))
    figures.quick_axes(figure)
    names = [text.get_text() for text in ax.texts]
    assert names[:5] == ["0", "25", "50", "75", "100"]
    assert len(names) == 5 + 9  # ticks that were asked for are all there


def test_a_tick_at_the_very_end_is_kept_in_spite_of_rounding() -> None:
    figure = figures.blank(SIZE)
    ax = figure.add_axes((0.2, 0.2, 0.7, 0.7))
    ax.set(xlim=(0, 0.3), xticks=[0.1 * step for step in range(4)], yticks=[], ylim=(0, 1))
    ax.set_xlim(0, 0.3)  # the ticks have widened it
    figures.quick_axes(figure)
    assert [text.get_text() for text in ax.texts] == ["0.0", "0.1", "0.2", "0.3"]
