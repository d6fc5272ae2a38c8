"""One little world painted in many styles: the class is the style, not what the picture shows."""

from collections.abc import Callable
from itertools import pairwise
from math import atan2, cos, sin

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from madlab.benchmarks.pocket.drawing import FINE, Colour, Frame, Pen, Random, curve, finish, some_colour
from madlab.benchmarks.pocket.objects import OBJECTS
from madlab.benchmarks.pocket.scenes import SCENES, landscape
from madlab.benchmarks.pocket.spec import Pixels, PocketSpec

STEP = 4
"""Styles look up the scene's colours on a grid of every fourth canvas pixel."""


def colours(scene: Image.Image) -> np.ndarray:
    """The scene's colours on a coarse grid; uint8 (36, 36, 3)."""
    return np.asarray(scene.reduce(STEP))


def tone(level: float) -> int:
    """The nearest possible level, 0 to 255."""
    return min(max(round(level), 0), 255)


def colour_at(grid: np.ndarray, x: float, y: float, rng: Random | None = None, spread: float = 0) -> Colour:
    """The colour at canvas pixel (x, y), varied by `spread` (0 to 255) when a generator is given."""
    last = len(grid) - 1
    red, green, blue = grid[min(max(int(y) // STEP, 0), last), min(max(int(x) // STEP, 0), last)].tolist()
    if rng is None:
        return red, green, blue
    far = (spread * rng.standard_normal(3)).tolist()
    return tone(red + far[0]), tone(green + far[1]), tone(blue + far[2])


def abstract(rng: Random, scene: Image.Image) -> Image.Image:
    """Tilted bars and discs on pale ground."""
    image = Image.new("RGB", scene.size, some_colour(rng, saturation=(0, 0.15), value=(0.8, 1)))
    canvas, grid = ImageDraw.Draw(image), colours(scene)
    lean = rng.uniform(0, np.pi)
    for _ in range(int(rng.integers(5, 10))):
        x, y = rng.uniform(0.15 * FINE, 0.85 * FINE, 2)
        colour = colour_at(grid, x, y, rng, 50)
        long, wide, angle = (
            rng.uniform(8, 50),
            rng.uniform(3, 14),
            lean + rng.choice([0, np.pi / 2]) + rng.normal(0, 0.1),
        )
        along, across = (
            np.array([np.cos(angle), np.sin(angle)]) * long,
            np.array([-np.sin(angle), np.cos(angle)]) * wide,
        )
        if rng.uniform() < 0.25:
            canvas.ellipse((x - wide, y - wide, x + wide, y + wide), fill=colour)
        else:
            middle = np.array([x, y])
            corners = [middle + side * along + turn * across for side, turn in ((1, 1), (1, -1), (-1, -1), (-1, 1))]
            canvas.polygon(np.concatenate(corners).tolist(), fill=colour)
    return image


def action(rng: Random, scene: Image.Image) -> Image.Image:
    """Drips and threads of paint, flung."""
    image = scene.filter(ImageFilter.GaussianBlur(14))
    canvas, grid = ImageDraw.Draw(image), colours(scene)
    for _ in range(int(rng.integers(14, 24))):
        line = curve(rng.uniform(-0.3 * FINE, 1.3 * FINE, (4, 2)), 14)
        colour = colour_at(grid, rng.uniform(0, FINE), rng.uniform(0, FINE), rng, 70)
        canvas.line(line.ravel().tolist(), fill=colour, width=int(rng.integers(2, 6)), joint="curve")
        for x, y in line[rng.integers(0, 14, 2)] + rng.normal(0, 8, (2, 2)):
            canvas.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)
    return image


def baroque(rng: Random, scene: Image.Image) -> Image.Image:
    """A warm light out of deep shadow."""
    pixels = np.asarray(scene.filter(ImageFilter.GaussianBlur(2)), np.float32)
    warm = 0.55 * pixels + 0.45 * pixels.mean(2, keepdims=True) * [1.25, 0.95, 0.6]
    side = np.linspace(-1, 1, FINE)
    x, y = rng.uniform(-0.4, 0.4, 2)
    glow = np.exp(-1.8 * ((side[None] - x) ** 2 + (side[:, None] - y) ** 2))
    return Image.fromarray(np.clip(1.25 * warm * glow[..., None], 0, 255).astype(np.uint8))


def colour_field(rng: Random, scene: Image.Image) -> Image.Image:
    """Two or three soft blocks of colour, one above the other."""
    grid = colours(scene)
    image = Image.new("RGB", scene.size, colour_at(grid, rng.uniform(0, FINE), rng.uniform(0, FINE), rng, 30))
    canvas = ImageDraw.Draw(image)
    edges = (np.linspace(8, FINE - 8, int(rng.integers(3, 5))) + rng.normal(0, 6)).tolist()
    for top, bottom in pairwise(edges):
        inset = rng.uniform(6, 20, 2)
        canvas.rectangle(
            (inset[0], top + 4, FINE - inset[1], bottom - 3),
            fill=colour_at(grid, FINE / 2, (top + bottom) / 2, rng, 45),
        )
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(2, 4)))


def cubism(rng: Random, scene: Image.Image) -> Image.Image:
    """The scene cut into facets, each lit from another side."""
    image, grid = scene.copy(), colours(scene)
    canvas = ImageDraw.Draw(image)
    for _ in range(26):
        centre = rng.uniform(0, FINE, 2)
        colour = np.array(colour_at(grid, *centre), float)
        points = centre + rng.normal(0, 19, (3, 2))
        shaded = np.clip(0.75 * (colour * rng.uniform(0.55, 1.45)) + 0.25 * np.array([150, 125, 95]), 0, 255).astype(
            int
        )
        canvas.polygon(points.ravel().tolist(), fill=tuple(shaded.tolist()), outline=(50, 42, 38))
    return image


def strokes(
    rng: Random,
    scene: Image.Image,
    count: int,
    long: float,
    wide: int,
    angles: Callable[[float, float], float],
    spread: float,
) -> Image.Image:
    """The scene laid down in `count` brush strokes, each in the colour below it, along the angle at its place."""
    image, grid = scene.copy(), colours(scene)
    canvas = ImageDraw.Draw(image)
    places, turns = rng.uniform(0, FINE, (count, 2)).tolist(), rng.normal(0, 0.25, count).tolist()
    shifts = rng.normal(0, spread, count).tolist()
    for (x, y), turn, shift in zip(places, turns, shifts, strict=True):
        angle = angles(x, y) + turn
        dx, dy = long * cos(angle), long * sin(angle)
        red, green, blue = colour_at(grid, x, y)
        colour = tone(red + shift), tone(green + shift), tone(blue + shift)
        canvas.line((x - dx, y - dy, x + dx, y + dy), fill=colour, width=wide)
    return image


def expressionism(rng: Random, scene: Image.Image) -> Image.Image:
    """Long strokes that swirl around a centre."""
    x0, y0 = rng.uniform(0.2 * FINE, 0.8 * FINE, 2)
    return strokes(rng, scene, 230, 13, 5, lambda x, y: atan2(y - y0, x - x0) + 1.6, 45)


def impressionism(rng: Random, scene: Image.Image) -> Image.Image:
    """Short strokes, side by side, all in about one direction."""
    slant = rng.uniform(0, np.pi)
    return strokes(rng, scene, 330, 6, 7, lambda x, y: slant, 35)


def pointillism(rng: Random, scene: Image.Image) -> Image.Image:
    """Dots of pure colour on pale ground."""
    image, grid = Image.new("RGB", scene.size, (238, 232, 220)), colours(scene)
    canvas = ImageDraw.Draw(image)
    places = np.stack(np.meshgrid(np.arange(4, FINE, 9), np.arange(4, FINE, 9)), -1).reshape(-1, 2) + rng.normal(
        0, 1.2, (256, 2)
    )
    for x, y in places.tolist():
        canvas.ellipse((x - 4, y - 4, x + 4, y + 4), fill=colour_at(grid, x, y, rng, 30))
    return image


def grid_painting(rng: Random, scene: Image.Image) -> Image.Image:
    """Black bars, white fields, a few primary ones."""
    image = Image.new("RGB", scene.size, (240, 238, 230))
    canvas = ImageDraw.Draw(image)
    columns, rows = (np.sort(rng.uniform(0, FINE, int(rng.integers(2, 5)))) for _ in "xy")
    across, down = [0, *columns.tolist(), FINE], [0, *rows.tolist(), FINE]
    for left, right in pairwise(across):
        for top, bottom in pairwise(down):
            if rng.uniform() < 0.35:
                primary = [(205, 35, 30), (30, 70, 160), (245, 205, 50)][int(rng.integers(3))]
                canvas.rectangle((left, top, right, bottom), fill=primary)
    for x in across[1:-1]:
        canvas.line((x, 0, x, FINE), fill=(20, 20, 20), width=int(rng.integers(4, 9)))
    for y in down[1:-1]:
        canvas.line((0, y, FINE, y), fill=(20, 20, 20), width=int(rng.integers(4, 9)))
    return image


def ink_wash(rng: Random, scene: Image.Image) -> Image.Image:
    """Grey ink running on rice paper."""
    grey = scene.convert("L").filter(ImageFilter.GaussianBlur(rng.uniform(3, 5)))
    ink = np.clip((np.asarray(grey, np.float32) - 110) * 1.6 + 175, 25, 240)
    return Image.fromarray((ink[..., None] * [1, 0.985, 0.93]).astype(np.uint8))


def mosaic(rng: Random, scene: Image.Image) -> Image.Image:
    """Small square stones with pale joints."""
    image, grid = Image.new("RGB", scene.size, (205, 198, 185)), colours(scene)
    canvas, size = ImageDraw.Draw(image), int(rng.integers(10, 14))
    for x in range(0, FINE, size):
        for y in range(0, FINE, size):
            canvas.rectangle(
                (x + 1, y + 1, x + size - 2, y + size - 2), fill=colour_at(grid, x + size / 2, y + size / 2, rng, 22)
            )
    return image.rotate(rng.uniform(-8, 8), Image.Resampling.BILINEAR, fillcolor=(205, 198, 185))


def pop_art(rng: Random, scene: Image.Image) -> Image.Image:
    """Printed dots whose size follows the light, in two loud inks."""
    paper, ink = (
        some_colour(rng, saturation=(0.6, 1), value=(0.9, 1)),
        some_colour(rng, saturation=(0.7, 1), value=(0.2, 0.7)),
    )
    image, light = Image.new("RGB", scene.size, paper), np.asarray(scene.convert("L").reduce(STEP), np.float32)
    canvas = ImageDraw.Draw(image)
    darkness = 1 - (light - light.min()) / max(float(np.ptp(light)), 1)
    for column in range(14):
        for row in range(14):
            x, y = 11 * column, 11 * row + 5 * (column % 2)
            radius = 1 + 6 * float(darkness[min(y // STEP, 35), min(x // STEP, 35)])
            canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)
    return image


def poster(rng: Random, scene: Image.Image) -> Image.Image:
    """Few flat colours and bold outlines."""
    flat = scene.reduce(2).filter(ImageFilter.BoxBlur(1)).quantize(6, Image.Quantize.FASTOCTREE).convert("RGB")
    edges = flat.convert("L").filter(ImageFilter.FIND_EDGES).point(lambda level: 255 if level > 12 else 0)
    flat.paste((15, 15, 25), mask=edges.filter(ImageFilter.MaxFilter(3)))
    return flat


def stained_glass(rng: Random, scene: Image.Image) -> Image.Image:
    """Panes of glowing colour between leads."""
    side = np.arange(0, FINE, 2, dtype=np.float32)
    seeds = rng.uniform(0, FINE, (22, 2)).astype(np.float32)
    far = np.hypot(side[None, :, None] - seeds[:, 0], side[:, None, None] - seeds[:, 1])
    nearest = np.partition(far, 1, 2)
    grid = colours(scene)
    panes = np.array([colour_at(grid, x, y, rng, 40) for x, y in seeds], float) * 1.2 + 15
    glass = np.where((nearest[..., 1] - nearest[..., 0] < 5)[..., None], 15, panes[far.argmin(2)])
    return Image.fromarray(np.clip(glass, 0, 255).astype(np.uint8)).resize(scene.size)


def watercolour(rng: Random, scene: Image.Image) -> Image.Image:
    """Thin, pale colour that pools at its borders, on rough paper."""
    soft = scene.filter(ImageFilter.GaussianBlur(2.5))
    small = np.asarray(soft.reduce(2), np.float32)
    pools = np.asarray(soft.convert("L").filter(ImageFilter.FIND_EDGES).reduce(2), np.float32)
    paper = rng.normal(0, 9, (FINE // 2, FINE // 2, 1))
    pale = 245 - 0.5 * (255 - small) - 2.2 * pools[..., None] + paper
    return Image.fromarray(np.clip(pale, 0, 255).astype(np.uint8))


def woodcut(rng: Random, scene: Image.Image) -> Image.Image:
    """Black and paper only; light is cut as parallel lines."""
    light = np.asarray(scene.convert("L").reduce(2), np.float32)
    side = np.arange(FINE // 2, dtype=np.float32)
    angle = rng.uniform(0, np.pi)
    lines = np.cos((np.cos(angle) * side[None] + np.sin(angle) * side[:, None]) * rng.uniform(0.75, 1.0))
    level = (light - light.mean()) / max(float(light.std()), 1)
    share = np.clip(0.5 + 3 * (lines + 1.1 * level), 0, 1)[..., None]
    paper, ink = np.array(some_colour(rng, 0.12, (0.05, 0.3), (0.85, 1))), np.array([25, 22, 25])
    return Image.fromarray((ink + (paper - ink) * share).astype(np.uint8))


STYLES = (
    abstract, action, baroque, colour_field, cubism, expressionism, grid_painting, impressionism,
    ink_wash, mosaic, pointillism, pop_art, poster, stained_glass, watercolour, woodcut,
)  # fmt: skip


def draw_painting(rng: Random, label: int) -> Pixels:
    scene, sky = landscape(rng)
    things = SCENES + OBJECTS
    for _ in range(int(rng.integers(1, 3))):
        things[int(rng.integers(len(things)))](Pen(rng, scene, Frame(rng, (0.5, 0.9), 0.2, 0.3), sky))
    # A part of the painting, from near or far, worn, so that its first layer shows: plain styles would be too easy.
    painted = Image.blend(scene, STYLES[label](rng, scene).resize(scene.size), rng.uniform(0.5, 0.9))
    side = int(rng.uniform(0.5, 1) * FINE)
    left, top = rng.integers(0, FINE - side + 1, 2).tolist()
    part = painted.resize((FINE, FINE), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
    return finish(rng, part, light=0.35, blur=1.0, noise=16)


SPECS = (
    PocketSpec(
        "paintings",
        "wikiart",
        "one little world painted in many styles",
        tuple(f.__name__.replace("_", " ") for f in STYLES),
        (50, 15, 28),
        draw_painting,
    ),
)
