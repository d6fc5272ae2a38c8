"""Materials and patterns, written as formulas of the place in the picture, in any colours and at any angle."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from madlab.benchmarks.pocket.drawing import SIZE, Random, cloudy, contrasting, finish, some_colour
from madlab.benchmarks.pocket.spec import Pixels, PocketSpec

FINE = 2 * SIZE
"""Patterns are computed at twice the size; their edges are soft already."""

Field = np.ndarray
"""Float (FINE, FINE): a share from 0 (ground) to 1 (figure), or a coordinate in periods of the pattern."""


def edge(value: Field, sharp: float = 8) -> Field:
    """Soft step from 0 to 1 where `value` passes zero."""
    return np.clip(0.5 + sharp * value, 0, 1)


def to_nearest(rng: Random, x: Field, y: Field, spread: float = 0.5) -> tuple[Field, Field]:
    """Distances to the nearest and second nearest of jittered lattice points, one in each cell."""
    column, row = np.floor(x).astype(int), np.floor(y).astype(int)
    jitter = rng.uniform(-spread, spread, (64, 64, 2)).astype(np.float32)
    best = np.full(x.shape, 9, np.float32)
    second = best.copy()
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            shift = jitter[(row + dy) % 64, (column + dx) % 64]
            near = np.hypot(x - (column + dx + 0.5) - shift[..., 0], y - (row + dy + 0.5) - shift[..., 1])
            second = np.minimum(second, np.maximum(best, near))
            best = np.minimum(best, near)
    return best, second


def clouds(rng: Random, cells: int) -> Field:
    """Smooth noise of about unit size with `cells` bumps along a side."""
    coarse = rng.normal(0, 1, (cells, cells)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((FINE, FINE), Image.Resampling.BICUBIC))


def triangle(x: Field) -> Field:
    """A wave of straight flanks from 0 to 1 and back in one period."""
    return np.abs(2 * (x - np.floor(x)) - 1)


def banded(rng: Random, x: Field, y: Field) -> Field:
    return edge(triangle(x) - rng.uniform(0.35, 0.65))


def blotched(rng: Random, x: Field, y: Field) -> Field:
    return edge(clouds(rng, int(rng.integers(6, 11))) - 0.2, 4)


def bricks(rng: Random, x: Field, y: Field) -> Field:
    row = np.floor(1.4 * y)
    joint = np.maximum(triangle(0.7 * x + 0.5 * row), triangle(1.4 * y))
    return edge(0.82 - joint, 6)


def bubbles(rng: Random, x: Field, y: Field) -> Field:
    near, _ = to_nearest(rng, x, y, 0.3)
    return edge(0.12 - np.abs(near - 0.38), 9)


def chequered(rng: Random, x: Field, y: Field) -> Field:
    return edge((triangle(x / 1.4) - 0.5) * (triangle(y / 1.4) - 0.5), 30)


def cracked(rng: Random, x: Field, y: Field) -> Field:
    near, second = to_nearest(rng, x / 1.3, y / 1.3, 0.45)
    return edge(0.1 - (second - near), 9)


def diamonds(rng: Random, x: Field, y: Field) -> Field:
    return edge(triangle(1.5 * x) + triangle(0.6 * y) - 1.0, 5)


def dotted(rng: Random, x: Field, y: Field) -> Field:
    near, _ = to_nearest(rng, x, y, 0.03)
    return edge(rng.uniform(0.24, 0.36) - near)


def fibrous(rng: Random, x: Field, y: Field) -> Field:
    bent = 3 * x + 0.8 * clouds(rng, 4)
    strands = np.sin(2 * np.pi * bent) + np.sin(2 * np.pi * (1.7 * bent + 0.6 * clouds(rng, 9)))
    return edge(strands, 0.35)


def grainy(rng: Random, x: Field, y: Field) -> Field:
    return edge(clouds(rng, int(rng.integers(26, 36))), 0.5)


def grid(rng: Random, x: Field, y: Field) -> Field:
    return edge(np.maximum(triangle(x), triangle(y)) - 0.78, 6)


def herringbone(rng: Random, x: Field, y: Field) -> Field:
    slant = np.where(np.floor(x) % 2 == 0, 1, -1)
    return edge(triangle(2 * y + slant * 2 * (x - np.floor(x))) - 0.5, 4)


def honeycomb(rng: Random, x: Field, y: Field) -> Field:
    """Two interleaved lattices; a cell is a ball of the hexagonal norm."""
    cells = []
    for shift in (0, 0.5):
        across = np.abs(x + shift - np.round(x + shift))
        along = np.abs(y + shift * 3**0.5 - 3**0.5 * np.round(y / 3**0.5 + shift))
        cells.append(np.maximum(across, across / 2 + along * 3**0.5 / 2))
    return edge(np.minimum(*cells) - 0.4, 9)


def knitted(rng: Random, x: Field, y: Field) -> Field:
    side = np.abs(2 * (x - np.floor(x)) - 1)
    return edge(triangle(1.6 * y + 0.6 * side) - 0.28, 3) * edge(0.85 - side, 6) * edge(side - 0.08, 6)


def marbled(rng: Random, x: Field, y: Field) -> Field:
    vein = 0.5 * x + 0.9 * clouds(rng, 4) + 0.35 * clouds(rng, 9)
    return np.clip(triangle(vein), 0, 1) ** 3


def plaid(rng: Random, x: Field, y: Field) -> Field:
    wide, thin = edge(triangle(x / 1.5) - 0.55), edge(triangle(y / 1.5) - 0.55)
    return (
        0.42 * wide
        + 0.42 * thin
        + 0.3 * edge(triangle(x / 1.5 + 0.5) - 0.9)
        + 0.3 * edge(triangle(y / 1.5 + 0.5) - 0.9)
    )


def rings(rng: Random, x: Field, y: Field) -> Field:
    return edge(triangle(1.1 * np.hypot(x, y)) - 0.5, 5)


def scaly(rng: Random, x: Field, y: Field) -> Field:
    row = np.floor(1.6 * y)
    across, along = x + 0.5 * row, 1.6 * y - row
    return edge(0.2 - np.abs(np.hypot(2 * (across - np.floor(across)) - 1, along) - 0.9), 6)


def spiral(rng: Random, x: Field, y: Field) -> Field:
    return edge(triangle(0.9 * np.hypot(x, y) + np.arctan2(y, x) / (2 * np.pi)) - 0.5, 5)


def sprinkled(rng: Random, x: Field, y: Field) -> Field:
    near, _ = to_nearest(rng, 0.6 * x + 0.25 * y, 1.7 * y - 0.25 * x, 0.5)
    return edge(0.24 - near, 9)


def starburst(rng: Random, x: Field, y: Field) -> Field:
    return edge(triangle(int(rng.integers(5, 11)) * np.arctan2(y, x) / (2 * np.pi)) - 0.5, 5)


def triangles(rng: Random, x: Field, y: Field) -> Field:
    row = 1.1 * y - np.floor(1.1 * y)
    return edge(triangle(x + 0.5 * np.floor(1.1 * y)) - row, 6)


def wavy(rng: Random, x: Field, y: Field) -> Field:
    return edge(triangle(1.3 * x + 0.3 * np.sin(2 * np.pi * 0.7 * y)) - 0.5, 4)


def woven(rng: Random, x: Field, y: Field) -> Field:
    over = (np.floor(x) + np.floor(y)) % 2
    across, along = x - np.floor(x) - 0.5, y - np.floor(y) - 0.5
    strand = np.where(over == 0, across, along)
    return np.clip(1.1 - 9 * strand**2, 0, 1) * edge(0.42 - np.abs(strand), 8)


def zigzag(rng: Random, x: Field, y: Field) -> Field:
    return edge(triangle(1.2 * x + 0.8 * triangle(0.6 * y)) - 0.5, 4)


TEXTURES: tuple[Callable[[Random, Field, Field], Field], ...] = (
    banded, blotched, bricks, bubbles, chequered, cracked, diamonds, dotted, fibrous, grainy, grid, herringbone,
    honeycomb, knitted, marbled, plaid, rings, scaly, spiral, sprinkled, starburst, triangles, wavy, woven, zigzag,
)  # fmt: skip


def place(rng: Random) -> tuple[Field, Field]:
    """Coordinates of the pattern, in periods: turned, scaled, off centre, and a little bent as cloth is."""
    side = np.linspace(-0.5, 0.5, FINE, dtype=np.float32)
    x, y = np.meshgrid(side, side)
    angle, periods = rng.uniform(-0.6, 0.6) + rng.choice([0, np.pi / 2]), rng.uniform(3.5, 6.5)
    shift = rng.uniform(-0.2, 0.2, 2)
    across, along = x - shift[0], y - shift[1]
    bent, wave = rng.uniform(0, 0.035), rng.uniform(4, 9)
    turned = np.cos(angle) * across + np.sin(angle) * along, np.cos(angle) * along - np.sin(angle) * across
    shape = rng.uniform(0.85, 1.18)
    u = periods * shape * (turned[0] + bent * np.sin(wave * turned[1]))
    v = periods / shape * (turned[1] + bent * np.sin(wave * turned[0]))
    return u, v


def draw_texture(rng: Random, label: int) -> Pixels:
    x, y = place(rng)
    share = TEXTURES[label](rng, x, y)[..., None]
    ground = some_colour(rng, saturation=(0.05, 0.8), value=(0.25, 1))
    figure = contrasting(rng, ground, 45)
    below, above = (np.asarray(cloudy(rng, colour, 14, 4, FINE), np.float32) for colour in (ground, figure))
    mixture = np.clip(below + (above - below) * share, 0, 255).astype(np.uint8)
    return finish(rng, Image.fromarray(mixture), light=0.35, blur=0.5, noise=12)


SPECS = (
    PocketSpec(
        "textures",
        "dtd",
        "materials and patterns in any colours, at any angle",
        tuple(f.__name__ for f in TEXTURES),
        (36, 10, 18),
        draw_texture,
    ),
)
