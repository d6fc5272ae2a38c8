"""The base never moves: what is noticed, when, and what stays allowed."""

import copy
import hashlib
import pickle
import threading

import pytest
import torch
from any_networks import CLASSES, Body
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from madlab.errors import MadlabError
from madlab.guard import PIECES, fingerprint
from madlab.network import MultiDomainNet

X = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def net(tmp_path):
    torch.manual_seed(0)
    base = Body()
    base.register_buffer("unsaved", torch.ones(2), persistent=False)
    base.act = nn.ReLU()
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
    "through .data": lambda net: net.base.conv.weight.data.mul_(2),
    "signs through .data": lambda net: net.base.conv.weight.data[::2].neg_(),
    "filters exchanged": lambda net: net.base.conv.weight.data.copy_(net.base.conv.weight.flip(0)),
    "one number through .data": lambda net: net.base.conv.weight.data[0, 0, 0, 0].add_(1e-6),
    "memory": lambda net: net.base.conv.weight.detach().numpy().fill(0),
    "training the base": train_base,
}
NOTICED_LATER = {
    "another layer": lambda net: setattr(net.base, "conv", nn.Conv2d(6, 8, 3, stride=2)),
    "another stride": lambda net: setattr(net.base.conv, "stride", (1, 1)),
    "another eps": lambda net: setattr(net.base.norm, "eps", 1e-2),
    "another activation": lambda net: setattr(net.base, "act", nn.GELU()),
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


class Wide(Body):
    """With a tensor that is cut into pieces."""

    def __init__(self):
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 40, 3), nn.Conv2d(40, 8, 9, stride=2)


def forwards_until_noticed(net, images, most=100):
    for number in range(1, most + 1):
        try:
            net(images, domain="d")
        except MadlabError as error:
            assert "base network was changed" in str(error)
            return number
    return most + 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_what_pytorch_does_not_count_is_noticed(dtype):
    net = MultiDomainNet(Wide().to(dtype))
    net.add_domain("d", CLASSES)
    one = torch.randn(1, 3, 12, 12)
    weight, before = net.base.conv.weight, net.base.conv.weight.detach().clone()
    weight.data.mul_(1.01)
    assert forwards_until_noticed(net, one) == 1
    weight.data.copy_(before)
    net.check_base()
    needed, in_memory = [], weight.data.permute(0, 2, 3, 1).view(-1)
    for place in (0, 5000, weight.numel() - 1):
        in_memory[place] += 0.1
        needed.append(forwards_until_noticed(net, one))
        weight.data.copy_(before)
    assert 1 < max(needed) <= PIECES  # some are looked at later than others
    in_memory[5000] += 0.1
    assert forwards_until_noticed(net, torch.randn(3500, 3, 20, 20)) == 1


def test_no_forward_is_refused_for_memory_that_is_not_of_the_base():
    torch.manual_seed(0)
    base, wider = Body(), torch.randn(8, 12, 3, 3)
    base.conv.weight = nn.Parameter(wider[:, ::2])
    net = MultiDomainNet(base)
    net.add_domain("d", CLASSES)
    expected = net(X, domain="d")
    wider[:, 1::2] = 7  # between the base's numbers
    assert torch.equal(net(X, domain="d"), expected)
    base.conv.weight.data.mul_(2)
    assert forwards_until_noticed(net, X) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_a_change_is_noticed_some_forwards_later(net):
    net.cuda()
    net(X.cuda(), domain="d")
    net.base.conv.weight.data.mul_(2)
    assert 1 < forwards_until_noticed(net, X.cuda(), 1000) <= 1000


@pytest.mark.filterwarnings("ignore")  # of PyTorch, about tracing
def test_the_check_is_no_obstacle_to_what_pytorch_makes_of_a_forward(net):
    view = net.view("d").eval()
    expected = view(X)
    traced = torch.jit.trace(view, X)
    assert torch.equal(traced(X), expected) and not any("sum" in node.kind() for node in traced.graph.nodes())
    one_by_one = torch.func.vmap(lambda image: view(image[None])[0])(X)
    torch.testing.assert_close(one_by_one, expected)
    parameters = dict(view.named_parameters())
    assert torch.equal(torch.func.functional_call(view, parameters, (X,)), expected)
    gradients = torch.func.grad(lambda given: torch.func.functional_call(view, given, (X,)).sum())(parameters)
    assert gradients.keys() == parameters.keys()
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert view(torch.empty(7, 3, 12, 12)).shape == (7, CLASSES)


def test_until_the_first_domain_the_base_may_be_edited():
    net = MultiDomainNet(Body())
    net.base.conv = nn.Conv2d(6, 8, 1)
    net.base.stem.stride = (2, 2)
    write(net.base.stem.weight)
    net.add_domain("d", CLASSES)
    net.view("d").head.load_state_dict(net.base.head.state_dict())
    assert torch.equal(net(X, domain="d"), net.base(X))
    net.check_base()


def test_an_edited_base_may_be_moved_and_has_its_own_head():
    net = MultiDomainNet(Body())
    assert net.heads == ["head"]
    write(net.base.stem.weight)
    net.to(torch.float64).to(torch.float32)
    net.base.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 9))
    net.add_domain("d", CLASSES)
    assert net.view("d").facts.heads == ["head.1"] and net(X, domain="d").shape == (2, CLASSES)


@pytest.mark.parametrize("method", ["mad", "finetune"])
def test_a_view_has_no_number_format_of_its_own(net, method):
    net.add_domain("other", CLASSES, method)
    expected, view = net(X, domain="d"), net.view("other")
    for convert in (lambda: view.half(), lambda: nn.Sequential(view).to(torch.float64)):
        with pytest.raises(MadlabError, match=r"shares its filters .* convert or move the MultiDomainNet"):
            convert()
    assert view.to("cpu") is view and view.float() is view  # nothing to do
    net.check_base()
    assert torch.equal(net(X, domain="d"), expected)
    net.double()
    torch.testing.assert_close(net(X, domain="d").float(), expected)


def test_a_whole_net_may_be_moved_whatever_holds_it(net):
    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.view, self.net = net.view("d"), net

    expected = net(X, domain="d")
    holder = Holder().to("cpu")
    copied = copy.deepcopy(net.view("d")).to("cpu")
    assert torch.equal(holder.view(X), expected) and torch.equal(copied(X), expected)
    previous = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        torch.testing.assert_close(net.double()(X, domain="d").float(), expected)
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(previous)
    assert net.to("meta").view("d").like.is_meta


def test_what_another_thread_runs_meanwhile_is_not_the_networks(net):
    running, done, failures = threading.Event(), threading.Event(), []
    expected = net(X, domain="d").detach()

    def work() -> None:
        try:
            with torch.no_grad():
                while not done.is_set():
                    assert torch.equal(net(X, domain="d"), expected)
                    net.base(X)
                    running.set()
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert running.wait(60), failures
        for number in range(5):
            MultiDomainNet(Body()).add_domain("d", CLASSES)
            net.add_domain(f"meanwhile {number}", CLASSES)
    finally:
        done.set()
        thread.join()
    assert not failures


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
