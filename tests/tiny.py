"""The smallest things that train: image folders drawn at random and a ResNet-26 of width 4, both in no time."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

import madlab

WIDTH = 4


def write_folder(path: Path, classes: int = 3, counts: tuple[int, int, int] = (8, 4, 6), seed: int = 0) -> Path:
    """train/ val/ test/ with `counts` images per class, 36 x 36 noise, each class a little brighter."""
    rng = np.random.default_rng(seed)
    for split, count in zip(("train", "val", "test"), counts, strict=True):
        for label in range(classes):
            folder = path / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 180, (36, 36, 3)) + 25 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return path


def write_base(path: Path, seed: int = 0) -> str:
    """An untrained base network for images of 36 pixels and crops of 32, as a file; returns its path."""
    torch.manual_seed(seed)
    network = madlab.resnet26(num_classes=5, width=WIDTH)
    network.resize, network.crop = 36, 32
    madlab.save_base(network, path, name=path.stem, architecture="resnet26", width=WIDTH)
    return str(path)
