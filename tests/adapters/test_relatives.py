"""MAD's relatives against loops, einsum, the published construction or PEFT's layer; and MAD's residual form."""

import copy

import pytest
import torch
from any_networks import Body, randomise
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from madlab.adapters import (
    METHODS,
    FilterSubspace,
    HadamardLowRank,
    KernelMask,
    ResidualModulation,
    build_modulation,
)
from madlab.adapters.layer import AdaptedConv2d
from madlab.analysis import modulations
from madlab.errors import MadlabError
from madlab.network import MultiDomainNet

LAYERS = {
    "3x3": lambda: nn.Conv2d(8, 12, 3, padding=1, bias=False),
    "strided, biased": lambda: nn.Conv2d(8, 12, 3, stride=2, padding=1),
    "grouped": lambda: nn.Conv2d(8, 12, 3, padding=1, groups=2),
    "depthwise": lambda: nn.Conv2d(8, 8, 3, padding=1, groups=8),
    "1x1": lambda: nn.Conv2d(8, 12, 1),
    "oblong": lambda: nn.Conv2d(8, 12, (1, 5), padding=(0, 2)),
    "linear": lambda: nn.Linear(8, 12),
}
RELATIVES = {
    "ksm": {},
    "filter-subspace": {},
    "hira": {"rank": 3},
    "mad": {"rank": 3, "form": "residual"},
}


@pytest.fixture(params=LAYERS)
def layer(request):
    torch.manual_seed(0)
    return LAYERS[request.param]().requires_grad_(False)


def images(layer):
    x = torch.randn(2, 8, 9, 9, generator=torch.Generator().manual_seed(1))
    return x.permute(0, 2, 3, 1) if isinstance(layer, nn.Linear) else x


def filters(layer):
    """(M, N, k, k), of an nn.Linear too."""
    return layer.weight if layer.weight.ndim == 4 else layer.weight[:, :, None, None]


def run_with(layer, weight):
    """What the layer computes with a filter bank (M, N, k, k) that a test built, by PyTorch's own functions."""
    x = images(layer)
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight[:, :, 0, 0], layer.bias)
    return F.conv2d(x, weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def by_hand(name, adapter, weight):
    """W_d in loops over all numbers, as the equation on top of each file has it."""
    own = {key: value.tolist() for key, value in adapter.named_parameters()}
    out, w = torch.empty_like(weight), weight.tolist()
    height, width = weight.shape[2:]
    for m in range(weight.shape[0]):
        for n in range(weight.shape[1]):
            for u in range(height):
                for v in range(width):
                    if name == "ksm":
                        bit = 1.0 if own["mask"][m][n] > 5e-3 else 0.0
                        value = w[m][n][u][v] * bit * own["scale"][m][n]
                    elif name == "filter-subspace":
                        taps = [w[m][n][i][j] for i in range(height) for j in range(width)]
                        moved = sum(tap * own["delta"][p][u * width + v] for p, tap in enumerate(taps))
                        value = w[m][n][u][v] + moved
                    elif name == "hira":
                        value = w[m][n][u][v] * (1 + sum(own["b"][m][i] * own["a"][i][n][u][v] for i in range(3)))
                    else:
                        value = w[m][n][u][v] * (1 + sum(own["beta"][m][i] * own["gamma"][i][n] for i in range(3)))
                    out[m, n, u, v] = value
    return out


@pytest.mark.parametrize("name", RELATIVES)
def test_relatives_start_at_the_base_and_are_their_equation(name, layer) -> None:
    adapter = METHODS[name].build(layer, RELATIVES[name])
    assert torch.equal(adapter(filters(layer)), filters(layer))
    randomise(adapter)
    expected = by_hand(name, adapter, filters(layer))
    torch.testing.assert_close(adapter(filters(layer)), expected)
    adapted = AdaptedConv2d(layer, adapter)
    torch.testing.assert_close(adapted(images(layer)), run_with(layer, expected), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        adapted.merged(torch.nn.Parameter(adapted.weight.detach()))(images(layer)), adapted(images(layer))
    )


@pytest.mark.parametrize("name", RELATIVES)
def test_relatives_count_and_store_what_they_learn(name, layer) -> None:
    adapter = randomise(METHODS[name].build(layer, RELATIVES[name]))
    m, n, height, width = filters(layer).shape
    expected = {
        "ksm": m * n + m * n / 32,
        "filter-subspace": (height * width) ** 2,
        "hira": 3 * (height * width * n + m),
        "mad": 3 * (m + n),
    }[name]
    assert adapter.size() == expected
    other = METHODS[name].build(layer, RELATIVES[name])
    other.unpack({key: tensor.clone() for key, tensor in adapter.pack().items()})
    assert torch.equal(other(filters(layer)), adapter(filters(layer)))


@pytest.mark.parametrize(
    "build", [FilterSubspace, lambda conv: HadamardLowRank(conv, 2), lambda conv: build_modulation(conv, 2, "residual")]
)
def test_gradients_agree_with_finite_differences(build) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 4, 3, groups=2).double().requires_grad_(False)
    adapter = randomise(build(conv).double())
    names, values = zip(*((n, p.detach().requires_grad_()) for n, p in adapter.named_parameters()), strict=True)
    assert torch.autograd.gradcheck(
        lambda *v: functional_call(adapter, dict(zip(names, v, strict=True)), (conv.weight,)), values
    )


def test_kernel_masks_get_the_gradient_of_their_bits_and_are_packed_as_bits() -> None:
    torch.manual_seed(0)
    conv, x = nn.Conv2d(3, 5, 3).requires_grad_(False), torch.randn(2, 3, 7, 7)
    adapter = KernelMask(conv)
    with torch.no_grad():
        adapter.mask.copy_(5e-3 + 5e-3 * torch.randn(5, 3))
        adapter.scale.normal_()
    F.conv2d(x, adapter(conv.weight)).square().sum().backward()
    bits = (adapter.mask > 5e-3).float().requires_grad_()
    F.conv2d(x, conv.weight * (bits * adapter.scale.detach())[:, :, None, None]).square().sum().backward()
    torch.testing.assert_close(adapter.mask.grad, bits.grad)
    assert {name: (t.dtype, t.numel()) for name, t in adapter.pack().items()} == {
        "scale": (torch.float32, 15),
        "bits": (torch.uint8, 2),
    }


def test_filter_subspace_is_the_papers_decomposition_with_any_dictionary() -> None:
    """Atoms from an SVD as well as single taps: what is learned of one can be learned of the other, step for step."""
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3, bias=False).double().requires_grad_(False)
    target = torch.randn_like(conv.weight)
    left, sigma, atoms = torch.linalg.svd(conv.weight.reshape(24, 9), full_matrices=False)
    coefficients, learned = (left * sigma).view(6, 4, 9), torch.zeros(9, 3, 3, dtype=torch.float64, requires_grad=True)
    adapter = FilterSubspace(conv).double()
    ours = torch.optim.SGD(adapter.parameters(), lr=0.002, momentum=0.9)
    theirs = torch.optim.SGD([learned], lr=0.002, momentum=0.9)
    for _ in range(20):
        published = torch.einsum("oia,axy->oixy", coefficients, atoms.view(9, 3, 3) + learned)
        torch.testing.assert_close(adapter(conv.weight), published)
        for optimiser, bank in ((ours, adapter(conv.weight)), (theirs, published)):
            optimiser.zero_grad()
            (bank - target).square().sum().backward()
            optimiser.step()
    assert (adapter(conv.weight) - conv.weight).abs().max() > 0.1


def test_filter_subspace_of_a_1x1_layer_scales_the_whole_layer() -> None:
    adapter = FilterSubspace(nn.Conv2d(5, 7, 1))
    assert adapter.size() == 1
    weight = torch.randn(7, 5, 1, 1)
    with torch.no_grad():
        adapter.delta.fill_(0.5)
    torch.testing.assert_close(adapter(weight), 1.5 * weight)


@pytest.mark.parametrize("kernel", [1, 3])
def test_our_hira_agrees_with_peft_on_the_same_matrices(kernel) -> None:
    peft = pytest.importorskip("peft", reason="PEFT is in the extra 'peers'")
    torch.manual_seed(0)
    network = nn.ModuleDict({"conv": nn.Conv2d(5, 7, kernel, stride=2, padding=kernel // 2)})
    conv = copy.deepcopy(network["conv"]).requires_grad_(False)
    theirs = peft.inject_adapter_in_model(peft.HiraConfig(r=3, target_modules=["conv"]), network)["conv"]
    ours = HadamardLowRank(conv, rank=3)
    with torch.no_grad():
        theirs.hira_B["default"].normal_()
        ours.a.copy_(theirs.hira_A["default"])
        ours.b.copy_(theirs.hira_B["default"].flatten(1))
        x = torch.randn(2, 5, 9, 9)
        torch.testing.assert_close(ours.convolve(conv, x), theirs(x), rtol=1e-4, atol=1e-5)
    assert ours.size() == sum(p.numel() for p in theirs.parameters() if p.requires_grad)


# The residual form of MAD


def residual(rank):
    torch.manual_seed(0)
    net = MultiDomainNet(Body())
    net.add_domain("d", 3, "mad", rank=rank, form="residual")
    return net


def test_rank_zero_of_the_residual_form_is_the_base(tmp_path) -> None:
    net = residual(0)
    assert net.adapter_size("d") == 0
    for layer in net.view("d").adapted_layers().values():
        assert torch.equal(layer.weight, layer.conv.weight)
    net.save_domain("d", tmp_path / "d.safetensors")
    net.remove_domain("d")
    assert net.load_domain(tmp_path / "d.safetensors") == "d"
    assert net.view("d").facts.options == {"rank": 0, "form": "residual"}
    net.add_domain("mixed", 3, "mad", rank={name: 2 * place for place, name in enumerate(net.layers)}, form="residual")
    sizes = [sum(filters(layer).shape[:2]) * 2 * place for place, layer in enumerate(net.layers.values())]
    assert net.adapter_size("mixed") == sum(sizes) > 0


def test_the_form_is_an_option_of_a_rank(tmp_path) -> None:
    net = residual(2)
    assert all(isinstance(adapter, ResidualModulation) for adapter in net.view("d").adapters().values())
    for name, adapter in net.view("d").adapters().items():
        randomise(adapter)
        alpha = modulations.of_domain(net, "d")[name]
        torch.testing.assert_close(alpha, 1 + torch.einsum("mi,in->mn", adapter.beta, adapter.gamma))
    with pytest.raises(MadlabError, match="'residual' says what a rank limits: give a rank"):
        net.add_domain("e", 3, "mad", form="residual")
    with pytest.raises(MadlabError, match="form cannot be 'sum': choose one of product, residual"):
        net.add_domain("e", 3, "mad", rank=2, form="sum")
    with pytest.raises(MadlabError, match="from 1 to"):
        net.add_domain("e", 3, "mad", rank=0, form="product")
    with pytest.raises(MadlabError, match="from 0 to"):
        net.add_domain("e", 3, "mad", rank=-1, form="residual")


def test_every_direction_of_the_residual_form_is_free_from_the_first_step() -> None:
    torch.manual_seed(0)
    weight, target = torch.randn(2, 10, 8, 3, 3, dtype=torch.float64)
    adapter = build_modulation(nn.Conv2d(8, 10, 3), 4, "residual").double()
    optimiser = torch.optim.SGD(adapter.parameters(), lr=0.001)
    for _ in range(5):
        optimiser.zero_grad()
        (adapter(weight) - target).square().sum().backward()
        optimiser.step()
    assert torch.linalg.matrix_rank(adapter.beta @ adapter.gamma, rtol=1e-8) == 4
