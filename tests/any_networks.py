"""Networks as people bring them, small and with random weights: of torchvision, of timm and written by hand."""

import functools

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.utils import parametrizations
from torchvision.models.convnext import CNBlockConfig

CLASSES = 5


def lively(network):
    """In eval mode, with gains and running statistics of their own, so that using the wrong ones shows."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        for name in ("weight", "bias", "running_mean", "running_var"):
            tensor = getattr(module, name, None)
            if isinstance(tensor, torch.Tensor) and tensor.ndim == 1 and "Norm" in type(module).__name__:
                tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    network.eval()  # not every network returns itself
    return network


def sized(network, crop):
    network.crop = crop
    return lively(network)


def vgg():
    features = torchvision.models.vgg.make_layers([8, "M", 16, "M"])
    with torch.device("meta"):  # its classifier of 120 million weights is not needed
        network = torchvision.models.VGG(features, init_weights=False)
    network.classifier = nn.Sequential(nn.Linear(16 * 49, 12), nn.ReLU(), nn.Dropout(), nn.Linear(12, CLASSES))
    return sized(network, 16)


def convnext():
    blocks = [CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)]
    return sized(torchvision.models.ConvNeXt(blocks, 0.1, layer_scale=0.5, num_classes=CLASSES), 32)


def vit():
    return sized(torchvision.models.VisionTransformer(16, 8, 2, 2, 16, 32, num_classes=CLASSES), 16)


def from_torchvision(name, crop, **options):
    return lambda: sized(torchvision.models.get_model(name, num_classes=CLASSES, **options), crop)


def from_timm(name, crop, **options):
    def build():
        timm = pytest.importorskip("timm", reason="timm is in the extra 'peers'")
        return sized(timm.create_model(name, num_classes=CLASSES, **options), crop)

    return build


def randomise(module, seed=2):
    """Give every parameter of an adapter values of its own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return module


class Body(nn.Module):
    """Two convolutions, a norm and a head; the subclasses call them in unusual ways."""

    def __init__(self, norm=nn.BatchNorm2d):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.conv = nn.Conv2d(6, 8, 3, stride=2)
        self.norm = norm(8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.head(self.norm(self.conv(self.stem(x).relu())).relu().mean((2, 3)))


class InLists(Body):
    """The forward goes through a plain list and a dict; the modules are registered, too."""

    def __init__(self):
        super().__init__()
        self.order, self.named = [self.stem, self.conv], {"end": (self.norm, self.head)}

    def forward(self, x):
        for layer in self.order:
            x = layer(x).relu()
        norm, head = self.named["end"]
        return head(norm(x).mean((2, 3)))


class BoundMethod(Body):
    """As timm's fasternet chooses its forward when it is made."""

    def __init__(self):
        super().__init__()
        self.forward = self.forward_slowly
        self.body = functools.partial(self.features, power=2)

    def features(self, x, power):
        return self.norm(self.conv(self.stem(x).relu() ** power)).relu()

    def forward_slowly(self, x):
        return self.head(self.body(x).mean((2, 3)))


class ReadsWeights(Body):
    """Asks its layers for what people ask them for, and runs one of them without calling it."""

    def forward(self, x):
        x = x.to(self.stem.weight.device, self.conv.weight.dtype)
        assert (self.stem.in_channels, self.conv.kernel_size, self.conv.bias.shape) == (3, (3, 3), (8,))
        x = nn.functional.conv2d(x, self.stem.weight, self.stem.bias, padding=self.stem.padding)
        return self.head(self.norm(self.conv(x.relu())).relu().mean((2, 3)))


class Reparametrised(Body):
    """Weight norm on one convolution, spectral norm on the other."""

    def __init__(self):
        super().__init__()
        parametrizations.weight_norm(self.stem)
        parametrizations.spectral_norm(self.conv)
        with torch.no_grad():
            self.stem.parametrizations.weight.original0.mul_(2)


class OwnForwards(Body):
    """A convolution class with a forward of its own that calls that of PyTorch, and one with a hook."""

    class Padded(nn.Conv2d):
        def forward(self, x):
            return super().forward(nn.functional.pad(x, (1, 1, 1, 1))) * 2

    def __init__(self):
        super().__init__()
        self.stem = self.Padded(3, 6, 3)
        self.conv.register_forward_hook(lambda module, inputs, output: output * 0.5)


class Running(nn.Module):
    """A normalisation layer of somebody's own with running statistics."""

    def __init__(self, channels):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels, 1, 1))
        self.register_buffer("running_mean", torch.zeros(channels, 1, 1))

    def forward(self, x):
        if self.training:
            self.running_mean.lerp_(x.detach().mean((0, 2, 3), keepdim=True)[0], 0.1)
        return self.gain * (x - self.running_mean)


class FlatNorm(nn.Module):
    """BatchNorm1d behind a Linear, on (B, C, H, W) averaged over the picture."""

    def __init__(self, channels):
        super().__init__()
        self.mix, self.norm = nn.Linear(channels, channels), nn.BatchNorm1d(channels)

    def forward(self, x):
        return self.norm(self.mix(x.mean((2, 3))))[:, :, None, None] + x


NORMS = {
    "SyncBatchNorm": nn.SyncBatchNorm,
    "InstanceNorm": lambda c: nn.InstanceNorm2d(c, affine=True, track_running_stats=True),
    "GroupNorm": lambda c: nn.GroupNorm(2, c),
    "own norm": Running,
    "BatchNorm1d": FlatNorm,
}
HAND_WRITTEN = {
    "lists": InLists,
    "bound method": BoundMethod,
    "reads weights": ReadsWeights,
    "reparametrised": Reparametrised,
    "own forwards": OwnForwards,
} | {name: functools.partial(Body, norm) for name, norm in NORMS.items()}
NETWORKS = {
    "resnet18": from_torchvision("resnet18", 32),
    "vgg": vgg,
    "mobilenet_v3_small": from_torchvision("mobilenet_v3_small", 32),
    "convnext": convnext,
    "vit": vit,
    "timm fasternet_t0": from_timm("fasternet_t0", 64),
    "timm convnext_atto": from_timm("convnext_atto", 32, depths=(1, 1, 1, 1), dims=(8, 16, 24, 32)),
    "timm vit_tiny": from_timm("vit_tiny_patch16_224", 32, img_size=32, depth=2),
} | {name: lambda build=build: sized(build(), 12) for name, build in HAND_WRITTEN.items()}
