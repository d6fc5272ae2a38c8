"""What madlab sees in a network (its norms, its filter banks) and which networks it refuses, in one sentence."""

import copy

import pytest
import torch
from any_networks import CLASSES, Body, Running, lively
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint
from torchvision.ops import FrozenBatchNorm2d

from madlab.anatomy import anatomy_of, is_norm
from madlab.errors import MadlabError
from madlab.forward import SIDES
from madlab.guard import fingerprint
from madlab.network import MultiDomainNet


def timm_norms():
    timm = pytest.importorskip("timm", reason="timm is in the extra 'peers'")
    from timm.layers import create_norm, norm_act

    kinds = {*create_norm._NORM_TYPES, norm_act.BatchNormAct2d, norm_act.LayerNormAct2d, norm_act.FrozenBatchNormAct2d}
    made = [kind(32) for kind in kinds] + [norm_act.GroupNormAct(32, 2), timm.layers.EvoNorm2dB0(8)]
    return [*made, timm.layers.EvoNorm2dS0(8, 2), timm.layers.FilterResponseNormAct2d(8)]


def test_every_norm_of_timm_is_one():
    for norm in timm_norms():
        assert is_norm(norm), type(norm).__name__


class Evo(nn.Module):
    """As EvoNorm-B0: no word of "norm" in its name, and a running variance alone."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(4))
        self.register_buffer("running_var", torch.ones(4))


NORMS = [nn.BatchNorm1d(4), nn.BatchNorm2d(4), nn.BatchNorm3d(4), nn.SyncBatchNorm(4), nn.GroupNorm(2, 4)]
NORMS += [nn.LayerNorm(4), nn.RMSNorm(4), nn.InstanceNorm2d(4, affine=True, track_running_stats=True)]
NORMS += [FrozenBatchNorm2d(4), Running(4), Evo(), type("MyNorm", (Running,), {})(4)]


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: type(norm).__name__)
def test_norms_of_pytorch_torchvision_and_of_ones_own(norm):
    assert is_norm(norm)


class NormFirst(nn.Module):
    """A block with "norm" in its name that is not a norm."""

    def __init__(self):
        super().__init__()
        self.scale, self.norm, self.mix = nn.Parameter(torch.ones(1)), nn.LayerNorm(4), nn.Linear(4, 4)


class NormConv2d(nn.Conv2d):
    """A convolution with "Norm" in its name."""


@pytest.mark.parametrize(
    "module", [nn.Conv2d(4, 4, 1), nn.Linear(4, 4), nn.Dropout(), NormFirst(), NormConv2d(4, 4, 1), nn.PReLU()]
)
def test_other_modules_are_no_norms(module):
    assert not is_norm(module)


def test_the_parts_of_spectral_norm_belong_to_its_layer():
    network = Body()
    parametrizations.spectral_norm(network.conv)
    anatomy = anatomy_of(network)
    assert list(anatomy.norms) == ["norm"]
    assert list(anatomy.layers) == ["stem", "conv", "head"]
    assert list(anatomy.others) == ["stem.bias", "conv.bias", "head.bias"]


@pytest.mark.parametrize(("channels", "given"), [(1, None), (4, None), (3, 40)])
def test_the_images_are_those_that_the_network_runs_on(channels, given):
    network = Body()
    network.stem = nn.Conv2d(channels, 6, 3)
    if given:
        network.crop = given
    anatomy = anatomy_of(network)
    assert (anatomy.channels, anatomy.sides) == (channels, (given,) if given else SIDES)


class LateStem(Body):
    """Its first layer is not the first that it defines, and folds space into channels (as TResNet)."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(12, 6, 3, padding=1)

    def forward(self, x):
        return super().forward(nn.functional.pixel_unshuffle(x, 2))


class NeedsLarge(Body):
    def forward(self, x):
        assert x.shape[-1] == 224, "this network takes 224 pixels"
        return super().forward(x)


def test_channels_and_size_are_found_by_trying():
    assert anatomy_of(LateStem()).channels == 3
    assert anatomy_of(NeedsLarge()).sides == SIDES[1:]


# Refused


class MovingBuffer(Body):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, x):
        self.calls += 1
        return super().forward(x)


class MovingWeight(Body):
    """Keeps its filters short by writing to them, as networks with a maximal norm do."""

    class Short(nn.Conv2d):
        def forward(self, x):
            self.weight.data = torch.renorm(self.weight.data, 2, 0, 0.1)
            return super().forward(x)

    def __init__(self):
        super().__init__()
        self.conv = self.Short(6, 8, 3)


class Closure(Body):
    """Its forward goes through a function that holds the network itself."""

    def __init__(self):
        super().__init__()
        self.features = lambda x: self.norm(self.conv(self.stem(x)))

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


class Hidden(Body):
    def __init__(self):
        super().__init__()
        self.extra = [nn.Conv2d(8, 8, 1)]

    def forward(self, x):
        return self.head(self.extra[0](self.norm(self.conv(self.stem(x)))).mean((2, 3)))


class NoGradient(Body):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


class Tuple(Body):
    def forward(self, x):
        return super().forward(x), x


class Breaks(Body):
    def forward(self, x):
        raise KeyError("nothing works here")


class Drifting(Body):
    """Its running mean, a plain attribute, moves with every forward."""

    def __init__(self):
        super().__init__()
        self.mean = torch.zeros(8, 1, 1)

    def forward(self, x):
        x = self.conv(self.stem(x))
        self.mean.mul_(0.9).add_(0.1 * x.detach().mean((0, 2, 3))[:, None, None])
        return self.head(self.norm(x - self.mean).mean((2, 3)))


class MadeLate(Body):
    """Its last convolution is made by the first forward."""

    def __init__(self):
        super().__init__()
        self.late = None

    def forward(self, x):
        self.late = self.late or nn.Conv2d(8, 8, 1)
        return self.head(self.late(self.norm(self.conv(self.stem(x)))).mean((2, 3)))


def in_inference_mode():
    with torch.inference_mode():
        return Body()


class Detached(Body):
    """Computes with a weight that no gradient reaches."""

    def forward(self, x):
        x = F.conv2d(x, self.stem.weight.detach(), padding=1)
        return self.head(self.norm(self.conv(x)).mean((2, 3)))


class CachedForEval(Body):
    """Standardises a weight at each step of training, and once for eval mode."""

    def __init__(self):
        super().__init__()
        self.stem, self.first = nn.Identity(), nn.Conv2d(3, 6, 3, padding=1)
        self.kept = None

    def train(self, mode=True):
        self.kept = None
        return super().train(mode)

    def forward(self, x):
        weight = self.first.weight / self.first.weight.std() if self.kept is None else self.kept
        if not self.training:
            self.kept = weight = weight.detach()
        return super().forward(F.conv2d(x, weight, self.first.bias, padding=1))


class Uncopied(Body):
    def __init__(self):
        super().__init__()
        self.numbers = (number for number in range(3))


def with_hook(function, *arguments, **options):
    network = Body()
    function(network.conv, *arguments, **options)
    return network


def scripted():
    network = Body()
    network.head = torch.jit.script(network.head)
    return network


def equalised():
    """The weight is computed by a hook of one's own, as for an equalised learning rate."""
    network = Body()
    weight = network.conv._parameters.pop("weight")
    network.conv.register_parameter("original", weight)
    network.conv.weight = weight.data
    network.conv.register_forward_pre_hook(lambda layer, _: setattr(layer, "weight", 0.5 * layer.original))
    return network


REFUSED = {
    "equalised": (equalised, "Layer conv has no parameter `weight`, but computes it from something else"),
    "lazy buffers": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.LazyBatchNorm2d(affine=False), nn.Flatten()),
        "Layer 1 has no weight yet: run",
    ),
    "old weight norm": (lambda: with_hook(nn.utils.weight_norm), "Layer conv computes its weight in a hook"),
    "old spectral norm": (lambda: with_hook(nn.utils.spectral_norm), "Layer conv computes its weight in a hook"),
    "pruning": (
        lambda: with_hook(prune.l1_unstructured, "weight", amount=2),
        "Layer conv computes its weight in a hook",
    ),
    "lazy": (lambda: nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten()), "Layer 0 has no weight yet: run"),
    "scripted": (scripted, "Layer head is TorchScript"),
    "scripted as a whole": (lambda: torch.jit.script(Body()), "Layer of the network is TorchScript"),
    "inference mode": (in_inference_mode, "Layer stem was made in inference mode"),
    "drifting": (Drifting, "gives the same images other logits when it runs again"),
    "made late": (MadeLate, "makes its layer late when it first runs: run it once before"),
    "moving buffer": (MovingBuffer, "changes its own calls even in eval mode"),
    "moving weight": (MovingWeight, "changes its own conv.weight even in eval mode"),
    "closure": (Closure, "Layer (stem|conv|norm) is called through a function that holds the network"),
    "hidden": (Hidden, "runs a Conv2d that it does not own .* nn.ModuleList"),
    "detached": (Detached, r"uses stem\.weight or stem\.bias in eval mode without a gradient"),
    "cached for eval mode": (CachedForEval, r"uses first\.weight in eval mode without a gradient"),
    "no gradient": (NoGradient, "runs without gradients"),
    "tuple": (Tuple, "returns a tuple: madlab needs the logits"),
    "breaks": (Breaks, "on images of 64, 224, 299, 32, 28 pixels .KeyError: 'nothing works here'.: set .* `crop`"),
    "not copied": (Uncopied, "cannot be copied, .*generator"),
    "no convolution": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), r"no nn\.Conv2d"),
}


@pytest.mark.filterwarnings("ignore")  # of PyTorch, about its old weight norm and its lazy layers
@pytest.mark.parametrize("name", REFUSED)
def test_networks_that_no_domain_could_keep_apart_are_refused(name):
    build, sentence = REFUSED[name]
    base = build()
    before = None if "lazy" in name else fingerprint(base)
    with pytest.raises(MadlabError, match=sentence) as refused:
        MultiDomainNet(base)
    assert "\n" not in str(refused.value)
    assert "lazy" in name or fingerprint(base) == before


class TrainingBuffer(Body):
    """Counts its training steps: the base would move with every domain."""

    def __init__(self):
        super().__init__()
        self.register_buffer("level", torch.zeros(8))
        self.counter = TrainingBuffer.Counter(self.level)

    class Counter(nn.Module):
        def __init__(self, level):
            super().__init__()
            self.level = [level]

        def forward(self, x):
            if self.training:
                self.level[0].add_(1)
            return x

    def forward(self, x):
        return self.counter(super().forward(x))


class PastAutograd(Body):
    """Reads a weight where no gradient comes back."""

    def forward(self, x):
        with torch.no_grad():
            x = self.stem(x)
        return self.head(self.norm(self.conv(x)).mean((2, 3)))


class ConstantInTraining(Body):
    def forward(self, x):
        return super().forward(x)[:, :3] if self.head.out_features == 3 else super().forward(x)[:, :CLASSES]


class Average(nn.Module):
    """A running mean that is a plain attribute, so that no file would hold it."""

    def __init__(self):
        super().__init__()
        self.mean = torch.zeros(8, 1, 1)

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean((0, 2, 3))[:, None, None]
        return x - self.mean


class AverageNorm(Average):
    """The same in a normalisation layer."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8, 1, 1))

    def forward(self, x):
        return self.weight * super().forward(x)


class HiddenAverage(Body):
    def __init__(self):
        super().__init__()
        self.norm = Average()


class HiddenStatistics(Body):
    def __init__(self):
        super().__init__()
        self.norm = AverageNorm()


class TwoHeads(Body):
    """The mean of two heads, of which one is named."""

    def __init__(self):
        super().__init__()
        self.other = nn.Linear(8, CLASSES)

    def forward(self, x):
        features = self.norm(self.conv(self.stem(x))).mean((2, 3))
        return (self.head(features) + self.other(features)) / 2


class AsksForTypes(Body):
    """Does something more behind every convolution, which it knows by its type: in a view that is another's."""

    def forward(self, x):
        for layer in (self.stem, self.conv, self.norm):
            x = layer(x)
            if isinstance(layer, nn.Conv2d):
                x = F.relu(x - 0.1)
        return self.head(x.mean((2, 3)))


class Caches(Body):
    """Computes filters once and goes on with them, whatever their weight has become; `keep` is where they lie."""

    def __init__(self):
        super().__init__()
        self.keep = {}

    def forward(self, x):
        filters = self.keep.setdefault("stem", 2 * self.stem.weight)
        x = F.conv2d(x, filters, self.stem.bias)
        return self.head(self.norm(self.conv(x)).mean((2, 3)))


class Spare(Body):
    """With a convolution and a linear layer that it never runs."""

    def __init__(self):
        super().__init__()
        self.spare, self.spare_head = nn.Conv2d(3, 3, 1), nn.Linear(8, CLASSES)


class Scales(Body):
    """A gain that a lambda reads: a copy of the network has its own, and goes on with the old one."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(8))
        self.scale = lambda x: x * self.gain[:, None, None]

    def forward(self, x):
        return self.head(self.norm(self.scale(self.conv(self.stem(x)))).mean((2, 3)))


class NormRead(Body):
    """A norm that is read, not called, through a function that holds it."""

    def __init__(self):
        super().__init__()
        norm = self.norm
        self.normalise = lambda x: F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)

    def forward(self, x):
        return self.head(self.normalise(self.conv(self.stem(x))).mean((2, 3)))


class Checkpointed(Body):
    def forward(self, x):
        x = checkpoint(self.conv, self.stem(x), use_reentrant=True)
        return self.head(self.norm(x).mean((2, 3)))


class Complex(Body):
    def __init__(self):
        super().__init__()
        self.modes = nn.Parameter(torch.randn(8, dtype=torch.cfloat))

    def forward(self, x):
        x = self.norm(self.conv(self.stem(x)))
        return self.head((x * self.modes[:, None, None]).real.mean((2, 3)))


class HeldTwice(Body):
    """A filter bank that runs once as a layer and once, dilated, as a parameter of the network."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 3, padding=1)
        self.weight = self.conv.weight
        self.norm, self.head = nn.BatchNorm2d(6), nn.Linear(6, CLASSES)

    def forward(self, x):
        x = self.conv(self.stem(x))
        return self.head(self.norm(F.conv2d(x, self.weight, dilation=2)).mean((2, 3)))


def test_a_weight_that_is_held_twice_and_used_once_is_no_obstacle():
    """As a parameter kept for plots, or a list for a penalty."""
    network = Body()
    network.first = network.stem.weight
    network.decayed = nn.ParameterList(conv.weight for conv in (network.stem, network.conv))
    net = MultiDomainNet(network)
    net.add_domain("d", 3, "finetune")
    assert net.view("d").network.first is network.stem.weight


def biased():
    network = Body()
    nn.utils.parametrize.register_parametrization(network.conv, "bias", nn.Softplus())
    return network


PROVED = {
    "a lambda reads a gain": (Scales, {"method": "finetune"}, "computes with the base's own gain"),
    "a lambda reads a norm": (NormRead, {"method": "batchnorm"}, r"computes with the base's own norm\.(bias|weight)"),
    "reentrant": (Checkpointed, {}, "Layer conv lies within torch.utils.checkpoint, .* use_reentrant=False"),
    "complex": (Complex, {"method": "finetune"}, "has complex parameters, which 'finetune' cannot train"),
    "held twice": (HeldTwice, {}, "weight of layer conv is also weight, where no adapter would reach it"),
    "computed bias": (biased, {"method": "finetune"}, "No gradient reaches conv.parametrizations.bias.original"),
    "one of two heads, as many classes": (
        TwoHeads,
        {"head": "head", "num_classes": CLASSES},
        "come from head and other together: do not name a head",
    ),
    "wrong head": (
        Spare,
        {"num_classes": CLASSES, "head": "spare_head"},
        "do not come from the head spare_head",
    ),
    "moves the base": (TrainingBuffer, {}, "changes its own tensors when a domain trains"),
    "past autograd": (PastAutograd, {}, "Layer stem was adapted, but no gradient reaches its adapter"),
    "cut off": (ConstantInTraining, {"num_classes": 7}, r"shape \(2, 5\): madlab needs logits \(B, 7\)"),
    "keeps an average": (HiddenAverage, {}, r"keeps something from training .*register_buffer"),
    "norm keeps one": (HiddenStatistics, {}, r"keeps something from training .*register_buffer"),
    "asks for types": (AsksForTypes, {}, r"not those of a plain network with its weights: .*isinstance"),
    "goes on with old filters": (
        Caches,
        {},
        r"not those of a plain network with its weights: .*keeps what it computed",
    ),
    "two heads": (TwoHeads, {"head": "head"}, "come from head and other together: do not name a head"),
}


@pytest.mark.parametrize("name", PROVED)
def test_a_domain_that_would_not_really_run_is_refused(name):
    build, options, sentence = PROVED[name]
    torch.manual_seed(0)
    net = MultiDomainNet(lively(build()))
    sha, state = fingerprint(net.base), torch.random.get_rng_state()
    with pytest.raises(MadlabError, match=sentence) as refused:
        net.add_domain("d", **({"num_classes": 3} | options))
    assert "\n" not in str(refused.value)
    assert net.domains == [] and fingerprint(net.base) == sha
    assert name != "moves the base" or torch.equal(net.base.level, torch.zeros(8))
    torch.random.set_rng_state(state)


class Counts(Body):
    """Keeps numbers and a cache in plain attributes."""

    class Slowing(nn.BatchNorm2d):
        def forward(self, x):
            if self.training:
                self.momentum *= 0.5
            return super().forward(x)

    def __init__(self):
        super().__init__(Counts.Slowing)
        self.calls, self.features, self.seen = 0, None, {"sides": []}

    def forward(self, x):
        self.calls, self.features = self.calls + 1, x
        self.seen["sides"] = [*self.seen["sides"], x.shape[-1]]
        return super().forward(x)


def test_the_proof_leaves_no_trace_in_attributes():
    net = MultiDomainNet(Counts())
    net.add_domain("d", 3)
    network = net.view("d").network
    assert (network.calls, network.features, network.norm.momentum, network.seen) == (0, None, 0.1, {"sides": []})
    assert not any(module.training for module in net.modules())


def test_a_nan_that_stays_is_no_change():
    base = Body()
    base.register_buffer("not_measured", torch.tensor([float("nan"), 1.0]))
    net = MultiDomainNet(base)
    net.add_domain("d", CLASSES)
    net.check_base()
    assert net(torch.randn(2, 3, 12, 12), domain="d").isfinite().all()


def test_layers_that_never_run_cannot_be_named():
    net = MultiDomainNet(Spare())
    net.add_domain("d", 3, head="head")
    assert net.view("d").facts.layers == ["stem", "conv"]
    with pytest.raises(MadlabError, match=r"no convolution or nn.Linear 'spare' that runs"):
        net.add_domain("e", 3, head="head", layers=["spare"])
    with pytest.raises(MadlabError, match=r"no convolution or nn.Linear 'head' that runs and is not its head"):
        net.add_domain("e", 3, head="head", layers=["head"])


def test_hooks_of_adapted_layers_still_run():
    base = Body()
    base.conv.register_forward_hook(lambda module, inputs, output: 3 * output)
    base.stem.register_forward_pre_hook(lambda module, inputs: (inputs[0] + 1,))
    net = MultiDomainNet(copy.deepcopy(base))
    net.add_domain("d", CLASSES)
    net.view("d").head.load_state_dict(net.base.head.state_dict())
    x = torch.randn(2, 3, 12, 12)
    assert torch.equal(net(x, domain="d"), base.eval()(x))
    assert torch.equal(net.merge("d")(x), base(x))


class NormConv(nn.Module):
    """A convolution of somebody's own that normalises its filters."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 3, 3, 3))

    def forward(self, x):
        return nn.functional.conv2d(x, self.weight / self.weight.norm())


def test_filters_that_are_normalised_are_no_norm():
    assert not is_norm(NormConv())


class Unsaved(Body):
    """Running statistics that no state_dict has."""

    def __init__(self):
        super().__init__()
        self.first = nn.BatchNorm2d(3)
        for name in ("running_mean", "running_var"):
            self.first.register_buffer(name, self.first.get_buffer(name), persistent=False)

    def forward(self, x):
        return super().forward(self.first(x))


def test_statistics_that_no_file_would_hold_are_refused():
    net = MultiDomainNet(Unsaved())
    with pytest.raises(MadlabError, match=r"running_mean in training, which no file would hold: .*persistent=True"):
        net.add_domain("d", 3)
    net.add_domain("frozen", 3, "frozen")


def test_a_network_that_is_refused_is_as_it_was_brought():
    base = Tuple().train()
    base.conv.weight.requires_grad_(False)
    before = {name: parameter.requires_grad for name, parameter in base.named_parameters()}
    with pytest.raises(MadlabError, match="logits"):
        MultiDomainNet(base)
    assert base.training and all(module.training for module in base.modules())
    assert {name: parameter.requires_grad for name, parameter in base.named_parameters()} == before


def test_sparse_tensors_are_refused():
    base = Body()
    base.register_buffer("graph", torch.eye(3).to_sparse())
    with pytest.raises(MadlabError, match="sparse"):
        MultiDomainNet(base)
