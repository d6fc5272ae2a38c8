"""What a network says of itself in attributes, and the size at which images reach it, with one documented default."""

import math
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from torch import Tensor, nn

from madlab.errors import MadlabError


def said(network: nn.Module, name: str) -> Any:
    """What a network says in an attribute; None where there is none, or a layer, a tensor or a method of its own."""
    value = getattr(network, name, None)
    return None if isinstance(value, nn.Module | Tensor) or callable(value) else value


def name_of(network: nn.Module) -> str:
    """What a network is called, "" if it does not say so."""
    name = said(network, "name")
    return name if isinstance(name, str) else ""


@dataclass(frozen=True)
class ImageSize:
    """How images reach a network, in pixels: the short side resized to `resize`, then a square of `crop` cut out.

    declared: whether the network says so itself, or this is madlab's default.
    """

    resize: int
    crop: int
    declared: bool = True

    def crop_from(self, side: int) -> int:
        """The crop for images of `side` x `side` pixels: a crop that is only madlab's default never exceeds them."""
        return self.crop if self.declared else min(self.crop, side)

    @property
    def notice(self) -> str:
        """What to tell the user of a network that does not declare its size."""
        return (
            f"The network does not say for which image size it was trained, so madlab takes resize {self.resize} and "
            f"crop {self.crop} pixels, as is usual for ImageNet: set network.resize and network.crop to change that."
        )


DEFAULT_SIZE = ImageSize(256, 224, declared=False)
"""For networks that say nothing: what most ImageNet networks are evaluated with."""


def image_size(network: nn.Module) -> ImageSize:
    """The image size of a network: its `resize` and `crop` attributes, else timm's configuration, else DEFAULT_SIZE.

    An attribute that is missing takes the value of the other. Raises MadlabError for sizes that are not whole numbers
    of pixels from 1 on, and for a crop larger than the resized image.
    """
    resize, crop = said(network, "resize"), said(network, "crop")
    if resize is None and crop is None:
        config = getattr(network, "pretrained_cfg", None)
        if isinstance(config, dict) and isinstance(config.get("input_size"), tuple | list):  # (channels, height, width)
            return timm_size(config)
        return DEFAULT_SIZE
    resize, crop = _pixels(crop if resize is None else resize), _pixels(resize if crop is None else crop)
    if crop > resize:
        raise MadlabError(f"The network's crop of {crop} pixels is larger than its resize of {resize}: set them anew.")
    return ImageSize(resize, crop)


def timm_size(config: dict) -> ImageSize:
    """The size of one of timm's configurations, as `timm.data.create_transform` computes it for evaluation."""
    crop = config["input_size"][-1]
    return ImageSize(math.floor(crop / (config.get("crop_pct") or 1)), crop)


def _pixels(side: object) -> int:
    if not isinstance(side, Integral) or isinstance(side, bool) or side < 1:
        raise MadlabError(f"An image size of {side!r} is not possible: set network.resize and network.crop in pixels.")
    return int(side)
