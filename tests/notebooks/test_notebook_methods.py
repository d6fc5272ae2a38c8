"""The functions on filter banks that notebooks 06 and 08 build are what the library runs: values and gradients."""

import pytest
import torch
from notebook_tools import definitions, read
from torch import nn

from madlab.adapters import METHODS, FullModulation
from madlab.analysis import modulations


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_methods_of_notebook_06(kernel: int) -> None:
    torch.manual_seed(kernel)
    names = ("binary", "piggyback", "wtpb", "parallel", "series", "lora")
    _, piggyback, wtpb, parallel, series, lora = definitions(read("06"), *names)
    conv = nn.Conv2d(4, 6, kernel, bias=False)
    weight, pull = conv.weight.detach(), torch.randn_like(conv.weight)
    size = weight.square().mean().sqrt()
    taught = {
        "piggyback": lambda own: piggyback(weight, own["mask"]),
        "wtpb": lambda own: wtpb(weight, own["mask"], own["k"], size),
        "parallel": lambda own: parallel(weight, own["a"]),
        "series": lambda own: series(weight, own["a"][0]),
        "lora": lambda own: lora(weight, own["b"], own["a"]),
    }
    for method, function in taught.items():
        build = METHODS[method].adapter
        assert build is not None
        adapter = build(conv, **({"rank": 2} if method == "lora" else {}))
        own = {}
        for name, parameter in adapter.named_parameters():
            nn.init.normal_(parameter, std=0.1)
            own[name] = parameter.detach().clone().requires_grad_()
        for filters in (adapter(weight), function(own)):
            (filters * pull).sum().backward()
        torch.testing.assert_close(adapter(weight), function(own))
        for name, parameter in adapter.named_parameters():
            torch.testing.assert_close(parameter.grad, own[name].grad, rtol=1e-4, atol=1e-5)


def test_setting_back_of_notebook_08() -> None:
    (set_back,) = definitions(read("08"), "set_back")
    for rest, threshold in ((1.0, 0.3), (0.0, 0.7)):
        alpha = torch.randn(9, 5)
        got, kept = set_back(alpha, threshold, rest)
        torch.testing.assert_close(got, modulations.reset(alpha, threshold, rest))
        assert kept == pytest.approx(modulations.kept_share({"layer": alpha}, threshold, rest), abs=1e-6)


def test_offset_of_notebook_08_is_the_same_function() -> None:
    (offset,) = definitions(read("08"), "Offset")
    conv = nn.Conv2d(3, 5, 3)
    taught, shipped = offset(conv), FullModulation(conv)
    assert torch.equal(taught(conv.weight), conv.weight)
    with torch.no_grad():
        shipped.alpha.normal_()
        taught.alpha.copy_(shipped.alpha - 1)
    torch.testing.assert_close(taught(conv.weight), shipped(conv.weight))
