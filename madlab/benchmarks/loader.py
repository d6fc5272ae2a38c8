"""From uint8 images in memory to augmented, normalised batches, on whatever device the images are.

A classical loader decodes and augments one picture at a time in worker processes. Here a whole split lies on the
device as uint8, and a batch is one gather: every sample has its own crop and its own flip, and no worker is needed.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

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
"""How training images are varied; each does what the one before it does, and more."""


def trivial_augment(images: Tensor) -> Tensor:
    """TrivialAugmentWide (Müller & Hutter, arXiv 2103.10158), drawn anew for each image of uint8 (B, 3, H, W).

    It is torchvision's, which draws from PyTorch's global generator.
    """
    augment = TrivialAugmentWide(interpolation=InterpolationMode.BILINEAR)
    varied = torch.stack([augment(image) for image in images])
    return varied.contiguous(memory_format=torch.channels_last)


def crop_and_flip(
    images: Tensor, index: Tensor, crop: int, flip: bool, generator: torch.Generator | None, moves: bool = True
) -> Tensor:
    """Cut one window per sample: at random and mirrored half of the time or, without a generator, from the centre.

    images: uint8 (N, H, W, 3); index: int64 (B,), the samples wanted, on the images' device; generator: on the CPU.
    moves: False takes the centre with a generator, too. Returns uint8 (B, 3, crop, crop) in channels_last memory.
    """
    height, width, device = images.shape[1], images.shape[2], images.device
    if generator is None:
        y, x = (height - crop) // 2, (width - crop) // 2
        return images[index, y : y + crop, x : x + crop].permute(0, 3, 1, 2)
    count = len(index)
    drawn: dict[str, Any] = {"generator": generator, "device": "cpu"}  # which need not be PyTorch's default device
    top = torch.randint(height - crop + 1, (count,), **drawn)
    left = torch.randint(width - crop + 1, (count,), **drawn)
    if not moves:
        top, left = torch.full((count,), (height - crop) // 2), torch.full((count,), (width - crop) // 2)
    half = torch.rand(count, **drawn) < 0.5  # drawn in any case, so that a seed means the same windows
    mirrored = (half & flip).nonzero()[:, 0]
    top, left, mirrored = (on_its_way(choice, device) for choice in (top, left, mirrored))
    # All windows of all images, as a view (N, top, left, crop, crop, 3): taking some copies whole rows of pixels, which
    # is more than twice as fast as taking each pixel by its place.
    windows = images.unfold(1, crop, 1).unfold(2, crop, 1).permute(0, 1, 2, 4, 5, 3)
    cut = windows[index, top, left]
    cut[mirrored] = cut[mirrored].flip(2)
    return cut.permute(0, 3, 1, 2)


def on_its_way(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy on the device; on a GPU of NVIDIA without waiting, so that the next batch travels while it works on this.

    On MPS such a copy may read memory that has been given away by then (PyTorch's issues 139550 and 189690).
    """
    return tensor.to(device, non_blocking=device.type == "cuda")


def normalise(images: Tensor, normalization: dict[str, list[float]]) -> Tensor:
    """uint8 (B, 3, H, W) -> float32 in channels_last memory, (pixel / 255 - mean) / std for each channel."""
    count, channels, height, width = images.shape
    device = images.device
    # Whole rows of pixels beside means and deviations as long as a row: several times as fast as three at a time.
    rows = images.permute(0, 2, 3, 1).reshape(count, height, width * channels).float()
    mean, std = (255 * torch.tensor(normalization[key]).repeat(width) for key in ("mean", "std"))
    rows.sub_(on_its_way(mean, device)).div_(on_its_way(std, device))
    return rows.view(count, height, width, channels).permute(0, 3, 1, 2)


def steps_of(images: int, batch_size: int) -> int:
    """How many batches `batches` gives for training, where a last one of a single image is left out."""
    return math.ceil((images - 1) / batch_size)


def batches(
    images: Tensor,
    labels: Tensor,
    batch_size: int,
    crop: int,
    flip: bool = False,
    generator: torch.Generator | None = None,
    normalization: dict[str, list[float]] | None = None,
    augment: str = "crop",
    chances: Tensor | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (images, labels) batches: shuffled and augmented with a generator, in order and centre-cropped without.

    images: uint8 (N, H, W, 3); labels: int64 (N,). Yields float32 (B, 3, crop, crop) in channels_last memory, and
    (B,), or without a normalization uint8. augment: a key of AUGMENTATIONS, and flip says whether images may be
    mirrored at all. chances: float (N,), how often each image is drawn in proportion, with replacement; without them
    each comes once. In training a last batch of a single sample is left out, because BatchNorm cannot learn from one.
    """
    count = len(labels)
    how = AUGMENTATIONS[augment]
    order = torch.arange(count) if generator is None else torch.randperm(count, generator=generator, device="cpu")
    if chances is not None:
        order = torch.multinomial(chances.cpu(), count, replacement=True, generator=generator)
    for start in range(0, count, batch_size):
        index = on_its_way(order[start : start + batch_size], images.device)
        if generator is not None and len(index) == 1:
            return
        cut = crop_and_flip(images, index, crop, flip and how.mirrors, generator, how.moves)
        if how.trivial and generator is not None:
            cut = trivial_augment(cut)
        yield normalise(cut, normalization) if normalization else cut, labels[index]
