"""Somebody there or nobody: grey street corners with a walking figure, or with what is easily taken for one."""

import numpy as np

from madlab.benchmarks.pocket.drawing import Colour, Frame, Pen, Random, cloudy, clutter, curve, finish
from madlab.benchmarks.pocket.spec import Pixels, PocketSpec


def grey(rng: Random, low: int = 20, high: int = 235) -> Colour:
    level = int(rng.integers(low, high))
    return level, level, level


def apart(rng: Random, wall: Colour, least: int = 40) -> Colour:
    """A grey at least this far from the wall's, so that a human still sees the figure."""
    while abs((colour := grey(rng))[0] - wall[0]) < least:
        pass
    return colour


def walker(pen: Pen, wall: Colour) -> None:
    """A figure about to take a step: legs and arms swing against each other."""
    rng, coat, trousers = pen.rng, apart(pen.rng, wall), apart(pen.rng, wall, 25)
    stride, swing, broad = rng.uniform(0.08, 0.36), rng.uniform(-0.25, 0.25), rng.uniform(0.17, 0.26)
    for side in (-1, 1):
        knee = (side * stride * 0.5 + 0.05, 0.5)
        pen.line([(side * 0.07, 0.1), knee, (side * stride, 0.97)], trousers, rng.uniform(0.14, 0.18))
    if rng.uniform() < 0.25:
        pen.fill([(-0.2, -0.1), (0.2, -0.1), (0.28, 0.5), (-0.28, 0.5)], coat)
    pen.fill([*curve([(-broad, -0.6), (0, -0.75), (broad, -0.6)], 6), (0.17, 0.2), (-0.17, 0.2)], coat)
    for side in (-1, 1):
        hand = (side * broad + side * 0.05 - swing * side, 0.15)
        pen.line([(side * broad * 0.85, -0.55), (side * (broad + 0.06), -0.2), hand], coat, 0.11)
    if rng.uniform() < 0.3:
        side = rng.choice([-1, 1])
        pen.box(side * 0.38 - 0.1, 0.1, side * 0.38 + 0.1, 0.35, pen.second)
    pen.disc(0, -0.83, 0.13, apart(rng, wall, 25), 0.16)


def post(pen: Pen) -> None:
    """A sign on a post: a head, but no limbs."""
    pen.line([(0, -0.6), (0, 1)], pen.main, pen.rng.uniform(0.06, 0.14))
    pen.disc(0, -0.72, pen.rng.uniform(0.15, 0.28), pen.second)


def young_tree(pen: Pen) -> None:
    pen.line([(0, -0.2), (0, 1)], pen.dark, pen.rng.uniform(0.1, 0.2))
    for _ in range(4):
        pen.disc(pen.rng.uniform(-0.2, 0.2), pen.rng.uniform(-0.8, -0.2), pen.rng.uniform(0.18, 0.3), pen.main)


def trestle(pen: Pen) -> None:
    """Two legs and a board: legs, but no head."""
    for side in (-1, 1):
        pen.line([(side * 0.1, -0.2), (side * pen.rng.uniform(0.2, 0.4), 0.97)], pen.main, 0.13)
    pen.box(-0.3, -0.5, 0.3, -0.15, pen.second)


def pillar(pen: Pen) -> None:
    wide = pen.rng.uniform(0.12, 0.28)
    pen.box(-wide, -0.85, wide, 1, pen.main)
    pen.box(-1.3 * wide, -0.95, 1.3 * wide, -0.78, pen.second)
    pen.box(-wide, pen.rng.uniform(-0.2, 0.3), wide, 0.4, pen.second)


def bottle_bank(pen: Pen) -> None:
    pen.disc(0, -0.35, 0.3, pen.main, 0.25)
    pen.box(-0.3, -0.35, 0.3, 0.95, pen.main)
    pen.disc(0, -0.3, 0.09, pen.dark)


def lamps(pen: Pen) -> None:
    """A traffic light."""
    pen.line([(0, 0), (0, 1)], pen.dark, 0.1)
    pen.box(-0.17, -0.9, 0.17, 0.1, pen.main)
    for y in (-0.7, -0.4, -0.1):
        pen.disc(0, y, 0.11, pen.light if pen.rng.uniform() < 0.4 else pen.dark)


MISTAKEN = (post, young_tree, trestle, pillar, bottle_bank, lamps)


def draw_walker(rng: Random, label: int) -> Pixels:
    wall = grey(rng, 50, 210)
    image = cloudy(rng, wall, 22)
    street = Pen(rng, image, Frame(rng, (1, 1), 0.03, 0.3, 0, 0), wall)
    for _ in range(int(rng.integers(0, 4))):
        x, y, wide, high = rng.uniform(-1, 1), rng.uniform(-1.2, 0.3), rng.uniform(0.08, 0.4), rng.uniform(0.3, 1)
        street.box(x - wide, y - high / 2, x + wide, y + high, grey(rng, 40, 220))
    street.box(-3, rng.uniform(0.5, 0.9), 3, 3, grey(rng, 60, 190))
    clutter(rng, image, int(rng.integers(0, 4)), wall, 0.4, 0.3)
    things: list = list(rng.choice(np.array(MISTAKEN), int(rng.integers(1, 3))))
    for thing in things[label:]:
        thing(Pen(rng, image, Frame(rng, (0.6, 0.9), 0.06, 0.5, 0.05), wall))
    pen = Pen(rng, image, Frame(rng, (0.7, 0.92), 0.07, 0.18, 0.05), wall)
    if label:
        walker(pen, wall)
    else:
        things[0](pen)
    return finish(rng, image, light=0.35, blur=0.7, noise=13, grey=True)


SPECS = (
    PocketSpec(
        "walkers",
        "daimlerpedcls",
        "grey street corners: a pedestrian, or something like one",
        ("nobody", "pedestrian"),
        (400, 125, 225),
        draw_walker,
    ),
)
