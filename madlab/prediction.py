"""The class of new pictures: each is prepared exactly as its domain was trained, and run through that domain's network.

A picture is one of these, whatever its size:

- a path of an image file, read upright (EXIF) as `madlab.files.pictures` reads training images, or a PIL image;
- an array or tensor of uint8, 0 to 255, or of floating-point numbers from 0 to 1, not yet normalised. Its shape is
  (height, width, 3) or (3, height, width); with one channel, or none of its own (height, width), it is grey.

What has two meanings is refused: pixels of other ranges, and shapes in which the channels could be first or last.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from madlab.adapters.base import whole_number
from madlab.errors import MadlabError, reason, remark
from madlab.files.pictures import HALF_A_STEP, GreyScale, read_image, square_of
from madlab.sizes import ImageSize, image_size
from madlab.view import DomainView

Picture = Path | str | Image.Image | np.ndarray | Tensor

BATCH = 64
"""Pictures that are prepared, and run, at a time."""


class Guess(NamedTuple):
    """One class that a picture may be of, and how probable the network finds it, from 0 to 1."""

    name: str
    probability: float


def predict(
    view_of: Callable[[str], DomainView], images: Picture | Iterable[Picture], domain: str | Sequence[str], top: int
) -> list[list[Guess]]:
    """For each picture the `top` most probable classes of its domain, all of them where it has fewer.

    view_of: the network of a domain. domain: one for all pictures, or one per picture. Raises MadlabError, saying which
    picture, for what cannot be read or has no clear meaning.
    """
    most = checked_top(top)
    pictures = _as_list(images)
    names = [domain] * len(pictures) if isinstance(domain, str) else list(domain)
    if len(names) != len(pictures):
        raise MadlabError(f"{len(pictures)} pictures came with {len(names)} domain names: give one name per picture.")
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    views = {name: view_of(name) for name in places}  # an unknown domain is told before anything is read
    guesses: list[list[Guess]] = [[]] * len(pictures)
    for name, own in places.items():
        size, facts = prepared_size(views[name]), views[name].facts
        if not size.declared:
            remark(size.notice)
        for some in (own[start : start + BATCH] for start in range(0, len(own), BATCH)):
            numbered = ((f"picture {place + 1}", pictures[place]) for place in some)
            made = [as_square(one, size.resize, what, facts.squash, facts.grey_scale) for what, one in numbered]
            squares = np.stack(made)
            for place, row in zip(some, probabilities(views[name], squares, size.crop), strict=True):
                guesses[place] = top_classes(row, views[name].facts.class_names, most)
    return guesses


def checked_top(top: int) -> int:
    """How many classes are asked for; MadlabError unless it is a whole number from 1 on."""
    if (most := whole_number(top) or 0) < 1:
        raise MadlabError(f"The {top!r:.60} most probable classes are not possible: choose a whole number from 1 on.")
    return most


def prepared_size(view: DomainView) -> ImageSize:
    """The size at which a domain's pictures are prepared: that of its file, else that of its base network."""
    facts = view.facts
    return ImageSize(facts.resize, facts.crop) if facts.resize and facts.crop else image_size(view.network)


def as_square(
    picture: Picture, size: int, what: str, squash: bool = False, grey: GreyScale | None = None
) -> np.ndarray:
    """A picture as uint8 (size, size, 3): short side scaled, centre cut out; squash: all of it pressed into the square.

    what: how messages call it. grey: the scale of grey of more than 8 bits, that of the picture's domain.
    """
    if isinstance(picture, str | os.PathLike):
        return read_image(Path(picture), size, squash, grey=grey)
    if not isinstance(picture, Image.Image):
        picture = Image.fromarray(_bytes(picture, what))
    try:
        return square_of(picture, size, squash, grey)
    except Exception as error:  # an image that was opened and not yet read may be damaged in any way
        raise MadlabError(f"{_capital(what)} cannot be read ({reason(error)}): repair it or leave it out.") from error


@torch.inference_mode()
def probabilities(view: DomainView, squares: np.ndarray, crop: int) -> Tensor:
    """float32 (B, classes) on the CPU, each row adding up to 1.

    squares: uint8 (B, S, S, 3) as `as_square` makes them; crop: side of the window that is cut from their centre.
    """
    facts = view.facts
    if view.channels != 3 or not facts.normalization:
        why = f"takes {view.channels} channels" if view.channels != 3 else "was added without a normalization"
        raise MadlabError(f"Domain {facts.name!r} {why}: prepare a batch yourself and call net(batch, domain).")
    edge = (squares.shape[1] - crop) // 2
    cut = torch.from_numpy(squares[:, edge : edge + crop, edge : edge + crop]).to(view.like.device)
    mean, std = (torch.tensor(facts.normalization[key], device=cut.device).view(3, 1, 1) for key in ("mean", "std"))
    before = view.training
    view.eval()
    try:
        return view((cut.permute(0, 3, 1, 2).float() / 255 - mean) / std).float().softmax(1).cpu()
    finally:
        view.train(before)


def top_classes(row: Tensor, class_names: Sequence[str], top: int) -> list[Guess]:
    """The likeliest first; among equals the class that comes first. row: probabilities (classes,)."""
    ordered = row.argsort(descending=True, stable=True)[:top].tolist()
    return [Guess(class_names[place], row[place].item()) for place in ordered]


def _as_list(images: Picture | Iterable[Picture]) -> Sequence[Picture]:
    """The pictures one by one; a path, a PIL image and an array of up to three dimensions are one picture."""
    single = isinstance(images, str | os.PathLike | Image.Image)
    if single or (isinstance(images, np.ndarray | Tensor) and images.ndim < 4):
        return [images]  # type: ignore[list-item]
    if not isinstance(images, Iterable):
        raise MadlabError(f"Pictures are paths, PIL images, arrays or tensors, and {images!r:.60} is none: give some.")
    return list(images)


def _bytes(picture: np.ndarray | Tensor, what: str) -> np.ndarray:
    """uint8 (H, W, 3) of an array or tensor that has only one meaning."""
    pixels = _as_array(picture, what)
    if pixels.dtype != np.uint8:
        if pixels.dtype.kind != "f":
            raise MadlabError(
                f"{_capital(what)} has pixels of type {pixels.dtype}: give uint8 from 0 to 255, or floats from 0 to 1."
            )
        low, high = (float(pixels.min()), float(pixels.max())) if pixels.size else (0.0, 0.0)
        if not (low >= -HALF_A_STEP and high <= 1 + HALF_A_STEP):
            raise MadlabError(
                f"{_capital(what)} has floats from {low:g} to {high:g}, which may be normalised or not: give floats "
                "from 0 to 1, or uint8 from 0 to 255."
            )
        pixels = np.rint(pixels.astype(np.float64) * 255).clip(0, 255).astype(np.uint8)
    last = _channels_last(pixels, what)
    return np.ascontiguousarray(np.broadcast_to(last, (*last.shape[:2], 3)))


def _as_array(picture: object, what: str) -> np.ndarray:
    if isinstance(picture, np.ndarray):
        return picture
    if not isinstance(picture, Tensor):
        kind = type(picture).__name__
        raise MadlabError(f"{_capital(what)} is of type {kind}: give a path, a PIL image, an array or a tensor.")
    if picture.layout != torch.strided or picture.is_meta or picture.is_quantized:
        raise MadlabError(f"{_capital(what)} is a tensor of an unusual kind: give a dense one of plain numbers.")
    picture = picture.detach().cpu()
    return (picture.float() if picture.is_floating_point() else picture).numpy()


def _channels_last(pixels: np.ndarray, what: str) -> np.ndarray:
    """(H, W, 1 or 3) of (H, W), (H, W, C) or (C, H, W)."""
    if pixels.ndim == 2 and pixels.size:
        return pixels[..., None]
    places = [place for place in (0, 2) if pixels.ndim == 3 and pixels.size and pixels.shape[place] in (1, 3)]
    if len(places) == 1:
        return np.moveaxis(pixels, places[0], 2)
    why = "could have its channels first or last" if places else "is not a picture of one or three channels"
    raise MadlabError(f"{_capital(what)} of shape {pixels.shape} {why}: give a PIL image, or (height, width, 3).")


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
