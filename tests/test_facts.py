"""What a domain's file says of it: checked when it is added, checked again when it is read."""

import json

import numpy as np
import pytest
import torch
from any_networks import CLASSES, Body

from madlab.errors import MadlabError
from madlab.facts import DomainFacts, make_facts
from madlab.files.tensors import load_tensors, save_tensors
from madlab.network import MultiDomainNet

STORED = {
    "name": "d",
    "num_classes": 2,
    "method": "mad",
    "options": {"rank": 2},
    "layers": ["conv"],
    "class_names": ["cat", "dog"],
    "normalization": {"mean": [0.5], "std": [0.5]},
    "heads": ["head"],
    "resize": 40,
    "crop": 32,
}


def test_facts_travel_through_json():
    facts = make_facts(json.loads(json.dumps(STORED)))
    assert facts.to_json() == STORED
    assert facts == DomainFacts(**STORED)


@pytest.mark.parametrize("head", [{}, {"head": "head"}])
def test_a_file_of_madlab_0_1_leaves_head_and_sizes_to_the_base(head, tmp_path):
    torch.manual_seed(0)
    base, path = Body(), tmp_path / "d.safetensors"
    base.crop = 24
    net = MultiDomainNet(base)
    net.add_domain("d", 2, crop=32)
    net.save_domain("d", path)
    tensors, stored = load_tensors(path)
    save_tensors(path, tensors, {k: v for k, v in stored.items() if k not in ("heads", "resize", "crop")} | head)
    facts = net.view(net.load_domain(path, "again")).facts
    assert (facts.heads, facts.resize, facts.crop) == (["head"], 24, 24)


WRONG = [
    ({"resize": 40, "crop": 48}, "a crop of 48 pixels, larger than its images of 40"),
    ({"normalization": {"mean": [123.7], "std": [58.4]}}, "cannot be used: .* scaled to 0..1"),
    ({"grey": {"black": 3}}, "grey scale"),
    ({"grey": {"black": 3, "white": 1}}, "grey scale"),
    ({"name": ""}, "not empty"),
    ({"name": 3}, "not empty, but this is 3"),
    ({"name": "a/b"}, "cannot name a file"),
    ({"name": "a\\b"}, "cannot name a file"),
    ({"name": "a\nb"}, "cannot name a file"),
    ({"name": "a\x00"}, "cannot name a file"),
    ({"name": ".."}, "cannot name a file"),
    ({"num_classes": 1}, "num_classes is 1; it should be greater than or equal to 2"),
    ({"num_classes": 10**10}, "num_classes is 10000000000; it should be less than or equal to 10000000"),
    ({"num_classes": True}, "Domain 'd' is not valid .num_classes is True; it should be a valid integer"),
    ({"num_classes": 2.0}, "num_classes is 2.0; it should be a valid integer"),
    ({"num_classes": "2"}, "num_classes is '2'; it should be a valid integer"),
    ({"num_classes": None}, "num_classes is None; it should be a valid integer"),
    ({"class_names": ["cat"]}, "2 classes but 1 class names"),
    ({"class_names": ["cat", "cat"]}, "'cat' twice"),
    ({"class_names": ["cat", 3]}, "class_names.1 is 3; it should be an instance of str"),
    ({"class_names": "cat"}, "class_names is 'cat'; it should be a valid list"),
    ({"method": "magic"}, "Unknown method 'magic': choose one of frozen, "),
    ({"options": {"speed": 2}}, "no option 'speed'"),
    ({"normalization": {"mean": [0.5]}}, "normalization .* cannot be used"),
    ({"normalization": {"mean": [0.5], "std": [0.0]}}, "std above 0"),
    ({"normalization": {"mean": [0.5, 0.5], "std": [0.5]}}, "one number per channel"),
    ({"normalization": {"mean": [], "std": []}}, "one number per channel"),
    ({"normalization": {"mean": [0.5], "std": [0.5], "var": [1.0]}}, "normalization .* cannot be used"),
    ({"normalization": {"mean": 0.5, "std": 0.5}}, "normalization.mean is 0.5; it should be a valid list"),
    ({"resize": 0}, "resize is 0; it should be greater than or equal to 1"),
    ({"crop": 2.5}, "crop is 2.5; it should be a valid integer"),
]
INFINITE = [
    ({"normalization": {"mean": [float("nan")], "std": [0.5]}}, "normalization.mean.0 is nan; it should be a finite"),
    ({"normalization": {"mean": [0.5], "std": [float("inf")]}}, "normalization.std.0 is inf; it should be a finite"),
]
"""What no file can hold."""


@pytest.mark.parametrize(("wrong", "sentence"), [*WRONG, *INFINITE])
def test_facts_that_cannot_be_are_refused(wrong, sentence):
    with pytest.raises(MadlabError, match=sentence):
        make_facts(STORED | wrong)


TYPES = [
    ({"options": [2]}, r"options is \[2\]; it should be a valid dictionary"),
    ({"layers": "all"}, "layers is 'all'; it should be a valid list"),
    ({"layers": [3]}, "layers.0 is 3; it should be a valid string"),
    ({"heads": []}, r"heads is \[\]; list should have at least 1 item"),
    ({"heads": [3]}, "heads.0 is 3; it should be a valid string"),
    ({"heads": ["stem"]}, "no nn.Linear or 1x1 nn.Conv2d named 'stem'"),
    ({"method": ["mad"]}, "it should be a valid string"),
    ({"normalization": []}, "normalization is .*; it should be a valid dictionary"),
]


@pytest.mark.parametrize(("wrong", "sentence"), [*WRONG, *TYPES])
def test_files_that_say_what_cannot_be_are_refused(wrong, sentence, tmp_path):
    torch.manual_seed(0)
    net, path = MultiDomainNet(Body()), tmp_path / "d.safetensors"
    net.add_domain("d", 2)
    net.save_domain("d", path)
    tensors, stored = load_tensors(path)
    save_tensors(path, tensors, stored | wrong)
    net.remove_domain("d")
    with pytest.raises(MadlabError, match=f"d.safetensors cannot be loaded: .*{sentence}"):
        net.load_domain(path)
    assert net.domains == []


@pytest.mark.parametrize("array", [np.array, torch.tensor])
def test_numbers_of_numpy_and_pytorch_are_numbers(array):
    net = MultiDomainNet(Body())
    ones = array([1.0, 1.0, 1.0])
    net.add_domain("d", array(3), rank=array(2), normalization={"mean": ones, "std": ones})
    assert json.loads(json.dumps(net.view("d").facts.to_json())) == net.view("d").facts.to_json()
    assert net(torch.randn(2, 3, 12, 12), domain="d").shape == (2, 3)


def test_class_names_that_are_no_unicode_are_kept(tmp_path):
    """As Python reads names of folders that are not UTF-8."""
    net = MultiDomainNet(Body())
    net.add_domain("d", 2, class_names=["a\udcff", "b"])
    net.save_domain("d", tmp_path / "d.safetensors")
    net.load_domain(tmp_path / "d.safetensors", "again")
    assert net.view("again").facts.class_names == ["a\udcff", "b"]


def test_a_normalisation_of_other_channels_than_the_networks_is_refused():
    with pytest.raises(MadlabError, match=r"does not fit the base network, whose images have 3 channels"):
        MultiDomainNet(Body()).add_domain("d", 2, normalization={"mean": [0.5], "std": [0.5]})


def test_a_rank_may_stand_in_the_methods_name():
    net = MultiDomainNet(Body())
    net.add_domain("a", 3, "mad:2")
    net.add_domain("b", 3, "mad", rank=2)
    assert net.view("a").facts.options == net.view("b").facts.options == {"rank": 2}
    assert net.view("a").facts.method == "mad"
    for rank in (2, 3):
        with pytest.raises(MadlabError, match=f"given twice, as 2 and {rank}: write it once"):
            net.add_domain("c", 3, "mad:2", rank=rank)
    with pytest.raises(MadlabError, match="Rank -1"):
        net.add_domain("c", 3, "mad:-1")


def test_sizes_head_and_names_are_the_domains_and_reach_the_merged_network(tmp_path):
    torch.manual_seed(0)
    base = Body()
    base.resize, base.crop, base.normalization = 40, 32, {"mean": [0.5] * 3, "std": [0.2] * 3}
    net = MultiDomainNet(base)
    net.add_domain("as the base", 2)
    own = {"mean": [0.1] * 3, "std": [0.3] * 3}
    net.add_domain("own", 2, class_names=["cat", "dog"], normalization=own, resize=20, crop=16, head="head")
    for name, sizes, normalization, labels in [
        ("as the base", (40, 32), base.normalization, ["0", "1"]),
        ("own", (20, 16), own, ["cat", "dog"]),
    ]:
        net.save_domain(name, tmp_path / "d.safetensors")
        net.remove_domain(name)
        net.load_domain(tmp_path / "d.safetensors")
        facts, plain = net.view(name).facts, net.merge(name)
        assert (facts.resize, facts.crop, facts.heads) == (*sizes, ["head"])
        assert (plain.resize, plain.crop, plain.normalization, plain.class_names) == (*sizes, normalization, labels)
        assert facts.normalization == normalization
        assert not any(module.training for module in plain.modules())
        assert all(parameter.requires_grad for parameter in plain.parameters())
        mine = {tensor.untyped_storage().data_ptr() for tensor in plain.state_dict().values()}
        assert mine.isdisjoint(tensor.untyped_storage().data_ptr() for tensor in net.state_dict().values())
        plain.normalization["mean"][0] = 9.0
        assert net.view(name).facts.normalization == normalization


def test_a_network_without_sizes_has_none(tmp_path):
    net = MultiDomainNet(Body())
    net.add_domain("d", CLASSES)
    assert (net.view("d").facts.resize, net.view("d").facts.crop) == (None, None)
    assert not hasattr(net.merge("d"), "crop")
