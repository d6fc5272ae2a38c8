"""A pen for small pictures: shapes in an object's own coordinates, drawn at four times the size and then reduced.

Object coordinates: x to the right and y down, the object fills -1..1. A `Frame` places it in the picture: turned,
scaled, sheared, mirrored, and gently warped, so that no two drawings of a class are copies of each other.
"""

import colorsys
from collections.abc import Sequence
from functools import cache, lru_cache
from math import comb, cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from madlab.benchmarks.pocket.spec import Pixels

SIZE = 36
"""Side of a finished image in pixels."""
FINE = 4 * SIZE
"""Side of the canvas it is drawn on: reducing it by four is the anti-aliasing."""

Colour = tuple[int, int, int]
Points = Sequence[Sequence[float]] | Sequence[np.ndarray] | np.ndarray
Random = np.random.Generator


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Hue in turns, saturation and value from 0 to 1 -> RGB from 0 to 255."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, min(max(saturation, 0), 1), min(max(value, 0), 1))
    return round(255 * red), round(255 * green), round(255 * blue)


def some_colour(
    rng: Random,
    hue: float | None = None,
    saturation: tuple[float, float] = (0.3, 1.0),
    value: tuple[float, float] = (0.3, 1.0),
    spread: float = 0.04,
) -> Colour:
    """A random colour, around `hue` when given."""
    turn, s, v = rng.random(3).tolist()
    if hue is not None:
        turn = hue + spread * (2 * turn - 1)
    return hsv(turn, saturation[0] + s * (saturation[1] - saturation[0]), value[0] + v * (value[1] - value[0]))


def brightness(colour: Colour) -> float:
    return 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]


def contrasting(rng: Random, colour: Colour, least: float = 55) -> Colour:
    """A random colour whose brightness differs from `colour`'s by `least` or more, so that a shape stays visible."""
    while True:
        other = some_colour(rng, saturation=(0.1, 1.0), value=(0.1, 1.0))
        if abs(brightness(other) - brightness(colour)) >= least:
            return other


def mixed(a: Colour, b: Colour, share: float) -> Colour:
    """`a` with a `share` of `b` in it."""
    red, green, blue = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return red, green, blue


class Frame:
    """Where and how an object lies in the picture: a warp, then an affine map to canvas pixels."""

    def __init__(
        self,
        rng: Random,
        scale: tuple[float, float] = (0.55, 0.85),
        turn: float = 0.3,
        shift: float = 0.2,
        shear: float = 0.15,
        warp: float = 0.06,
        mirror: bool = True,
    ):
        """scale: 1 fills the picture. turn: largest rotation in radians. shift, shear, warp: largest, in units of 1."""
        signed, positive = rng.uniform(-1, 1, 8), rng.random(6)
        angle = turn * signed[0]
        self.size = (scale[0] + positive[0] * (scale[1] - scale[0])) * FINE / 2
        rotate = np.array([[cos(angle), sin(angle)], [-sin(angle), cos(angle)]])
        stretch = np.array([[1 + 0.12 * signed[1], 0], [shear * signed[2], 1 + 0.12 * signed[3]]])
        if mirror and positive[1] < 0.5:
            stretch[0, 0] *= -1
        self.matrix = self.size * stretch @ rotate
        self.offset = FINE / 2 * (1 + shift * signed[4:6])
        self.warp = warp * signed[6:8]
        self.frequency, self.phase = 1 + 2 * positive[2:4], 2 * pi * positive[4:6]

    def __call__(self, points: Points) -> np.ndarray:
        """Object coordinates (n, 2) -> canvas pixels (n, 2)."""
        points = np.asarray(points, float)
        bent = points + self.warp * np.sin(points[:, ::-1] * self.frequency + self.phase)
        return bent @ self.matrix + self.offset


@lru_cache(4096)
def arc(start: float, end: float, steps: int) -> np.ndarray:
    """Points on the unit circle, (steps, 2)."""
    angle = 2 * pi * np.linspace(start, end, steps)
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def ellipse(x: float, y: float, rx: float, ry: float, start: float = 0, end: float = 1, steps: int = 24) -> np.ndarray:
    """Points on an ellipse from `start` to `end`, in turns clockwise from the right; (steps, 2)."""
    return arc(start, end, steps) * (rx, ry) + (x, y)


@cache
def bernstein(degree: int, steps: int) -> np.ndarray:
    """Weights of a Bezier curve's control points along it, (steps, degree + 1)."""
    share = np.linspace(0, 1, steps)[:, None]
    number = np.arange(degree + 1)
    return np.array([comb(degree, k) for k in number]) * share**number * (1 - share) ** (degree - number)


def curve(points: Points, steps: int = 16) -> np.ndarray:
    """A Bezier curve with these control points; (steps, 2)."""
    return bernstein(len(points) - 1, steps) @ np.asarray(points, float)


class Pen:
    """Draws an object's shapes on a canvas through a frame, in four colours: main, second, dark, light."""

    def __init__(self, rng: Random, image: Image.Image, frame: Frame, against: Colour = (128, 128, 128)):
        self.rng, self.image, self.frame = rng, image, frame
        self.canvas = ImageDraw.Draw(image)
        self.main = contrasting(rng, against)
        self.second = contrasting(rng, self.main, 35)
        self.dark = some_colour(rng, saturation=(0, 0.6), value=(0.05, 0.3))
        self.light = some_colour(rng, saturation=(0, 0.25), value=(0.8, 1))

    def fill(self, points: Points, colour: Colour) -> None:
        """A closed shape."""
        self.canvas.polygon(self.frame(points).ravel().tolist(), fill=colour)

    def line(self, points: Points, colour: Colour, width: float = 0.1) -> None:
        """An open line, `width` in object units."""
        pixels = self.frame(points).ravel().tolist()
        self.canvas.line(pixels, fill=colour, width=max(2, round(width * self.frame.size)), joint="curve")

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        self.fill([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def disc(self, x: float, y: float, rx: float, colour: Colour, ry: float | None = None) -> None:
        self.fill(ellipse(x, y, rx, rx if ry is None else ry, steps=20), colour)


def cloudy(rng: Random, colour: Colour, contrast: float = 40, cells: int = 5, size: int = FINE) -> Image.Image:
    """A soft uneven background around `colour`; contrast: standard deviation of its coarse cells, 0 to 255."""
    shared = rng.normal(0, contrast, (cells, cells, 1)) + rng.normal(0, contrast / 3, (cells, cells, 3))
    coarse = np.clip(np.asarray(colour) + shared, 0, 255).astype(np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)


def clutter(
    rng: Random, image: Image.Image, count: int, near: Colour, share: float = 0.5, largest: float = 0.3
) -> None:
    """Draw `count` random patches and lines over `image`, in colours between `near` and random ones."""
    canvas = ImageDraw.Draw(image)
    for _ in range(count):
        colour = mixed(near, some_colour(rng), rng.uniform(0, share))
        centre = rng.uniform(0, FINE, 2)
        points = centre + rng.normal(0, largest * FINE / 2, (int(rng.integers(2, 6)), 2))
        flat = points.ravel().tolist()
        if len(points) == 2:
            canvas.line(flat, fill=colour, width=int(rng.integers(2, 9)))
        else:
            canvas.polygon(flat, fill=colour)


def finish(
    rng: Random, image: Image.Image, light: float = 0.3, blur: float = 0.7, noise: float = 8, grey: bool = False
) -> Pixels:
    """Reduce a canvas to a finished image, under uneven light, a little out of focus and with sensor noise.

    light: largest relative change of brightness, over the picture and from side to side. blur: largest radius in
    pixels. noise: largest standard deviation, 0 to 255. Returns uint8 (36, 36, 3).
    """
    small = image.reduce(image.width // SIZE).filter(ImageFilter.GaussianBlur(rng.uniform(0, blur)))
    pixels = np.asarray(small.convert("L").convert("RGB") if grey else small, np.float32)
    side = np.linspace(-1, 1, SIZE)
    angle = rng.uniform(0, 2 * pi)
    slope = np.cos(angle) * side[:, None] + np.sin(angle) * side[None, :]
    gain = 1 + rng.uniform(-light, light) + rng.uniform(0, light) * slope
    grain = rng.normal(0, rng.uniform(0.2, 1) * noise, (SIZE, SIZE, 1 if grey else 3))
    return np.clip(np.rint(pixels * gain[..., None] + grain), 0, 255).astype(np.uint8)
