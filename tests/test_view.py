"""What a domain does with images, modes and sizes, against plain PyTorch."""

import copy

import pytest
import torch
from any_networks import CLASSES, Body, sized
from torch import nn
from torch.nn import functional as F

import madlab
from madlab.adapters import FullModulation
from madlab.adapters.layer import AdaptedConv2d
from madlab.errors import MadlabError
from madlab.network import MultiDomainNet
from madlab.view import shrink


def images(count=2, channels=3, size=12):
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(1))


def adapted(base=None, method="mad", **options):
    torch.manual_seed(0)
    net = MultiDomainNet(sized(base or Body(), 12))
    net.add_domain("d", CLASSES, method, **options)
    with torch.no_grad():
        for parameter in net.trainable_parameters("d"):
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net


@pytest.mark.parametrize("given", [torch.float64, torch.float16, torch.bfloat16])
def test_images_of_other_float_formats_are_cast_to_the_networks(given):
    net = adapted()
    x = images().to(given)
    assert torch.equal(net(x, domain="d"), net(x.float(), domain="d"))
    net.double()
    assert net(x, domain="d").dtype == torch.float64


class FloatHead(Body):
    """A body in 16 bits, and a head in 32."""

    def forward(self, x):
        return self.head(self.norm(self.conv(self.stem(x).relu())).relu().mean((2, 3)).float())


def test_the_first_layer_says_in_which_format_images_run():
    base = FloatHead().bfloat16()
    base.head.float()
    net = adapted(base)
    plain = net.merge("d")
    assert (plain.stem.weight.dtype, plain.head.weight.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(net(images(), domain="d"), plain(images().bfloat16()))


@pytest.mark.parametrize("given", [torch.uint8, torch.int64, torch.bool])
def test_pixels_are_not_taken_for_normalised_images(given):
    with pytest.raises(MadlabError, match=f"these are {given}: divide pixels by 255, then normalise"):
        adapted()(images().to(given), domain="d")


def grey():
    network = Body()
    network.stem = nn.Conv2d(1, 6, 3, padding=1)
    return network


@pytest.mark.parametrize(("build", "channels", "given"), [(Body, 3, 1), (Body, 3, 4), (grey, 1, 3)])
def test_images_with_other_channels_are_refused(build, channels, given):
    net = adapted(build())
    for call in (lambda x: net(x, domain="d"), net.view("d"), lambda x: net(x, domain=["d", "d"])):
        with pytest.raises(MadlabError, match=rf"\(B, {channels}, H, W\), .* give a batch of images with {channels}"):
            call(images(channels=given))
    assert net(images(channels=channels), domain="d").shape == (2, CLASSES)


def test_what_is_no_tensor_is_refused():
    with pytest.raises(MadlabError, match=r"^Images must be a tensor, but this is a ndarray: .* predict, .*\.$"):
        adapted()(images().numpy(), domain="d")


def test_a_view_shrinks_its_images_anti_aliased():
    view, x = adapted().view("d"), images(size=20)
    small = F.interpolate(x, (12, 12), mode="bilinear", antialias=True)
    assert torch.equal(shrink(x, 12), small)
    torch.testing.assert_close(view(x, side=12), view(small))
    assert not torch.allclose(view(x, side=12), view(F.interpolate(x, (12, 12), mode="bilinear")))


def test_a_prompts_frame_is_laid_on_before_the_images_shrink():
    view, x = adapted(method="prompt", size=20, frame=2).view("d"), images(size=20)
    framed = x.clone()
    pixels = view.prompt.pixels.detach()
    ring = [(r, c) for r in range(20) for c in range(20) if not (2 <= r < 18 and 2 <= c < 18)]
    for place, (row, column) in enumerate(ring):
        framed[:, :, row, column] += pixels[:, place]
    expected = view.network(F.interpolate(framed, (12, 12), mode="bilinear", antialias=True))
    torch.testing.assert_close(view(x, side=12), expected)


class WithModes(Body):
    """What training mode switches in networks: dropout as a layer and as a function, and an auxiliary output."""

    def __init__(self):
        super().__init__()
        self.dropout, self.auxiliary = nn.Dropout(0.5), nn.Sequential(nn.Linear(8, 4))

    def forward(self, x):
        features = self.norm(self.conv(self.stem(x).relu())).relu().mean((2, 3))
        features = F.dropout(self.dropout(features), 0.9, self.training)
        logits = self.head(features)
        return (logits, self.auxiliary(features)) if self.training else logits


def test_in_training_the_domains_parts_train_and_the_base_stays_in_eval_mode():
    net = adapted(WithModes(), head="head")
    view = net.view("d").train()
    training = {name for name, module in view.network.named_modules() if module.training}
    own = {"norm", "head", "dropout", "stem.adapter", "conv.adapter"}
    assert training == own
    torch.manual_seed(3)
    logits = view(images())
    plain = copy.deepcopy(view.network)
    torch.manual_seed(3)
    features = plain.norm(plain.conv(plain.stem(images()).relu())).relu().mean((2, 3))
    torch.testing.assert_close(logits, plain.head(F.dropout(features, 0.5)))
    assert not any(module.training for module in view.eval().modules())


def test_a_frozen_domain_keeps_its_norms_in_eval_mode():
    net = adapted(WithModes(), "frozen", head="head")
    assert {n for n, m in net.view("d").train().network.named_modules() if m.training} == {"head", "dropout"}


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 6, 3, stride=2, bias=True), nn.Linear(4, 6)])
def test_an_adapted_layer_answers_for_the_layer_with_the_adapted_weight(layer):
    adapter = FullModulation(layer if isinstance(layer, nn.Conv2d) else nn.Conv2d(4, 6, 1))
    whole = AdaptedConv2d(layer, adapter)
    with torch.no_grad():
        adapter.alpha.normal_()
    alpha = adapter.alpha if isinstance(layer, nn.Linear) else adapter.alpha[:, :, None, None]
    torch.testing.assert_close(whole.weight, layer.weight * alpha)
    assert whole.bias is layer.bias
    names = ["in_features", "out_features"] if isinstance(layer, nn.Linear) else ["in_channels", "stride", "groups"]
    assert all(getattr(whole, name) == getattr(layer, name) for name in names)
    with pytest.raises(AttributeError, match="nowhere"):
        _ = whole.nowhere
    whole.weight.sum().backward()
    assert adapter.alpha.grad is not None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_domains_can_be_added_where_gradients_are_off(mode):
    base = Body()
    with mode():
        net = MultiDomainNet(base)
        net.add_domain("d", 3)
    net(images(), domain="d").sum().backward()
    assert all(parameter.grad is not None for parameter in net.trainable_parameters("d"))


def test_no_layers_are_no_adapters():
    net = adapted()
    with pytest.raises(MadlabError, match=r"no layer that the list names"):
        net.add_domain("e", 3, layers=[])


def test_a_merged_network_says_what_its_base_leaves_open() -> None:
    """An attribute that is None says nothing; a layer of that name is the network's own."""
    base = madlab.resnet26(num_classes=4, width=8)
    base.class_names = base.normalization = base.resize = base.crop = None
    net = madlab.MultiDomainNet(base)
    statistics = {"mean": [0.5] * 3, "std": [0.2] * 3}
    net.add_domain("d", 2, class_names=["a", "b"], normalization=statistics, resize=36, crop=32)
    plain = net.merge("d")
    assert (plain.class_names, plain.normalization, plain.resize, plain.crop) == (["a", "b"], statistics, 36, 32)
