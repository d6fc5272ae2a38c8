"""Image files as squares of RGB bytes, whatever they were stored as.

Grey of more than 8 bits needs a decision that one image cannot make: 4,000 is nearly black in 16 bits and white in 12.
So such an image keeps its values (`Square.deep`) until all of a folder are known, and one `GreyScale` serves them all.
"""

import contextlib
import io
import math
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor
from torchvision.utils import make_grid

from madlab.errors import MadlabError, reason
from madlab.files.plain import write_bytes

NOT_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"}
"""Formats that Pillow knows by name but does not decode, or only by starting another program."""
USUAL_DEPTHS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 24, 32)
"""Bits per pixel that cameras, scanners and label maps have."""
HALF_A_STEP = 0.5 / 255
"""By how much floats may leave 0 to 1 and still round to bytes, as interpolation makes them do."""
MOST = 1 << 28
"""Pixels of an image that is decoded, at most; Pillow's own limit, 179 million, counts those of the file."""
LARGE = 1 << 25
"""Pixels from which on images are decoded one at a time, because several side by side may not fit into memory."""
TURN = Image.Transpose
TURNS = {
    2: TURN.FLIP_LEFT_RIGHT,
    3: TURN.ROTATE_180,
    4: TURN.FLIP_TOP_BOTTOM,
    5: TURN.TRANSPOSE,
    6: TURN.ROTATE_270,
    7: TURN.TRANSVERSE,
    8: TURN.ROTATE_90,
}
"""EXIF's orientation -> what makes an image upright; it is upright with 1, and with anything else."""
_one_large_at_a_time = threading.Lock()
_without_limit = threading.Lock()


@dataclass(frozen=True)
class Deep:
    """What the pixels of a deep grey image were before it was scaled: their range, and whether all were whole."""

    low: float
    high: float
    whole: bool


@dataclass(frozen=True)
class Square:
    """One image, cut and scaled: uint8 (S, S, 3), or, with `deep`, float32 (S, S) in the file's own values.

    halved: its colours had 16 bits, of which Pillow reads the upper 8.
    """

    pixels: np.ndarray
    deep: Deep | None = None
    halved: bool = False


@dataclass(frozen=True)
class GreyScale:
    """Which values of deep grey images become black and white; bits: the depth that they have, if they have one."""

    black: float
    white: float
    bits: int | None = None

    def bytes_of(self, pixels: np.ndarray) -> np.ndarray:
        """float (S, S) -> uint8 (S, S, 3)."""
        values = (pixels.astype(np.float64) - self.black) * (255 / max(self.white - self.black, 1e-12))
        return np.repeat(np.rint(values).clip(0, 255).astype(np.uint8)[..., None], 3, -1)

    def __str__(self) -> str:
        depth = f" ({self.bits} bit{'s' * (self.bits > 1)})" if self.bits else ""
        return f"{self.black:g} became black and {self.white:g} white{depth}"


def scale_of(images: Iterable[Deep]) -> GreyScale:
    """One scale for all: for whole numbers the smallest usual depth that holds them, else 0 to 1, else their range."""
    images = list(images)
    low, high = min(image.low for image in images), max(image.high for image in images)
    if low >= 0 and all(image.whole for image in images):
        for bits in USUAL_DEPTHS:
            if high < 2**bits:
                return GreyScale(0, 2**bits - 1, bits)
    return GreyScale(0, 1) if low >= 0 and high <= 1 else GreyScale(low, high)


def read_image(
    file: Path | str | BinaryIO,
    size: int,
    squash: bool = False,
    name: str | None = None,
    grey: GreyScale | None = None,
) -> np.ndarray:
    """One image file as uint8 (size, size, 3); see `square_of`.

    name: what to call an open file in the message of the MadlabError for an image that cannot be read.
    """
    return _scaled(read_square(file, size, squash, name), grey)


def read_square(file: Path | str | BinaryIO, size: int, squash: bool = False, name: str | None = None) -> Square:
    """As `read_image`, but a deep grey image keeps its values, so that many can be scaled alike."""
    if isinstance(file, str | Path) and os.path.exists(file) and not os.path.isfile(file):
        # A pipe would be waited for.
        raise MadlabError(f"{name or file} cannot be read as an image (it is not a plain file): take it out.")
    try:
        with _opened(file) as image:
            # A JPEG decodes at a half, quarter or eighth, if that is still twice as large.
            image.draft(None, (2 * size, 2 * size))
            pixels = image.width * image.height
            if pixels > MOST:
                raise MadlabError(
                    f"{name or file} has {pixels / 1e6:,.0f} megapixels, and madlab reads at most {MOST / 1e6:,.0f}: "
                    "save it smaller, or take it out."
                )
            large = pixels > LARGE
            with _one_large_at_a_time if large else contextlib.nullcontext():
                return _cut(image, size, squash)
    except MadlabError:
        raise
    except FileNotFoundError as error:
        raise MadlabError(f"There is no image {name or file}: check its path.") from error
    except Exception as error:  # damaged bytes make Pillow's decoders raise nearly anything
        unknown = isinstance(error, UnidentifiedImageError)
        why = "it is empty or begins like no format that Pillow can read" if unknown else reason(error)
        if isinstance(error, OSError) and error.strerror:  # without the file's name, which is said already
            why = error.strerror
        raise MadlabError(f"{name or file} cannot be read as an image ({why}): repair it or take it out.") from error


def square_of(image: Image.Image, size: int, squash: bool = False, grey: GreyScale | None = None) -> np.ndarray:
    """An image as uint8 (size, size, 3): upright by its EXIF orientation, short side scaled, centre cut out.

    squash: the whole image is pressed into the square instead, whatever its shape.
    Transparency is laid on white; of several frames the first is taken. grey: the scale for grey of more than 8 bits;
    without one it is scaled by the depth or range that this image has (`scale_of`).
    """
    return _scaled(_cut(image, size, squash), grey)


def is_image(file: Path) -> bool:
    """Whether to take a file for an image: by its ending, or, where that says nothing, by its first bytes.

    A link that leads nowhere counts by its ending, so that reading it tells what is wrong; a pipe or device never does.
    """
    if file.suffix.lower() in _endings():
        return file.is_file() or not file.exists()
    if not file.is_file():
        return False
    try:
        with Image.open(file, formats=_formats(with_magic=True)):
            return True
    except UnidentifiedImageError:
        return False
    except Exception:  # it cannot be opened, or begins like an image and is damaged: reading it tells how
        return True


@contextlib.contextmanager
def _opened(file: Path | str | BinaryIO) -> Iterator[Image.Image]:
    """As Image.open, without Pillow's own limit of pixels, which counts those that a draft leaves out."""
    with _without_limit:  # which is Pillow's for all threads
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(file, formats=_formats())
        finally:
            Image.MAX_IMAGE_PIXELS = before
    with image:
        yield image


@cache
def _formats(with_magic: bool = False) -> tuple[str, ...]:
    """Pillow's names of what it decodes; with_magic: only formats known by their first bytes, so nothing is guessed."""
    Image.init()
    known = (name for name, (_, accept) in Image.OPEN.items() if accept or not with_magic)
    return tuple(name for name in known if name not in NOT_PICTURES)


@cache
def _endings() -> frozenset[str]:
    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in _formats())


def _scaled(square: Square, grey: GreyScale | None) -> np.ndarray:
    return square.pixels if square.deep is None else (grey or scale_of([square.deep])).bytes_of(square.pixels)


def _cut(image: Image.Image, size: int, squash: bool) -> Square:
    stored = str(getattr(image, "tile", ""))  # how Pillow will decode the file, such as "RGB;16B"
    upright, deep = _upright(image), None
    if upright.mode == "F" or upright.mode.startswith("I"):
        values = np.asarray(upright)
        deep, upright = _range(values), Image.fromarray(values.astype(np.float32))
    else:
        upright = _to_rgb(upright)
    width, height = upright.size
    if squash:
        box = (0, 0, width, height)
    else:
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2  # whole pixels, so that the right size stays as it is
        box = (left, top, left + side, top + side)
    pixels = np.asarray(upright.resize((size, size), Image.Resampling.LANCZOS, box=box))
    return Square(pixels, deep, halved=deep is None and ";16" in stored)


def _upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF orientation has it. Other tags do not count, whatever rubbish a camera wrote there."""
    image.load()  # Pillow turns TIFFs by itself when it loads them, and then takes their tag away
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged tags make Pillow raise nearly anything, and say nothing about the pixels
        orientation = 1
    how = TURNS.get(orientation)
    return image if how is None else image.transpose(how)


def _range(values: np.ndarray) -> Deep:
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("its pixels are not all numbers")
    return Deep(low, high, values.dtype.kind in "iu" or bool((values == np.rint(values)).all()))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def write_picture(path: Path | str, images: Tensor, most: int = 32, across: int = 8) -> None:
    """Write the first `most` of some images, uint8 (B, 3, H, W), beside and below each other into one PNG file."""
    grid = make_grid(images[:most].cpu(), nrow=across, padding=2, pad_value=255)
    file = io.BytesIO()
    Image.fromarray(grid.permute(1, 2, 0).numpy()).save(file, "PNG")
    write_bytes(path, file.getvalue())
