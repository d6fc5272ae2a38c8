"""Images and figures as they stand in a page: data URIs, so that no file lies beside it and nothing is fetched."""

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

from madlab.figures import DARK, STYLE, blank
from madlab.inspection.answers import Answers

SIDE = 160
"""Pixels that an image in a page has at most; smaller ones are shown enlarged, pixel by pixel."""
GUESSES = 3
"""Classes that are told beside an image."""
DOTS = 200
"""Per inch, of figures: twice what a usual screen has, for those that have it."""


@dataclass(frozen=True)
class Figure:
    """A figure for a light and for a dark page, as data URIs; width and height in CSS pixels."""

    light: str
    dark: str
    alt: str
    width: int
    height: int


@dataclass(frozen=True)
class Answered:
    """One image with what a run said of it. place: in its split, from 0. guesses: classes with their probabilities.

    coarse: whether the image is so small that its pixels are shown as squares.
    """

    uri: str
    alt: str
    place: int
    label: str
    guesses: list[tuple[str, float]]
    coarse: bool


def figure(draw: Callable[[Any], None], alt: str, size: tuple[float, float], columns: int = 1) -> Figure:
    """What `draw` draws on the Axes it is given, an array of them for several columns. size: in inches."""
    light, dark = (_drawn(draw, size, columns, style) for style in (STYLE, STYLE | DARK))
    return Figure(light, dark, alt, round(100 * size[0]), round(100 * size[1]))


def answered(answers: Answers, places: Iterable[int]) -> list[Answered]:
    """The images of these places with the run's answers."""
    found = []
    for place in map(int, places):
        row = answers.probabilities[place]
        best = np.argsort(-row, kind="stable")[:GUESSES]
        guesses = [(answers.class_names[k], float(row[k])) for k in best]
        label = answers.class_names[int(answers.labels[place])]
        told = f"An image of {label}, taken for {guesses[0][0]} with {guesses[0][1]:.0%}."
        picture = Image.fromarray(answers.images[place])
        coarse = picture.width <= SIDE // 2
        picture.thumbnail((SIDE, SIDE))
        found.append(Answered(_webp(picture, lossless=coarse), told, place, label, guesses, coarse))
    return found


def _drawn(draw: Callable[[Any], None], size: tuple[float, float], columns: int, style: dict[str, Any]) -> str:
    with matplotlib.rc_context(style):
        drawn = blank(size, layout="constrained")
        drawn.set_dpi(DOTS)
        draw(drawn.subplots(1, columns))
        canvas: Any = drawn.canvas
        canvas.draw()
        picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    return _webp(picture, lossless=True)


def _webp(picture: Image.Image, lossless: bool) -> str:
    data = BytesIO()
    picture.save(data, "webp", lossless=lossless, quality=80, method=2)
    return f"data:image/webp;base64,{base64.b64encode(data.getvalue()).decode('ascii')}"
