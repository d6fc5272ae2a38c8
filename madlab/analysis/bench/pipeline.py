"""Images per second of our input pipeline and of the classical one: ImageFolder, PIL transforms, worker processes."""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from madlab.analysis.bench.clock import synchronise
from madlab.backbones import IMAGENET_NORMALIZATION
from madlab.benchmarks.loader import batches


def time_pipeline(
    size: int, batch: int, device: torch.device, count: int = 2000, workers: int = 2, epochs: int = 5
) -> dict[str, Any]:
    """Images per second, medians over `epochs`, with random crops, flips and normalisation.

    Crops have `size` pixels, images 9/8 of that. Both pipelines read the same random pictures: ours from memory,
    torchvision's from JPEG files, as in the benchmarks. Its workers are running before the clock starts, and the two
    take turns, one epoch each.
    """
    images, labels = random_pictures(count, size * 9 // 8)
    ours: list[float] = []
    served: list[int] = []
    theirs: list[float] = []

    with tempfile.TemporaryDirectory() as folder:
        write_pictures(images, labels, Path(folder))
        classical = classical_loader(Path(folder), size, batch, workers)
        resident, answers = images.to(device), labels.to(device)
        for epoch in range(epochs + 1):
            generator = torch.Generator().manual_seed(epoch)
            loader = batches(resident, answers, batch, size, True, generator, IMAGENET_NORMALIZATION)
            for rates, source in ((ours, loader), (theirs, classical)):
                began, seen = time.perf_counter(), 0
                for pixels, _ in source:
                    seen += len(pixels.to(device))
                synchronise(device)
                rates.append(seen / (time.perf_counter() - began))
                served.append(seen)

    our_rate, their_rate = statistics.median(ours[1:]), statistics.median(theirs[1:])
    return {
        "images_per_second": round(our_rate),
        "torchvision_images_per_second": round(their_rate),
        "torchvision_workers": workers,
        "ratio": round(our_rate / their_rate, 1),
        "images": min(served),
        "pixels": size,
    }


def random_pictures(count: int, side: int, classes: int = 10) -> tuple[Tensor, Tensor]:
    """Random but smooth pictures, whose JPEG files are about as large as photographs': uint8 (N, side, side, 3)."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 9, 9, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    noisy = smooth + 0.05 * torch.randn(smooth.shape, generator=generator)
    return (255 * noisy.clamp(0, 1)).byte().permute(0, 2, 3, 1).contiguous(), torch.arange(count) % classes


def write_pictures(images: Tensor, labels: Tensor, folder: Path) -> None:
    """One JPEG file per picture, FOLDER/label/number.jpg, as ImageFolder reads them."""
    for label in labels.unique().tolist():
        (folder / str(label)).mkdir()
    for number, (image, label) in enumerate(zip(images.numpy(), labels.tolist(), strict=True)):
        Image.fromarray(image).save(folder / str(label) / f"{number}.jpg", quality=90)


def classical_loader(folder: Path, size: int, batch: int, workers: int) -> DataLoader:
    """ImageFolder with PIL transforms, shuffled, in worker processes that stay alive between epochs."""
    from torchvision import datasets, transforms

    augment = transforms.Compose(
        [
            transforms.RandomCrop(size),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(**IMAGENET_NORMALIZATION),
        ]
    )
    data = datasets.ImageFolder(str(folder), augment)
    return DataLoader(data, batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
