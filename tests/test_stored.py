"""Domains in few bytes: every method's file unpacked by hand, what was lost, norms folded, sizes, and bad input."""

import copy
import zlib

import numpy as np
import pytest
import torch
from any_networks import CLASSES, Body, convnext
from safetensors.torch import load_file
from torch import nn

import madlab
from madlab.adapters.rounding import BITS
from madlab.errors import MadlabError
from madlab.files.tensors import load_tensors, save_tensors
from madlab.network import MultiDomainNet


class Small(nn.Module):
    """Two convolutions with BatchNorm, of which the statistics are not the usual ones, and a head."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(),
            nn.Conv2d(12, 40, 3, stride=2), nn.BatchNorm2d(40), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(40, CLASSES)
        for norm in (self.body[1], self.body[4]):
            norm.running_mean.normal_(std=0.3)
            norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


SIZE = {"prompt": {"size": 16, "frame": 2}}
OPTIONS = SIZE | {name: {"rank": 2} for name, method in madlab.METHODS.items() if "rank" in method.options}
OPTIONS |= {"mad": {}, "mad+wtpb": {}}
VARIANTS = {name: (name, OPTIONS.get(name, {})) for name in madlab.METHODS}
VARIANTS |= {"mad:3": ("mad", {"rank": 3}), "residual": ("mad", {"rank": 3, "form": "residual"})}


def images():
    return torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def trained(variant, seed=2):
    """A network with a domain in which nothing is as it was at the start, and everything small."""
    method, options = VARIANTS[variant]
    if method.startswith("peft:"):
        pytest.importorskip("peft", reason="PEFT is in the extra 'peers'")
    torch.manual_seed(0)
    net = MultiDomainNet(Small())
    net.add_domain("d", CLASSES, method, **options)
    generator = torch.Generator().manual_seed(seed)
    view = net.view("d")
    with torch.no_grad():
        for adapter in view.adapters().values():
            for name, parameter in adapter.named_parameters():
                size = adapter.margin if name == "mask" else 1.5e-5 if name.endswith("mask") else 0.05
                parameter.add_(size * torch.randn(parameter.shape, generator=generator))
        for own in (*view.own.values(), *view.head.parameters()):
            own.add_(0.1 * torch.randn(own.shape, generator=generator))
        if view.method.adapts_batchnorm:
            for norm in view.norm_layers().values():
                norm.weight.add_(0.1 * torch.randn(norm.weight.shape, generator=generator))
                norm.bias.add_(0.1 * torch.randn(norm.bias.shape, generator=generator))
                norm.running_mean.add_(0.1 * torch.randn(norm.bias.shape, generator=generator))
                norm.running_var.mul_(1.3)
    return net


def again(net, path):
    other = MultiDomainNet(copy.deepcopy(net.base))
    other.load_domain(path)
    return other


def close(one, other, tolerance=1e-5):
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * float(other.detach().abs().max()))


def numbers_by_name(net):
    """Every real number that a domain learns and where it rests, found without the code that is tested."""
    view, found = net.view("d"), {}
    for place, adapter in view.adapters().items():
        for name, parameter in adapter.named_parameters():
            if name.rpartition(".")[2] != "mask":
                found[f"{place}.adapter.{name}"] = parameter
    return found | view.own


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "bits"), [*((v, 3) for v in VARIANTS), *(("mad", b) for b in (2, 4, 8))])
def test_every_method_comes_back_rounded_and_merges(variant, bits, tmp_path) -> None:
    net = trained(variant)
    exact = {name: value.clone() for name, value in net.view("d").own_state(packed=True).items()}
    net.save_domain("d", tmp_path / "d.safetensors", bits=bits)
    assert all(torch.equal(value, exact[name]) for name, value in net.view("d").own_state(packed=True).items())
    other = again(net, tmp_path / "d.safetensors")
    back, numbers = other.view("d").own_state(packed=True), numbers_by_name(net)
    assert back.keys() == exact.keys()
    for name, value in exact.items():
        if name not in numbers or value.numel() < 8:  # masks, norms, head, and what is too small to round
            assert torch.equal(back[name], value), name
    if rounded := [name for name in numbers if exact[name].numel() >= 8]:
        for name in rounded:
            share = (back[name] - exact[name]).abs().max() / exact[name].abs().max()
            assert 0 < share < {2: 0.8, 3: 0.5, 4: 0.25, 8: 0.02}[bits], name
    with torch.no_grad():
        logits = other(images(), domain="d")
        if variant != "prompt":
            close(other.merge("d")(images()), logits)
    other.save_domain("d", tmp_path / "e.safetensors", bits=bits)  # what was rounded is stored without a further loss
    assert all(
        torch.equal(v, back[n]) for n, v in again(net, tmp_path / "e.safetensors").view("d").own_state(True).items()
    )


@pytest.mark.parametrize("variant", ["mad", "mad:3", "hira", "parallel", "prompt", "finetune", "peft:dora"])
def test_what_was_lost_is_told_exactly(variant, tmp_path) -> None:
    net = trained(variant)
    told = net.save_domain("d", tmp_path / "d.safetensors", bits=3)
    view, other = net.view("d"), again(net, tmp_path / "d.safetensors").view("d")
    assert told.keys() == {*view.adapters(), *view.own}
    if variant == "prompt":
        exact, rounded, start = view.prompt.pixels, other.prompt.pixels, torch.zeros_like(view.prompt.pixels)
        expected = ((rounded - exact).norm() / (exact - start).norm()).item()
        assert told["images"] == pytest.approx(expected, rel=1e-4)
        return
    for name, layer in view.adapted_layers().items():
        exact, rounded, start = layer.weight, other.adapted_layers()[name].weight, layer.conv.weight
        expected = ((rounded - exact).norm() / (exact - start).norm()).item()
        assert told[name] == pytest.approx(expected, rel=1e-4) and expected > 0
    assert net.save_domain("d", tmp_path / "d.safetensors") == {}


def test_what_folded_norms_lost_is_told_of_their_outputs(tmp_path) -> None:
    """Of two inputs a standard deviation above and below the mean, which have the mean and variance of the domain."""
    net = trained("batchnorm")
    norms = net.view("d").norm_layers()
    with torch.no_grad():
        norms["body.4"].running_mean[::3] += 5.0  # a shift that is large beside what comes out
    told = net.save_domain("d", tmp_path / "d.safetensors", bits=8, norms="folded")
    other = again(net, tmp_path / "d.safetensors").view("d").norm_layers()
    assert told.keys() == norms.keys()
    for name, norm in norms.items():
        x = norm.running_mean + torch.tensor([[1.0], [-1.0]]) * norm.running_var.sqrt()
        exact, back = (one.eval()(x[..., None, None]).double().detach() for one in (norm, other[name]))
        assert told[name] == pytest.approx(((back - exact).norm() / exact.norm()).item(), rel=1e-3) and told[name] > 0
    assert net.save_domain("d", tmp_path / "d.safetensors", norms="folded") == {}


@pytest.mark.parametrize("bits", [None, 8])
def test_folded_norms_stay_scale_and_shift_in_training(bits, tmp_path) -> None:
    net = trained("batchnorm")
    net.save_domain("d", tmp_path / "folded.safetensors", bits=bits, norms="folded")
    folded = again(net, tmp_path / "folded.safetensors")
    folded.save_domain("d", tmp_path / "full.safetensors")
    for one in (folded, again(net, tmp_path / "full.safetensors")):
        expected = one.eval()(images(), domain="d")
        close(one.train()(images(), domain="d"), expected)
    assert not torch.allclose(net.train()(images(), domain="d"), net.eval()(images(), domain="d"), atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("norms", ["folded", "full"])
def test_folded_norms_stay_that_in_every_number_format(dtype, norms, tmp_path) -> None:
    """Where eps is lost in rounding, no value tells a folded norm from one that was never trained."""
    net = trained("batchnorm")
    net.save_domain("d", tmp_path / "folded.safetensors", norms="folded")
    folded = again(net, tmp_path / "folded.safetensors").to(dtype)
    folded.save_domain("d", tmp_path / "again.safetensors", norms=norms)
    other, held = again(net.to(dtype), tmp_path / "again.safetensors"), MultiDomainNet(copy.deepcopy(net.base))
    held.add_domain("d", CLASSES, "batchnorm")
    held.load_state_dict(folded.state_dict())
    for one in (folded, other, held):
        before = {name: tensor.clone() for name, tensor in one.view("d").own_state().items()}
        expected = one.eval()(images(), domain="d")
        close(one.train()(images(), domain="d"), expected)
        assert all(torch.equal(tensor, before[name]) for name, tensor in one.view("d").own_state().items())


def test_a_file_can_be_unpacked_by_hand(tmp_path) -> None:
    """alpha of 4 bits with nothing but zlib and arithmetic: three streams, each behind its length."""
    torch.manual_seed(0)
    net = MultiDomainNet(Body())
    net.add_domain("d", CLASSES)
    adapters = net.view("d").adapters()
    with torch.no_grad():
        for adapter in adapters.values():
            adapter.alpha.add_(0.3 * torch.randn_like(adapter.alpha))
    net.save_domain("d", tmp_path / "d.safetensors", bits=4)
    data = load_file(tmp_path / "d.safetensors")["packed:adapter"].numpy().tobytes()
    streams = []
    while data:
        length = int.from_bytes(data[:4], "little")
        streams.append(zlib.decompress(data[4 : 4 + length], wbits=-15))
        data = data[4 + length :]
    codes, pairs, exact = streams
    levels = [(byte % 16, byte // 16) for byte in pairs]
    levels = [level - 7 for pair in levels for level in pair]
    assert set(levels) <= set(range(-7, 8)) and not exact
    other = again(net, tmp_path / "d.safetensors").view("d").adapters()
    for name, adapter in adapters.items():
        m, n = adapter.alpha.shape
        turned = n < 32 and n < m  # fewer columns than rows, and short rows: columns have the units
        rows, length = (n, m) if turned else (m, n)
        table = [[1 + 2 ** (16 - codes[r] / 4) * levels[r * length + i] for i in range(length)] for r in range(rows)]
        codes, levels = codes[rows:], levels[rows * length :]
        alpha = torch.tensor(table).T if turned else torch.tensor(table)
        torch.testing.assert_close(other[name].alpha.detach(), alpha)
    assert not codes and set(levels) <= {-7}  # the padding of the last byte


@pytest.mark.parametrize("bits", [None, 4])
@pytest.mark.parametrize("method", ["mad", "frozen"])
def test_folded_norms_are_scale_and_shift(method, bits, tmp_path) -> None:
    net = trained(method)
    net.save_domain("d", tmp_path / "folded.safetensors", bits=bits, norms="folded")
    net.save_domain("d", tmp_path / "full.safetensors", bits=bits)
    folded, full = (again(net, tmp_path / f"{kind}.safetensors") for kind in ("folded", "full"))
    x = images()
    with torch.no_grad():
        close(folded(x, domain="d"), full(x, domain="d"), 1e-4 if bits is None or method == "frozen" else 0.05)
        close(folded.merge("d")(x), folded(x, domain="d"))
    for name, norm in net.view("d").norm_layers().items():
        scale = norm.weight / (norm.running_var + norm.eps) ** 0.5
        shift = norm.bias - norm.running_mean * scale
        base = net.base.get_submodule(name)
        start = base.weight / (base.running_var + base.eps) ** 0.5
        back = folded.view("d").norm_layers()[name]
        assert torch.equal(back.running_mean, torch.zeros_like(shift))
        tolerance = 1e-6 if bits is None else 0.01 * (scale - start).abs().max().item() + 1e-6
        torch.testing.assert_close(back.weight, scale, rtol=0, atol=tolerance)
        if bits is None:
            torch.testing.assert_close(back.bias, shift)


def test_a_silent_channel_does_not_spoil_the_scales_of_the_others(tmp_path) -> None:
    """Its variance is near zero, so that its folded scale is in the hundreds, the others near one."""
    net = trained("batchnorm")
    norm = net.view("d").norm_layers()["body.4"]
    with torch.no_grad():
        norm.running_mean[7], norm.running_var[7] = 0.0, 1e-7
    net.save_domain("d", tmp_path / "d.safetensors", bits=8, norms="folded")
    back = again(net, tmp_path / "d.safetensors").view("d").norm_layers()["body.4"].eval()
    inputs = torch.randn(64, 40, 3, 3) * norm.running_var.sqrt().view(1, -1, 1, 1) + norm.running_mean.view(1, -1, 1, 1)
    expected, got = (one(inputs).detach() for one in (norm.eval(), back))
    others = [channel for channel in range(40) if channel != 7]
    assert (got - expected)[:, others].abs().max() < 0.03 * expected.std()


@pytest.mark.parametrize("value", [0.1, 1.0])
def test_a_constant_channel_does_not_spoil_the_shifts_of_the_others(value, tmp_path) -> None:
    """A filter that its adapter switched off, before a bias: scale and shift in the hundreds, and they cancel."""
    net = trained("batchnorm")
    norm = net.view("d").norm_layers()["body.4"]
    with torch.no_grad():
        norm.running_mean[7], norm.running_var[7], norm.bias[7] = value, 0.0, 0.3
    net.save_domain("d", tmp_path / "d.safetensors", bits=8, norms="folded")
    back = again(net, tmp_path / "d.safetensors").view("d").norm_layers()["body.4"].eval()
    inputs = torch.randn(64, 40, 3, 3) * norm.running_var.sqrt().view(1, -1, 1, 1) + norm.running_mean.view(1, -1, 1, 1)
    expected, got = (one(inputs).detach() for one in (norm.eval(), back))
    assert (got - expected).abs().max() < 0.03 * expected.std()


def test_a_nearly_constant_channel_does_not_ruin_its_layer(tmp_path) -> None:
    """Its scale and shift are in the thousands and do not cancel: in their unit nothing would be left of the others."""
    net = trained("batchnorm")
    norm = net.view("d").norm_layers()["body.4"]
    with torch.no_grad():
        norm.running_mean[7], norm.running_var[7], norm.weight[7] = 3.0, 1.1e-8, 1.0
    told = net.save_domain("d", tmp_path / "d.safetensors", bits=8, norms="folded")
    back = again(net, tmp_path / "d.safetensors").view("d").norm_layers()
    assert told["body.4"] == 0 < told["body.1"]
    with torch.no_grad():
        inputs = torch.randn(64, 40) * norm.running_var.sqrt() + norm.running_mean
        close(*(one.eval()(inputs[..., None, None]) for one in (back["body.4"], norm)), 1e-4)
    sizes = {name: len(tensor) for name, tensor in load_file(tmp_path / "d.safetensors").items()}
    assert net.stored_bytes("d", 8, "folded").norms == sizes["packed:norms"]
    again(net, tmp_path / "d.safetensors").save_domain("d", tmp_path / "e.safetensors", bits=8, norms="folded")
    assert (tmp_path / "d.safetensors").read_bytes() == (tmp_path / "e.safetensors").read_bytes()


def test_a_loud_channel_does_not_ruin_the_quiet_ones(tmp_path) -> None:
    """All but one are lost in the layer's error, and not in what the next layer makes of them."""
    net = trained("batchnorm")
    norm = net.view("d").norm_layers()["body.4"]
    with torch.no_grad():
        norm.running_var.fill_(16.0)
        norm.weight.fill_(0.4)  # scales of 0.1, and one of 22
        norm.running_var[7], norm.weight[7] = 60.0, 170.0
    told = net.save_domain("d", tmp_path / "d.safetensors", bits=8, norms="folded")
    back = again(net, tmp_path / "d.safetensors").view("d").norm_layers()["body.4"]
    inputs = torch.randn(200, 40) * norm.running_var.sqrt() + norm.running_mean
    with torch.no_grad():
        expected, got = (one.eval()(inputs[..., None, None]) for one in (norm, back))
    assert ((got - expected).square().mean((0, 2, 3)) / expected.square().mean((0, 2, 3))).sqrt().max() < 0.01
    assert told["body.4"] == 0 < told["body.1"]  # one is stored exactly, the other is not


def test_exact_folded_norms_are_never_rounded(tmp_path) -> None:
    """Their statistics are gone, which tell how much an error in a scale is worth."""
    net = trained("batchnorm")
    net.save_domain("d", tmp_path / "exact.safetensors", norms="folded")
    folded = again(net, tmp_path / "exact.safetensors")
    told = folded.save_domain("d", tmp_path / "rounded.safetensors", bits=8, norms="folded")
    assert told == {"body.1": 0.0, "body.4": 0.0}
    both = (one.eval()(images(), domain="d") for one in (again(net, tmp_path / "rounded.safetensors"), folded))
    close(*both)


@pytest.mark.parametrize("eps", [1e-5, 1.0, 5.0])
def test_norms_that_were_rounded_lose_nothing_when_they_are_saved_again(eps, tmp_path) -> None:
    """With an epsilon above one, the variance with which a norm is neutral is negative."""
    base = Small()
    base.body[1].eps = base.body[4].eps = eps
    torch.manual_seed(0)
    net = MultiDomainNet(base)
    net.add_domain("d", CLASSES, "batchnorm")
    for norm in net.view("d").norm_layers().values():
        nn.init.normal_(norm.weight)
        norm.running_mean.copy_(torch.randn(norm.running_mean.shape))
    net.save_domain("d", tmp_path / "once.safetensors", bits=8, norms="folded")
    once = again(net, tmp_path / "once.safetensors")
    once.save_domain("d", tmp_path / "twice.safetensors", bits=8, norms="folded")
    twice = again(net, tmp_path / "twice.safetensors")
    close(twice(images(), domain="d"), once(images(), domain="d"))


def test_norms_that_share_their_scale_stay_as_they_are(tmp_path) -> None:
    """Their statistics differ, so that one folded scale cannot be right for both."""
    base = Small()
    base.body[4] = nn.BatchNorm2d(12)
    base.body[3], base.head = nn.Conv2d(12, 12, 3), nn.Linear(12, CLASSES)
    base.body[4].weight, base.body[4].bias = base.body[1].weight, base.body[1].bias
    base.body[4].running_mean.fill_(0.7)
    net = MultiDomainNet(base)
    net.add_domain("d", CLASSES, "mad")
    for form in ({"norms": "folded"}, {"bits": 8, "norms": "folded"}):
        net.save_domain("d", tmp_path / "d.safetensors", **form)
        close(again(net, tmp_path / "d.safetensors")(images(), domain="d"), net(images(), domain="d"))


@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_folded_domain_merges_into_a_network_that_can_be_a_base(momentum, tmp_path) -> None:
    net = trained("batchnorm")
    net.save_domain("d", tmp_path / "d.safetensors", norms="folded")
    folded = again(net, tmp_path / "d.safetensors")
    expected, merged = folded(images(), domain="d"), folded.merge("d")
    merged.body[1].momentum = merged.body[4].momentum = momentum
    other = MultiDomainNet(merged)
    close(other.base(images()), expected)
    other.add_domain("e", CLASSES, "batchnorm")
    before = other.view("e").norm_layers()["body.1"].running_mean.clone()
    other.train()(images(), domain="e")  # its norms follow the images again
    assert not torch.equal(other.view("e").norm_layers()["body.1"].running_mean, before)
    close(folded(images(), domain="d"), expected)


def test_an_infinite_variance_is_refused(tmp_path) -> None:
    net = trained("batchnorm")
    with torch.no_grad():
        net.view("d").norm_layers()["body.4"].running_var[7] = torch.inf
    with pytest.raises(MadlabError, match="running_var holds NaN or infinity"):
        net.save_domain("d", tmp_path / "d.safetensors", norms="folded")


def test_layer_norms_and_linear_layers_are_stored_in_few_bits_too(tmp_path) -> None:
    net = MultiDomainNet(convnext())
    net.add_domain("d", CLASSES, "finetune")
    with torch.no_grad():
        for parameter in net.trainable_parameters("d"):
            parameter.add_(0.02 * torch.randn_like(parameter))
        x = torch.randn(2, 3, 32, 32)
        net.save_domain("d", tmp_path / "d.safetensors", bits=8, norms="folded")
        close(again(net, tmp_path / "d.safetensors")(x, domain="d"), net(x, domain="d"), 0.05)


@pytest.mark.parametrize("form", [{}, {"bits": 2}, {"bits": 8, "norms": "folded"}, {"norms": "folded"}])
@pytest.mark.parametrize("variant", ["mad", "piggyback", "ksm", "finetune", "frozen", "prompt"])
def test_stored_bytes_are_those_of_the_file(variant, form, tmp_path) -> None:
    net = trained(variant)
    net.save_domain("d", tmp_path / "d.safetensors", **form)
    sizes = {name: t.numel() * t.element_size() for name, t in load_file(tmp_path / "d.safetensors").items()}
    stored = net.stored_bytes("d", **form)
    assert stored.adapter + stored.norms + stored.head == sum(sizes.values())
    assert stored.head == sum(4 * p.numel() for p in net.view("d").head.parameters())
    if "bits" in form:
        assert stored.adapter == sizes["packed:adapter"] < net.stored_bytes("d").adapter or variant in (
            "frozen",
            "piggyback",  # random bits cannot be coded
        )
    if "norms" in form:
        assert stored.norms == sizes["packed:norms"] < net.stored_bytes("d").norms


def test_bits_of_numpy_are_bits(tmp_path) -> None:
    net = trained("mad")
    net.save_domain("d", tmp_path / "d.safetensors", bits=np.int64(4))
    assert again(net, tmp_path / "d.safetensors").domains == ["d"]


def test_fewer_bits_take_fewer_bytes() -> None:
    net = trained("mad")
    sizes = [net.stored_bytes("d", bits=bits).adapter for bits in BITS]
    numbers = net.adapter_size("d")
    assert sizes == sorted(sizes) and len(set(sizes)) == len(BITS)
    assert all(size < numbers * bits / 8 + 2 * 52 + 40 for size, bits in zip(sizes, BITS, strict=True))


def test_half_precision_stays(tmp_path) -> None:
    net = trained("mad").half()
    net.save_domain("d", tmp_path / "d.safetensors", bits=4, norms="folded")
    other = MultiDomainNet(copy.deepcopy(net.base))
    other.load_domain(tmp_path / "d.safetensors")
    assert {t.dtype for n, t in other.view("d").own_state().items() if "num_batches" not in n} == {torch.float16}


def test_forms_that_cannot_be_are_told(tmp_path) -> None:
    net = trained("mad")
    for wrong in (1, 5, 32, 4.0, True, "4"):
        for act in (
            lambda b=wrong: net.save_domain("d", tmp_path / "x", bits=b),
            lambda b=wrong: net.stored_bytes("d", b),
        ):
            with pytest.raises(MadlabError, match=r"cannot be stored in .* bits: choose one of 2, 3, 4, 8"):
                act()
    with pytest.raises(MadlabError, match="Norms cannot be stored as 'none': choose one of full, folded"):
        net.save_domain("d", tmp_path / "x", norms="none")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("what", ["adapter", "norm"])
def test_what_is_no_number_is_not_stored(what, tmp_path) -> None:
    net = trained("mad")
    view = net.view("d")
    tensor = view.adapters()["body.0"].alpha if what == "adapter" else view.norm_layers()["body.1"].bias
    with torch.no_grad():
        tensor[0] = float("nan")
    with pytest.raises(MadlabError, match=r"body.* holds NaN or infinity.*lower learning rates"):
        net.save_domain("d", tmp_path / "d.safetensors", bits=4, norms="folded")
    assert not (tmp_path / "d.safetensors").exists()


@pytest.mark.parametrize("method", ["piggyback", "wtpb", "ksm"])
def test_a_bit_does_not_hide_what_is_no_number(method, tmp_path) -> None:
    net = trained(method)
    with torch.no_grad():
        net.view("d").adapters()["body.0"].mask[0] = float("nan")
    with pytest.raises(MadlabError, match=r"NaN.*lower learning rates"):
        net.save_domain("d", tmp_path / "d.safetensors")
    assert not (tmp_path / "d.safetensors").exists()


def test_files_that_do_not_fit_are_told(tmp_path) -> None:
    net, path = trained("mad"), tmp_path / "d.safetensors"
    net.save_domain("d", path, bits=4, norms="folded")
    tensors, facts = load_tensors(path)
    blob = tensors["packed:adapter"]
    damaged = [
        (tensors, {"stored": {"bits": 5, "norms": "full"}}, "cannot be stored in 5 bits"),
        (tensors, {"stored": {"bits": 4}}, "does not say how it is stored"),
        (tensors, {"stored": [4]}, "does not say how it is stored"),
        (tensors, {"stored": None}, "do not fit this domain"),
        (tensors, {"stored": {"bits": 2, "norms": "folded"}}, "packed numbers"),
        (tensors | {"packed:adapter": blob[:-5]}, {}, "packed numbers"),
        (tensors | {"packed:adapter": torch.cat([blob, blob])}, {}, "packed numbers"),
        (tensors | {"packed:adapter": blob[:2]}, {}, "packed numbers"),
        (tensors | {"packed:adapter": blob.float()}, {}, "packed numbers are missing"),
        ({k: t for k, t in tensors.items() if k != "packed:norms"}, {}, "packed numbers are missing"),
        (tensors | {"more": blob.clone()}, {}, "do not fit this domain"),
    ]
    for number, (wrong, how, sentence) in enumerate(damaged):
        save_tensors(tmp_path / f"{number}", wrong, facts | how)
        with pytest.raises(MadlabError, match=sentence):
            net.load_domain(tmp_path / f"{number}", "e")
    assert net.domains == ["d"]


class OnePlus(nn.BatchNorm2d):
    """A gain that rests at zero, as several libraries have it."""

    def forward(self, x):
        return nn.functional.batch_norm(
            x, self.running_mean, self.running_var, 1 + self.weight, self.bias, eps=self.eps
        )


class Positive(nn.BatchNorm2d):
    def forward(self, x):
        return nn.functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight.abs(), self.bias, eps=self.eps
        )


class Activated(nn.BatchNorm2d):
    """With its activation inside, as timm's BatchNormAct2d."""

    def forward(self, x):
        return super().forward(x).relu()


def parametrised(channels):
    norm = nn.BatchNorm2d(channels)
    nn.utils.parametrize.register_parametrization(norm, "weight", nn.Softplus())
    return norm


def without_bias(channels):
    norm = nn.BatchNorm2d(channels)
    norm.register_parameter("bias", None)
    return norm


class Sloped(nn.BatchNorm2d):
    """With an activation that learns, as timm's BatchNormAct2d holds one."""

    def __init__(self, channels):
        super().__init__(channels)
        self.act = nn.PReLU(channels)

    def forward(self, images):
        return self.act(super().forward(images))


class Shifted(nn.LayerNorm):
    """With a buffer that its forward needs."""

    def __init__(self, channels):
        super().__init__([channels, 1, 1])
        self.register_buffer("away", torch.ones(()))

    def forward(self, images):
        return images * self.weight + self.bias + self.away


class Unsaved(nn.BatchNorm2d):
    """Its statistics are in no file."""

    def __init__(self, channels):
        super().__init__(channels)
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, self._buffers.pop(name), persistent=False)


NORMS = {
    "plain": (nn.BatchNorm2d, True),
    "activated": (Activated, True),
    "one plus": (OnePlus, False),
    "positive": (Positive, False),
    "parametrised": (parametrised, False),
    "without bias": (without_bias, False),
    "sloped": (Sloped, False),
}


@pytest.mark.parametrize("bits", [None, 8])
@pytest.mark.parametrize("kind", NORMS)
def test_a_norm_is_folded_only_where_that_is_what_it_computes(kind, bits, tmp_path) -> None:
    make, folds = NORMS[kind]
    torch.manual_seed(0)
    base = Small()
    base.body[1], base.body[4] = make(12), make(40)
    net = MultiDomainNet(base)
    net.add_domain("d", CLASSES, "batchnorm")
    view = net.view("d")
    with torch.no_grad():
        for norm in view.norm_layers().values():
            for parameter in norm.parameters():
                parameter.normal_()
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    path = tmp_path / "d.safetensors"
    net.save_domain("d", path, bits=bits, norms="folded")
    net.load_domain(path, "again")
    assert bool(net.view("again").folded) == folds
    close(net(images(), "again"), net(images(), "d"), 1e-5 if bits is None or not folds else 0.1)


def test_statistics_that_no_file_holds_are_not_folded(tmp_path) -> None:
    """A domain that does not train them may have them; they would be applied a second time."""
    torch.manual_seed(0)
    base = Small()
    base.body[1] = Unsaved(12)
    base.body[1].running_mean.normal_()
    base.body[1].running_var.uniform_(0.5, 2)
    net = MultiDomainNet(base)
    net.add_domain("d", CLASSES, "frozen")
    net.save_domain("d", tmp_path / "d.safetensors", norms="folded")
    net.load_domain(tmp_path / "d.safetensors", "again")
    close(net(images(), "again"), net(images(), "d"))


def test_a_norm_keeps_a_buffer_of_its_own(tmp_path) -> None:
    base = Small()
    base.body[1] = Shifted(12)
    net = MultiDomainNet(base)
    net.add_domain("d", CLASSES, "batchnorm")
    path = tmp_path / "d.safetensors"
    net.save_domain("d", path, norms="folded")
    net.load_domain(path, "again")
    close(net(images(), "again"), net(images(), "d"))
