"""Networks whose layers or attributes do what PyTorch's own do not: caches, settings that follow images."""

import collections
import dataclasses
import types
from typing import Any

import pytest
import torch
from test_habits import CLASSES, Net
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

import madlab
from madlab.errors import MadlabError


def domain(
    network: nn.Module, method: str = "mad", seed: int = 0, classes: int = 4, **more: Any
) -> madlab.MultiDomainNet:
    torch.manual_seed(seed)
    net = madlab.MultiDomainNet(network)
    net.add_domain("own", classes, method, **more)
    return net


def disturb(net: madlab.MultiDomainNet) -> None:
    with torch.no_grad():
        for parameter in net.trainable_parameters("own"):
            parameter.add_(0.3 * torch.randn_like(parameter))


class Kept(nn.Conv2d):
    """Keeps the filters that it standardises, once nobody asks for gradients."""

    kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        if not torch.is_grad_enabled():
            self.kept = weight.detach() if self.kept is None else self.kept
            weight = self.kept
        return self._conv_forward(x, weight, self.bias)


class Forgotten(Kept):
    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            self.kept = None
        return super().forward(x)


def with_second(layer: nn.Module) -> Net:
    network = Net()
    network.second = layer
    return network


def test_filters_that_are_kept_where_no_gradients_are_asked_for_are_refused() -> None:
    with pytest.raises(MadlabError, match=r"Without gradients .* other logits"):
        domain(with_second(Kept(6, 8, 5)))
    net = domain(with_second(Forgotten(6, 8, 5)))
    images = torch.randn(3, 3, 32, 32)
    for _ in range(2):
        disturb(net)
        logits = net(images, "own")
        with torch.no_grad():
            assert torch.allclose(net(images, "own"), logits, atol=1e-5)


class Padded(Net):
    """Sets its convolution's padding by the size of the image."""

    crop = 64

    def features(self, x: Tensor) -> Tensor:
        self.second.padding = (3, 3) if x.shape[-1] < 40 else (0, 0)
        return super().features(x)


class Gained(nn.Conv2d):
    """With a setting in its class, and another in a buffer."""

    gain = 1.0

    def __init__(self) -> None:
        super().__init__(6, 8, 5)
        self.register_buffer("shift", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.gain + self.shift


class SetsGain(Net):
    crop = 64

    def __init__(self) -> None:
        super().__init__()
        self.second = Gained()

    def features(self, x: Tensor) -> Tensor:
        self.second.gain, self.second.shift = x.shape[-1] / 64, torch.tensor(x.shape[-1] / 32 - 2)
        return super().features(x)


def test_settings_of_a_layers_class_and_buffers_that_a_forward_sets_reach_it() -> None:
    net = domain(SetsGain())
    disturb(net)
    with torch.no_grad():
        for side in (64, 32):
            images = torch.randn(2, 3, side, side)
            assert torch.allclose(net(images, "own"), net.merge("own")(images), atol=1e-4)


@pytest.mark.parametrize("method", ["mad", "finetune", "piggyback"])
def test_settings_that_a_forward_changes_reach_the_adapted_layer(method: str) -> None:
    net = domain(Padded(), method)
    disturb(net)
    with torch.no_grad():
        for side in (64, 32):
            images = torch.randn(2, 3, side, side)
            assert torch.allclose(net(images, "own"), net.merge("own")(images), atol=1e-4)


class Usual(nn.Conv2d):
    """What most people write: a convolution with the arguments that they need, and no others."""

    def __init__(self, channels: int, filters: int, side: int = 5):
        super().__init__(channels, filters, side, bias=False)


@pytest.mark.parametrize("method", ["peft:lora:2", "peft:dora:2", "peft:hira:2", "peft:loha:2"])
def test_pefts_layers_adapt_a_subclass_with_a_constructor_of_its_own(method: str) -> None:
    pytest.importorskip("peft")
    net, plain = domain(with_second(Usual(6, 8)), method), domain(with_second(nn.Conv2d(6, 8, 5, bias=False)), method)
    assert net.adapter_size("own") == plain.adapter_size("own")
    disturb(net)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(net(images, "own"), net.merge("own")(images), atol=1e-4)


class Answering(Net):
    def __init__(self, last: Any):
        super().__init__()
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.last(super().forward(x))
        return answer


@pytest.mark.parametrize("last", [torch.sigmoid, torch.tanh, lambda y: F.normalize(y), lambda y: y.sin()])
def test_answers_that_stay_between_minus_one_and_one_are_no_logits(last: Any) -> None:
    for seed in range(3):
        with pytest.raises(MadlabError, match=r"between -1 and 1"):
            domain(Answering(last), seed=seed)
    with pytest.raises(MadlabError, match=r"between -1 and 1"):
        domain(Answering(last).half())


GROWING = [lambda y: 10 * y.sigmoid(), torch.relu, lambda y: y.log_softmax(1), lambda y: 30 * torch.tanh(y / 30), abs]


@pytest.mark.parametrize("last", GROWING)
def test_answers_that_grow_with_the_head_are_taken(last: Any) -> None:
    for seed in range(6):
        assert domain(Answering(last), "batchnorm", seed=seed, classes=2).domains == ["own"]


class Observer(nn.Module):
    """Notes the range of what it sees, in a buffer that it resizes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.empty(0))

    def forward(self, x: Tensor) -> Tensor:
        self.low.resize_(x.shape[1]).copy_(x.detach().amin((0, 2, 3)))
        return x


def test_observers_that_resize_a_buffer_are_refused_and_left_as_they_were() -> None:
    network = Net()
    network.norm = nn.Sequential(Observer(), nn.BatchNorm2d(6))
    with pytest.raises(MadlabError, match=r"norm\.0\.low even in eval mode"):
        madlab.MultiDomainNet(network)
    assert network.norm[0].low.shape == (0,)


class Gate(nn.Conv2d):
    """A convolution that holds another, as layers with attention do."""

    def __init__(self) -> None:
        super().__init__(6, 8, 5)
        self.within = nn.Conv2d(6, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.within(x.mean((2, 3), keepdim=True)).sigmoid()


def test_a_layer_within_an_adapted_one_keeps_its_name_in_the_base() -> None:
    net = domain(with_second(Gate()), "mad:2")
    assert list(net.view("own").adapters()) == net.view("own").facts.layers == ["conv", "second", "second.within"]
    disturb(net)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(net(images, "own"), net.merge("own")(images), atol=1e-4)


class WithTable(Net):
    """Has a constant of its own that is no parameter, as Swin's tables of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("gain", torch.ones(8))

    def features(self, x: Tensor) -> Tensor:
        return super().features(x) * self.gain[:, None, None]


def test_domains_share_the_bases_buffers_after_another_number_format() -> None:
    net = domain(WithTable())
    for _ in range(2):
        net.double() if net.base.gain.dtype == torch.float32 else net.float()
        view = net.view("own")
        assert view.network.gain is net.base.gain
        assert view.network.norm.running_mean is not net.base.norm.running_mean
    net.view("own").network.gain.mul_(2)
    with pytest.raises(MadlabError, match="base network was changed"):
        net(torch.randn(1, 3, 32, 32), "own")


def test_what_users_hang_on_the_bases_layers_is_no_change_but_a_setting_is() -> None:
    net = domain(Net())
    for name, module in net.base.named_modules():
        module.path = name
    net.check_base()
    net.merge("own")
    net.base.second.stride = (2, 2)
    with pytest.raises(MadlabError, match="base network was changed"):
        net.check_base()


class Pooled(Net):
    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(2)

    def features(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.pool(super().features(x))
        return pooled


def test_a_setting_that_was_none_is_a_change_too() -> None:
    net = domain(Pooled())
    net.base.pool.divisor_override = 1
    with pytest.raises(MadlabError, match="base network was changed"):
        net.check_base()


@pytest.mark.parametrize("method", ["mad", "batchnorm"])
def test_a_domain_is_not_a_base(method: str) -> None:
    net = domain(Net(), method)
    for brought in (net, net.view("own"), nn.Sequential(net.view("own"))):
        with pytest.raises(MadlabError, match=r"what its `merge` returns"):
            madlab.MultiDomainNet(brought)
    assert domain(net.merge("own")).domains == ["own"]


@dataclasses.dataclass
class Noted:
    logits: Tensor


@dataclasses.dataclass(slots=True)
class Packed:
    logits: Tensor


class Noting(Net):
    def __init__(self, into: Any):
        super().__init__()
        self.into: Any = into
        self.last: Any = None

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        self.last = self.into(logits)
        return logits


KEPT = [
    Noted,
    Packed,
    lambda y: types.SimpleNamespace(y=y),
    lambda y: collections.deque([y]),
    lambda y: [{"y": (y,)}],
]


@pytest.mark.parametrize("into", KEPT)
def test_a_domain_merges_after_a_forward_that_left_its_output_behind(into: Any) -> None:
    net = domain(Noting(into))
    images = torch.randn(2, 3, 32, 32)
    logits = net(images, "own")
    assert torch.allclose(net.merge("own")(images), logits, atol=1e-5)


class OddNorm(nn.BatchNorm2d):
    def get_extra_state(self) -> dict[str, int]:
        return {"seen": 1}

    def set_extra_state(self, state: Any) -> None:
        pass


def test_a_norm_whose_state_fits_in_no_file_is_refused_at_once() -> None:
    network = Net()
    network.norm = OddNorm(6)
    with pytest.raises(MadlabError, match=r"norm .*extra_state.* not a tensor"):
        domain(network)


@pytest.mark.parametrize("method", ["mad", "piggyback", "wtpb", "ksm"])
def test_gradients_per_image_are_those_of_each_image(method: str) -> None:
    net = domain(Net(), method)
    view, images = net.view("own"), torch.randn(3, 3, 32, 32)
    parameters = {name: p for name, p in view.named_parameters() if p.requires_grad}

    def loss(values: dict[str, Tensor], image: Tensor) -> Tensor:
        own = {name.removeprefix("network."): value for name, value in values.items()}
        logits: Tensor = functional_call(view.network, own, image[None])
        return logits.square().sum()

    together = vmap(grad(loss), in_dims=(None, 0))(parameters, images)
    for place, image in enumerate(images):
        view.zero_grad()
        view(image[None]).square().sum().backward()
        for name, parameter in parameters.items():
            assert torch.allclose(together[name][place], parameter.grad, rtol=1e-3, atol=1e-4), name


@pytest.mark.parametrize("name", [["own"], None, 3, {"own": 1}])
def test_a_domain_is_asked_for_by_its_name(name: Any) -> None:
    net = domain(Net())
    with pytest.raises(MadlabError, match="Unknown domain"):
        net.merge(name)
    with pytest.raises(MadlabError, match="Unknown domain"):
        net(torch.randn(2, 3, 32, 32), ["own", name])


def test_a_rank_that_is_a_text_is_told_as_one() -> None:
    with pytest.raises(MadlabError, match="'2' is not possible"):
        domain(Net(), rank="2")


class OneSize(Net):
    """Flattens maps of one size alone, and tells that size by `resize`."""

    crop, resize = None, 48

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8 * 18 * 18, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x).flatten(1))
        return logits


def test_a_size_that_is_told_as_resize_alone_is_tried() -> None:
    net = domain(OneSize())
    assert (net.heads, net.anatomy.sides) == (["head"], (48,))
