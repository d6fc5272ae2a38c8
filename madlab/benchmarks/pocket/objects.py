"""Two dozen things of every day, as coloured objects and, with another pen, as line drawings."""

from math import pi

import numpy as np

from madlab.benchmarks.pocket.drawing import (
    Frame,
    Pen,
    Random,
    arc,
    cloudy,
    clutter,
    curve,
    ellipse,
    finish,
    some_colour,
)
from madlab.benchmarks.pocket.spec import Pixels, PocketSpec


def apple(pen: Pen) -> None:
    pen.disc(-0.3, 0.2, 0.55, pen.main, 0.7)
    pen.disc(0.3, 0.2, 0.55, pen.main, 0.7)
    pen.line([(0, -0.4), (0.1, -0.95)], pen.dark, 0.12)
    pen.fill(curve([(0.1, -0.6), (0.4, -1.1), (0.75, -0.6), (0.1, -0.6)]), pen.second)


def banana(pen: Pen) -> None:
    outer, inner = ellipse(0, -0.6, 1, 1.3, 0.02, 0.48), ellipse(0, -0.75, 0.95, 0.75, 0.48, 0.02)
    pen.fill(np.concatenate([outer, inner]), pen.main)
    pen.line([(0.95, -0.5), (1, -0.8)], pen.dark, 0.18)


def bell(pen: Pen) -> None:
    pen.disc(0, 0.75, 0.2, pen.dark)
    pen.fill(
        [
            *curve([(-0.9, 0.65), (-0.4, 0.3), (-0.6, -0.9), (0, -0.9)]),
            *curve([(0, -0.9), (0.6, -0.9), (0.4, 0.3), (0.9, 0.65)]),
        ],
        pen.main,
    )
    pen.disc(0, -0.9, 0.15, pen.second)
    pen.line([(-0.6, 0.35), (0.6, 0.35)], pen.second, 0.1)


def boot(pen: Pen) -> None:
    pen.fill([(-0.6, -0.95), (0.15, -0.95), (0.15, 0.1), (0.85, 0.35), (0.95, 0.7), (-0.6, 0.7)], pen.main)
    pen.box(-0.6, 0.7, 0.95, 0.9, pen.dark)
    for y in (-0.6, -0.3, 0.0):
        pen.line([(-0.15, y), (0.2, y)], pen.light, 0.08)


def bottle(pen: Pen) -> None:
    width = pen.rng.uniform(0.3, 0.45)
    pen.fill(
        [
            (-0.13, -1),
            (0.13, -1),
            (0.14, -0.45),
            (width, -0.1),
            (width, 1),
            (-width, 1),
            (-width, -0.1),
            (-0.14, -0.45),
        ],
        pen.main,
    )
    pen.box(-0.16, -1, 0.16, -0.8, pen.dark)
    pen.box(-width, 0.15, width, 0.65, pen.light)


def bulb(pen: Pen) -> None:
    pen.disc(0, -0.3, 0.62, pen.main)
    pen.fill([(-0.5, 0.05), (0.5, 0.05), (0.25, 0.5), (-0.25, 0.5)], pen.main)
    pen.box(-0.25, 0.5, 0.25, 0.95, pen.dark)
    pen.line([(-0.2, 0.4), (-0.15, -0.3), (0, -0.1), (0.15, -0.3), (0.2, 0.4)], pen.second, 0.07)


def candle(pen: Pen) -> None:
    pen.fill(
        [
            *curve([(0, -1), (0.35, -0.5), (0, -0.15), (0, -0.35)]),
            *curve([(0, -0.35), (0, -0.15), (-0.35, -0.5), (0, -1)]),
        ],
        pen.light,
    )
    pen.box(-0.25, -0.3, 0.25, 0.75, pen.main)
    pen.disc(0, 0.8, 0.65, pen.second, 0.15)


def chair(pen: Pen) -> None:
    for x, top in ((-0.55, -1), (0.5, 0.15), (-0.3, 0.15), (0.25, 0.15)):
        pen.line([(x, top), (x, 1 if abs(x) > 0.4 else 0.75)], pen.main, 0.12)
    pen.fill([(-0.6, 0.1), (0.55, 0.1), (0.45, -0.1), (-0.5, -0.1)], pen.second)
    pen.box(-0.62, -0.95, -0.45, 0.1, pen.main)
    for y in (-0.8, -0.5):
        pen.line([(-0.55, y), (0.0, y + 0.06)], pen.main, 0.14)
    pen.line([(0, -1), (0, -0.05)], pen.main, 0.12)


def clock(pen: Pen) -> None:
    pen.disc(0, 0, 0.95, pen.main)
    pen.disc(0, 0, 0.75, pen.light)
    for tick in arc(0, 11 / 12, 12):
        pen.line([0.6 * tick, 0.72 * tick], pen.dark, 0.05)
    for length in (0.35, 0.6):
        angle = pen.rng.uniform(0, 2 * pi)
        pen.line([(0, 0), (length * np.cos(angle), length * np.sin(angle))], pen.dark, 0.12)


def cup(pen: Pen) -> None:
    pen.line(ellipse(0.5, 0.1, 0.45, 0.35, -0.3, 0.3), pen.main, 0.14)
    pen.fill([(-0.75, -0.55), (0.6, -0.55), (0.45, 0.75), (-0.6, 0.75)], pen.main)
    pen.disc(-0.07, -0.55, 0.68, pen.second, 0.18)


def envelope(pen: Pen) -> None:
    pen.box(-0.95, -0.6, 0.95, 0.65, pen.light)
    pen.line([(-0.95, 0.65), (-0.2, 0.05), (0.2, 0.05), (0.95, 0.65)], pen.main, 0.07)
    pen.line([(-0.95, -0.6), (0, 0.2), (0.95, -0.6)], pen.main, 0.1)
    pen.line([(-0.95, -0.6), (0.95, -0.6), (0.95, 0.65), (-0.95, 0.65), (-0.95, -0.6)], pen.main, 0.08)


def fork(pen: Pen) -> None:
    for x in (-0.3, -0.1, 0.1, 0.3):
        pen.line([(x, -1), (x, -0.4)], pen.main, 0.1)
    pen.fill(ellipse(0, -0.4, 0.36, 0.35, 0, 0.5), pen.main)
    pen.line([(0, -0.2), (0, 1)], pen.main, 0.17)


def glasses(pen: Pen) -> None:
    for x in (-0.5, 0.5):
        pen.disc(x, 0.1, 0.45, pen.main, 0.4)
        pen.disc(x, 0.1, 0.32, pen.light, 0.27)
        pen.line([(1.9 * x, 0), (2 * x, -0.5)], pen.main, 0.1)
    pen.line([(-0.1, 0), (0.1, 0)], pen.main, 0.12)


def guitar(pen: Pen) -> None:
    pen.line([(0, 0.1), (0, -0.85)], pen.dark, 0.15)
    pen.box(-0.14, -1, 0.14, -0.78, pen.dark)
    pen.disc(0, 0.1, 0.33, pen.main)
    pen.disc(0, 0.6, 0.45, pen.main, 0.4)
    pen.disc(0, 0.25, 0.14, pen.dark)
    pen.line([(-0.15, 0.7), (0.15, 0.7)], pen.light, 0.1)


def hammer(pen: Pen) -> None:
    pen.line([(0, -0.6), (0, 1)], pen.main, 0.2)
    pen.box(-0.4, -0.9, 0.5, -0.5, pen.dark)
    pen.fill([(-0.4, -0.9), (-0.4, -0.6), (-0.85, -0.45)], pen.dark)


def hat(pen: Pen) -> None:
    pen.disc(0, 0.45, 0.98, pen.main, 0.25)
    pen.fill([(-0.55, 0.45), (-0.5, -0.55), (-0.15, -0.65), (0.15, -0.6), (0.5, -0.55), (0.55, 0.45)], pen.main)
    pen.fill([(-0.55, 0.4), (-0.54, 0.1), (0.54, 0.1), (0.55, 0.4)], pen.second)


def key(pen: Pen) -> None:
    pen.line(ellipse(-0.6, 0, 0.3, 0.3), pen.main, 0.18)
    pen.line([(-0.3, 0), (0.95, 0)], pen.main, 0.16)
    for x in (0.55, 0.85):
        pen.line([(x, 0), (x, pen.rng.uniform(0.25, 0.4))], pen.main, 0.15)


def ladder(pen: Pen) -> None:
    for x in (-0.4, 0.4):
        pen.line([(x, -1), (1.15 * x, 1)], pen.main, 0.12)
    for y in np.linspace(-0.8, 0.8, int(pen.rng.integers(4, 7))):
        pen.line([(-0.43, y), (0.43, y)], pen.main, 0.1)


def lamp(pen: Pen) -> None:
    pen.line([(0, -0.2), (0, 0.85)], pen.dark, 0.12)
    pen.disc(0, 0.88, 0.45, pen.dark, 0.12)
    pen.fill([(-0.3, -0.95), (0.3, -0.95), (0.75, -0.1), (-0.75, -0.1)], pen.main)


def mushroom(pen: Pen) -> None:
    pen.fill([(-0.2, 0), (0.2, 0), (0.3, 0.9), (-0.3, 0.9)], pen.light)
    pen.fill(ellipse(0, 0.1, 0.95, 0.95, 0.5, 1), pen.main)
    for x, y in ((-0.5, -0.2), (0.05, -0.5), (0.5, -0.15)):
        pen.disc(x, y, 0.13, pen.second)


def pear(pen: Pen) -> None:
    pen.disc(0, 0.4, 0.6, pen.main, 0.55)
    pen.fill([(-0.55, 0.3), (-0.25, -0.5), (0.25, -0.5), (0.55, 0.3)], pen.main)
    pen.disc(0, -0.5, 0.26, pen.main)
    pen.line([(0, -0.65), (0.12, -1)], pen.dark, 0.12)


def scissors(pen: Pen) -> None:
    for side in (-1, 1):
        pen.line(ellipse(side * 0.4, 0.7, 0.25, 0.28), pen.main, 0.13)
        pen.line([(side * 0.28, 0.45), (-side * 0.35, -1)], pen.second, 0.15)


def table(pen: Pen) -> None:
    for x, low in ((-0.75, 0.8), (0.75, 0.8), (-0.5, 0.5), (0.5, 0.5)):
        pen.line([(x, -0.2), (x, low)], pen.second, 0.13)
    pen.fill([(-0.65, -0.5), (0.65, -0.5), (0.98, -0.15), (-0.98, -0.15)], pen.main)


def umbrella(pen: Pen) -> None:
    pen.line([*[(0, -0.9), (0, 0.7)], *ellipse(0.15, 0.75, 0.15, 0.2, 0.5, 0)], pen.dark, 0.1)
    pen.fill(
        [
            *ellipse(0, 0.1, 0.98, 0.9, 0.5, 1),
            *ellipse(0.65, 0.1, 0.32, 0.15, 0, -0.5, 6),
            *ellipse(0, 0.1, 0.32, 0.15, 0, -0.5, 6),
            *ellipse(-0.65, 0.1, 0.32, 0.15, 0, -0.5, 6),
        ],
        pen.main,
    )
    pen.fill([(0, -0.8), (0.33, 0.1), (-0.33, 0.1)], pen.second)


OBJECTS = (
    apple, banana, bell, boot, bottle, bulb, candle, chair, clock, cup, envelope, fork,
    glasses, guitar, hammer, hat, key, ladder, lamp, mushroom, pear, scissors, table, umbrella,
)  # fmt: skip


def draw_object(rng: Random, label: int) -> Pixels:
    base = some_colour(rng, saturation=(0.05, 0.7), value=(0.25, 1))
    image = cloudy(rng, base, 25)
    clutter(rng, image, int(rng.integers(2, 7)), base, 0.6)
    OBJECTS[label](Pen(rng, image, Frame(rng, scale=(0.5, 0.85), turn=0.5, shift=0.25), base))
    return finish(rng, image)


SPECS = (
    PocketSpec(
        "objects",
        "cifar100",
        "everyday things in any colour on cluttered ground",
        tuple(f.__name__ for f in OBJECTS),
        (40, 10, 20),
        draw_object,
    ),
)
