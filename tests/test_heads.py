"""The head is the head: against timm's `get_classifier`, torchvision's known names, and networks written to mislead."""

import copy

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from madlab.errors import MadlabError, MadlabWarning
from madlab.heads import classes_of, find_heads, new_head
from madlab.network import MultiDomainNet

TIMM = (
    "test_byobnet",
    "cs3darknet_focus_s",
    "cspnext_tiny",
    "dla46x_c",
    "edgenext_xx_small",
    "efficientvit_b0",
    "efficientvit_m0",
    "fasternet_t0",
    "ghostnet_050",
    "iformer_t",
    "inception_next_atto",
    "mobilenetv3_small_050",
    "mobilevit_xxs",
    "pvt_v2_b0",
    "regnetx_002",
    "repghostnet_050",
    "resnet10t",
    "rexnet_100",
    "shvit_s1",
    "starnet_s050",
    "test_convnext",
    "test_mambaout",
    "test_nfnet",
    "test_vit",
)
TORCHVISION = {
    "alexnet": "classifier.6",
    "convnext_tiny": "classifier.2",
    "densenet121": "classifier",
    "efficientnet_b0": "classifier.1",
    "googlenet": "fc",
    "inception_v3": "fc",
    "mnasnet0_5": "classifier.1",
    "mobilenet_v2": "classifier.1",
    "mobilenet_v3_small": "classifier.3",
    "regnet_y_400mf": "fc",
    "resnet18": "fc",
    "shufflenet_v2_x0_5": "fc",
    "squeezenet1_1": "classifier.1",
    "swin_t": "head",
    "vgg11": "classifier.6",
    "vit_b_32": "heads.head",
}


class Wrapped(nn.Module):
    """A network behind another name, so that only a forward tells what its head is."""

    def __init__(self, inner: nn.Module, crop: int):
        super().__init__()
        self.inner = inner
        self.crop = crop

    def forward(self, x):
        return self.inner(x)


@pytest.mark.parametrize("name", [name for name in TIMM if timm.is_model(name)])
def test_timms_head_is_what_timm_says_and_what_a_forward_shows(name):
    network = timm.create_model(name)
    classifier = network.get_classifier()
    [(path, head)] = find_heads(network).items()
    assert head in set(classifier.modules())
    assert classes_of(head) == network.num_classes
    wrapped = Wrapped(network, network.pretrained_cfg["input_size"][-1])
    assert find_heads(wrapped) == {f"inner.{path}": head}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "expected"), TORCHVISION.items())
def test_torchvisions_head_is_found(name, expected):
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    network = torchvision.models.get_model(name, weights=None, num_classes=7, **options)
    [(path, head)] = find_heads(network.to("meta")).items()  # the calls are the same, and cost nothing
    assert (path, classes_of(head)) == (expected, 7)


class Base(nn.Module):
    """(B, 3, H, W) -> (B, 8) features; what the networks below have in common."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 5)

    def features(self, x):
        return F.relu(self.bn(self.conv(x))).mean((2, 3))


class ProjectionAfter(Base):
    def __init__(self):
        super().__init__()
        self.projection = nn.Linear(8, 8)

    def forward(self, x):
        return F.log_softmax(F.dropout(self.fc(self.projection(self.features(x))), training=self.training), 1)


class HeadFirst(nn.Module):
    """The head is defined before everything else, and called through a list."""

    def __init__(self):
        super().__init__()
        self.steps = nn.ModuleDict({"head": nn.Linear(6, 5), "reduce": nn.Conv2d(8, 6, 1), "stem": nn.Conv2d(3, 8, 3)})

    def forward(self, x):
        for step in ("stem", "reduce"):
            x = F.relu(self.steps[step](x))
        return self.steps["head"](x.mean((2, 3)))


class Auxiliary(Base):
    """A second head that counts in training only."""

    def __init__(self):
        super().__init__()
        self.aux = nn.Linear(8, 5)

    def forward(self, x):
        x = self.features(x)
        aux = self.aux(x)
        return (self.fc(x), aux) if self.training else self.fc(x)


class ConvHead(Base):
    """As SqueezeNet: a convolution of 1x1, an activation in place, pooling."""

    def __init__(self):
        super().__init__()
        self.last = nn.Sequential(nn.Conv2d(8, 5, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, x):
        return self.last(F.relu(self.bn(self.conv(x))))


class Cosine(nn.Linear):
    """A subclass with a forward and a parameter of its own."""

    def __init__(self, features, classes):
        super().__init__(features, classes, bias=False)
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, x):
        return self.scale * F.linear(F.normalize(x), F.normalize(self.weight))


class CosineHead(Base):
    def __init__(self):
        super().__init__()
        self.fc = Cosine(8, 5)

    def forward(self, x):
        return self.fc(self.features(x))


class WeightNormHead(Base):
    def __init__(self):
        super().__init__()
        nn.utils.parametrizations.weight_norm(self.fc)

    def forward(self, x):
        return self.fc(self.features(x))


class FrozenFeatures(Base):
    """A linear probe: no gradient goes behind the head."""

    @torch.no_grad()
    def features(self, x):
        return super().features(x)

    def forward(self, x):
        return self.fc(self.features(x))


class LeNet(nn.Module):
    """Grey images of 28 pixels, no other."""

    crop = 28

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 5)
        self.hidden, self.out = nn.Linear(4 * 24 * 24, 10), nn.Linear(10, 5)

    def forward(self, x):
        return self.out(F.relu(self.hidden(self.conv(x).flatten(1))))


FOUND = {
    ProjectionAfter: "fc",
    HeadFirst: "steps.head",
    Auxiliary: "fc",
    ConvHead: "last.0",
    CosineHead: "fc",
    WeightNormHead: "fc",
    FrozenFeatures: "fc",
    LeNet: "out",
}


@pytest.mark.parametrize(("kind", "expected"), FOUND.items())
def test_the_head_is_what_is_called_last(kind, expected):
    network = kind()
    assert find_heads(network) == {expected: network.get_submodule(expected)}


class Residual(Base):
    def forward(self, x):
        x = self.features(x)
        return self.fc(x) + x[:, :5]


class NormalisedLogits(Base):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(5)

    def forward(self, x):
        return self.norm(self.fc(self.features(x)))


class Grouped(Base):
    """Fewer logits than the last layer has outputs."""

    def forward(self, x):
        return self.fc(self.features(x))[:, :4]


class Mapping(Base):
    def forward(self, x):
        return {"logits": self.fc(self.features(x))}


class Unable(Base):
    def forward(self, x):
        raise KeyError("no such route")


class Headless(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x):
        return self.conv(x).mean((2, 3))


REFUSED = {
    Residual: r'cannot be told.*pass head="name", one of fc\.',
    NormalisedLogits: r'cannot be told.*pass head="name", one of fc\.',
    Grouped: r'cannot be told.*pass head="name", one of fc\.',
    Mapping: r"must return logits of shape \(B, classes\), but in eval mode it returns dict",
    Unable: r"64, 224, 299, 32, 28 pixels, .*KeyError: 'no such route'.*set network.crop.*one of fc\.",
    Headless: r"no nn.Linear and no 1x1 nn.Conv2d",
}


@pytest.mark.parametrize(("kind", "sentence"), REFUSED.items())
def test_what_cannot_be_told_is_refused_with_one_sentence(kind, sentence):
    with pytest.raises(MadlabError, match=sentence):
        find_heads(kind())


def test_a_name_decides():
    network = NormalisedLogits()
    assert find_heads(network, "fc") == {"fc": network.fc}
    with pytest.raises(MadlabError, match=r"named 'conv' to be its head: pass head=\"name\", one of fc\."):
        find_heads(network, "conv")


def test_of_many_candidates_the_last_are_listed():
    network = Residual()
    network.many = nn.ModuleList(nn.Linear(2, 2) for _ in range(9))
    with pytest.raises(MadlabError, match=r"one of \.\.\., many\.1, many\.2, .*many\.8\.$"):
        find_heads(network, "nothing")


class Averaged(Base):
    def __init__(self):
        super().__init__()
        self.second = nn.Linear(8, 5)

    def forward(self, x):
        x = self.features(x)
        return (self.fc(x) + self.second(x)) / 2


class Gated(Averaged):
    def forward(self, x):
        x = self.features(x)
        return self.fc(x) * torch.sigmoid(self.second(x))


class Mixed(Base):
    """One head on pooled features, one of 1x1 before the pooling, on other features."""

    def __init__(self):
        super().__init__()
        self.deeper, self.second = nn.Conv2d(8, 6, 3), nn.Conv2d(6, 5, 1)

    def forward(self, x):
        x = F.relu(self.bn(self.conv(x)))
        return self.fc(x.mean((2, 3))) + self.second(self.deeper(x)).amax((2, 3))


SEVERAL = {Averaged: ["fc", "second"], Gated: ["fc", "second"], Mixed: ["fc", "second"]}


@pytest.mark.parametrize(("kind", "expected"), SEVERAL.items())
def test_all_heads_of_a_network_become_the_domains(kind, expected, tmp_path):
    """Against the same class, its heads made for as many classes as the domain has."""
    torch.manual_seed(0)
    base, images = kind().eval(), torch.randn(4, 3, 16, 16)
    net = MultiDomainNet(copy.deepcopy(base))
    net.add_domain("d", 7)
    view = net.view("d")
    assert list(view.heads()) == net.heads == expected
    assert not set(expected) & set(view.adapters())
    assert view.parameter_groups()["head"] == [p for name in expected for p in view.heads()[name].parameters()]
    for name in expected:
        base.set_submodule(name, copy.deepcopy(view.heads()[name]))
    for logits in (net(images, "d"), net.merge("d")(images)):
        torch.testing.assert_close(logits, base(images))
    net.save_domain("d", tmp_path / "d.safetensors")
    net.load_domain(tmp_path / "d.safetensors", "again")
    assert torch.equal(net(images, "again"), net(images, "d"))


def test_both_heads_of_a_distilled_network_of_timm_are_found():
    network = timm.create_model("levit_128s")
    assert set(find_heads(network).values()) == {part.linear for part in network.get_classifier()}


def test_a_second_head_that_timm_does_not_name_is_seen():
    network = timm.models.volo.VOLO((1, 1, 1, 1), embed_dims=(32, 64, 64, 64), num_heads=(2, 2, 2, 2))
    assert network.get_classifier() is network.head
    assert find_heads(network) == {"head": network.head, "aux_head": network.aux_head}


def test_a_timm_network_with_another_head_or_none():
    network = timm.create_model("resnet10t", num_classes=0)
    with pytest.raises(MadlabError, match=r"without a classifier head \(num_classes=0\)"):
        find_heads(network)
    network.fc = nn.Sequential(nn.Linear(512, 16), nn.ReLU(), nn.Linear(16, 7))
    assert find_heads(network) == {"fc.2": network.fc[2]}


class Counting(Averaged):
    """Everything that a forward may leave behind: state, random numbers, a buffer, BatchNorm in train mode."""

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        self.seen += 1
        return self.fc(F.dropout(self.features(x), 0.5))


def test_looking_for_the_head_leaves_everything_as_it_was():
    network = Counting().train()
    network.conv.requires_grad_(False)
    before, random = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    assert list(find_heads(network)) == ["fc"]
    assert network.calls == 0
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert [m.training for m in network.modules()] == [True] * len(list(network.modules()))
    assert [name for name, p in network.named_parameters() if not p.requires_grad] == ["conv.weight", "conv.bias"]
    assert all(p.grad is None for p in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_head_is_found_where_gradients_are_off(mode):
    network = ProjectionAfter()
    with mode():
        assert list(find_heads(network)) == ["fc"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_head_is_found_in_other_precisions(dtype):
    assert list(find_heads(ProjectionAfter().to(dtype))) == ["fc"]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [nn.Linear, Cosine, nn.Conv2d])
def test_a_new_head_is_like_the_old_one(kind, bias):
    if kind is Cosine:
        head, expected = Cosine(6, 4).double(), nn.Linear
        bias = False
    else:
        head, expected = kind(6, 4, *([1] if kind is nn.Conv2d else []), bias=bias, dtype=torch.float64), kind
    assert (head.weight.shape[1], classes_of(head)) == (6, 4)
    new = new_head(head, 9)
    assert type(new) is expected
    assert (new.weight.shape[1], classes_of(new)) == (6, 9)
    assert (new.bias is not None) == bias
    assert {p.dtype for p in new.parameters()} == {torch.float64}
    torch.manual_seed(0)
    shape = new.weight.shape
    again = new_head(head, 9).weight
    torch.manual_seed(0)
    assert torch.equal(again, expected(6, 9, *shape[2:3], bias=bias, dtype=torch.float64).weight)  # PyTorch's own start


def test_a_head_whose_weight_is_computed_becomes_a_plain_one():
    network = WeightNormHead()
    new = new_head(find_heads(network)["fc"], 9)
    assert type(new) is nn.Linear
    assert new.weight.shape == (9, 8)


def test_a_convolution_as_head_belongs_to_the_domain():
    net = MultiDomainNet(torchvision.models.squeezenet1_1(num_classes=5))
    net.add_domain("signs", 7)
    assert "classifier.1" not in net.view("signs").adapters()
    head = net.view("signs").head
    assert isinstance(head, nn.Conv2d) and head in set(net.view("signs").modules())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features = net.base.features(images)
        expected = F.conv2d(features, head.weight, head.bias).relu().mean((2, 3))
        assert torch.allclose(net(images, "signs"), expected, atol=1e-6)


class Tempered(Base):
    """A hook behind its head divides the logits by a temperature."""

    def __init__(self):
        super().__init__()
        self.fc.register_forward_hook(lambda module, inputs, output: output / 10)

    def forward(self, x):
        return self.fc(self.features(x))


class InOtherWords(nn.Linear):
    """What nn.Linear computes, as timm has one."""

    def forward(self, x):
        return x @ self.weight.T + self.bias


class OtherWords(Tempered):
    def __init__(self):
        super().__init__()
        self.fc = InOtherWords(8, 5)


@pytest.mark.parametrize("kind", [CosineHead, Tempered])
def test_a_head_that_does_more_than_its_layer_is_told(kind):
    net = MultiDomainNet(kind())
    with pytest.warns(MadlabWarning, match=r"head fc \((Cosine|Linear)\) does more than its layer"):
        net.add_domain("d", 3)
    assert type(net.view("d").head) is nn.Linear


@pytest.mark.parametrize("kind", [WeightNormHead, OtherWords, ConvHead])
def test_a_head_that_is_its_layer_is_not_told(kind, recwarn):
    torch.manual_seed(0)
    MultiDomainNet(kind()).add_domain("d", 3)
    after = torch.rand(1)
    assert not [one for one in recwarn if issubclass(one.category, MadlabWarning)]
    torch.manual_seed(0)
    MultiDomainNet(kind()).add_domain("d", 3)
    assert torch.rand(1) == after


def test_a_parameter_of_whole_numbers_hides_no_head() -> None:
    class Indexed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.index = nn.Parameter(torch.zeros(2, dtype=torch.long), requires_grad=False)
            self.conv, self.norm, self.fc = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 5)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.fc(self.norm(self.conv(images)).mean((2, 3)))

    net = MultiDomainNet(Indexed())
    net.add_domain("d", 4, "mad")
    assert net(torch.randn(2, 3, 16, 16), "d").shape == (2, 4)
