"""MultiDomainNet: domains do not touch the base or each other, merge to plain networks, and travel as files."""

import copy

import pytest
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import madlab
from madlab.backbones import pocket_densenet, resnet26
from madlab.errors import MadlabError
from madlab.files.tensors import load_tensors, save_tensors
from madlab.guard import fingerprint
from madlab.heads import find_heads
from madlab.network import MultiDomainNet

CLASSES = 5


def lively(network, seed=0):
    """Random BatchNorm statistics and gains, so that using the wrong ones shows."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return network.eval()


def small(seed=0):
    torch.manual_seed(seed)
    network = lively(resnet26(num_classes=CLASSES, width=4), seed)
    network.name = "small"
    return network


def images(count=4, size=16, seed=1):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def stir(net, domain, seed=2):
    """Move everything that the domain trains, and its running statistics, to values of its own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.trainable_parameters(domain):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        for module in net.view(domain).modules():
            if isinstance(module, nn.BatchNorm2d) and net.view(domain).method.adapts_batchnorm:
                module.running_mean.add_(0.1)


def train_steps(net, domain, steps=2, lr=0.05):
    """A plain training loop: cross-entropy, SGD, training mode."""
    optimiser = torch.optim.SGD(net.trainable_parameters(domain), lr=lr, momentum=0.9)
    classes = net.view(domain).facts.num_classes
    net.train()
    for step in range(steps):
        optimiser.zero_grad()
        logits = net(images(8, seed=step), domain=domain)
        nn.functional.cross_entropy(logits, torch.arange(8) % classes).backward()
        optimiser.step()
    net.eval()


def snapshot(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


@pytest.fixture
def net():
    """A small ResNet-26 with two domains, moved away from their start."""
    net = MultiDomainNet(small())
    net.add_domain("signs", num_classes=3, method="mad")
    net.add_domain("glyphs", num_classes=CLASSES, method="mad", rank=2)
    stir(net, "signs")
    stir(net, "glyphs", seed=3)
    return net


def with_head_of_base(net, domain):
    net.view(domain).head.load_state_dict(next(iter(find_heads(net.base).values())).state_dict())


PLAIN = [name for name in madlab.METHODS if not name.startswith("peft:")]
MERGE = [name for name in PLAIN if name != "prompt"]
SIZE = {"prompt": {"size": 16}}


@pytest.mark.parametrize("method", PLAIN)
def test_a_new_domain_is_the_base_bit_for_bit(method):
    base = small()
    before, net = base(images()), MultiDomainNet(base)
    expected = base(images())  # in the memory format that madlab gives it, sums have another order
    torch.testing.assert_close(expected, before, rtol=1e-5, atol=1e-5 * before.abs().max().item())
    net.add_domain("signs", num_classes=CLASSES, method=method, **SIZE.get(method, {}))
    with_head_of_base(net, "signs")
    assert torch.equal(net(images(), domain="signs"), expected)


def test_with_one_seed_all_methods_start_from_the_same_head(net):
    """Whatever numbers an adapter draws."""
    heads = {}
    for method in (*PLAIN, "mad:2"):
        torch.manual_seed(3)
        net.add_domain(method, 7, method, **SIZE.get(method, {}))
        heads[method] = net.view(method).head
    for head in heads.values():
        assert torch.equal(head.weight, heads["frozen"].weight) and torch.equal(head.bias, heads["frozen"].bias)


def test_every_method_of_the_design_is_there():
    adapters = "mad piggyback wtpb mad+wtpb parallel series lora hira ksm filter-subspace prompt"
    assert set(PLAIN) == {"frozen", "batchnorm", "finetune", *adapters.split()}


@pytest.mark.parametrize("method", PLAIN)
def test_training_reaches_everything_the_domain_owns(method):
    """Two steps, because B of LoRA and the scalars of WTPB start at zero and hold back the first gradient."""
    net = MultiDomainNet(small())
    net.add_domain("signs", num_classes=3, method=method, **SIZE.get(method, {}))
    train_steps(net, "signs", steps=2)
    for kind, parameters in net.view("signs").parameter_groups().items():
        for parameter in parameters:
            assert torch.isfinite(parameter.grad).all()
            assert parameter.grad.abs().sum() > 0, (kind, parameter.shape)


def dense():
    torch.manual_seed(0)
    return lively(pocket_densenet(CLASSES, width=4))


@pytest.mark.parametrize("build", [small, dense])
@pytest.mark.parametrize("method", PLAIN)
def test_every_method_trains_saves_loads_and_merges(method, build, tmp_path):
    net = MultiDomainNet(build())
    net.add_domain("signs", num_classes=3, method=method, **SIZE.get(method, {}))
    stir(net, "signs")
    train_steps(net, "signs", steps=1)
    expected = net(images(), domain="signs")
    net.save_domain("signs", tmp_path / "signs.safetensors")
    other = MultiDomainNet(build())
    other.load_domain(tmp_path / "signs.safetensors")
    assert torch.equal(other(images(), domain="signs"), expected)
    assert other.view("signs").facts == net.view("signs").facts
    if method in MERGE:
        plain = net.merge("signs")
        scale = expected.abs().max().item()
        torch.testing.assert_close(plain(images()), expected, rtol=1e-5, atol=1e-5 * scale)
        assert {type(m) for m in plain.modules()} == {type(m) for m in net.base.modules()}


@pytest.mark.parametrize("method", PLAIN)
def test_training_state_comes_back_bit_for_bit(method):
    net = MultiDomainNet(small())
    for name in ("one", "two"):
        net.add_domain(name, num_classes=3, method=method, **SIZE.get(method, {}))
    stir(net, "one")
    state = {key: value.clone() for key, value in net.view("one").own_state().items()}
    net.view("two").load_own_state(state)
    assert same(net.view("two").own_state(), state)
    assert torch.equal(net(images(), domain="two"), net(images(), domain="one"))


def test_masks_travel_as_bits(tmp_path):
    net = MultiDomainNet(small())
    net.add_domain("signs", num_classes=3, method="piggyback")
    net.save_domain("signs", tmp_path / "signs.safetensors")
    stored = {k: v for k, v in load_file(tmp_path / "signs.safetensors").items() if ".adapter." in k}
    assert {v.dtype for v in stored.values()} == {torch.uint8}
    weights = [conv.weight.numel() for conv in net.convs.values()]
    assert sum(v.numel() for v in stored.values()) == sum(-(-count // 8) for count in weights)


def test_a_prompt_has_nothing_to_merge(net):
    net.add_domain("framed", num_classes=3, method="prompt", size=16, frame=1)
    assert net.adapter_size("framed") == 3 * (16 * 16 - 14 * 14)
    with pytest.raises(MadlabError, match="'framed' adapts its images"):
        net.merge("framed")
    stir(net, "framed")
    view = net.view("framed")
    with torch.no_grad():
        frame = view.prompt(torch.zeros(1, 3, 16, 16))
        assert frame.abs().max() > 0
        torch.testing.assert_close(net(images(), domain="framed"), view.network(images() + frame))


SUM_N = 3 + 32 + 7 * 64 + 64 + 7 * 128 + 128 + 7 * 256  # input channels of ResNet-26's convolutions
SUM_M = 32 + 8 * (64 + 128 + 256)
COUNTS = [
    ("resnet26", {}, 645_216),
    ("resnet26", {"rank": 4}, 27_916),
    ("resnet26", {"rank": 8}, 55_832),
    ("resnet26", {"rank": 16}, 111_664),
    ("resnet26", {"rank": 32}, 223_328),
    ("resnet26", {"rank": 36}, 251_244),
    ("resnet26", {"rank": 64}, 446_656),
    ("resnet26", {"method": "finetune"}, 5_806_944),
    ("resnet26", {"method": "piggyback"}, 5_806_944 / 32),
    ("resnet26", {"method": "wtpb"}, 5_806_944 / 32 + 4 * 25),
    ("resnet26", {"method": "mad+wtpb"}, 5_806_944 / 32 + 4 * 25 + 645_216),
    ("resnet26", {"method": "parallel"}, 645_216),
    ("resnet26", {"method": "series"}, 689_152),
    ("resnet26", {"method": "lora", "rank": 4}, 4 * (9 * SUM_N + SUM_M)),
    ("resnet26", {"method": "hira", "rank": 4}, 4 * (9 * SUM_N + SUM_M)),
    ("resnet26", {"method": "ksm"}, 645_216 + 645_216 / 32),
    ("resnet26", {"method": "filter-subspace"}, 25 * 81),
    ("resnet26", {"method": "prompt", "size": 64}, 3 * (64 * 64 - 56 * 56)),
    ("resnet26", {"method": "batchnorm"}, 0),
    ("resnet26", {"method": "frozen"}, 0),
    ("densenet121", {}, 4_960_448),
    ("densenet121", {"layers": "3x3"}, 237_568),
    ("densenet121", {"layers": "1x1"}, 4_722_688),
    ("densenet121", {"rank": 16}, 815_664),
    ("densenet121", {"rank": 36}, 1_835_244),
    ("resnet50", {}, 13_385_920),
    ("resnet50", {"layers": "3x3"}, 1_257_472),
    ("resnet50", {"rank": 36}, 1_767_276),
]


@pytest.mark.parametrize(("base", "options", "parameters"), COUNTS)
def test_parameter_counts_are_the_published_ones(base, options, parameters):
    """Counted by hand for the decathlon's ResNet-26 and torchvision's DenseNet-121 and ResNet-50."""
    with torch.device("meta"):
        net = MultiDomainNet(getattr(madlab, base)())
    net.add_domain("counted", num_classes=10, **options)
    assert net.adapter_size("counted") == parameters


def test_trainable_parameters_are_adapter_batchnorm_and_head(net):
    norms = [m for m in net.base.modules() if isinstance(m, nn.BatchNorm2d)]
    expected = net.adapter_size("signs") + sum(2 * norm.num_features for norm in norms) + (32 + 1) * 3
    parameters = list(net.trainable_parameters("signs"))
    assert sum(p.numel() for p in parameters) == expected
    assert all(p.requires_grad for p in parameters)
    assert len({id(p) for p in parameters}) == len(parameters)
    assert not any(p.requires_grad for p in net.base.parameters())


@pytest.mark.parametrize("method", ["mad", "finetune", "batchnorm", "frozen"])
def test_training_one_domain_leaves_base_and_other_domains_bit_identical(net, method):
    net.add_domain("birds", num_classes=4, method=method)
    sha, others = fingerprint(net.base), {name: snapshot(net.view(name)) for name in ("signs", "glyphs")}
    base_logits = net.base(images())
    own = {key: value.clone() for key, value in net.view("birds").own_state().items()}
    train_steps(net, "birds")
    assert not same(own, net.view("birds").own_state())
    assert fingerprint(net.base) == sha
    assert torch.equal(net.base(images()), base_logits)
    assert all(same(net.view(name).state_dict(), others[name]) for name in others)


def test_each_domain_keeps_its_own_batchnorm_statistics():
    net = MultiDomainNet(small())
    for name in ("dark", "bright"):
        net.add_domain(name, num_classes=3, method="batchnorm")
    base_mean = net.base.bn.running_mean.clone()
    net.train()
    batch = images(16)
    net(batch, domain="dark")
    net(batch + 3, domain="bright")
    for name, x in (("dark", batch), ("bright", batch + 3)):
        mean = net.base.conv(x).mean((0, 2, 3))
        torch.testing.assert_close(net.view(name).network.bn.running_mean, 0.9 * base_mean + 0.1 * mean)
    assert torch.equal(net.base.bn.running_mean, base_mean)


def test_frozen_trains_its_head_only():
    net = MultiDomainNet(small())
    net.add_domain("signs", num_classes=3, method="frozen")
    assert len(list(net.trainable_parameters("signs"))) == 2
    train_steps(net, "signs")
    for name, module in net.view("signs").network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert same(module.state_dict(), net.base.get_submodule(name).state_dict())


def test_a_domain_can_be_removed_without_a_trace(net):
    expected = net(images(), domain="glyphs")
    net.remove_domain("signs")
    assert net.domains == ["glyphs"]
    assert torch.equal(net(images(), domain="glyphs"), expected)
    net.add_domain("signs", num_classes=4)
    assert net(images(), domain="signs").shape == (4, 4)


def test_merged_network_is_plain_and_its_own(net):
    expected = net(images(), domain="signs")
    plain = net.merge("signs")
    assert {type(m) for m in plain.modules()} == {type(m) for m in net.base.modules()}
    torch.testing.assert_close(plain(images()), expected, rtol=1e-5, atol=1e-5)
    assert sum(p.numel() for p in plain.parameters()) == sum(p.numel() for p in small().parameters()) - (32 + 1) * 2
    stir(net, "signs", seed=9)
    assert not torch.allclose(net(images(), domain="signs"), expected)
    torch.testing.assert_close(plain(images()), expected, rtol=1e-5, atol=1e-5)
    before = net(images(), domain="signs")
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.zero_()
    assert torch.equal(net(images(), domain="signs"), before)


def test_mixed_batches_are_answered_in_order(net):
    names = ["glyphs", "signs", "signs", "glyphs", "signs"]
    batch = images(5)
    mixed = net(batch, domain=names)
    assert [len(row) for row in mixed] == [CLASSES, 3, 3, CLASSES, 3]
    for i, name in enumerate(names):
        torch.testing.assert_close(mixed[i], net(batch[i : i + 1], domain=name)[0])


def test_a_deep_copy_is_independent_and_shares_within_itself(net):
    other = copy.deepcopy(net)
    assert torch.equal(other(images(), domain="signs"), net(images(), domain="signs"))
    weight = other.view("signs").network.conv.conv.weight
    assert weight is other.base.conv.weight is not net.base.conv.weight
    expected = net(images(), domain="signs")
    train_steps(other, "signs")
    assert torch.equal(net(images(), domain="signs"), expected)


def test_moving_the_net_keeps_weights_shared(net):
    expected = net(images(), domain="signs")
    net.to(torch.float64)
    assert net.view("signs").network.conv.conv.weight is net.base.conv.weight
    assert {p.dtype for p in net.parameters()} == {torch.float64}
    torch.testing.assert_close(net(images().double(), domain="signs").float(), expected, rtol=1e-4, atol=1e-4)
    net.add_domain("late", num_classes=3, rank=2)
    assert net(images().double(), domain="late").dtype == torch.float64


# Files


def test_a_saved_domain_comes_back_with_equal_logits_and_facts(net, tmp_path):
    normalization = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    net.add_domain("birds", 2, rank=3, class_names=["wren", "owl"], normalization=normalization, layers="3x3")
    stir(net, "birds", seed=5)
    net.save_domain("birds", tmp_path / "birds.safetensors")
    other = MultiDomainNet(small())
    assert other.load_domain(tmp_path / "birds.safetensors") == "birds"
    assert other.load_domain(tmp_path / "birds.safetensors", name="again") == "again"
    for name in ("birds", "again"):
        assert torch.equal(other(images(), domain=name), net(images(), domain="birds"))
    facts = other.view("birds").facts
    assert (facts.class_names, facts.normalization) == (["wren", "owl"], normalization)
    assert (facts.method, facts.options) == ("mad", {"rank": 3})
    with safe_open(tmp_path / "birds.safetensors", "pt") as file:
        text = file.metadata()["madlab"]
    assert fingerprint(net.base) in text and '"rank": 3' in text and "wren" in text and '"base": "small"' in text
    weights = sum(p.numel() for p in net.base.parameters())
    assert sum(v.numel() for v in load_file(tmp_path / "birds.safetensors").values()) < weights / 5


def test_a_loaded_domain_can_be_trained_on(net, tmp_path):
    net.save_domain("glyphs", tmp_path / "glyphs.safetensors")
    other = MultiDomainNet(small())
    other.load_domain(tmp_path / "glyphs.safetensors")
    before = other(images(), domain="glyphs")
    train_steps(other, "glyphs")
    assert not torch.allclose(other(images(), domain="glyphs"), before)


@pytest.mark.parametrize("kind", [torch.int64, torch.bool])
def test_values_of_another_kind_are_refused(kind, net, tmp_path):
    net.save_domain("signs", tmp_path / "signs.safetensors")
    tensors, facts = load_tensors(tmp_path / "signs.safetensors")
    save_tensors(tmp_path / "other.safetensors", tensors | {"bn.weight": tensors["bn.weight"].to(kind)}, facts)
    with pytest.raises(MadlabError, match=r"do not fit .* bn\.weight"):
        MultiDomainNet(small()).load_domain(tmp_path / "other.safetensors")


def test_another_base_is_refused(net, tmp_path):
    net.save_domain("signs", tmp_path / "signs.safetensors")
    other = MultiDomainNet(small(seed=7))
    with pytest.raises(MadlabError, match=r"another base network .small."):
        other.load_domain(tmp_path / "signs.safetensors")
    one_value = MultiDomainNet(small())
    with torch.no_grad():
        one_value.base.bn.running_var[0] += 1e-6
    with pytest.raises(MadlabError, match="another base"):
        one_value.load_domain(tmp_path / "signs.safetensors")
    assert other.domains == one_value.domains == []


def test_damaged_files_are_refused_and_leave_no_domain(net, tmp_path):
    path = tmp_path / "signs.safetensors"
    net.save_domain("signs", path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    whole, tensors = path.read_bytes(), load_file(path)
    first = min(key for key in tensors if ".adapter." in key)
    norm = min(key for key in tensors if key.endswith("running_mean"))
    damaged = {
        "cut": whole[: len(whole) // 2],
        "garbage": b"\xff" * 200,
        "empty": b"",
        "not ours": {"tensors": tensors, "metadata": None},
        "adapter missing": {"tensors": {k: v for k, v in tensors.items() if k != first}, "metadata": metadata},
        "norm missing": {"tensors": {k: v for k, v in tensors.items() if k != norm}, "metadata": metadata},
        "adapter of another shape": {"tensors": tensors | {first: torch.ones(1, 1)}, "metadata": metadata},
        "norm of another shape": {"tensors": tensors | {norm: torch.ones(1)}, "metadata": metadata},
        "one too many": {"tensors": tensors | {"more": torch.ones(1)}, "metadata": metadata},
        "unknown adapter": {"tensors": tensors | {"nowhere.adapter.alpha": torch.ones(1)}, "metadata": metadata},
    }
    for name, content in damaged.items():
        file = tmp_path / f"{name}.safetensors"
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            save_file(content["tensors"], file, content["metadata"])
        other = MultiDomainNet(small())
        with pytest.raises(MadlabError, match=name):
            other.load_domain(file)
        assert other.domains == [], name


# Any convolutional network


def by_hand(net, domain):
    """The base, copied, with every filter scaled by alpha in place, and the domain's BatchNorm and head put in."""
    plain = copy.deepcopy(net.base)
    view = net.view(domain)
    own = view.own_state()
    plain.set_submodule(view.facts.heads[0], copy.deepcopy(view.head))
    for name, module in plain.named_modules():
        if f"{name}.adapter.alpha" in own:
            alpha = own[f"{name}.adapter.alpha"]
            module.weight.mul_(alpha if isinstance(module, nn.Linear) else alpha[:, :, None, None])
        elif isinstance(module, nn.BatchNorm2d):
            module.load_state_dict(view.network.get_submodule(name).state_dict())
    return plain


def torchvision_mobilenet():
    return torchvision.models.mobilenet_v3_small(num_classes=CLASSES)  # depthwise, squeeze-excitation, two Linears


def timm_mobilenet():
    timm = pytest.importorskip("timm", reason="timm is in the extra 'peers'")
    return timm.create_model(
        "tf_mobilenetv3_small_minimal_100", num_classes=CLASSES
    )  # convolutions that pad themselves


@pytest.mark.parametrize("build", [torchvision_mobilenet, timm_mobilenet, lambda: pocket_densenet(CLASSES, width=4)])
def test_other_networks_are_adapted_without_a_fork(build):
    torch.manual_seed(0)
    base = lively(build())
    net = MultiDomainNet(base)
    expected = base(images(2, 32))
    net.add_domain("signs", num_classes=CLASSES)
    with_head_of_base(net, "signs")
    assert torch.equal(net(images(2, 32), domain="signs"), expected)
    stir(net, "signs")
    with torch.no_grad():
        adapted = net(images(2, 32), domain="signs")
        assert not torch.allclose(adapted, expected)
        scale = adapted.abs().max().item()
        torch.testing.assert_close(by_hand(net, "signs")(images(2, 32)), adapted, rtol=1e-5, atol=1e-5 * scale)
        torch.testing.assert_close(net.merge("signs")(images(2, 32)), adapted, rtol=1e-5, atol=1e-5 * scale)
    stock = {type(m) for m in base.modules()} | {nn.Linear}
    assert {type(m) for m in net.merge("signs").modules()} <= stock


# Bad input

WRONG = [
    ({"name": "signs"}, "already a domain 'signs'"),
    ({"num_classes": 1}, "num_classes is 1; it should be greater than or equal to 2"),
    ({"class_names": ["only one"]}, "3 classes but 1 class names"),
    ({"method": "magic"}, "Unknown method 'magic'"),
    ({"speed": 3}, "no option 'speed'"),
    ({"method": "finetune", "rank": 3}, "no option 'rank'"),
    ({"method": "lora", "rank": 33}, "Rank 33 .* from 1 to 32"),
    ({"method": "prompt", "frame": 17}, "frame of 17 pixels .* from 1 to 16"),
    ({"rank": 0}, "Rank 0 .* from 1 to 32"),
    ({"rank": -1}, "Rank -1"),
    ({"rank": 33}, "Rank 33 .* from 1 to 32, the limit of the widest layer, stages.2"),
    ({"rank": 2.5}, "Rank 2.5 .* whole number"),
    ({"rank": True}, "Rank True"),
    ({"rank": {"conv": 2}}, "exactly the adapted layers"),
    ({"rank": {"conv": 4}, "layers": ["conv"]}, "Rank 4 .* from 1 to 3, the limit of layer conv"),
    ({"method": None}, "Unknown method None: choose one of"),
    ({"layers": None}, "Unknown layers None: choose one of all, conv, 3x3, 1x1, or list layers"),
    ({"layers": "5x5"}, "Unknown layers '5x5'"),
    ({"layers": "1x1"}, "no layers of the kind .1x1."),
    ({"layers": ["conv", "nowhere"]}, "no convolution or nn.Linear 'nowhere'"),
]


@pytest.mark.parametrize(("wrong", "sentence"), WRONG)
def test_add_domain_refuses_what_cannot_be(net, wrong, sentence):
    with pytest.raises(MadlabError, match=sentence):
        net.add_domain(**({"name": "new", "num_classes": 3} | wrong))
    assert net.domains == ["signs", "glyphs"]


def test_a_rank_for_each_layer(net):
    net.add_domain("mixed", 3, layers=["conv", "stages.0.0.conv1"], rank={"conv": 3, "stages.0.0.conv1": 1})
    assert net.adapter_size("mixed") == 3 * (4 + 3) + 1 * (8 + 4)


def test_a_rank_for_each_layer_is_kept_in_the_file(net, tmp_path):
    ranks = {"conv": 3, "stages.0.0.conv1": 1}
    net.add_domain("mixed", 3, layers=list(ranks), rank=ranks)
    with torch.no_grad():
        for adapter in net.view("mixed").adapters().values():
            adapter.gamma.normal_()
    net.save_domain("mixed", tmp_path / "mixed.safetensors")
    net.load_domain(tmp_path / "mixed.safetensors", "again")
    adapters = net.view("again").adapters()
    assert {name: adapter.beta.shape[1] for name, adapter in adapters.items()} == ranks
    assert torch.equal(net(images(), domain="again"), net(images(), domain="mixed"))


@pytest.mark.parametrize(
    ("ranks", "sentence"),
    [
        ({"conv": 3}, "must name exactly the adapted layers"),
        ({"conv": 3, "stages.0.0.conv1": 1, "nowhere": 2}, "must name exactly the adapted layers"),
        ({"conv": 4, "stages.0.0.conv1": 1}, "Rank 4 is not possible: .* from 1 to 3, the limit of layer conv"),
        ({"conv": 3, "stages.0.0.conv1": 0}, r"Rank 0 is not possible: .* layer stages\.0\.0\.conv1"),
    ],
)
def test_ranks_that_layers_cannot_have_are_refused(net, ranks, sentence):
    with pytest.raises(MadlabError, match=sentence):
        net.add_domain("mixed", 3, layers=["conv", "stages.0.0.conv1"], rank=ranks)
    assert net.domains == ["signs", "glyphs"]


def test_forward_refuses_what_cannot_be(net, tmp_path):
    for call, sentence in [
        (lambda: net(images(), domain="birds"), "Unknown domain 'birds': this network has signs, glyphs"),
        (lambda: net(images(2), domain=["signs", "birds"]), "Unknown domain 'birds'"),
        (lambda: net(images(2), domain=["signs"]), "2 images came with 1 domain"),
        (lambda: net(images()[:, :1], domain="signs"), r"\(B, 3, H, W\), but this is \(4, 1, 16, 16\)"),
        (lambda: net(images()[0], domain="signs"), r"\(3, 16, 16\)"),
        (lambda: net.merge("birds"), "Unknown domain"),
        (lambda: net.remove_domain("birds"), "Unknown domain"),
        (lambda: net.load_domain(tmp_path / "absent.safetensors"), "There is no file"),
    ]:
        with pytest.raises(MadlabError, match=sentence):
            call()


def test_networks_that_cannot_be_adapted_are_refused():
    with pytest.raises(MadlabError, match=r"no nn\.Conv2d"):
        MultiDomainNet(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)))
    with pytest.raises(MadlabError, match=r"shape \(2, 4, 62, 62\): madlab needs logits \(B, classes\)"):
        MultiDomainNet(nn.Sequential(nn.Conv2d(3, 4, 3)))


class Scaled(nn.Module):
    """Its logits come from no layer alone, so that the head has to be named."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc, self.scale = nn.Conv2d(3, 8, 3), nn.Linear(8, 5), nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3))) * self.scale


def test_a_head_that_was_named_once_is_known_afterwards(tmp_path):
    net = MultiDomainNet(Scaled())
    with pytest.raises(MadlabError, match="pass head="):
        list(net.convs)
    net.add_domain("d", 3, head="fc")
    assert (net.heads, list(net.convs)) == (["fc"], ["conv"])
    net.save_domain("d", tmp_path / "d.safetensors")
    other = MultiDomainNet(copy.deepcopy(net.base))
    other.load_domain(tmp_path / "d.safetensors")
    assert list(other.convs) == ["conv"]


def test_under_autocast_a_domain_comes_and_answers_as_it_is(net, tmp_path):
    stir(net, "signs")
    net.save_domain("signs", tmp_path / "signs.safetensors")
    expected = net(images(), "signs")
    with torch.autocast("cpu", torch.bfloat16):
        net.load_domain(tmp_path / "signs.safetensors", "again")
        found = net(images(), "again").float()
        net.add_domain("low rank", 3, "mad:2")
        merged = net.merge("low rank")
    assert torch.allclose(found, expected, atol=0.03 * expected.abs().max().item())
    assert torch.equal(merged(images()), net.merge("low rank")(images()))


def test_a_view_does_not_take_tensors_in_place_of_its_own(net):
    with pytest.raises(MadlabError, match="without assign=True"):
        nn.Sequential(net).load_state_dict(nn.Sequential(net).state_dict(), assign=True)
    view = net.view(net.domains[0])
    with pytest.raises(MadlabError, match="without assign=True"):
        view.load_state_dict(view.state_dict(), assign=True)


def test_what_is_no_network_or_no_domain_is_told(net):
    with pytest.raises(MadlabError, match=r"not 'pocket-resnet26': .*load_base"):
        MultiDomainNet("pocket-resnet26")
    with pytest.raises(MadlabError, match="not None: name it"):
        net(images(), None)
    with torch.device("meta"):
        hollow = MultiDomainNet(Scaled())
    hollow.add_domain("d", 3, head="fc")
    with pytest.raises(MadlabError, match="on the meta device"):
        hollow.save_domain("d", "d.safetensors")
    with pytest.raises(MadlabError, match="made on the meta device"):
        hollow.to_empty(device="cpu")


def test_another_default_device_does_not_matter():
    base, meta = small(), torch.device("meta")  # in the place of a GPU
    with meta:
        net = MultiDomainNet(base)
    net.add_domain("d", 3)
    assert net(images(), "d").shape == (4, 3)
