"""The layer picker and its pictures: what is counted, which run a choice finds, and that every control shows."""

import pytest
import torch
import torchvision
from notebook_tools import definitions, read
from torch import nn

import madlab
from madlab import figures, widgets
from madlab.backbones import pocket_densenet

POINTS = {
    "birds": {("all", "mad"): (50.0, [90.0])},
    "signs": {
        ("all", "finetune"): (100.0, [80.0]),
        ("all", "mad"): (50.0, [70.0, 74.0]),
        ("3x3", "mad"): (5.0, [61.0]),
        ("1x1", "mad:8"): (9.0, [55.0]),
    },
}


def test_a_choice_finds_its_runs_and_counts_its_layers() -> None:
    panel = widgets.layer_picker(POINTS)
    convs = {n: m for n, m in torchvision.models.densenet121().named_modules() if isinstance(m, nn.Conv2d)}
    filters = sum(conv.weight.numel() for conv in convs.values())
    assert panel.domain.options == ("birds", "signs")
    panel.domain.value = "signs"
    assert panel.state["accuracy"] == 72.0  # the mean of two seeds
    pictures = {panel.image.value}
    for layers, rank, accuracy in (("3x3", None, 61.0), ("1x1", 8, 55.0), ("dense block 3", 8, None)):
        panel.layers.value = layers
        if rank:
            panel.rank.value = rank + 1  # moving it switches factorising on
            panel.rank.value = rank
        kernel = int(layers[0]) if "x" in layers else None
        chosen = [c for n, c in convs.items() if (c.kernel_size[0] == kernel if kernel else ".denseblock3." in n)]
        assert len(chosen) in (58, 61, 48)
        shapes = [conv.weight.shape for conv in chosen]
        adapter = sum(rank * (s[0] + s[1]) if rank else s[0] * s[1] for s in shapes)
        assert panel.state["adapter"] == adapter
        assert panel.state["share"] == pytest.approx(adapter / filters)
        assert panel.state["total"] == pytest.approx((filters + 5 * adapter) / filters)
        assert panel.state["accuracy"] == accuracy
        assert ("No run" in panel.note.value) == (accuracy is None)
        pictures.add(panel.image.value)
    panel.domain.value = "birds"
    pictures.add(panel.image.value)
    assert len(pictures) == 5 and panel.error.value == ""


def test_the_other_network_brings_its_own_blocks() -> None:
    panel = widgets.layer_picker(POINTS)
    panel.layers.value = "dense block 4"
    panel.network.value = "pocket-densenet"
    assert "dense block 3" in panel.layers.options and "dense block 4" not in panel.layers.options
    convs = [m for m in pocket_densenet().modules() if isinstance(m, nn.Conv2d)]
    assert panel.layers.value == "all" and panel.state["adapter"] == sum(c.weight[..., 0, 0].numel() for c in convs)
    panel.layers.value, panel.network.value = "3x3", "DenseNet-121"
    assert panel.layers.value == "3x3"


def test_a_rank_that_does_not_pay_is_called_so() -> None:
    panel = widgets.layer_picker(POINTS)
    panel.layers.value = "3x3"
    assert panel.state["break_even"] == pytest.approx(128 * 32 / 160)
    for rank, says in ((25, "less than full"), (26, "<b>more</b> than full"), (32, "more"), (33, "would refuse")):
        panel.rank.value = rank
        assert says in panel.note.value and ("refuse" in panel.note.value) == (rank > 32)


def test_layers_by_depth_are_drawn_in_their_places() -> None:
    ax = figures.blank((5, 3)).add_axes((0.2, 0.2, 0.7, 0.7))
    figures.adapted_by_depth(ax, [3, 1, 3], [9000, 2000, 18000], [1000, 2000, 0])
    assert {text.get_text() for text in ax.texts} == {
        "1 × 1: 2,000 for 2,000 weights",
        "3 × 3: 1,000 for 27,000 weights",
    }
    tops = [shape.get_paths()[0].get_extents() for shape in ax.collections]
    assert [round(top.ymax) for top in tops] == [2, 2, 18, 1]  # filters and adapter of 1x1, then of 3x3
    outline = ax.collections[2].get_paths()[0]
    for place, inside in ((1, True), (2, False), (3, True)):
        assert outline.contains_point((place, 5)) == inside


def test_rows_are_in_the_order_of_their_size_and_seeds_are_dots() -> None:
    ax = figures.blank((5, 3)).add_axes((0.2, 0.2, 0.7, 0.7))
    points = {("all", "mad"): (50.0, [70.0, 74.0]), ("3x3", "mad:8"): (5.0, [61.0])}
    figures.accuracy_by_layers(ax, points, ("3x3", "mad:8"))
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["61.0", "72.0", "3 × 3, I = 8: 5 %", "all: 50 %"]
    lines = [(line.get_xdata().tolist(), set(line.get_ydata())) for line in ax.lines]
    assert lines == [([61.0], {0}), ([61.0], {0}), ([70.0, 74.0], {1}), ([72.0], {1})]  # the ring is a line of its own


def test_a_dense_block_grows_by_its_new_channels() -> None:
    ax = figures.blank((8, 3)).add_axes((0, 0, 1, 1))
    figures.dense_block(ax, 10, 3, 2)
    heights = [patch.get_height() for patch in ax.patches]
    assert heights == [10, 12, 3, 10, 3, 12, 3, 10, 3, 3]
    texts = {text.get_text() for text in ax.texts}
    assert {"1 × 1\n10 → 12", "1 × 1\n13 → 12", "3 × 3\n12 → 3", "16"} <= texts


@pytest.mark.slow
def test_notebook_10_counts_as_the_library_does() -> None:
    convs_of, numbers = definitions(read("10"), "convs_of", "numbers")
    net = madlab.MultiDomainNet(pocket_densenet())
    for layers in ("all", "3x3", "1x1"):
        for rank in (None, 1, 8):
            net.add_domain("trial", 2, "mad", rank=rank, layers=layers)
            assert net.adapter_size("trial") == numbers(convs_of(net.base, layers), rank) > 0
            net.remove_domain("trial")
    with torch.device("meta"):
        dense = torchvision.models.densenet121()
    assert [numbers(convs_of(dense, "3x3"), rank) for rank in (None, 36)] == [237_568, 334_080]
