"""Counts from shapes against tensors that are really there, and against numbers counted by hand elsewhere."""

import pytest
import torch
from torch import nn

import madlab
from madlab.analysis.counting import (
    batchnorm_parameters,
    conv_shapes,
    largest_rank,
    layer_choices,
    mad_parameters,
)


@pytest.fixture(scope="module")
def networks() -> dict[str, nn.Module]:
    with torch.device("meta"):
        return {"resnet26": madlab.resnet26(), "densenet121": madlab.densenet121(), "resnet50": madlab.resnet50()}


# The networks of the two benchmarks, counted without madlab: convolutions, weights, full MAD, rank 36.
@pytest.mark.parametrize(
    ("name", "convs", "weights", "full", "rank36"),
    [
        ("resnet26", 25, 5_806_944, 645_216, 251_244),
        ("densenet121", 120, 6_870_208, 4_960_448, 1_835_244),
        ("resnet50", 53, 23_454_912, 13_385_920, 1_767_276),
    ],
)
def test_the_known_networks(networks, name, convs, weights, full, rank36) -> None:
    shapes = conv_shapes(networks[name])
    assert len(shapes) == convs and sum(shape.weights for shape in shapes) == weights
    assert mad_parameters(shapes) == full and mad_parameters(shapes, 36) == rank36


def test_counts_are_those_of_the_adapters_themselves() -> None:
    base = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 12, 3, groups=4), nn.Conv2d(12, 6, 1), nn.Flatten(), nn.Linear(6, 2)
    )
    base.crop = 5
    net, shapes = madlab.MultiDomainNet(base), conv_shapes(base)
    assert [shape.name for shape in shapes] == ["0", "1", "2"]
    for rank in (None, 1, 5):
        net.add_domain(f"rank {rank}", num_classes=2, method="mad", rank=rank)
        trained = sum(p.numel() for p in net.view(f"rank {rank}").parameter_groups()["adapter"])
        assert mad_parameters(shapes, rank) == trained


def test_largest_rank_is_the_last_that_saves_enough(networks) -> None:
    shapes = conv_shapes(networks["resnet26"])
    for part in (shapes, shapes[1:], shapes[1:9]):
        for saving in (0.3, 0.6, 0.95):
            best = largest_rank(part, saving)
            full = mad_parameters(part)
            assert 1 - mad_parameters(part, best) / full > saving
            assert 1 - mad_parameters(part, best + 1) / full <= saving
    assert largest_rank(shapes, 0.6) == 36


def test_a_rank_that_saves_exactly_as_much_does_not_save_more() -> None:
    square = conv_shapes(nn.Conv2d(64, 64, 3))  # I * 128 against 4096: rank 16 saves half, rank 32 nothing
    assert largest_rank(square, 0.5) == 15 and largest_rank(square, 0) == 31
    assert largest_rank(square, 0.99) == 0
    with pytest.raises(madlab.MadlabError, match="no convolution"):
        largest_rank([], 0.5)


def test_filters_that_are_not_square_and_norms_without_gain_are_counted_as_they_are() -> None:
    network = nn.Sequential(
        nn.Conv2d(8, 8, (1, 7)), nn.BatchNorm2d(8, affine=False), nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4)
    )
    shapes = conv_shapes(network)
    assert [shape.weights for shape in shapes] == [448, 32] and [shape.slices for shape in shapes] == [64, 32]
    assert [shape.name for shape in layer_choices(shapes)["1x1"]] == ["2"]
    assert batchnorm_parameters(network) == 8
