"""Flowers from above, told apart by petals and heart."""

from dataclasses import dataclass
from math import pi

import numpy as np
from PIL import Image

from madlab.benchmarks.pocket.drawing import (
    Colour,
    Frame,
    Pen,
    Random,
    cloudy,
    clutter,
    curve,
    finish,
    mixed,
    some_colour,
)
from madlab.benchmarks.pocket.spec import Pixels, PocketSpec

YELLOW, ORANGE, RED, PINK, VIOLET, BLUE = 0.145, 0.08, 0.99, 0.91, 0.78, 0.64


@dataclass(frozen=True)
class Bloom:
    """A flower from above: its petals, their shape and hues (a hue of -1 is white), and its heart.

    wide: a petal's half width, its length is 1. shape: where the petal is widest and how it ends. heart: radius.
    layers: rings of petals, each smaller and turned. spots: nectar guides along the petals.
    """

    petals: int
    wide: float
    shape: str
    hues: tuple[float, ...]
    heart: float = 0.22
    layers: int = 1
    spots: bool = False


BLOOMS = {
    "anemone": Bloom(8, 0.3, "round", (VIOLET, PINK, RED), 0.3),
    "aster": Bloom(18, 0.09, "round", (VIOLET, BLUE, PINK), 0.3),
    "buttercup": Bloom(5, 0.45, "round", (YELLOW,), 0.2),
    "clematis": Bloom(6, 0.28, "pointed", (VIOLET, BLUE, PINK), 0.14),
    "columbine": Bloom(5, 0.3, "pointed", (BLUE, VIOLET, YELLOW), 0.12, 2),
    "cosmos": Bloom(8, 0.34, "notched", (PINK, -1, RED), 0.2),
    "dahlia": Bloom(11, 0.2, "pointed", (RED, ORANGE, PINK, YELLOW), 0.12, 3),
    "daisy": Bloom(16, 0.11, "round", (-1,), 0.32),
    "dog rose": Bloom(5, 0.5, "notched", (PINK, -1), 0.22),
    "forget-me-not": Bloom(5, 0.4, "round", (BLUE,), 0.18),
    "gazania": Bloom(13, 0.17, "pointed", (ORANGE, YELLOW), 0.3, 1, True),
    "geranium": Bloom(5, 0.38, "notched", (RED, PINK, VIOLET), 0.1, 1, True),
    "hibiscus": Bloom(5, 0.55, "round", (RED, PINK, ORANGE), 0.3, 1, True),
    "lily": Bloom(6, 0.25, "pointed", (ORANGE, -1, PINK), 0.1, 1, True),
    "lotus": Bloom(9, 0.24, "pointed", (PINK, -1), 0.2, 2),
    "pansy": Bloom(5, 0.52, "round", (VIOLET, YELLOW, BLUE), 0.14, 2),
    "poppy": Bloom(4, 0.68, "round", (RED, ORANGE), 0.26),
    "primrose": Bloom(5, 0.42, "notched", (YELLOW, PINK, -1), 0.22),
    "sunflower": Bloom(18, 0.13, "pointed", (YELLOW, ORANGE), 0.48),
    "wallflower": Bloom(4, 0.42, "notched", (YELLOW, ORANGE, VIOLET), 0.12),
    "water lily": Bloom(12, 0.17, "pointed", (-1, PINK, YELLOW), 0.16, 2),
    "windflower": Bloom(6, 0.36, "round", (-1, BLUE), 0.16),
}

PETALS = {
    "round": [(0.05, 0.3), (0.3, 0.75), (0.65, 1), (0.9, 0.75), (1, 0)],
    "pointed": [(0.05, 0.35), (0.3, 0.95), (0.55, 0.95), (0.8, 0.5), (1, 0)],
    "notched": [(0.05, 0.2), (0.4, 0.6), (0.75, 1), (1, 0.75), (0.85, 0)],
}


def petal_colour(rng: Random, hue: float) -> Colour:
    return some_colour(rng, hue, (0.0, 0.1), (0.85, 1)) if hue < 0 else some_colour(rng, hue, (0.5, 1), (0.6, 1), 0.03)


def paint_bloom(pen: Pen, bloom: Bloom) -> None:
    rng = pen.rng
    colour = petal_colour(rng, float(rng.choice(bloom.hues)))
    half = np.array(PETALS[bloom.shape]) * [1, bloom.wide * rng.uniform(0.92, 1.08)]
    petal = np.concatenate([half, half[::-1] * [1, -1]])
    for layer in range(bloom.layers):
        size = 1 - 0.28 * layer
        for turn in np.arange(bloom.petals) + 0.5 * layer + rng.uniform():
            angle = 2 * pi * turn / bloom.petals + rng.normal(0, 0.25 / bloom.petals)
            along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
            place = size * rng.uniform(0.92, 1.05) * np.stack([along, across])
            shade = mixed(colour, (20, 20, 40), rng.uniform(0, 0.3) + 0.1 * layer)
            pen.fill(petal @ place, shade)
            if bloom.spots:
                pen.line([0.2 * place[0], 0.6 * place[0]], mixed(colour, (60, 0, 30), 0.7), 0.1)
    heart = some_colour(rng, float(rng.choice([YELLOW, ORANGE, 0.25])), (0.6, 1), (0.3, 0.9))
    pen.disc(0, 0, bloom.heart, heart)
    pen.disc(0, 0, 0.5 * bloom.heart, mixed(heart, (30, 20, 10), 0.5))


def leaves(rng: Random) -> tuple[Image.Image, Colour]:
    """A background of foliage, or now and then of earth."""
    green = some_colour(rng, float(rng.choice([0.3, 0.3, 0.1])), (0.2, 0.8), (0.15, 0.65), 0.08)
    image = cloudy(rng, green, 22)
    for _ in range(int(rng.integers(2, 7))):
        blade = Pen(rng, image, Frame(rng, (0.3, 0.9), pi, 1, 0.2), green)
        shade = mixed(green, some_colour(rng, 0.3, (0.3, 0.9), (0.2, 0.8)), rng.uniform(0.2, 0.8))
        blade.fill([*curve([(-1, 0), (0, -0.6), (1, 0)], 8), *curve([(1, 0), (0, 0.6), (-1, 0)], 8)], shade)
    return image, green


def draw_flower(rng: Random, label: int) -> Pixels:
    image, green = leaves(rng)
    clutter(rng, image, int(rng.integers(0, 4)), green, 0.6, 0.15)
    pen = Pen(rng, image, Frame(rng, (0.5, 0.85), pi, 0.25, 0.3), green)
    paint_bloom(pen, list(BLOOMS.values())[label])
    return finish(rng, image, light=0.35)


SPECS = (
    PocketSpec(
        "flowers",
        "vgg-flowers",
        "flowers from above, told apart by petals and heart",
        tuple(BLOOMS),
        (40, 11, 20),
        draw_flower,
    ),
)
