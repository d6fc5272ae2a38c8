"""Landscapes with one main thing in them: the pocket benchmark's own little ImageNet."""

import numpy as np
from PIL import Image, ImageDraw

from madlab.benchmarks.pocket.drawing import (
    FINE,
    Colour,
    Frame,
    Pen,
    Random,
    cloudy,
    clutter,
    curve,
    ellipse,
    finish,
    mixed,
    some_colour,
)
from madlab.benchmarks.pocket.spec import Pixels, PocketSpec


def balloon(pen: Pen) -> None:
    pen.line([(-0.5, -0.1), (-0.15, 0.75), (0.15, 0.75), (0.5, -0.1)], pen.dark, 0.05)
    pen.disc(0, -0.35, 0.62, pen.main)
    pen.disc(0, -0.35, 0.25, pen.second, 0.62)
    pen.box(-0.17, 0.7, 0.17, 0.95, pen.dark)


def boat(pen: Pen) -> None:
    pen.line([(0, 0.4), (0, -0.95)], pen.dark, 0.09)
    pen.fill([(0.08, -0.9), (0.75, 0.25), (0.08, 0.25)], pen.light)
    pen.fill([(-0.08, -0.7), (-0.6, 0.25), (-0.08, 0.25)], pen.second)
    pen.fill([(-0.95, 0.4), (0.95, 0.4), (0.65, 0.85), (-0.65, 0.85)], pen.main)


def bridge(pen: Pen) -> None:
    pen.box(-1.6, -0.15, 1.6, 0.1, pen.main)
    for x in (-0.65, 0.65):
        pen.box(x - 0.1, -0.8, x + 0.1, 0.8, pen.main)
    for left, right in ((-1.9, -0.65), (-0.65, 0.65), (0.65, 1.9)):
        pen.line(curve([(left, -0.75), ((left + right) / 2, 0.45), (right, -0.75)]), pen.main, 0.08)


def cactus(pen: Pen) -> None:
    pen.line([(0, 1), (0, -0.9)], pen.main, 0.34)
    for side, low in ((-1, 0.3), (1, pen.rng.uniform(-0.1, 0.3))):
        pen.line([(0, low), (side * 0.55, low), (side * 0.55, low - 0.6)], pen.main, 0.24)
    for y in np.linspace(-0.7, 0.8, 6):
        pen.line([(-0.05, y), (0.05, y - 0.08)], pen.light, 0.04)


def castle(pen: Pen) -> None:
    pen.box(-0.7, -0.1, 0.7, 0.9, pen.main)
    for x in (-0.75, 0.75):
        pen.box(x - 0.22, -0.6, x + 0.22, 0.9, pen.main)
        for tooth in (-0.2, 0, 0.2):
            pen.box(x + tooth - 0.07, -0.8, x + tooth + 0.07, -0.55, pen.main)
    for x in (-0.4, -0.13, 0.13, 0.4):
        pen.box(x - 0.07, -0.3, x + 0.07, -0.05, pen.main)
    pen.fill([*ellipse(0, 0.45, 0.2, 0.2, 0.5, 1, 9), (0.2, 0.9), (-0.2, 0.9)], pen.dark)


def fir(pen: Pen) -> None:
    pen.box(-0.12, 0.5, 0.12, 1, pen.dark)
    for y, width in ((0.65, 0.75), (0.15, 0.6), (-0.35, 0.42)):
        pen.fill([(-width, y), (width, y), (0, y - 0.75)], pen.main)


def fish(pen: Pen) -> None:
    pen.fill([(0.4, 0), (0.95, -0.45), (0.8, 0), (0.95, 0.45)], pen.second)
    pen.disc(-0.15, 0, 0.72, pen.main, 0.42)
    pen.fill([(-0.25, -0.35), (0.25, -0.75), (0.3, -0.3)], pen.second)
    pen.disc(-0.55, -0.1, 0.1, pen.light)
    pen.line(ellipse(-0.45, 0, 0.2, 0.35, -0.2, 0.2, 8), pen.dark, 0.05)


def house(pen: Pen) -> None:
    if pen.rng.uniform() < 0.6:
        pen.box(0.3, -0.85, 0.52, -0.2, pen.dark)
    pen.box(-0.7, -0.15, 0.7, 0.9, pen.main)
    pen.fill([(-0.9, -0.1), (0, -0.9), (0.9, -0.1)], pen.second)
    pen.box(-0.15, 0.35, 0.15, 0.9, pen.dark)
    for x in (-0.45, 0.45):
        pen.box(x - 0.15, 0.1, x + 0.15, 0.4, pen.light)


def lighthouse(pen: Pen) -> None:
    pen.fill([(-0.2, -0.55), (0.2, -0.55), (0.38, 0.95), (-0.38, 0.95)], pen.light)
    for y in (-0.25, 0.2, 0.65):
        half = 0.27 + 0.11 * (y + 0.25)
        pen.box(-half, y - 0.12, half, y + 0.12, pen.main)
    pen.box(-0.17, -0.8, 0.17, -0.55, pen.second)
    pen.fill([(-0.25, -0.8), (0.25, -0.8), (0, -1)], pen.dark)


def rocket(pen: Pen) -> None:
    pen.fill([(-0.15, 0.6), (0.15, 0.6), (0, 1)], pen.second)
    pen.fill([(-0.6, 0.7), (-0.25, 0.05), (0.25, 0.05), (0.6, 0.7)], pen.second)
    pen.fill(
        [*curve([(0, -1), (-0.45, -0.5), (-0.25, 0.65)], 8), *curve([(0.25, 0.65), (0.45, -0.5), (0, -1)], 8)], pen.main
    )
    pen.disc(0, -0.25, 0.14, pen.light)


def snowman(pen: Pen) -> None:
    for y, radius in ((0.5, 0.48), (-0.12, 0.35), (-0.6, 0.25)):
        pen.disc(0, y, radius, pen.light)
    for side in (-1, 1):
        pen.line([(side * 0.3, -0.15), (side * 0.85, pen.rng.uniform(-0.6, 0.1))], pen.dark, 0.07)
    pen.box(-0.2, -1, 0.2, -0.75, pen.dark)
    pen.fill([(0, -0.6), (0, -0.5), (0.35, -0.52)], pen.main)


def tent(pen: Pen) -> None:
    pen.fill([(-0.95, 0.7), (0.1, -0.65), (0.45, 0.7)], pen.main)
    pen.fill([(0.1, -0.65), (0.95, 0.5), (0.45, 0.7)], pen.second)
    pen.fill([(-0.45, 0.7), (0.1, -0.4), (0, 0.7)], pen.dark)


def train(pen: Pen) -> None:
    pen.box(-0.95, -0.7, -0.3, 0.45, pen.main)
    pen.box(-0.8, -0.5, -0.45, -0.1, pen.light)
    pen.box(-0.3, -0.2, 0.85, 0.45, pen.second)
    pen.box(0.45, -0.65, 0.65, -0.15, pen.dark)
    for x in (-0.65, -0.05, 0.5):
        pen.disc(x, 0.55, 0.24, pen.dark)
    if pen.rng.uniform() < 0.6:
        pen.disc(0.65, -0.95, 0.25, pen.light, 0.16)


def tree(pen: Pen) -> None:
    pen.fill([(-0.1, 0), (0.1, 0), (0.17, 1), (-0.17, 1)], pen.dark)
    for x, y in ((-0.4, 0), (0.4, 0), (-0.2, -0.45), (0.25, -0.45)):
        pen.disc(x, y, pen.rng.uniform(0.38, 0.5), pen.main)


def volcano(pen: Pen) -> None:
    pen.fill([(-1.2, 0.85), (-0.25, -0.45), (0.25, -0.45), (1.2, 0.85)], pen.main)
    pen.fill([(-0.25, -0.45), (0.25, -0.45), (0.4, -0.05), (0.1, 0.1), (0, -0.15), (-0.25, 0.35)], pen.second)
    for x in (-0.1, 0.15, 0.3):
        pen.disc(x, pen.rng.uniform(-0.95, -0.65), 0.2, pen.light)


def windmill(pen: Pen) -> None:
    pen.fill([(-0.22, -0.3), (0.22, -0.3), (0.38, 0.95), (-0.38, 0.95)], pen.main)
    start = pen.rng.uniform(0, 0.25)
    for x, y in ellipse(0, -0.3, 0.72, 0.72, start, start + 0.75, 4):
        pen.line([(0, -0.3), (x, y)], pen.light, 0.16)
    pen.disc(0, -0.3, 0.1, pen.dark)


SCENES = (
    balloon, boat, bridge, cactus, castle, fir, fish, house,
    lighthouse, rocket, snowman, tent, train, tree, volcano, windmill,
)  # fmt: skip


def landscape(rng: Random) -> tuple[Image.Image, Colour]:
    """Sky, perhaps a sun and hills, ground: a canvas, and the colour of its sky."""
    sky = some_colour(rng, saturation=(0.1, 0.7), value=(0.2, 1))
    ground = some_colour(rng, saturation=(0.2, 0.8), value=(0.2, 0.9))
    image = cloudy(rng, sky, rng.uniform(8, 30))
    canvas = ImageDraw.Draw(image)
    if rng.uniform() < 0.4:
        x, y, radius = rng.uniform(0, FINE), rng.uniform(0, FINE / 3), rng.uniform(6, 16)
        sun = (x - radius, y - radius, x + radius, y + radius)
        canvas.ellipse(sun, fill=some_colour(rng, value=(0.8, 1)))
    for depth in range(int(rng.integers(1, 4))):
        horizon, height = FINE * rng.uniform(0.45, 0.85), rng.uniform(3, 22)
        across = np.linspace(0, FINE, 19)
        crest = horizon + height * np.sin(across * rng.uniform(0.01, 0.09) + rng.uniform(0, 6))
        outline = np.concatenate([np.stack([across, crest], 1), [(FINE, FINE), (0, FINE)]])
        canvas.polygon(outline.ravel().tolist(), fill=mixed(ground, sky, rng.uniform(0, 0.6) / (depth + 1)))
    return image, sky


def draw_picture(rng: Random, label: int) -> Pixels:
    image, sky = landscape(rng)
    clutter(rng, image, int(rng.integers(1, 6)), sky, 0.7, 0.2)
    SCENES[label](Pen(rng, image, Frame(rng, scale=(0.45, 0.85), turn=0.25, shift=0.28), sky))
    clutter(rng, image, int(rng.integers(0, 3)), sky, 0.7, 0.15)
    return finish(rng, image, light=0.35, noise=10)


SPECS = (
    PocketSpec(
        "pictures",
        "imagenet12",
        "landscapes with one main thing in them",
        tuple(f.__name__ for f in SCENES),
        (60, 15, 30),
        draw_picture,
    ),
)
