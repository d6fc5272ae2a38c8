"""Invented letters, drawn by a hand that never writes twice the same, and real handwritten digits in the street."""

from functools import cache
from zlib import crc32

import numpy as np
from PIL import Image, ImageChops

from madlab.benchmarks.pocket.drawing import (
    FINE,
    Frame,
    Pen,
    Random,
    cloudy,
    clutter,
    contrasting,
    curve,
    finish,
    some_colour,
)
from madlab.benchmarks.pocket.spec import Pixels, PocketSpec

LETTERS = tuple(f"{consonant}{vowel}" for consonant in "bdfghklmnprstvz" for vowel in "aeiou")[:60]


@cache
def strokes_of(label: int) -> tuple[np.ndarray, ...]:
    """The strokes that make letter `label`: two to four, each with two to four control points, filling -1..1."""
    rng = np.random.default_rng([crc32(b"letters"), label])
    while True:
        strokes, pen_at = [], rng.integers(0, 5, 2)
        for _ in range(int(rng.integers(2, 5))):
            points = np.array([pen_at, *rng.integers(0, 5, (int(rng.integers(1, 4)), 2))])
            strokes.append(points)
            pen_at = points[int(rng.integers(len(points)))]
        lines = [curve(points) for points in strokes]
        lengths = [np.linalg.norm(np.diff(line, axis=0), axis=1).sum() for line in lines]
        low, high = np.min(np.concatenate(lines), 0), np.max(np.concatenate(lines), 0)
        # A letter is neither a dash nor a dot: it has strokes worth the name, in both directions.
        if min(lengths) > 1.2 and sum(lengths) > 6 and (high - low).min() > 0.5 * (high - low).max():
            return tuple(2 * (points - (low + high) / 2) / (high - low).max() for points in strokes)


def draw_letter(rng: Random, label: int) -> Pixels:
    ink, paper = int(rng.integers(0, 60)), int(rng.integers(225, 256))
    image = Image.new("RGB", (FINE, FINE), (paper, paper, paper))
    pen = Pen(rng, image, Frame(rng, (0.42, 0.78), 0.35, 0.2, 0.35, 0.18, mirror=False))
    width = rng.uniform(0.09, 0.16)
    for points in strokes_of(label):
        moved = points + rng.normal(0, 0.14, points.shape)
        pen.line(curve(moved), (ink, ink, ink), width)
    return finish(rng, image, light=0.05, blur=0.5, noise=5, grey=True)


@cache
def scans() -> tuple[np.ndarray, ...]:
    """scikit-learn's handwritten digits (UCI; 1,797 scans of 8 x 8), by class: uint8 (n, 8, 8), ink is 255."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    ink = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    order = np.random.default_rng(crc32(b"digits")).permutation(len(ink))
    return tuple(ink[order[bunch.target[order] == digit]] for digit in range(10))


def placed(scan: np.ndarray, size: float, angle: float, centre: np.ndarray) -> Image.Image:
    """The scan as a mask of the canvas, `size` canvas pixels wide around `centre`, turned by `angle` radians."""
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) * 8 / size
    a, b = turn
    shift = 4 - turn @ centre
    mask = Image.fromarray(np.pad(scan, 1)).transform(
        (FINE, FINE),
        Image.Transform.AFFINE,
        (a[0], a[1], shift[0] + 1, b[0], b[1], shift[1] + 1),
        Image.Resampling.BICUBIC,
    )
    return mask.point(lambda level: min(255, max(0, 3 * level - 220)))


def draw_digit(rng: Random, label: int, number: int) -> Pixels:
    """A real scan and its neighbours: all of the same number, so that no scan is in two splits."""
    wall = some_colour(rng, saturation=(0.05, 0.8), value=(0.2, 0.95))
    image = cloudy(rng, wall, 22)
    clutter(rng, image, int(rng.integers(0, 4)), wall, 0.4, 0.4)
    size, angle = rng.uniform(0.6, 0.85) * FINE, rng.uniform(-0.25, 0.25)
    centre = FINE / 2 * (1 + rng.uniform(-0.15, 0.15, 2))
    mask = placed(scans()[label][number], size, angle, centre)
    along = np.array([np.cos(angle), np.sin(angle)]) * size * rng.uniform(0.72, 0.85)
    for side in (-1, 1):  # house numbers have neighbours, cut off by the picture's edge
        if rng.uniform() < 0.6:
            neighbour = scans()[int(rng.integers(10))][number]
            mask = ImageChops.lighter(mask, placed(neighbour, size, angle, centre + side * along))
    image.paste(contrasting(rng, wall, 45), mask=mask)
    return finish(rng, image, light=0.35, blur=0.9, noise=10)


SPECS = (
    PocketSpec(
        "glyphs", "omniglot", "letters of an invented script, few of each", LETTERS, (14, 4, 8), draw_letter, flip=False
    ),
    PocketSpec(
        "digits",
        "svhn",
        "real handwritten digits (scikit-learn) as house numbers",
        tuple("0123456789"),
        (100, 25, 48),
        draw_digit,
        flip=False,
        from_scans=True,
    ),
)
