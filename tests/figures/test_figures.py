"""What is drawn is what was given: read back from the axes, and from the pixels of the picture."""

from io import BytesIO

import numpy as np
import pytest
import torch
from matplotlib.colors import rgb_to_hsv, to_rgb
from PIL import Image

from madlab import figures
from madlab.adapters import METHODS
from madlab.figures.runs import LOOKS


@pytest.fixture
def ax():
    return figures.blank((4, 2)).add_axes((0.2, 0.2, 0.7, 0.7))


def texts(ax) -> set[str]:
    return {text.get_text() for text in ax.texts}


def test_png_has_the_size_that_was_asked_for_and_a_white_ground() -> None:
    figure, _ = figures.new(size=(3.2, 1.5))
    picture = Image.open(BytesIO(figures.png(figure))).convert("RGB")
    assert picture.size == (320, 150)
    assert picture.getpixel((0, 0)) == (255, 255, 255)


def test_an_axis_that_chooses_its_ticks_gets_five_at_most(ax) -> None:
    ax.plot([0, 100], [0, 1])
    ax.set(xlim=(0, 100), yticks=np.linspace(0, 1, 9))
    figures.few_ticks(ax.figure)
    assert list(ax.get_xticks()) == [0, 25, 50, 75, 100]
    assert len(ax.get_yticks()) == 9  # ticks that were asked for are all there


def test_mosaic_puts_every_picture_in_its_place() -> None:
    pictures = np.random.default_rng(0).random((2, 3, 4, 5), np.float32)
    whole = figures.mosaic(pictures, gap=2)
    assert whole.shape == (2 + 2 * 6, 2 + 3 * 7)
    for r in range(2):
        for c in range(3):
            assert (whole[2 + 6 * r : 6 + 6 * r, 2 + 7 * c : 7 + 7 * c] == pictures[r, c]).all()
    assert np.isnan(whole).sum() == whole.size - pictures.size


def test_alpha_map_is_white_at_one_and_has_rows_of_outputs(ax) -> None:
    alpha = torch.tensor([[1.0, 3.0], [1.0, -1.0], [0.0, 1.0]])  # M = 3, N = 2
    picture = figures.alpha_map(ax, alpha, span=2, inputs=("left", "right"), chosen=(1, 0))
    assert np.asarray(picture.get_array()).tolist() == alpha.tolist()
    colours = picture.cmap(picture.norm(np.array([1.0, 3.0, -1.0])))[:, :3]
    assert colours[0] == pytest.approx([0.97, 0.97, 0.97], abs=0.01)
    assert colours[1][0] > colours[1][2] and colours[2][2] > colours[2][0]  # red above one, blue below
    assert {"left", "right", "0", "2", "output channel m"} <= texts(ax)
    (frame,) = ax.patches
    assert frame.get_xy() == (-0.5, 0.5)


def test_filter_bank_has_row_m_and_column_n(ax) -> None:
    weight = torch.randn(4, 2, 3, 3)
    picture = figures.filter_bank(ax, weight)
    tiles = np.asarray(picture.get_array().filled(np.nan))
    for m in range(4):
        for n in range(2):
            np.testing.assert_allclose(tiles[1 + 4 * m : 4 + 4 * m, 1 + 4 * n : 4 + 4 * n], weight[m, n])
    assert picture.norm.vmax == -picture.norm.vmin == pytest.approx(weight.abs().max().item())


def test_feature_maps_fill_lines(ax) -> None:
    picture = figures.feature_maps(ax, torch.rand(5, 4, 4), columns=3)
    assert picture.get_array().shape == (1 + 2 * 5, 1 + 3 * 5)
    assert picture.norm.vmin == 0


def test_pictures_keep_their_colours(ax) -> None:
    images = torch.randint(0, 256, (3, 6, 6, 3), dtype=torch.uint8)
    picture = figures.pictures(ax, images, columns=2, names=["one", "two"])
    pixels = np.asarray(picture.get_array())
    np.testing.assert_allclose(pixels[2:8, 10:16] * 255, images[1].numpy(), atol=1e-3)
    assert (pixels[10:, 10:] == 1).all()  # an empty place is white
    assert {"one", "two"} <= texts(ax)


def test_training_curves_start_at_epoch_one(ax) -> None:
    figures.training_curves(ax, {"mad": [10, 20, 30], "finetune": [15, 25]})
    assert [line.get_xdata().tolist() for line in map(_line, ax.lines)] == [[1, 2, 3], [1, 2]]
    assert "accuracy (%)" in ax.get_ylabel() and ax.get_xlabel() == "epoch"


def _line(line):
    line.set_xdata(np.asarray(line.get_xdata()))
    return line


def test_accuracy_bars_show_the_mean_and_every_seed(ax) -> None:
    figures.accuracy_bars(ax, {"mad": [80.0, 90.0], "frozen": [50.0]})
    assert [bar.get_width() for bar in ax.patches] == [85, 50]
    assert {"85.0", "50.0"} <= texts(ax)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["mad", "frozen"]


def test_methods_look_different() -> None:
    assert LOOKS.keys() == {*METHODS, "mad, rank"}
    looks = [tuple(figures.look(name).items()) for name in (*METHODS, "mad:8")]
    assert len(set(looks)) == len(looks)
    assert figures.look("mad:4") == figures.look("mad:32")


@pytest.mark.parametrize("low, told", [(0, False), (40, True)])
def test_an_axis_of_accuracies_that_does_not_begin_at_zero_says_so(ax, low, told) -> None:
    ax.set(xlabel="rank", xlim=(1, 9), ylabel="test accuracy (%)", ylim=(low, 80))
    for _ in range(2):  # a figure that is shown twice says it once
        figures.say_cut_axes(ax.figure)
    assert ax.get_ylabel() == "test accuracy (%)" + ("; axis cut" if told else "")
    assert ax.get_xlabel() == "rank"


def test_accuracy_against_parameters_has_a_place_for_zero(ax) -> None:
    figures.accuracy_against_parameters(ax, {"frozen": (0, 50), "mad": (10_000, 80)})
    ax.figure.canvas.draw()
    pixels = [ax.transData.transform((x, 50))[0] for x in (0, 100, 10_000)]
    assert all(np.isfinite(pixels)) and pixels == sorted(pixels)


def test_names_of_crowded_points_do_not_cover_each_other(ax) -> None:
    points = {"piggyback": (45e3, 65.8), "wtpb": (46e3, 65.0), "mad:13": (45e3, 65.4), "parallel": (161e3, 65.2)}
    points |= {"series": (165e3, 65.0), "mad": (161e3, 67.0), "mad+wtpb": (206e3, 66.5), "frozen": (0, 43)}
    figures.accuracy_against_parameters(ax, points)
    ax.figure.canvas.draw()
    markers = {tuple(line.get_xydata()[0]): line.get_color() for line in ax.lines if len(line.get_xydata()) == 1}
    for text in ax.texts:  # a name has the hue of its marker, so that it is not taken for its neighbour's
        hues = [rgb_to_hsv(to_rgb(colour))[:2] for colour in (text.get_color(), markers[text.xy])]
        np.testing.assert_allclose(*hues, atol=1e-6)
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) == 8
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:place])
        assert box.x0 >= 0 and box.x1 <= 400 and box.y0 >= 0 and box.y1 <= 200  # nothing is cut off


def test_the_gallery_says_how_many_of_the_classes_it_shows(monkeypatch) -> None:
    from madlab import widgets
    from madlab.benchmarks.pocket import SPECS

    seen, draw = [], figures.pictures
    monkeypatch.setattr(figures, "pictures", lambda ax, *rest, **options: seen.append(ax) or draw(ax, *rest, **options))
    gallery = widgets.domain_gallery()
    titles = {}
    for name in gallery.domain.options:
        gallery.domain.value = name
        titles[name] = seen[-1].get_title(loc="left")
    many = {name for name in titles if len(SPECS[name].class_names) > len(gallery.state["images"]) == 24}
    assert many and many != set(titles)
    for name, title in titles.items():
        classes = len(SPECS[name].class_names)
        assert title == (
            f"{name}: 24 of its {classes} classes in turn" if name in many else f"{name}: its {classes} classes in turn"
        )


def test_contributions_add_up_at_the_end_of_each_row(ax) -> None:
    parts = torch.randn(2, 3, 4, 8)
    figures.contributions(ax, parts, inputs=("red", "green", "blue"), rows=("before", "after"))
    canvas = ax.images[0].get_array().filled(np.nan)
    gap, height, width = 2, 4, 8
    for line in range(2):
        rows = slice(line * (height + 2) + 1, line * (height + 2) + 1 + height)
        tiles = [canvas[rows, c * (width + gap) : c * (width + gap) + width] for c in range(4)]
        np.testing.assert_allclose(tiles[3], tiles[0] + tiles[1] + tiles[2], atol=1e-5)
        np.testing.assert_allclose(tiles[1], parts[line, 1], atol=1e-6)
    assert sorted(text.get_text() for text in ax.texts if text.get_text() in "+=") == ["+"] * 4 + ["="] * 2
    assert {"before", "after", "red", "output m"} <= texts(ax)


def test_accuracy_by_domain_shows_mean_and_deviation(ax) -> None:
    results = {"mad": {"b": [60.0, 64.0], "a": [10.0, 12.0]}, "finetune": {"b": [70.0, 70.0], "a": [20.0, 22.0]}}
    figures.accuracy_by_domain(ax, results)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b"]  # in the order of fine-tuning
    line, _, (bars,) = ax.containers[0]
    assert list(line.get_ydata()) == [11, 62]
    (_, low), (_, high) = bars.get_segments()[1]
    assert (high - low) / 2 == pytest.approx(8**0.5)


def test_means_by_row_draws_every_domain_and_the_interval_of_their_mean(ax) -> None:
    figures.means_by_row(ax, {"L1": {"x": 1.0, "y": 3.0, "z": 5.0}, "one": {"x": 2.0}}, xlabel="points", marked="y")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["L1", "one"]
    assert ax.get_ylim() == (1.5, -0.5)  # the first row on top
    zero, dots, interval, mean, marked, single = ax.lines
    assert list(zero.get_xdata()) == [0, 0] and list(single.get_xdata()) == [2]
    assert list(dots.get_xdata()) == [1, 3, 5] and list(marked.get_xdata()) == [3]
    reach = 4.303 * 2 / 3**0.5  # Student's t for two degrees of freedom, a deviation of 2, three domains
    assert interval.get_xdata() == pytest.approx([3 - reach, 3 + reach], rel=1e-3) and list(mean.get_xdata()) == [3]


def test_shares_by_layer_shows_the_mean_and_chance(ax) -> None:
    figures.shares_by_layer(ax, {"slices": [[10, 20], [30, 40]]}, 100 / 9)
    line, chance = ax.lines
    assert list(line.get_ydata()) == [20, 30] and list(line.get_xdata()) == [1, 2]
    assert chance.get_ydata()[0] == pytest.approx(11.1, abs=0.1)


def test_activations_are_drawn_as_given_with_the_first_as_ground(ax) -> None:
    edges = torch.tensor([-1.0, 0.0, 1.0])
    figures.activations(ax, {"own": torch.tensor([0.5, 0.5]), "new": torch.tensor([0.2, 0.8])}, edges)
    ground, line = ax.patches
    assert ground.get_fill() and not line.get_fill()
    np.testing.assert_allclose(line.get_data().values, [0.2, 0.8])
    assert ax.get_xlim() == (-1, 1)


def test_a_single_layer_and_one_that_did_not_move_are_drawn() -> None:
    _, (left, right) = figures.new(1, 2)
    figures.alpha_by_layer(left, [torch.linspace(0, 2, 100)])
    low, high = left.get_xlim()
    assert low < 1 < high and np.ptp(left.lines[1].get_xdata()) > 0
    figures.singular_values(right, np.zeros(8), rank=3)
    figures.alpha_histograms(right, {f"layer {place}": np.ones(9) for place in range(10)})
    assert len(right.patches) == 10
