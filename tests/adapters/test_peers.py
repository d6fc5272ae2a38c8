"""PEFT's methods as domains, against networks that PEFT wraps by itself; and our LoRA against PEFT's."""

import copy
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from madlab.adapters import METHODS, LowRankDelta
from madlab.adapters.peers import PEERS, PeftAdapter
from madlab.backbones import pocket_densenet, resnet26
from madlab.errors import MadlabError
from madlab.guard import fingerprint
from madlab.heads import find_heads
from madlab.network import MultiDomainNet

KINDS = ["lora", "dora", "hira", "loha", "lokr", "ia3"]
"""Those whose layer is PEFT's own, forward and backward."""
THROUGH_FILTERS = ["oft", "hra"]
"""Those that run with the filters that PEFT's merge gives."""
OPTIONS = {"ia3": {}, "oft": {"block": 32}, "hra": {"rank": 2}, "hira": {"rank": 2}}
CLASSES = 4


@pytest.fixture(scope="module")
def peft():
    return pytest.importorskip("peft", reason="PEFT is in the extra 'peers'")


def small(build=resnet26):
    torch.manual_seed(0)
    return build(CLASSES, width=4).eval()


def images(count=4):
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def wrapped_by_peft(peft, kind, network):
    """A copy of the network that PEFT itself wraps: its documented way, with the names of the convolutions."""
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    config = {
        "lora": lambda: peft.LoraConfig(r=2, lora_alpha=6, target_modules=names),
        "loha": lambda: peft.LoHaConfig(r=2, alpha=6, target_modules=names),
        "lokr": lambda: peft.LoKrConfig(r=2, alpha=6, target_modules=names),
        "dora": lambda: peft.LoraConfig(r=2, lora_alpha=6, use_dora=True, target_modules=names),
        "hira": lambda: peft.HiraConfig(r=2, target_modules=names),
        "ia3": lambda: peft.IA3Config(target_modules=names, feedforward_modules=names),
    }[kind]()
    return peft.get_peft_model(copy.deepcopy(network), config)


def pair(peft, kind):
    """A domain and PEFT's own network with the same random adapter and the base's head."""
    net = MultiDomainNet(small())
    net.add_domain("signs", CLASSES, method=f"peft:{kind}", **OPTIONS.get(kind, {"rank": 2, "alpha": 6}))
    view = net.view("signs")
    view.head.load_state_dict(next(iter(find_heads(net.base).values())).state_dict())
    wrapped = wrapped_by_peft(peft, kind, small().to(memory_format=torch.channels_last))
    theirs = {name: p for name, p in wrapped.named_parameters() if p.requires_grad}
    ours = view.parameter_groups()["adapter"]
    assert [p.shape for p in ours] == [p.shape for p in theirs.values()]
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for mine, other in zip(ours, theirs.values(), strict=True):
            mine.add_(0.1 * torch.randn(mine.shape, generator=generator))
            other.copy_(mine)
    return net, wrapped, ours, list(theirs.values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_domain_is_the_network_that_peft_makes(peft, kind):
    net, wrapped, ours, theirs = pair(peft, kind)
    assert net.adapter_size("signs") == sum(p.numel() for p in theirs)
    assert torch.equal(net(images(), domain="signs"), wrapped(images()))
    assert not torch.allclose(net(images(), domain="signs"), net.base(images()))
    for logits in (net(images(), domain="signs"), wrapped(images())):
        F.cross_entropy(logits, torch.arange(4)).backward()
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.equal(mine.grad, other.grad) and mine.grad.abs().sum() > 0
    scale = wrapped(images()).abs().max().item()
    with torch.no_grad():
        merged, expected = net.merge("signs")(images()), wrapped.merge_and_unload()(images())
    torch.testing.assert_close(merged, expected, rtol=1e-5, atol=1e-5 * scale)
    torch.testing.assert_close(merged, net(images(), domain="signs").detach(), rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.slow
@pytest.mark.parametrize("build", [resnet26, pocket_densenet])
@pytest.mark.parametrize("kind", [*KINDS, *THROUGH_FILTERS])
def test_peers_start_at_the_base_train_save_and_load(peft, kind, build, tmp_path):
    net = MultiDomainNet(small(build))
    sha = fingerprint(net.base)
    net.add_domain("signs", CLASSES, method=f"peft:{kind}")
    net.add_domain("other", CLASSES, method="mad")
    net.view("signs").head.load_state_dict(next(iter(find_heads(net.base).values())).state_dict())
    if kind in THROUGH_FILTERS:  # its reflections undo each other, and its rotations turn by nothing, up to rounding
        torch.testing.assert_close(net(images(), domain="signs"), net.base(images()), rtol=1e-3, atol=1e-3)
    else:
        assert torch.equal(net(images(), domain="signs"), net.base(images()))
    other = net(images(), domain="other")
    optimiser = torch.optim.SGD(net.trainable_parameters("signs"), lr=0.05)
    for _ in range(2):
        optimiser.zero_grad()
        F.cross_entropy(net.train()(images(), domain="signs"), torch.arange(4)).backward()
        optimiser.step()
    net.eval()
    assert all(p.grad.abs().sum() > 0 for p in net.trainable_parameters("signs"))
    assert fingerprint(net.base) == sha
    assert torch.equal(net(images(), domain="other"), other)
    net.save_domain("signs", tmp_path / "signs.safetensors")
    again = MultiDomainNet(small(build))
    again.load_domain(tmp_path / "signs.safetensors")
    assert torch.equal(again(images(), domain="signs"), net(images(), domain="signs"))
    copied = copy.deepcopy(net)
    copied(images(), domain="signs")
    layer = copied.view("signs").network.get_submodule(next(iter(net.convs)))
    assert layer.adapter.layer.base_layer is layer.conv
    assert layer.conv.weight is copied.base.get_submodule(next(iter(net.convs))).weight
    assert {type(m) for m in net.merge("signs").modules()} == {type(m) for m in net.base.modules()}


@pytest.mark.parametrize("kind", ["loha", "lokr", "ia3"])
def test_grouped_convolutions_merge_to_what_peft_computes(peft, kind):
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 12, 3, groups=2).requires_grad_(False)
    adapter = PeftAdapter(conv, kind, rank=2)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_()
        x = torch.randn(2, 8, 7, 7)
        merged = F.conv2d(x, adapter(conv.weight), conv.bias, groups=2)
        torch.testing.assert_close(merged, adapter.convolve(conv, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["circular", "reflect"])
def test_convolutions_that_pad_otherwise_than_with_zeros_run_as_merged(peft, kind, mode):
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 12, 3, padding=1, padding_mode=mode).requires_grad_(False)
    adapter = PeftAdapter(conv, kind, **({} if kind == "ia3" else {"rank": 2}))
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_()
        x = torch.randn(2, 8, 7, 7)
        padded = F.pad(x, (1, 1, 1, 1), mode=mode)
        expected = F.conv2d(padded, adapter(conv.weight), conv.bias)
        torch.testing.assert_close(adapter.convolve(conv, x), expected, rtol=1e-4, atol=1e-4)


def test_peft_refuses_what_it_cannot_adapt_or_merge(peft):
    wrong = {
        "grouped": {"kernel_size": 3, "groups": 2},
        "dilated": {"kernel_size": 3, "dilation": 2},
        "oblong": {"kernel_size": (1, 3)},
    }
    refused = {
        "lora": ("grouped", "dilated"),
        "dora": ("grouped", "dilated"),
        "hira": ("grouped",),
        "oft": ("grouped", "dilated", "oblong"),
        "hra": ("grouped", "oblong"),
    }
    for kind, limits in refused.items():
        for trait, options in wrong.items():
            conv = nn.Conv2d(4, 4, **options).requires_grad_(False)
            own = OPTIONS.get(kind, {"rank": 2})
            if trait in limits:
                with pytest.raises(MadlabError, match=f"peft:{kind} cannot adapt {' or '.join(limits)} convolutions"):
                    PeftAdapter(conv, kind, **own)
            else:
                adapter, x = PeftAdapter(conv, kind, **own), torch.randn(2, 4, 7, 7)
                with torch.no_grad():
                    for parameter in adapter.parameters():
                        parameter.add_(0.3 * torch.randn_like(parameter))
                    merged = F.conv2d(x, adapter(conv.weight), conv.bias, dilation=conv.dilation, groups=conv.groups)
                    torch.testing.assert_close(adapter.convolve(conv, x), merged, rtol=1e-4, atol=1e-4)


def test_reflections_come_in_pairs(peft):
    with pytest.raises(MadlabError, match="even rank: choose 4"):
        PeftAdapter(nn.Conv2d(4, 4, 3), "hra", rank=3)


@pytest.mark.parametrize("layer", ["conv", "strided", "linear"])
@pytest.mark.parametrize("kind", THROUGH_FILTERS)
def test_rotated_and_reflected_filters_are_those_that_peft_merges(peft, kind, layer):
    torch.manual_seed(0)
    build = {
        "conv": lambda: nn.Conv2d(6, 7, 3, padding=1),
        "strided": lambda: nn.Conv2d(6, 7, 3, stride=(2, 1), padding=(1, 0)),
        "linear": lambda: nn.Linear(12, 7),
    }[layer]
    plain = build().requires_grad_(False)
    config = peft.OFTConfig(r=0, oft_block_size=6) if kind == "oft" else peft.HRAConfig(r=4)
    config.target_modules = {"layer"}
    theirs = peft.inject_adapter_in_model(config, nn.ModuleDict({"layer": copy.deepcopy(plain)}))["layer"]
    ours = PeftAdapter(plain, kind, **({"block": 8} if kind == "oft" else {"rank": 4}))  # 6 divides 54 and 12, 8 not
    (mine,), (other,) = ours.parameters(), [p for p in theirs.parameters() if p.requires_grad]
    with torch.no_grad():
        mine.normal_(std=0.2)
        other.copy_(mine)
        x = torch.randn(2, 12) if layer == "linear" else torch.randn(2, 6, 9, 9)
        output = ours.convolve(plain, x)
        if layer == "linear":
            torch.testing.assert_close(output, theirs(x), rtol=1e-4, atol=1e-5)
        theirs.merge()
        torch.testing.assert_close(output, theirs.base_layer(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours.adapted_weight(plain), theirs.base_layer.weight)
    adapted = ours.adapted_weight(plain).flatten(1)
    if kind == "hra":  # orthogonal: angles and lengths of the filters stay
        original = plain.weight.flatten(1)
        torch.testing.assert_close(adapted @ adapted.T, original @ original.T, rtol=1e-4, atol=1e-5)


def test_blocks_that_cannot_be_are_told(peft):
    net = MultiDomainNet(small())
    for wrong in (0, 1, -3, 2.5, True, "big", 10**6):
        with pytest.raises(MadlabError, match=r"option block cannot be .* from 2 to 4,096"):
            net.add_domain("signs", CLASSES, "peft:oft", block=wrong)


def test_an_older_peft_is_told(peft, monkeypatch):
    monkeypatch.delattr(peft, "HiraConfig")
    with pytest.raises(MadlabError, match="peft:hira needs a newer PEFT"):
        PeftAdapter(nn.Conv2d(4, 4, 3), "hira", rank=2)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("alpha", [None, 6])
def test_our_lora_agrees_with_peft_on_the_same_matrices(peft, kernel, alpha):
    torch.manual_seed(0)
    network = nn.ModuleDict({"conv": nn.Conv2d(5, 7, kernel, stride=2, padding=kernel // 2)})
    conv = copy.deepcopy(network["conv"]).requires_grad_(False)
    config = peft.LoraConfig(r=3, lora_alpha=alpha or 3, target_modules=["conv"])
    theirs = peft.inject_adapter_in_model(config, network)["conv"]
    ours = LowRankDelta(conv, rank=3, alpha=alpha)
    with torch.no_grad():
        theirs.lora_B["default"].weight.normal_()
        ours.a.copy_(theirs.lora_A["default"].weight)
        ours.b.copy_(theirs.lora_B["default"].weight.flatten(1))
        x = torch.randn(2, 5, 9, 9)
        torch.testing.assert_close(ours.convolve(conv, x), theirs(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours(conv.weight) - conv.weight, theirs.get_delta_weight("default"))
    assert ours.size() == sum(p.numel() for p in theirs.parameters() if p.requires_grad)


@pytest.mark.slow
def test_peft_is_listed_but_not_imported_and_its_absence_is_told(monkeypatch):
    code = "import sys, madlab; print([name for name in madlab.METHODS if ':' in name]); print('peft' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines() == [str([f"peft:{kind}" for kind in PEERS]), "False"]
    assert sorted(PEERS) == sorted([*KINDS, *THROUGH_FILTERS])
    monkeypatch.setitem(sys.modules, "peft", None)
    net = MultiDomainNet(small())
    for name in [name for name in METHODS if name.startswith("peft:")]:
        with pytest.raises(MadlabError, match=rf"{name} needs PEFT: pip install 'madlab\[peers\]'"):
            net.add_domain("signs", CLASSES, method=name)
    assert net.domains == []


@pytest.mark.parametrize("kind", PEERS)
def test_a_network_with_pefts_layers_can_be_pickled(kind: str) -> None:
    torch.manual_seed(0)
    net = MultiDomainNet(resnet26(num_classes=5, width=4))
    net.add_domain("own", 3, f"peft:{kind}")
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(pickle.loads(pickle.dumps(net))(images, "own"), net(images, "own"))
