"""What a domain's file says of it: checked when it is added, checked again when it is read."""

import json

import numpy as np
import pytest
import torch
from any_networks import CLASSES, Body

from madlab.errors import MadlabError
from madlab.facts import DomainFacts
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
    "head": "head",
    "resize": 40,
    "crop": 32,
}


def test_facts_travel_through_json():
    facts = DomainFacts.from_json(json.loads(json.dumps(STORED)))
    assert facts.to_json() == STORED
    assert facts == DomainFacts(**STORED)


def test_files_from_before_a_fact_existed_take_what_they_mean():
    older = {key: value for key, value in STORED.items() if key not in ("head", "resize", "crop")}
    assert DomainFacts.from_json(older, head="fc", resize=None, crop=24).to_json() == older | {
        "head": "fc",
        "resize": None,
        "crop": 24,
    }


WRONG = [
    ({"name": ""}, "not empty"),
    ({"name": 3}, "not empty, but this is 3"),
    ({"name": "a/b"}, "cannot name a file"),
    ({"name": "a\\b"}, "cannot name a file"),
    ({"name": "a\nb"}, "cannot name a file"),
    ({"name": "a\x00"}, "cannot name a file"),
    ({"name": ".."}, "cannot name a file"),
    ({"num_classes": 1}, "at least two"),
    ({"num_classes": 10**10}, "num_classes=10000000000: no head of more than 10,000,000"),
    ({"num_classes": True}, "num_classes of domain 'd' is True: give a whole number"),
    ({"num_classes": 2.0}, "is 2.0: give a whole number"),
    ({"num_classes": "2"}, "is '2': give a whole number"),
    ({"class_names": ["cat"]}, "2 classes but 1 class names"),
    ({"class_names": ["cat", "cat"]}, "'cat' twice"),
    ({"class_names": ["cat", 3]}, "not a list of texts"),
    ({"method": "magic"}, "Unknown method 'magic': choose one of frozen, "),
    ({"options": {"speed": 2}}, "no option 'speed'"),
    ({"normalization": {"mean": [0.5]}}, "normalization .* cannot be used"),
    ({"normalization": {"mean": [0.5], "std": [0.0]}}, "std above 0"),
    ({"normalization": {"mean": [0.5, 0.5], "std": [0.5]}}, "one finite number per channel"),
    ({"normalization": {"mean": [float("nan")], "std": [0.5]}}, "one finite number"),
    ({"resize": 0}, "resize is 0: give a whole number of pixels"),
    ({"crop": 2.5}, "crop is 2.5"),
]


@pytest.mark.parametrize(("wrong", "sentence"), WRONG)
def test_facts_that_cannot_be_are_refused(wrong, sentence):
    with pytest.raises(MadlabError, match=sentence):
        DomainFacts(**(STORED | wrong))


TYPES = [
    ({"options": [2]}, r"'options' is \[2\], not a dict"),
    ({"layers": "all"}, "'layers' is 'all', not a list"),
    ({"layers": [3]}, "'layers' are not all names"),
    ({"class_names": None}, "'class_names' is None, not a list"),
    ({"head": 3}, "'head' is 3, not a str"),
    ({"method": ["mad"]}, "not a str"),
    ({"normalization": []}, "not a dict"),
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


def test_numbers_of_numpy_are_numbers():
    net = MultiDomainNet(Body())
    net.add_domain("d", np.int64(3), rank=np.int32(2), normalization={"mean": np.ones(3), "std": np.ones(3)})
    assert json.loads(json.dumps(net.view("d").facts.to_json())) == net.view("d").facts.to_json()
    assert net(torch.randn(2, 3, 12, 12), domain="d").shape == (2, 3)


def test_a_rank_may_stand_in_the_methods_name():
    net = MultiDomainNet(Body())
    net.add_domain("a", 3, "mad:2")
    net.add_domain("b", 3, "mad", rank=2)
    assert net.view("a").facts.options == net.view("b").facts.options == {"rank": 2}
    assert net.view("a").facts.method == "mad"
    for rank in (2, 3):
        with pytest.raises(MadlabError, match=f"given twice, in mad:2 and as rank={rank}"):
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
        assert (facts.resize, facts.crop, facts.head) == (*sizes, "head")
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
