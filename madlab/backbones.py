"""Base networks: the decathlon's ResNet-26, torchvision's and timm's CNNs, and the weights that ship with madlab.

ResNet-26 follows Rebuffi et al., "Learning multiple visual domains with residual adapters" (arXiv 1705.08045) and
"Efficient parametrization of multi-domain deep neural networks" (arXiv 1803.10082), code srebuffi/residual_adapters:
25 convolutions of 3x3, parameter-free shortcuts, stages of 2, 4 and 8 times the stem's width.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
import torchvision
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from madlab.errors import MadlabError
from madlab.files.schemas import Deviation, Mean, as_plain, validated
from madlab.files.tensors import load_tensors, save_tensors
from madlab.heads import classes_of, find_heads
from madlab.hub import is_file_name, timm_network, torchvision_network
from madlab.sizes import ImageSize as ImageSize
from madlab.sizes import image_size as image_size

WEIGHTS = Path(__file__).parent / "weights"
IMAGENET_NORMALIZATION = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


class BaseStatistics(BaseModel):
    """Of each channel, however many there are."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    mean: Annotated[list[Mean], Field(min_length=1)]
    std: Annotated[list[Deviation], Field(min_length=1)]


class BaseFacts(BaseModel):
    """What a base network's file says besides its tensors; it may say more."""

    model_config = ConfigDict(strict=True)
    name: str
    architecture: str
    num_classes: Annotated[int, Field(ge=1, le=10_000_000)]
    width: Annotated[int, Field(ge=1, le=4096)] | None = None
    normalization: BaseStatistics | None = None
    resize: Annotated[int, Field(ge=1)] | None = None
    crop: Annotated[int, Field(ge=1)] | None = None


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a parameter-free shortcut: (B, in, H, W) -> (B, out, H / stride, W / stride)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.stride = stride
        self.new_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride, ceil_mode=True)
        if self.new_channels:
            x = F.pad(x, (0, 0, 0, 0, 0, self.new_channels))
        return F.relu(x + y)


class ResNet26(nn.Module):
    """The decathlon network: (B, 3, H, W) -> (B, num_classes) logits, for any H and W from 8 pixels on."""

    def __init__(self, num_classes: int = 1000, width: int = 32):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        stages, channels = [], width
        for out_channels in (2 * width, 4 * width, 8 * width):
            blocks = [BasicBlock(channels, out_channels, stride=2)]
            blocks += [BasicBlock(out_channels, out_channels, stride=1) for _ in range(3)]
            stages.append(nn.Sequential(*blocks))
            channels = out_channels
        self.stages = nn.Sequential(*stages)
        self.bn_end = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels, num_classes)
        self.normalization = IMAGENET_NORMALIZATION
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.conv(x)))
        x = F.relu(self.bn_end(self.stages(x)))
        return self.fc(x.mean((2, 3)))


def resnet26(num_classes: int = 1000, width: int = 32) -> nn.Module:
    """The decathlon's ResNet-26, untrained: 25 convolutions of 3x3, 5,806,944 of their weights at width 32.

    width: channels of the stem; the stages have 2, 4 and 8 times as many. Runs on (B, 3, H, W), 64 pixels as published.
    """
    return ResNet26(num_classes, width)


def densenet121(num_classes: int = 1000) -> nn.Module:
    """torchvision's DenseNet-121 (arXiv 1608.06993), untrained; `load_base("densenet121")` has ImageNet weights."""
    return _with_imagenet_statistics(torchvision.models.densenet121(num_classes=num_classes))


def resnet50(num_classes: int = 1000) -> nn.Module:
    """torchvision's ResNet-50 (arXiv 1512.03385), untrained; `load_base("resnet50")` has ImageNet weights."""
    return _with_imagenet_statistics(torchvision.models.resnet50(num_classes=num_classes))


def pocket_densenet(num_classes: int = 200, width: int = 16) -> nn.Module:
    """A small DenseNet-BC for 32-pixel images, untrained: growth `width`, dense blocks of 6, 12 and 8 layers.

    torchvision's DenseNet (arXiv 1608.06993), of whose stem a 3x3 convolution of stride 2 is left: ImageNet's 7x7 with
    pooling would leave 8 of 32 pixels. As in DenseNet-121 more than half of the weights are in 1x1 convolutions.
    """
    network = torchvision.models.DenseNet(width, (6, 12, 8), 2 * width, num_classes=num_classes)
    network.features.conv0 = nn.Conv2d(3, 2 * width, 3, stride=2, padding=1, bias=False)
    nn.init.kaiming_normal_(network.features.conv0.weight)
    network.features.pool0 = nn.Identity()
    return _with_imagenet_statistics(network)


BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "resnet26": resnet26,
    "pocket_densenet": pocket_densenet,
    "densenet121": densenet121,
    "resnet50": resnet50,
}


def save_base(network: nn.Module, path: Path | str, **metadata: str | int) -> None:
    """Write a float32 base network as safetensors that `load_base` reads back exactly, so that its adapters still fit.

    A tensor is stored in half precision where that changes none of its bits, else as it is. metadata: `name`,
    `architecture` (a key of BACKBONES) and what else its builder takes, such as `width`. The network's `normalization`
    and, when it has them, `resize` and `crop` (pixels) go into the file too. Raises MadlabError for what `load_base`
    could not build.
    """
    state = network.state_dict()
    for key, value in state.items():
        if value.is_floating_point() and value.dtype != torch.float32:
            raise MadlabError(f"{key} is {value.dtype}, but a base network is stored as float32: use network.float().")
    tensors = {key: _halved_if_exact(value) for key, value in state.items()}
    metadata |= {k: as_plain(getattr(network, k)) for k in ("normalization", "resize", "crop") if hasattr(network, k)}
    metadata["num_classes"] = classes_of(next(iter(find_heads(network).values())))
    if metadata.get("architecture") not in list(BACKBONES):
        raise MadlabError(
            f"A base network's file needs an architecture of {', '.join(BACKBONES)}, not "
            f"{metadata.get('architecture')!r:.60}: for any other, save its state_dict, and give the network itself."
        )
    facts = validated(BaseFacts, metadata, "The file's metadata", "give name=... and what the builder takes")
    if _kinds(_skeleton(facts).state_dict()) != _kinds(state):
        raise MadlabError(
            f"The network is not what {facts.architecture} builds here: give what its builder takes, such as width=8."
        )
    save_tensors(path, tensors, metadata)


def load_base(name: str, download: bool = True) -> nn.Module:
    """A trained base network in eval mode, with `name`, `normalization` and the image size it was trained for.

    name: weights that ship with madlab ("pocket-resnet26", offline), a file that `save_base` wrote, "densenet121" or
    "resnet50" (IMAGENET1K_V1), "torchvision:NAME" (its DEFAULT weights), "torchvision:NAME:WEIGHTS" or "timm:NAME"; or
    "torchvision:NAME:FILE" or "timm:NAME:FILE", where a .safetensors file holds the weights of that network.
    Weights that are not on this machine are downloaded once, or with download=False raise hub.NotHere; none of these
    files can run code. The network's `resize` and `crop` (pixels) say how its images are prepared: the short side is
    resized, then a square cut out.
    """
    if not isinstance(name, str):
        raise MadlabError(f"A base network is named by a text, but this is {name!r:.60}: see madlab.load_base.")
    shipped = WEIGHTS / f"{name}.safetensors"
    if os.path.isfile(shipped):  # unlike Path.is_file, no error for a name that is too long
        return _from_file(shipped)
    library, *rest = name.split(":", 2)
    if library not in ("timm", "torchvision") and name.endswith(".safetensors"):
        return _from_file(Path(name))
    if not rest:
        library, rest = "torchvision", [name, "IMAGENET1K_V1"]
    model, weights = rest if len(rest) == 2 else (rest[0], None)
    file = Path(weights) if weights is not None and is_file_name(weights) else None
    # Where the file lies is of no interest to whoever gets an adapter that was trained on it.
    public = name if file is None else f"{library}:{model}:{file.name}"
    if library == "timm" and (weights is None or file is not None):
        return _named(timm_network(model, download, file), public)
    if library != "torchvision" or model not in torchvision.models.list_models(torchvision.models):
        known = ", ".join(sorted(path.stem for path in WEIGHTS.glob("*.safetensors")))
        raise MadlabError(
            f"No base network {name!r}: shipped are {known}; otherwise give a .safetensors file, torchvision:NAME, "
            "torchvision:NAME:WEIGHTS, timm:NAME, or one of the last two with a file of weights (timm:NAME:FILE)."
        )
    return _named(torchvision_network(model, weights or "DEFAULT", download, file), public)


def _from_file(path: Path) -> nn.Module:
    tensors, metadata = load_tensors(path)
    if metadata.get("architecture") not in list(BACKBONES):
        raise MadlabError(f"{path} is not a base network that madlab wrote; make one with madlab.save_base.")
    facts = validated(BaseFacts, metadata, str(path))
    network = _skeleton(facts)
    state = {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}
    if _kinds(network.state_dict()) != _kinds(state):
        raise MadlabError(f"{path} does not hold the network that it names: make or fetch it anew.")
    network.load_state_dict(state, assign=True)
    told = facts.model_dump(exclude_none=True)
    for key in ("normalization", "resize", "crop"):
        if key in told:
            setattr(network, key, told[key])
    return _named(network, facts.name)


def _skeleton(facts: BaseFacts) -> Any:
    """The network of a file, without values."""
    options = facts.model_dump(include={"num_classes", "width"}, exclude_none=True)
    with torch.device("meta"):  # no memory for sizes that a file may declare and not hold, and no random numbers
        return BACKBONES[facts.architecture](**options)


def _kinds(state: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {key: (value.shape, value.dtype) for key, value in state.items()}


def _halved_if_exact(value: Tensor) -> Tensor:
    if not value.is_floating_point():
        return value
    half = value.half()
    return half if torch.equal(half.float().view(torch.int32), value.view(torch.int32)) else value


def _with_imagenet_statistics(network: Any) -> nn.Module:
    network.normalization = IMAGENET_NORMALIZATION
    return network


def _named(network: Any, name: str) -> nn.Module:
    network.name = name
    return network.eval()
