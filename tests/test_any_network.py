"""Networks that people bring: adapted, trained, merged and saved, against plain PyTorch on a copy of the network."""

import copy

import pytest
import torch
import torchvision
from any_networks import CLASSES, HAND_WRITTEN, NETWORKS, Body, lively, sized
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from madlab import adapters
from madlab.guard import fingerprint
from madlab.network import MultiDomainNet


def make(name, seed=0):
    torch.manual_seed(seed)
    return NETWORKS[name]()


def images(net, count=6, seed=1):
    side = net.anatomy.sides[0]
    return torch.randn(count, net.anatomy.channels, side, side, generator=torch.Generator().manual_seed(seed))


def no_dropout(network):
    for module in network.modules():
        if isinstance(module, nn.Dropout | torchvision.ops.StochasticDepth):
            module.p = 0.0
    return network


def train(network, parameters, batch, steps=2, rate=0.02):
    """Some steps of plain SGD."""
    optimiser = torch.optim.SGD(parameters, lr=rate)
    for _ in range(steps):
        optimiser.zero_grad()
        F.cross_entropy(network(batch), torch.arange(len(batch)) % 3).backward()
        optimiser.step()


def close(left, right, tolerance=1e-4):
    scale = right.abs().max().item()
    torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("name", NETWORKS)
def test_mad_is_the_network_with_every_weight_scaled_by_hand(name):
    net = MultiDomainNet(make(name))
    net.add_domain("d", CLASSES)
    view, plain = net.view("d"), copy.deepcopy(net.base)
    head = view.facts.heads[0]
    plain.get_submodule(head).load_state_dict(view.head.state_dict())
    with torch.no_grad():
        assert torch.equal(view(images(net)), plain(images(net))), "a new domain is the base, but for its head"
    banks = {n for n, m in plain.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)} - {head}
    assert set(view.adapters()) == banks
    for layer_name, adapter in view.adapters().items():
        layer = plain.get_submodule(layer_name)
        with torch.no_grad():
            adapter.alpha.add_(0.3 * torch.randn_like(adapter.alpha))
            if parametrize.is_parametrized(layer):
                parametrize.remove_parametrizations(layer, "weight")
            alpha = adapter.alpha if isinstance(layer, nn.Linear) else adapter.alpha[:, :, None, None]
            layer.weight.copy_(layer.weight * alpha)
    with torch.no_grad():
        close(view(images(net)), plain(images(net)))
        close(net.merge("d")(images(net)), plain(images(net)))


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "reparametrised"])
def test_finetune_is_plain_training_of_the_whole_network(name):
    net = MultiDomainNet(no_dropout(make(name)))
    net.add_domain("d", CLASSES, "finetune")
    plain = copy.deepcopy(net.base).requires_grad_(True)
    plain.get_submodule(net.view("d").facts.heads[0]).load_state_dict(net.view("d").head.state_dict())
    trained = sum(p.numel() for p in net.trainable_parameters("d"))
    assert trained == sum(p.numel() for p in plain.parameters())
    train(net.view("d").train(), net.trainable_parameters("d"), images(net))
    train(plain.train(), plain.parameters(), images(net))
    with torch.no_grad():
        expected = plain.eval()(images(net))
        close(net.eval()(images(net), domain="d"), expected, tolerance=2e-3)
        close(net.merge("d")(images(net)), expected, tolerance=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mad:2", "batchnorm", "frozen"])
@pytest.mark.parametrize("name", NETWORKS)
def test_training_moves_the_domain_and_nothing_else(name, method, tmp_path):
    base = make(name)
    everything = {k: v.clone() for k, v in (dict(base.named_buffers()) | base.state_dict()).items()}
    net = MultiDomainNet(base)
    net.add_domain("other", 3, "batchnorm")
    net.add_domain("d", CLASSES, method)
    other = net(images(net), domain="other")
    train(net.view("d").train(), net.trainable_parameters("d"), images(net))
    assert all(parameter.grad is not None for parameter in net.trainable_parameters("d"))
    net.eval().check_base()
    after = dict(net.base.named_buffers()) | net.base.state_dict()
    assert all(torch.equal(after[key], value) for key, value in everything.items())
    assert torch.equal(net(images(net), domain="other"), other)
    expected = net(images(net), domain="d")
    with torch.no_grad():
        close(net.merge("d")(images(net)), expected)
    net.save_domain("d", tmp_path / "d.safetensors")
    again = MultiDomainNet(make(name))
    again.load_domain(tmp_path / "d.safetensors")
    assert torch.equal(again(images(net), domain="d"), expected)


METHODS = ["piggyback", "wtpb", "mad+wtpb", "parallel", "series", "lora", "hira", "ksm", "filter-subspace"]
METHODS += ["peft:lora", "peft:loha", "peft:lokr", "peft:ia3", "peft:dora", "peft:hira", "peft:oft", "peft:hra"]
UNGROUPED = ["peft:lora", "peft:dora", "peft:hira", "peft:oft", "peft:hra"]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["vgg", "convnext", "vit"])
def test_every_method_adapts_linear_layers_trains_merges_and_saves(name, method, tmp_path):
    layers = "all"
    if method.startswith("peft:"):
        pytest.importorskip("peft", reason="PEFT is in the extra 'peers'")
        if method in UNGROUPED and name == "convnext":  # PEFT does not adapt or merge its depthwise convolutions
            layers = "1x1"
    net = MultiDomainNet(make(name))
    rank = {"rank": 2} if "rank" in adapters.METHODS[method].options and method != "mad+wtpb" else {}
    net.add_domain("d", CLASSES, method, layers=layers, **rank)
    linears = [n for n, m in net.base.named_modules() if isinstance(m, nn.Linear)]
    assert set(linears) - set(net.view("d").adapters()) == {net.view("d").facts.heads[0]}
    train(net.view("d").train(), net.trainable_parameters("d"), images(net), rate=0.001)
    assert all(p.grad.abs().sum() > 0 for p in net.trainable_parameters("d"))
    expected = net.eval()(images(net), domain="d")
    plain = net.merge("d")
    with torch.no_grad():
        close(plain(images(net)), expected)
    assert {type(m) for m in plain.modules()} <= {type(m) for m in net.base.modules()}
    net.save_domain("d", tmp_path / "d.safetensors")
    again = MultiDomainNet(make(name))
    again.load_domain(tmp_path / "d.safetensors")
    with torch.no_grad():
        close(again(images(net), domain="d"), expected, tolerance=1e-6)


def test_layers_are_chosen_by_kind_kernel_and_name():
    net = MultiDomainNet(make("vgg"))
    chosen = {}
    for layers in ("all", "conv", "3x3", "1x1"):
        net.add_domain(layers, 3, layers=layers)
        chosen[layers] = net.view(layers).facts.layers
    convs = ["features.0", "features.3"]
    assert chosen == {"all": [*convs, "classifier.0"], "conv": convs, "3x3": convs, "1x1": ["classifier.0"]}
    assert net.adapter_size("1x1") == 16 * 49 * 12
    net.add_domain("named", 3, layers=["classifier.0"])
    assert list(net.view("named").adapters()) == ["classifier.0"]


def test_what_eval_mode_never_runs_is_not_adapted():
    torch.manual_seed(0)
    net = MultiDomainNet(lively(torchvision.models.googlenet(num_classes=CLASSES, init_weights=False)))
    net.add_domain("d", 3, "finetune", head="fc")
    names = [*net.view("d").own_state()]
    assert len(net.view("d").adapters()) == 57
    assert not any(name.startswith("aux") for name in names)
    assert not any(name.startswith("aux") for name in net.view("d").facts.layers)


def test_a_one_by_one_convolution_can_be_the_head():
    torch.manual_seed(0)
    net = MultiDomainNet(sized(torchvision.models.squeezenet1_1(num_classes=CLASSES), 48))
    net.add_domain("d", 3, head="classifier.1")
    assert isinstance(net.view("d").head, nn.Conv2d) and "classifier.1" not in net.view("d").adapters()
    assert net(torch.randn(2, 3, 48, 48), domain="d").shape == (2, 3)
    assert net.merge("d")(torch.randn(2, 3, 48, 48)).shape == (2, 3)


@pytest.mark.parametrize("name", HAND_WRITTEN)
def test_a_new_domain_leaves_no_trace_in_random_numbers_statistics_and_modes(name):
    net = MultiDomainNet(make(name))
    state, sha = torch.random.get_rng_state(), fingerprint(net.base)
    net.add_domain("d", CLASSES, "batchnorm")
    drawn = torch.random.get_rng_state()
    torch.random.set_rng_state(state)
    nn.Linear(net.view("d").head.in_features, CLASSES)
    assert torch.equal(torch.random.get_rng_state(), drawn), "nothing is drawn but the new head"
    own = {k: v for k, v in net.view("d").own_state().items() if not k.startswith("head")}
    base = dict(net.base.named_buffers()) | net.base.state_dict()
    assert own and all(torch.equal(value, base[key]) for key, value in own.items())
    assert fingerprint(net.base) == sha
    assert not any(module.training for module in net.modules())
    assert all(p.grad is None for p in net.parameters())


def compiled_whole():
    return torch.compile(make("lists"), backend="eager")


def compiled_in_place():
    base = make("lists")
    base.compile(backend="eager")
    return base


def compiled_part():
    base = make("resnet18")
    base.layer1 = torch.compile(base.layer1, backend="eager")
    return base


@pytest.mark.slow
@pytest.mark.parametrize("build", [compiled_whole, compiled_in_place, compiled_part])
def test_a_compiled_network_is_adapted_as_the_plain_one(build):
    base = build()
    named = fingerprint(base)  # as a run writes it down, before anything is unwrapped
    net = MultiDomainNet(base)
    plain = MultiDomainNet(make("resnet18" if build is compiled_part else "lists"))
    for each in (net, plain):
        torch.manual_seed(0)
        each.add_domain("d", CLASSES)
    assert named == fingerprint(net.base) == fingerprint(plain.base)
    assert torch.equal(net(images(net), domain="d"), plain(images(net), domain="d"))
    assert net.view("d").adapters().keys() == plain.view("d").adapters().keys()


def test_a_feature_that_the_last_forward_left_behind_is_no_obstacle():
    class Records(type(make("lists"))):
        def forward(self, x):
            self.features = [self.stem(x)]
            return super().forward(x)

    base = Records()
    base(torch.randn(2, 3, 12, 12))
    net = MultiDomainNet(sized(base, 12))
    net.add_domain("d", CLASSES)
    net(torch.randn(2, 3, 12, 12), domain="d")
    assert net.merge("d")(torch.randn(2, 3, 12, 12)).shape == (2, CLASSES)


def test_a_head_with_weight_norm_is_replaced_by_a_plain_one():
    torch.manual_seed(0)
    base = HAND_WRITTEN["lists"]()
    nn.utils.parametrizations.weight_norm(base.head)
    net = MultiDomainNet(sized(base, 12))
    net.add_domain("d", CLASSES, "finetune")
    assert type(net.view("d").head) is nn.Linear
    assert set(net.view("d").own_state()) >= {"head.weight", "head.bias"}
    assert not any("parametrizations" in name for name in net.view("d").own_state())
    train(net.view("d").train(), net.trainable_parameters("d"), images(net))
    with torch.no_grad():
        close(net.merge("d")(images(net)), net.eval()(images(net), domain="d"))


def test_removing_a_parametrization_from_a_merged_network_leaves_the_base_as_it_is():
    net = MultiDomainNet(make("reparametrised"))
    net.add_domain("d", CLASSES, "batchnorm")
    plain = net.merge("d")
    assert not any(parametrize.is_parametrized(module) for module in plain.modules())
    with torch.no_grad():
        close(plain(images(net)), net(images(net), domain="d"))
        net.base(images(net))


class Tied(Body):
    """Two convolutions with one weight, two norms with one gain."""

    def __init__(self):
        super().__init__()
        self.again, self.norm_again = nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.again.weight, self.norm_again.weight = self.conv.weight, self.norm.weight

    def forward(self, x):
        x = self.stem(x).relu()
        x = self.norm(self.conv(x)).mean((2, 3)) + self.norm_again(self.again(x)).relu().mean((2, 3))
        return self.head(x)


@pytest.mark.parametrize("method", ["finetune", "mad"])
def test_tied_weights_stay_tied(method, tmp_path):
    torch.manual_seed(0)
    net = MultiDomainNet(lively(Tied()))
    net.add_domain("d", CLASSES, method)
    view, plain = net.view("d"), copy.deepcopy(net.base).requires_grad_(True)
    assert set(view.adapted_layers()) == {"stem", "conv", "again"}
    assert method != "mad" or net.adapter_size("d") == 3 * 6 + 6 * 8
    plain.head.load_state_dict(view.head.state_dict())
    batch = torch.randn(6, 3, 12, 12)
    train(view.train(), net.trainable_parameters("d"), batch)
    if method == "finetune":
        assert sum(p.numel() for p in net.trainable_parameters("d")) == sum(p.numel() for p in plain.parameters())
        train(plain.train(), plain.parameters(), batch)
        with torch.no_grad():
            close(net.eval()(batch, domain="d"), plain.eval()(batch), tolerance=2e-3)
    merged = net.eval().merge("d")
    assert merged.conv.weight is merged.again.weight and merged.norm.weight is merged.norm_again.weight
    assert not torch.equal(merged.conv.weight, net.base.conv.weight)
    with torch.no_grad():
        close(merged(batch), net(batch, domain="d"))
    net.save_domain("d", tmp_path / "d.safetensors")
    net.load_domain(tmp_path / "d.safetensors", "again")
    assert torch.equal(net(batch, domain="again"), net(batch, domain="d"))


class FrozenNorms(Body):
    """The usual way to keep BatchNorm frozen, which forgets to return the network."""

    def train(self, mode=True):
        super().train(mode)
        self.norm.eval()


class Named(nn.Module):
    """A layer called normalization, a method called crop."""

    def __init__(self):
        super().__init__()
        self.normalization, self.body = nn.BatchNorm2d(3, affine=False), Body()

    def crop(self, x):
        return x[..., 1:-1, 1:-1]

    def forward(self, x):
        return self.body(self.normalization(self.crop(x)))


class ByKeyword(Body):
    """Calls layers by keyword, and one of its own with two inputs."""

    class Masked(nn.Conv2d):
        def forward(self, x, mask):
            return super().forward(x * mask)

    def __init__(self):
        super().__init__()
        self.conv = ByKeyword.Masked(6, 8, 3, stride=2)

    def forward(self, x):
        x = self.stem(input=x)
        x = self.norm(self.conv(x, mask=(x > 0).to(x.dtype)))
        return self.head(input=x.mean((2, 3)))


class GreyMixer(nn.Module):
    """Its first convolution, in the order in which they are defined, is not the one that the images reach."""

    def __init__(self):
        super().__init__()
        self.mix, self.stem, self.head = nn.Conv2d(8, 8, 3), nn.Conv2d(1, 8, 3), nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.head(self.mix(self.stem(x)).mean((2, 3)))


class Recurrent(Body):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(8, 8, batch_first=True), nn.Linear(8, CLASSES)

    def forward(self, x):
        x = self.norm(self.conv(self.stem(x))).flatten(2).transpose(1, 2)
        return self.head(self.rnn(x)[0].mean(1))


@pytest.mark.parametrize("build", [FrozenNorms, Named, ByKeyword, GreyMixer, Recurrent])
@pytest.mark.parametrize("method", ["mad", "finetune"])
def test_networks_that_are_written_in_unusual_ways_are_adapted_and_merged(build, method):
    torch.manual_seed(0)
    base = lively(build())
    net = MultiDomainNet(base)
    net.add_domain("d", 3, method)
    batch = images(net)
    loss = F.cross_entropy(net.view("d").train()(batch), torch.arange(len(batch)) % 3)
    loss.backward()
    with torch.no_grad():
        for parameter in net.trainable_parameters("d"):
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    net.eval()
    assert torch.allclose(net.merge("d")(batch), net(batch, "d"), atol=1e-4)


def test_a_recurrent_layer_follows_the_mode():
    """cuDNN computes no gradient through one in eval mode."""
    net = MultiDomainNet(Recurrent())
    net.add_domain("d", 3)
    view = net.view("d").train()
    assert view.network.rnn.training and not view.eval().network.rnn.training


def test_inference_mode_leaves_nothing_that_cannot_be_trained(tmp_path):
    torch.manual_seed(0)
    net, batch = MultiDomainNet(lively(Body())), torch.randn(6, 3, 12, 12)
    with torch.inference_mode():
        net.add_domain("d", CLASSES)
        net.save_domain("d", tmp_path / "d.safetensors")
        net.load_domain(tmp_path / "d.safetensors", "loaded")
        merged = net.merge("loaded")
    train(merged.train(), merged.parameters(), batch)
    train(net.view("loaded").train(), net.trainable_parameters("loaded"), batch)
