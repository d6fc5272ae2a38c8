"""One part of a domain: images and labels as tensors, made of whatever kind of array a user brings."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from madlab.device import chosen_device
from madlab.errors import MadlabError
from madlab.files.pictures import HALF_A_STEP

SPLITS = ("train", "val", "test")
CHUNK = 256
"""Images that are converted or scaled at a time: a memory-mapped split may be larger than the memory."""


@dataclass(frozen=True)
class Split:
    """images: uint8 (N, H, W, 3), RGB; labels: int64 (N,), each from 0 to the number of classes - 1.

    Tensors, NumPy arrays and lists of other types are converted: pixels that are whole numbers from 0 to 255, floats
    from 0 to 1 (1 is white), and labels that are whole numbers. Raises MadlabError for any other shape or value.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        images = _tensor(self.images, "images")
        _check_shape(images)
        labels = whole_numbers(self.labels, "labels").to(images.device)
        if len(images) != len(labels):
            raise MadlabError(f"A split has {len(images)} images but {len(labels)} labels: give one label per image.")
        object.__setattr__(self, "images", _bytes(images))
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "Split":
        device = chosen_device(device)
        return Split(self.images.to(device), self.labels.to(device))

    def sha256(self) -> str:
        """Of all pixels and labels, in hexadecimal: whether two splits are the same to the last bit."""
        digest = hashlib.sha256(str(tuple(self.images.shape)).encode())
        for tensor in (self.images, self.labels):
            for part in tensor.split(4096):  # of the largest sets, which may lie on a GPU or a disk, no second copy
                digest.update(part.cpu().contiguous().numpy())
        return digest.hexdigest()

    def shrunk(self, size: int) -> "Split":
        """The same split, its images scaled down to a short side of `size` pixels; smaller ones stay as they are."""
        check_size(size)
        sides = self.images.shape[1:3]
        if min(sides) <= size:
            return self
        height, width = (round(side * size / min(sides)) for side in sides)
        images = torch.empty(len(self), height, width, 3, dtype=torch.uint8)
        for start in range(0, len(self), CHUNK):
            part = self.images[start : start + CHUNK].permute(0, 3, 1, 2)
            small = F.interpolate(part, (height, width), mode="bilinear", antialias=True)
            images[start : start + CHUNK] = small.permute(0, 2, 3, 1)
        return Split(images, self.labels)


def check_size(size: Any) -> None:
    """Raise MadlabError unless `size` is a whole number of pixels, of at least one."""
    if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1:
        raise MadlabError(f"Images of {size!r} pixels are not possible: choose a whole number of at least 1.")


def whole_numbers(values: Any, what: str) -> Tensor:
    """int64 (N,) of a tensor, array or list of whole numbers of any type; what: "labels" or "ids", for the message."""
    numbers = _tensor(values, what)
    if numbers.ndim != 1:
        remedy = "take argmax(1) of one-hot labels" if numbers.ndim == 2 and numbers.shape[1] > 1 else "flatten them"
        raise MadlabError(f"The {what} of shape {tuple(numbers.shape)} are not one number per image: {remedy}.")
    if numbers.dtype == torch.int64:
        return numbers
    exact = numbers.real.double()
    if numbers.is_complex() or not bool(((exact == exact.round()) & (exact.abs() < 2**63)).all()):
        raise MadlabError(f"The {what} of a split are not whole numbers of 64 bits: number the classes from 0 on.")
    return numbers.to(torch.int64)


def _tensor(values: Any, what: str) -> Tensor:
    """A tensor of a user's tensor, array or list, in an order of bytes and of memory that torch understands."""
    if isinstance(values, Tensor):
        if values.is_meta or values.is_quantized or values.layout != torch.strided:
            unusual = "meta" if values.is_meta else "quantized" if values.is_quantized else "sparse"
            raise MadlabError(f"The {what} of a split are a {unusual} tensor: give a dense one of plain numbers.")
        return values.detach()
    try:
        array = np.asarray(values)
    except ValueError as error:  # NumPy's for parts of different shapes
        raise MadlabError(f"The {what} of a split do not all have the same shape: make them equal first.") from error
    if array.dtype.kind not in "buif":
        raise MadlabError(f"The {what} of a split must be numbers, and these are of type {array.dtype}: convert them.")
    kind = np.float64 if array.dtype.kind == "f" and array.dtype.itemsize > 8 else array.dtype.newbyteorder("=")
    return torch.from_numpy(np.require(array, kind, ["C", "W"]))


def _check_shape(images: Tensor) -> None:
    shape = tuple(images.shape)
    if len(shape) == 4 and shape[3] == 3 and shape[1] and shape[2]:
        return
    if len(shape) == 3 and shape[2] == 3:
        remedy = "make a single image a batch of one, image[None], and repeat the grey channel of many three times"
    elif len(shape) == 3 or (len(shape) == 4 and 1 in (shape[1], shape[3])):
        remedy = "repeat the grey channel three times, as the last dimension"
    elif len(shape) == 4 and shape[1] == 3:
        remedy = "move the channels to the end, images.permute(0, 2, 3, 1) in PyTorch"
    elif len(shape) == 4 and shape[3] == 4:
        remedy = "lay transparency on a background and leave the fourth channel out"
    else:
        remedy = "bring them into this shape"
    raise MadlabError(f"Images of shape {shape} do not fit (number, height, width, 3): {remedy}.")


def _bytes(images: Tensor) -> Tensor:
    """uint8 (N, H, W, 3) of numbers of any type."""
    if images.dtype == torch.uint8:
        return images
    low, high, whole = _range(images)
    unit = images.is_floating_point() or images.dtype == torch.bool
    if unit and low >= -HALF_A_STEP and high <= 1 + HALF_A_STEP:
        scale = 255
    elif whole and low >= 0 and high <= 255:
        scale = 1
    else:
        kinds = "floats from 0 to 1, or whole numbers from 0 to 255" if unit else "whole numbers from 0 to 255"
        raise MadlabError(f"Pixels from {low:g} to {high:g} ({images.dtype}) have no clear meaning: scale to {kinds}.")
    converted = torch.empty(images.shape, dtype=torch.uint8, device=images.device)
    for start in range(0, len(images), CHUNK):
        converted[start : start + CHUNK] = images[start : start + CHUNK].double().mul(scale).round().clamp(0, 255)
    return converted


def _range(images: Tensor) -> tuple[float, float, bool]:
    """Lowest and highest pixel, and whether all are whole numbers."""
    if images.is_complex():
        raise MadlabError(f"Pixels of type {images.dtype} cannot be used: give real numbers.")
    low, high, whole = float("inf"), float("-inf"), True
    for start in range(0, len(images), CHUNK):
        part = images[start : start + CHUNK].double()
        if not part.isfinite().all():
            raise MadlabError("A split has pixels that are NaN or infinite: repair the images first.")
        low, high = min(low, part.min().item()), max(high, part.max().item())
        whole = whole and bool((part == part.round()).all())
    return low, high, whole
