"""Flowers from the side, told apart by their growth."""

import numpy as np

from madlab.benchmarks.pocket.drawing import (
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
from madlab.benchmarks.pocket.flowers import BLUE, ORANGE, PINK, RED, VIOLET, YELLOW, petal_colour
from madlab.benchmarks.pocket.spec import Pixels, PocketSpec


def bellflower(pen: Pen, colour: Colour, shade: Colour) -> None:
    for x, y in ((-0.4, -0.2), (0.35, -0.5), (0.4, 0.1)):
        pen.line([(0, y - 0.1), (x, y - 0.3)], pen.dark, 0.06)
        pen.fill(
            [(x, y - 0.35), (x + 0.22, y), (x + 0.32, y + 0.3), (x, y + 0.18), (x - 0.32, y + 0.3), (x - 0.22, y)],
            colour,
        )


def carnation(pen: Pen, colour: Colour, shade: Colour) -> None:
    pen.fill([(-0.17, -0.1), (0.17, -0.1), (0.1, 0.4), (-0.1, 0.4)], pen.dark)
    for level in range(3):
        teeth = ellipse(0, -0.25 + 0.08 * level, 0.72 - 0.17 * level, 0.55 - 0.1 * level, 0.5, 1, 13)
        teeth[1::2] = teeth[1::2] * 0.75
        pen.fill([*teeth, (0.05, 0.05), (-0.05, 0.05)], mixed(colour, shade, 0.5 * level))


def crocus(pen: Pen, colour: Colour, shade: Colour) -> None:
    for side, tint in ((-1, 0.5), (1, 0.5), (0, 0.0)):
        pen.fill(
            [
                *curve([(0, 0.4), (side * 1.1 - 0.35, -0.3), (side * 0.35, -0.95)], 8),
                *curve([(side * 0.35, -0.95), (side * 0.5 + 0.35, -0.2), (0, 0.4)], 8),
            ],
            mixed(colour, shade, tint),
        )


def daffodil(pen: Pen, colour: Colour, shade: Colour) -> None:
    for x, y in ellipse(0.1, -0.35, 0.6, 0.6, 0.05, 0.88, 6):
        pen.fill([(0.1, -0.35), (x - 0.12, y - 0.12), (1.15 * x, 1.15 * y + 0.06), (x + 0.12, y + 0.12)], colour)
    pen.fill([(-0.05, -0.5), (-0.6, -0.62), (-0.62, -0.1), (-0.05, -0.2)], shade)


def dandelion(pen: Pen, colour: Colour, shade: Colour) -> None:
    for x, y in ellipse(0, -0.35, 0.65, 0.6, steps=17):
        pen.line([(0, -0.35), (x, y)], pen.light, 0.04)
        pen.disc(x, y, 0.06, pen.light)
    pen.disc(0, -0.35, 0.12, pen.dark)


def foxglove(pen: Pen, colour: Colour, shade: Colour) -> None:
    for level, y in enumerate(np.linspace(-0.85, 0.35, 6)):
        size, side = 0.12 + 0.035 * level, 1 if level % 2 else -1
        pen.fill([(0, y - 0.08), (side * 2.6 * size, y + 0.1), (side * 2.3 * size, y + 0.28), (0, y + 0.08)], colour)
        pen.disc(side * 2.4 * size, y + 0.19, 0.4 * size, shade)


def hyacinth(pen: Pen, colour: Colour, shade: Colour) -> None:
    for y in np.linspace(0.25, -0.9, 7):
        for x in (-0.28, 0, 0.28):
            pen.disc(
                x * (1.15 if y > -0.7 else 0.5),
                y + pen.rng.uniform(-0.05, 0.05),
                0.17,
                mixed(colour, shade, pen.rng.uniform(0, 0.7)),
            )


def iris(pen: Pen, colour: Colour, shade: Colour) -> None:
    for side in (-1, 1):
        pen.fill(
            [
                *curve([(0, -0.1), (side * 0.7, -0.35), (side * 0.8, 0.45)], 7),
                *curve([(side * 0.8, 0.45), (side * 0.35, 0.15), (0, 0.05)], 7),
            ],
            shade,
        )
        pen.fill([*curve([(0, -0.05), (side * 0.65, -0.4), (side * 0.08, -0.95)], 7), (0, -0.6)], colour)
    pen.fill([(-0.12, -0.05), (0.12, -0.05), (0.2, 0.55), (-0.2, 0.55)], colour)
    pen.disc(0, 0.15, 0.07, pen.light, 0.15)


def lavender(pen: Pen, colour: Colour, shade: Colour) -> None:
    for foot, tip in ((-0.5, -0.7), (0.0, 0.05), (0.5, 0.6)):
        pen.line([(0.3 * foot, 1), (tip, -0.2)], pen.dark, 0.06)
        for y in np.linspace(0, -0.8, 6):
            pen.disc(tip + 0.05 * (tip - foot) * -y, y, 0.1 + 0.04 * y, mixed(colour, shade, pen.rng.uniform(0, 0.8)))


def lily_of_the_valley(pen: Pen, colour: Colour, shade: Colour) -> None:
    stem = curve([(0, 1), (-0.4, -0.4), (0.55, -0.9)], 7)
    pen.line(stem, pen.dark, 0.07)
    for x, y in stem[2:]:
        pen.disc(x + 0.17, y + 0.22, 0.13, colour)
        pen.box(x + 0.04, y + 0.22, x + 0.3, y + 0.36, colour)


def orchid(pen: Pen, colour: Colour, shade: Colour) -> None:
    for side in (-1, 1):
        pen.disc(side * 0.42, -0.45, 0.4, colour, 0.3)
        pen.fill([(0, -0.3), (side * 0.55, 0.2), (side * 0.3, 0.25)], mixed(colour, shade, 0.4))
    pen.fill([(-0.16, -0.45), (0, -1), (0.16, -0.45)], mixed(colour, shade, 0.4))
    pen.fill([(-0.1, -0.4), (0.1, -0.4), (0.25, 0.15), (0, 0.3), (-0.25, 0.15)], shade)


def rose(pen: Pen, colour: Colour, shade: Colour) -> None:
    pen.disc(0, -0.35, 0.6, colour, 0.55)
    for turn in range(4):
        radius = 0.5 - 0.11 * turn
        pen.line(
            ellipse(0, -0.38, radius, radius * 0.9, 0.3 * turn, 0.3 * turn + 0.65, 12), mixed(colour, shade, 0.75), 0.08
        )


def snowdrop(pen: Pen, colour: Colour, shade: Colour) -> None:
    pen.line(curve([(0, 1), (-0.3, -1.6), (0.3, -0.5)], 9), pen.dark, 0.08)
    for side in (-1, 1, 0):
        pen.fill(
            [*curve([(0.3, -0.5), (0.3 + side * 0.6, -0.1), (0.3 + side * 0.25, 0.4)], 7), (0.3 + side * 0.05, 0.2)],
            mixed(colour, shade, 0.15 * (side == 0)),
        )
    pen.disc(0.3, -0.5, 0.12, pen.dark)


def sweet_pea(pen: Pen, colour: Colour, shade: Colour) -> None:
    for x, y in ((-0.25, -0.65), (0.3, -0.25), (-0.25, 0.15)):
        pen.disc(x, y, 0.36, colour, 0.27)
        pen.disc(x, y + 0.1, 0.17, shade, 0.15)
        pen.line([(0, y + 0.35), (x, y + 0.2)], pen.dark, 0.06)


def thistle(pen: Pen, colour: Colour, shade: Colour) -> None:
    for x in np.linspace(-0.55, 0.55, 9):
        pen.line([(0.4 * x, -0.15), (x, -0.9 + 0.5 * x * x)], colour, 0.09)
    pen.disc(0, 0.1, 0.32, pen.dark, 0.3)
    for side in (-1, 1):
        pen.fill([(0, 0.5), (side * 0.7, 0.35), (side * 0.2, 0.75)], pen.dark)


def tulip(pen: Pen, colour: Colour, shade: Colour) -> None:
    pen.fill(
        [
            (-0.5, -0.9),
            (-0.2, -0.45),
            (0, -1),
            (0.2, -0.45),
            (0.5, -0.9),
            (0.55, -0.2),
            (0.3, 0.2),
            (-0.3, 0.2),
            (-0.55, -0.2),
        ],
        colour,
    )
    pen.fill([(0, -0.7), (0.2, -0.2), (0, 0.15), (-0.2, -0.2)], shade)


SIDE_VIEWS = (
    bellflower, carnation, crocus, daffodil, dandelion, foxglove, hyacinth, iris,
    lavender, lily_of_the_valley, orchid, rose, snowdrop, sweet_pea, thistle, tulip,
)  # fmt: skip


def draw_petals(rng: Random, label: int) -> Pixels:
    ground = some_colour(rng, saturation=(0.05, 0.6), value=(0.25, 0.95))
    image = cloudy(rng, ground, 20)
    clutter(rng, image, int(rng.integers(1, 6)), ground, 0.6, 0.3)
    pen = Pen(rng, image, Frame(rng, (0.6, 0.88), 0.4, 0.2, 0.2), ground)
    pen.dark = some_colour(rng, 0.3, (0.4, 0.9), (0.2, 0.6), 0.06)
    pen.line(curve([(0, 0), (rng.uniform(-0.1, 0.1), 0.5), (rng.uniform(-0.2, 0.2), 1.6)], 6), pen.dark, 0.09)
    for side in (-1, 1)[: int(rng.integers(0, 3))]:
        foot = rng.uniform(0.5, 0.9)
        pen.fill(
            curve(
                [(0, foot), (side * 0.4, foot - 0.5), (side * 0.7, foot - 0.6), (side * 0.4, foot), (0, foot + 0.1)], 8
            ),
            pen.dark,
        )
    colour = petal_colour(rng, float(rng.choice([YELLOW, ORANGE, RED, PINK, VIOLET, BLUE, -1])))
    SIDE_VIEWS[label](pen, colour, mixed(colour, pen.second, rng.uniform(0.4, 0.8)))
    return finish(rng, image, light=0.35)


SPECS = (
    PocketSpec(
        "petals",
        "flowers",
        "flowers from the side, told apart by their growth",
        tuple(flower.__name__.replace("_", " ") for flower in SIDE_VIEWS),
        (50, 15, 28),
        draw_petals,
    ),
)
