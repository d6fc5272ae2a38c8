"""Layers that are more than PyTorch's operation: own forward, hooks, a patched forward; and many threads."""

import copy
import sys
import threading
import types

import pytest
import torch
from any_networks import CLASSES, Body
from torch import nn
from torch.nn import functional as F

from madlab import adapters
from madlab.network import MultiDomainNet


class Standardised(nn.Conv2d):
    """Its filters have mean zero and variance one: not linear in the weight."""

    def forward(self, x):
        centred = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, centred / centred.std((1, 2, 3), keepdim=True), self.bias)


def standardised(base):
    base.conv = Standardised(6, 8, 3)


def patched(base):
    """A forward that was set on the layer itself, as some libraries do to follow or to wrap it."""
    layer = base.conv
    layer.forward = types.MethodType(lambda self, x: F.conv2d(x, 2 * self.weight, self.bias), layer)


def hooked(base):
    base.conv.register_forward_hook(lambda module, inputs, output: 3 * output + module.weight.sum())


def own_linear(base):
    class Scaled(nn.Linear):
        def forward(self, x):
            return super().forward(x) * self.weight.norm()

    base.conv = Turned(Scaled(6, 8))


class Turned(nn.Module):
    """A linear layer over the channels of (B, C, H, W)."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x.movedim(1, 3)).movedim(3, 1)


KINDS = {kind.__name__: kind for kind in (standardised, patched, hooked, own_linear)}
METHODS = ("mad", "lora", "wtpb", "finetune", "peft:lora", "peft:ia3", "peft:oft")


def made(kind, method):
    torch.manual_seed(0)
    base = Body()
    KINDS[kind](base)
    net = MultiDomainNet(base)
    net.add_domain("d", CLASSES, method, **({"rank": 2} if "rank" in adapters.METHODS[method].options else {}))
    with torch.no_grad():
        for parameter in net.trainable_parameters("d"):
            parameter.add_(0.3 * torch.randn_like(parameter))
    return net


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_a_domain_is_the_network_with_the_adapted_weights(method, kind):
    net, x = made(kind, method), torch.randn(2, 3, 12, 12)
    by_hand, view = copy.deepcopy(net.base), net.view("d")
    with torch.no_grad():
        for name, layer in view.adapted_layers().items():
            by_hand.get_submodule(name).weight.copy_(layer.weight)
        for name, module in (view.norm_layers() | view.heads()).items():
            by_hand.get_submodule(name).load_state_dict(module.state_dict())
        for name, parameter in view.own.items():
            by_hand.get_parameter(name).copy_(parameter)
        expected = by_hand(x)
        torch.testing.assert_close(net(x, domain="d"), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(net.merge("d")(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_compiled_view_is_the_view(kind):
    net, x = made(kind, "mad"), torch.randn(2, 3, 12, 12)
    torch.testing.assert_close(torch.compile(net.view("d"), backend="eager")(x), net(x, domain="d"))


def test_what_a_layers_forward_notes_it_keeps():
    class Notes(nn.Conv2d):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return super().forward(x)

    base = Body()
    base.conv = Notes(6, 8, 3)
    net = MultiDomainNet(base)
    net.add_domain("d", CLASSES)
    for _ in range(3):
        net(torch.randn(2, 3, 12, 12), domain="d")
    assert net.view("d").network.conv.calls == 3
    assert base.conv.calls == 0


@pytest.mark.parametrize("kind", KINDS)
def test_threads_share_a_domain(kind):
    net, x = made(kind, "mad"), torch.randn(2, 3, 12, 12)
    before = sys.getswitchinterval()
    with torch.no_grad():
        expected = net(x, domain="d")
    wrong = []

    def ask():
        with torch.no_grad():
            for _ in range(50):
                wrong.append(not torch.allclose(net(x, domain="d"), expected, atol=1e-5))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert len(wrong) == 200 and not any(wrong)
    torch.testing.assert_close(net(x, domain="d"), expected, msg="the layers must have their own weights again")
