"""What a notebook builds is what the library has: taken out of the notebook's source, compared on random shapes."""

import pytest
import torch
from notebook_tools import definitions, read
from torch import nn

import madlab
from madlab.adapters import FullModulation
from madlab.adapters.layer import AdaptedConv2d
from madlab.analysis.allocation import Spectrum
from madlab.analysis.allocation import quantise as shipped_quantise
from madlab.analysis.cutting import auto_ranks, spending, uniform_rank
from madlab.analysis.diagnosis import filter_change

CONVS = [
    {"in_channels": 3, "out_channels": 5, "kernel_size": 3, "padding": 1},
    {"in_channels": 6, "out_channels": 4, "kernel_size": 1, "bias": False},
    {"in_channels": 2, "out_channels": 7, "kernel_size": 5, "stride": 2, "padding": 2},
    {"in_channels": 4, "out_channels": 8, "kernel_size": 3, "groups": 2, "dilation": 2},
]


@pytest.mark.parametrize("options", CONVS)
def test_modulated_convolution_of_notebook_02(options: dict) -> None:
    (built,) = definitions(read("02"), "ModulatedConv2d")
    conv = nn.Conv2d(**options)
    x = torch.randn(2, conv.in_channels, 12, 11)
    taught, shipped = built(conv), AdaptedConv2d(conv, FullModulation(conv))
    assert torch.equal(taught(x), conv(x))
    with torch.no_grad():
        taught.alpha.normal_()
        shipped.adapter.alpha.copy_(taught.alpha)
    for layer in (taught, shipped):
        layer(x).square().mean().backward()
    torch.testing.assert_close(taught(x), shipped(x))
    torch.testing.assert_close(taught.alpha.grad, shipped.adapter.alpha.grad)
    assert conv.weight.grad is None


def test_score_of_notebook_01() -> None:
    (score,) = definitions(read("01"), "score")
    for _ in range(20):
        finetuned = {name: 100 * float(torch.rand(())) * 0.99 for name in "abcd"}
        accuracies = {name: 100 * float(torch.rand(())) for name in "bcd"}
        assert score(accuracies, finetuned) == pytest.approx(madlab.decathlon_score(accuracies, finetuned))


def test_multi_domain_network_of_notebook_03() -> None:
    """Two domains, three training steps each in turn: logits, what moved and what did not are the library's."""
    torch.manual_seed(0)  # of some random networks rounding grows a hundredfold in three steps
    _, _, built = definitions(read("03"), "ModulatedConv2d", "add_domain", "MultiDomain")
    bases = [madlab.resnet26(num_classes=5, width=4) for _ in range(2)]
    bases[1].load_state_dict(bases[0].state_dict())
    taught, shipped = built(bases[0]), madlab.MultiDomainNet(bases[1])
    x = torch.randn(6, 3, 16, 16)
    views = {}
    for name, classes in (("a", 3), ("b", 4)):
        taught.add_domain(name, classes)
        shipped.add_domain(name, classes, method="mad")
        own, given = shipped.view(name).own_state(), taught.domains[name].state_dict()
        shipped.view(name).load_own_state({key: given[key.replace(".adapter.", ".")] for key in own})
        views[name] = taught.domains[name], shipped.view(name)
    for name, pair in views.items():
        for view in pair:
            trained = [p for p in view.parameters() if p.requires_grad]
            optimiser = torch.optim.SGD(trained, lr=0.1)
            view.train()
            for _ in range(3):
                optimiser.zero_grad()
                view(x).square().mean().backward()
                optimiser.step()
            view.eval()
        torch.testing.assert_close(taught(x, name), shipped(x, domain=name), rtol=1e-3, atol=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(bases[0].parameters(), bases[1].parameters(), strict=True))
    assert all(m.weight.grad is None for m in bases[0].modules() if isinstance(m, nn.Conv2d))
    assert len({id(m) for m in taught.modules() if isinstance(m, nn.Conv2d)}) == 25  # shared by base and domains


def test_allocation_and_quantisation_of_notebook_11() -> None:
    spend, quantise = definitions(read("11"), "spend", "quantise")
    torch.manual_seed(0)
    alphas = {f"c{i}": 1 + torch.randn(m, n) for i, (m, n) in enumerate([(4, 3), (9, 5), (8, 8), (6, 12)])}
    spectra = {name: Spectrum.of(alpha - 1) for name, alpha in alphas.items()}
    for budget in range(0, 200, 7):
        taught, shipped = spend(alphas, budget), auto_ranks(spectra, budget)
        least = spending(spectra, uniform := uniform_rank(spectra, budget))
        assert spending(spectra, taught) <= budget
        if spending(spectra, taught) >= least:  # the library takes the uniform rank where it leaves less
            left = [
                sum(float((a - 1 - spectra[p].cut(ranks[p])).square().mean()) for p, a in alphas.items())
                for ranks in (taught, uniform)
            ]
            assert shipped == (taught if left[0] <= left[1] else uniform)
        else:  # the library exchanges directions until it spends as much as a uniform rank
            assert least <= spending(spectra, shipped) <= budget
    for bits in (2, 5, 8):
        torch.testing.assert_close(quantise(alphas["c1"], bits), shipped_quantise(alphas["c1"], bits))


def test_change_of_filters_of_notebook_12() -> None:
    (moved,) = definitions(read("12"), "moved")
    net = madlab.MultiDomainNet(madlab.resnet26(num_classes=5, width=4))
    net.add_domain("a", 3)
    net.add_domain("b", 3, "finetune")
    for name in net.domains:
        assert moved(net.view(name)) == 0
        with torch.no_grad():
            for parameter in net.view(name).parameter_groups()["adapter"]:
                parameter.normal_()
        assert moved(net.view(name)) == pytest.approx(filter_change(net.view(name)), rel=1e-5)
