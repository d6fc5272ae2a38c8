"""The base never moves: what is noticed, when, and what stays allowed."""

import copy
import hashlib
import pickle

import pytest
import torch
from any_networks import CLASSES, Body
from torch import nn

from madlab.errors import MadlabError
from madlab.guard import fingerprint
from madlab.network import MultiDomainNet

X = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def net(tmp_path):
    torch.manual_seed(0)
    base = Body()
    base.register_buffer("unsaved", torch.ones(2), persistent=False)
    net = MultiDomainNet(base)
    net.add_domain("d", CLASSES)
    net.save_domain("d", tmp_path / "d.safetensors")
    return net


def write(tensor):
    with torch.no_grad():
        tensor.mul_(1.5)


def load_other_weights(net):
    net.base.load_state_dict(Body().state_dict())


def train_base(net):
    net.base.norm.train()(torch.randn(4, 8, 3, 3))
    net.base.norm.eval()


NOTICED_AT_ONCE = {
    "weight": lambda net: write(net.base.conv.weight),
    "statistics": lambda net: write(net.base.norm.running_mean.add_(1)),
    "other weights": load_other_weights,
    "unsaved buffer": lambda net: write(net.base.unsaved),
    "other memory": lambda net: setattr(net.base.conv.weight, "data", torch.randn(8, 6, 3, 3)),
    "half precision": lambda net: net.base.half(),
}
NOTICED_LATER = {
    "through .data": lambda net: net.base.conv.weight.data.mul_(2),
    "another layer": lambda net: setattr(net.base, "conv", nn.Conv2d(6, 8, 3, stride=2)),
    "training the base": train_base,
}
CHANGES = NOTICED_AT_ONCE | NOTICED_LATER


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_base_is_noticed(net, change, tmp_path):
    net(X, domain="d")
    CHANGES[change](net)
    calls = [net.check_base, lambda: net.add_domain("e", 3), lambda: net.merge("d")]
    calls += [lambda: net.save_domain("d", tmp_path / "e.safetensors")]
    calls += [lambda: net.load_domain(tmp_path / "d.safetensors", "e")]
    if change in NOTICED_AT_ONCE:
        calls += [lambda: net(X, domain="d"), lambda: net(X, domain=["d", "d"]), lambda: net.view("d")(X)]
    for call in calls:
        with pytest.raises(MadlabError, match=r"base network was changed .* make a new MultiDomainNet"):
            call()


def test_until_the_first_domain_the_base_may_be_edited():
    net = MultiDomainNet(Body())
    net.base.conv = nn.Conv2d(6, 8, 1)
    write(net.base.stem.weight)
    net.add_domain("d", CLASSES)
    net.view("d").head.load_state_dict(net.base.head.state_dict())
    assert torch.equal(net(X, domain="d"), net.base(X))
    net.check_base()


def test_the_same_values_written_again_are_no_change(net):
    net.base.load_state_dict(copy.deepcopy(net.base.state_dict()))
    net(X, domain="d")
    net.check_base()


@pytest.mark.parametrize("move", ["float64", "bfloat16", "channels_last"])
def test_moving_the_net_is_no_change(net, move, tmp_path):
    expected = net(X, domain="d")
    if move == "channels_last":
        net.to(memory_format=torch.channels_last)
    else:
        net.to(getattr(torch, move))
    net.check_base()
    moved = net(X, domain="d")
    torch.testing.assert_close(moved.float(), expected, rtol=0.05, atol=0.05)
    net.save_domain("d", tmp_path / "moved.safetensors")
    net.load_domain(tmp_path / "moved.safetensors", "again")
    assert torch.equal(net(X, domain="again"), moved)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_of_the_net_watches_its_own_base(net, duplicate):
    write(net.base.norm.running_mean.zero_())  # the same values, but written to
    other = duplicate(net)
    other(X, domain="d")
    write(net.base.conv.weight)
    other(X, domain="d")
    other.check_base()
    write(other.base.conv.weight)
    with pytest.raises(MadlabError, match="base network was changed"):
        other(X, domain="d")


def test_the_fingerprint_is_the_sha256_of_names_and_bytes():
    torch.manual_seed(0)
    base = Body()
    digest = hashlib.sha256()
    for name, value in sorted(base.state_dict().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    assert fingerprint(base) == digest.hexdigest()
    base.register_buffer("unsaved", torch.ones(2), persistent=False)
    assert fingerprint(base) != digest.hexdigest()


class WithExtraState(Body):
    state = 1

    def get_extra_state(self):
        return {"state": self.state}

    def set_extra_state(self, state):
        self.state = state["state"]


def test_the_fingerprint_sees_extra_state():
    base = WithExtraState()
    before = fingerprint(base)
    base.state = 2
    assert fingerprint(base) != before
