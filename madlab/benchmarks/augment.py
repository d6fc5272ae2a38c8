"""How training images are varied, by name; each name does what the one before it does, and more."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, TrivialAugmentWide


@dataclass(frozen=True)
class Augmentation:
    """mirrors: half of the images, where the domain allows it. moves: random windows instead of the centre.

    trivial: one operation on colours or geometry per image, of random strength.
    """

    mirrors: bool = False
    moves: bool = False
    trivial: bool = False


AUGMENTATIONS = {
    "none": Augmentation(),
    "flip": Augmentation(mirrors=True),
    "crop": Augmentation(mirrors=True, moves=True),
    "trivial": Augmentation(mirrors=True, moves=True, trivial=True),
}


def trivial_augment(images: Tensor) -> Tensor:
    """TrivialAugmentWide (Müller & Hutter, arXiv 2103.10158), drawn anew for each image of uint8 (B, 3, H, W).

    It is torchvision's, which draws from PyTorch's global generator.
    """
    augment = TrivialAugmentWide(interpolation=InterpolationMode.BILINEAR)
    varied = torch.stack([augment(image) for image in images])
    return varied.contiguous(memory_format=torch.channels_last)
