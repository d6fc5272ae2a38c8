"""Base networks as files, bit for bit, and the image size of any network."""

import json

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file
from timm.data import create_transform, resolve_data_config
from torch import nn

import madlab
from madlab.backbones import WEIGHTS, ImageSize, image_size, load_base, resnet26, save_base
from madlab.errors import MadlabError
from madlab.files.tensors import load_tensors, save_tensors
from madlab.guard import fingerprint
from madlab.network import MultiDomainNet


def small(seed: int = 0) -> nn.Module:
    """A ResNet-26 with values that half precision rounds, underflows and overflows."""
    torch.manual_seed(seed)
    network = resnet26(num_classes=5, width=2)
    network.bn.running_var.copy_(torch.tensor([1e6, 70000.0]))
    network.bn.running_mean.copy_(torch.tensor([1e-9, -0.0]))
    return network


def bits(network: nn.Module) -> dict[str, bytes]:
    return {key: value.numpy().tobytes() for key, value in network.state_dict().items()}


def test_a_saved_base_is_the_base_bit_for_bit(tmp_path):
    base = small()
    save_base(base, tmp_path / "b.safetensors", name="b", architecture="resnet26", width=2)
    assert bits(load_base(str(tmp_path / "b.safetensors"))) == bits(base)


def test_what_the_base_says_of_its_images_may_be_numpys_or_pytorchs(tmp_path):
    base = small()
    base.normalization = {"mean": torch.zeros(3), "std": np.ones(3)}
    base.crop = base.resize = np.int64(32)
    save_base(base, tmp_path / "b.safetensors", name="b", architecture="resnet26", width=2)
    again = load_base(str(tmp_path / "b.safetensors"))
    assert again.normalization == {"mean": [0.0] * 3, "std": [1.0] * 3}
    assert (again.resize, again.crop) == (32, 32)


def test_an_adapter_trained_before_fits_the_saved_base(tmp_path):
    net = MultiDomainNet(small())
    net.add_domain("signs", 3)
    net.save_domain("signs", tmp_path / "signs.safetensors")
    save_base(net.base, tmp_path / "b.safetensors", name="b", architecture="resnet26", width=2)
    again = MultiDomainNet(load_base(str(tmp_path / "b.safetensors")))
    again.load_domain(tmp_path / "signs.safetensors")
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(again(images, "signs"), net(images, "signs"))


def test_half_precision_is_for_what_loses_nothing(tmp_path):
    base = small()
    with torch.no_grad():
        base.fc.weight.copy_(base.fc.weight.half())
        base.fc.bias.copy_(torch.tensor([1e-9, 0.0, 0.0, 0.0, 0.0]))
    save_base(base, tmp_path / "b.safetensors", name="b", architecture="resnet26", width=2)
    stored = {key: value.dtype for key, value in load_file(tmp_path / "b.safetensors").items()}
    assert stored["fc.weight"] == torch.float16
    assert stored["bn_end.weight"] == torch.float16  # ones
    for rounded in ("fc.bias", "bn.running_var", "bn.running_mean", "conv.weight"):
        assert stored[rounded] == torch.float32
    assert stored["bn.num_batches_tracked"] == torch.int64


@pytest.mark.parametrize("path", sorted(WEIGHTS.glob("*.safetensors")), ids=lambda path: path.stem)
def test_shipped_bases_are_those_of_their_logs(path):
    assert fingerprint(load_base(path.stem)) == json.loads(path.with_suffix(".json").read_text())["sha256"]


def test_only_float32_is_stored(tmp_path):
    with pytest.raises(MadlabError, match=r"conv\.weight is torch\.float64.*network\.float\(\)"):
        save_base(small().double(), tmp_path / "b.safetensors", name="b", architecture="resnet26", width=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("declared", [{"width": 10**7}, {"num_classes": 10**10}, {"width": 3}])
def test_a_file_that_declares_another_network_is_refused_without_its_memory(declared, tmp_path):
    path = tmp_path / "b.safetensors"
    save_base(small(), path, name="b", architecture="resnet26", width=2)
    tensors, facts = load_tensors(path)
    save_tensors(path, tensors, facts | declared)
    with pytest.raises(MadlabError, match=f"{path} (does not hold the network that it names|is not valid)"):
        load_base(str(path))


WRONG_FACTS = {
    "name": [None, 3, []],
    "architecture": [None, [], {}, "vit"],
    "num_classes": [None, 0, -1, 2.5, "3", True, []],
    "width": [0, -1, 1.5, "2", True, 10**30],
    "normalization": [
        3,
        "imagenet",
        [],
        {},
        {"mean": [0.5] * 3},
        {"mean": [0.5] * 3, "std": [0.5, 0, 0.5]},
        {"mean": [120], "std": [60]},
    ],
    "resize": [0, 1.5, "36"],
    "crop": [-1, True, [32]],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG_FACTS.items() for value in values])
def test_facts_of_another_type_are_refused(key, value, tmp_path):
    path = tmp_path / "b.safetensors"
    save_base(small(), path, name="b", architecture="resnet26", width=2)
    tensors, facts = load_tensors(path)
    save_tensors(path, tensors, facts | {key: value})
    with pytest.raises(MadlabError, match=rf"^{path} [^\n]*\.$"):
        load_base(str(path))


@pytest.mark.parametrize("kind", [torch.int64, torch.bool])
def test_values_of_another_kind_are_refused(kind, tmp_path):
    path = tmp_path / "b.safetensors"
    save_base(small(), path, name="b", architecture="resnet26", width=2)
    tensors, facts = load_tensors(path)
    save_tensors(path, tensors | {"bn.running_mean": tensors["bn.running_mean"].to(kind)}, facts)
    with pytest.raises(MadlabError, match="does not hold the network that it names"):
        load_base(str(path))


def test_loading_draws_no_random_numbers_and_leaves_nothing_on_meta():
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    base = load_base("pocket-resnet26")
    assert torch.equal(torch.rand(3), expected)
    assert {value.device.type for value in (*base.parameters(), *base.buffers())} == {"cpu"}
    assert not base.training


class Sized(nn.Module):
    def __init__(self, **sizes: object):
        super().__init__()
        for key, value in sizes.items():
            setattr(self, key, value)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"resize": 72, "crop": 64}, ImageSize(72, 64)),
        ({"crop": 64}, ImageSize(64, 64)),
        ({"resize": 72}, ImageSize(72, 72)),
        ({"resize": 72, "crop": None}, ImageSize(72, 72)),
        ({"resize": np.int64(72), "crop": np.int32(64)}, ImageSize(72, 64)),
        ({"pretrained_cfg": {"input_size": (3, 240, 240), "crop_pct": 0.95}}, ImageSize(252, 240)),
        ({"pretrained_cfg": {"input_size": (3, 160, 160)}, "crop": 96}, ImageSize(96, 96)),
        ({}, ImageSize(256, 224, declared=False)),
        ({"pretrained_cfg": "resnet18"}, ImageSize(256, 224, declared=False)),
    ],
)
def test_the_image_size_is_what_the_network_says_or_the_default(sizes, expected):
    assert image_size(Sized(**sizes)) == expected


@pytest.mark.parametrize("sizes", [{"crop": 0}, {"resize": 64.0}, {"crop": "64"}, {"crop": True}])
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(MadlabError, match=rf"size of {next(iter(sizes.values()))!r} is not possible: set network\."):
        image_size(Sized(**sizes))
    with pytest.raises(MadlabError, match=r"crop of 65 pixels is larger than its resize of 64"):
        image_size(Sized(resize=64, crop=65))


def test_an_undeclared_size_says_how_to_set_it_and_never_exceeds_the_images():
    size = image_size(nn.Linear(2, 2))
    assert "resize 256 and crop 224 pixels" in size.notice
    assert "network.resize and network.crop" in size.notice
    assert (size.crop_from(36), size.crop_from(300)) == (36, 224)
    assert ImageSize(72, 64).crop_from(36) == 64  # what was declared is not changed silently


@pytest.mark.parametrize("name", ["resnet10t", "test_vit", "mobilenetv3_small_050", "regnetx_002", "dla46x_c"])
def test_timms_sizes_are_those_of_its_own_transform(name):
    network = timm.create_model(name)
    config = resolve_data_config(model=network)
    steps = create_transform(**config).transforms
    size = image_size(network)
    assert (size.resize, size.crop) == (steps[0].size, steps[1].size[0])


@pytest.mark.parametrize(
    "name",
    ["nothing", "torchvision:nothing", "torchvision:", "timm:", "timm:a:b", "other:resnet18", "a:b:c:d", "", None, 3],
)
def test_names_of_no_network_are_refused(name):
    with pytest.raises(MadlabError):
        madlab.load_base(name)


@pytest.mark.parametrize(
    "metadata, sentence",
    [
        ({}, "needs an architecture of resnet26, .*, not None"),
        ({"name": "b", "architecture": "mynet"}, "not 'mynet'"),
        ({"architecture": "resnet26", "width": 2}, "name: field required"),
        ({"name": "b", "architecture": "resnet26"}, "not what resnet26 builds here: .*width"),
    ],
)
def test_what_could_not_be_loaded_again_is_not_written(metadata, sentence, tmp_path):
    with pytest.raises(MadlabError, match=sentence):
        save_base(small(), tmp_path / "b.safetensors", **metadata)
    assert not list(tmp_path.iterdir())
