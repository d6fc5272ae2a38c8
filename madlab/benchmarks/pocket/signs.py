"""Traffic signs: shape, colour and pictogram, seen from the side, in any light and a little out of focus."""

from collections.abc import Callable
from functools import cache
from math import cos, pi, sin
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from madlab.benchmarks.pocket.drawing import FINE, Colour, Points, Random, cloudy, clutter, ellipse, finish, some_colour
from madlab.benchmarks.pocket.spec import Pixels, PocketSpec

RED, BLUE, YELLOW, WHITE, BLACK = (200, 20, 30), (20, 80, 180), (250, 190, 10), (245, 245, 245), (15, 15, 20)


class Plate:
    """A sign seen from the front, on a transparent canvas; coordinates from -1 to 1, y down."""

    def __init__(self) -> None:
        self.image = Image.new("RGBA", (FINE, FINE))
        self.canvas = ImageDraw.Draw(self.image)

    def fill(self, points: Points, colour: Colour) -> None:
        self.canvas.polygon(((np.asarray(points) + 1) * FINE / 2).ravel().tolist(), fill=colour)

    def line(self, points: Points, colour: Colour, width: float = 0.16) -> None:
        flat = ((np.asarray(points) + 1) * FINE / 2).ravel().tolist()
        self.canvas.line(flat, fill=colour, width=round(width * FINE / 2), joint="curve")

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        self.fill(ellipse(x, y, radius, radius, steps=48), colour)

    def write(self, text: str, colour: Colour, height: float, serial: int) -> None:
        """Text in the middle, in Pillow's own typeface or in DejaVu Sans Bold."""
        import matplotlib

        size = height * FINE / 2
        bold = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"
        font = ImageFont.truetype(str(bold), size) if serial else ImageFont.load_default(1.15 * size)
        self.canvas.text((FINE / 2, FINE / 2), text, colour, font, anchor="mm", stroke_width=0 if serial else 2)


def ring(plate: Plate) -> None:
    plate.disc(0, 0, 0.98, RED)
    plate.disc(0, 0, 0.74, WHITE)


def warning(plate: Plate) -> None:
    plate.fill([(0, -0.95), (0.99, 0.8), (-0.99, 0.8)], RED)
    plate.fill([(0, -0.52), (0.64, 0.6), (-0.64, 0.6)], WHITE)


def blue_disc(plate: Plate) -> None:
    plate.disc(0, 0, 0.98, WHITE)
    plate.disc(0, 0, 0.92, BLUE)


def arrow(points: Points) -> Callable[[Plate], None]:
    """A blue disc with a white arrow along these points."""

    def draw(plate: Plate) -> None:
        blue_disc(plate)
        path = np.asarray(points, float)
        plate.line(path, WHITE, 0.2)
        ahead = (path[-1] - path[-2]) / np.linalg.norm(path[-1] - path[-2])
        side = np.array([-ahead[1], ahead[0]])
        plate.fill(
            [path[-1] + 0.28 * ahead, path[-1] - 0.1 * ahead + 0.32 * side, path[-1] - 0.1 * ahead - 0.32 * side], WHITE
        )

    return draw


def prohibition(*shapes: tuple[Points, Colour]) -> Callable[[Plate], None]:
    def draw(plate: Plate) -> None:
        ring(plate)
        for points, colour in shapes:
            plate.fill(points, colour)

    return draw


def danger(*lines: Points) -> Callable[[Plate], None]:
    """A warning triangle with these black strokes."""

    def draw(plate: Plate) -> None:
        warning(plate)
        for points in lines:
            plate.line(points, BLACK, 0.15)

    return draw


def end_of_limits(plate: Plate) -> None:
    plate.disc(0, 0, 0.98, BLACK)
    plate.disc(0, 0, 0.9, WHITE)
    for shift in (-0.2, 0, 0.2):
        plate.line([(-0.55 + shift, 0.6), (0.55 + shift, -0.6)], BLACK, 0.08)


def priority(plate: Plate) -> None:
    for size, colour in ((0.98, BLACK), (0.94, WHITE), (0.68, YELLOW)):
        plate.fill([(0, -size), (size, 0), (0, size), (-size, 0)], colour)


def give_way(plate: Plate) -> None:
    plate.fill([(-0.99, -0.8), (0.99, -0.8), (0, 0.95)], RED)
    plate.fill([(-0.62, -0.58), (0.62, -0.58), (0, 0.5)], WHITE)


def stop(plate: Plate) -> None:
    plate.fill(ellipse(0, 0, 1, 1, 1 / 16, 17 / 16, 9), RED)


def no_entry(plate: Plate) -> None:
    plate.disc(0, 0, 0.98, RED)
    plate.fill([(-0.7, -0.18), (0.7, -0.18), (0.7, 0.18), (-0.7, 0.18)], WHITE)


def roundabout(plate: Plate) -> None:
    blue_disc(plate)
    for turn in (0, 1 / 3, 2 / 3):
        plate.line(ellipse(0, 0, 0.5, 0.5, turn, turn + 0.22, 10), WHITE, 0.16)
        tip, wide = turn + 0.3, 0.24
        base = ellipse(0, 0, 0.5, 0.5, turn + 0.2, tip, 2)
        out = base[0] / 0.5
        plate.fill([base[1], base[0] + wide * out, base[0] - wide * out], WHITE)


def signals(plate: Plate) -> None:
    warning(plate)
    for y, colour in ((-0.15, RED), (0.14, YELLOW), (0.43, (20, 140, 60))):
        plate.disc(0, y, 0.13, colour)


def car(x: float, colour: Colour) -> tuple[tuple[Points, Colour], ...]:
    body = [
        (x - 0.22, 0.25),
        (x - 0.22, -0.02),
        (x - 0.13, -0.28),
        (x + 0.13, -0.28),
        (x + 0.22, -0.02),
        (x + 0.22, 0.25),
    ]
    return ((body, colour), ([(x - 0.13, -0.05), (x - 0.08, -0.2), (x + 0.08, -0.2), (x + 0.13, -0.05)], WHITE))


def spoke(angle: float) -> list[tuple[float, float]]:
    """A line through the middle of a warning triangle."""
    dx, dy = 0.28 * cos(angle), 0.28 * sin(angle)
    return [(-dx, 0.2 - dy), (dx, 0.2 + dy)]


def mirrored(*lines: Points) -> list[np.ndarray]:
    return [np.asarray(line) * [-1, 1] for line in lines]


LORRY = [(-0.5, 0.2), (-0.5, -0.3), (0.15, -0.3), (0.15, -0.12), (0.38, -0.12), (0.5, 0.2)]
LORRY_PARTS: list[Points] = [LORRY, *(ellipse(x, 0.22, 0.13, 0.13) for x in (-0.25, 0.28))]
BEND = [(0.15, 0.55), (0.15, 0.2), (-0.2, -0.05), (-0.2, -0.15)], [(-0.32, 0.08), (-0.2, -0.2), (-0.02, -0.05)]
BUMPS = [ellipse(x, 0.45, 0.16, 0.2, 0.5, 1, 8) for x in (-0.2, 0.2)]
KERB = [(-0.25, 0.55), (-0.25, 0.3), (-0.1, 0.1), (-0.1, -0.2)]
CHILD = [(0, -0.1), (0, 0.25), (-0.2, 0.55)], [(0, 0.25), (0.2, 0.55)], [(-0.25, 0.1), (0.25, 0.02)]
LIMITS = (20, 30, 50, 60, 70, 80, 100, 120)
SIGNS: dict[str, Callable[[Plate], None]] = {
    **{f"limit {limit}": ring for limit in LIMITS},
    "no overtaking": prohibition(*car(-0.28, RED), *car(0.28, BLACK)),
    "no lorries": prohibition(*((shape, BLACK) for shape in LORRY_PARTS)),
    "no vehicles": ring,
    "end of limits": end_of_limits,
    "stop": stop,
    "no entry": no_entry,
    "give way": give_way,
    "priority road": priority,
    "danger": danger([(0, -0.25), (0, 0.25)], [(0, 0.37), (0, 0.5)]),
    "bend to the left": danger(*BEND),
    "bend to the right": danger(*mirrored(*BEND)),
    "bumps": danger([(-0.45, 0.5), (0.45, 0.5)], *BUMPS),
    "crossroads": danger([(0, -0.3), (0, 0.55)], [(-0.35, 0.2), (0.35, 0.2)]),
    "road narrows": danger(KERB, *mirrored(KERB)),
    "snow": danger(*(spoke(0.3 + turn * pi / 3) for turn in range(3))),
    "children": danger(*CHILD, ellipse(0, -0.22, 0.04, 0.04)),
    "traffic lights": signals,
    "straight ahead": arrow([(0, 0.6), (0, -0.35)]),
    "turn right": arrow([(-0.3, 0.55), (-0.3, -0.05), (0.3, -0.05)]),
    "turn left": arrow([(0.3, 0.55), (0.3, -0.05), (-0.3, -0.05)]),
    "keep right": arrow([(-0.4, -0.45), (0.3, 0.3)]),
    "keep left": arrow([(0.4, -0.45), (-0.3, 0.3)]),
    "roundabout": roundabout,
}


@cache
def plate_of(label: int, serial: int) -> Image.Image:
    """Sign `label` from the front; the two series differ in typeface."""
    plate, name = Plate(), list(SIGNS)[label]
    SIGNS[name](plate)
    if name.startswith("limit"):
        plate.write(name.split()[1], BLACK, 0.95 if len(name) < 9 else 0.7, serial)
    elif name == "stop":
        plate.write("STOP", WHITE, 0.62, serial)
    return plate.image


def draw_sign(rng: Random, label: int) -> Pixels:
    """Project the plate onto a street corner: turned away, tilted, off centre."""
    corner = some_colour(rng, saturation=(0.05, 0.5), value=(0.2, 0.95))
    image = cloudy(rng, corner, 32)
    clutter(rng, image, int(rng.integers(2, 8)), corner, 0.7, 0.35)
    half, centre = rng.uniform(0.6, 0.92) * FINE / 2, FINE / 2 * (1 + rng.uniform(-0.18, 0.18, 2))
    angle = rng.uniform(-0.2, 0.2)
    turned = np.array([[cos(angle), -sin(angle)], [sin(angle), cos(angle)]]) * half
    squeezed = turned * [rng.uniform(0.7, 1), rng.uniform(0.9, 1)]
    squeezed[0, 1] += rng.uniform(-0.15, 0.15) * half
    # PIL wants the way back: a place in the picture -> its place on the plate, as (a x + b y + c) / (g x + h y + 1).
    back = np.linalg.inv(squeezed) * FINE / 2
    shift = FINE / 2 - back @ centre
    vanish = rng.uniform(-0.0022, 0.0022, 2)
    lean = 1 - vanish @ centre
    rows = np.column_stack([back, shift]) + FINE / 2 * np.append(vanish, lean - 1)
    weights = [*(rows / lean).ravel().tolist(), *(vanish / lean).tolist()]
    plate = plate_of(label, int(rng.integers(2)))
    seen = plate.transform((FINE, FINE), Image.Transform.PERSPECTIVE, weights, Image.Resampling.BILINEAR)
    image.paste(seen, mask=seen)
    return finish(rng, image, light=0.6, blur=1.1, noise=12)


SPECS = (
    PocketSpec(
        "signs", "gtsrb", "traffic signs from the side, in any light", tuple(SIGNS), (30, 8, 15), draw_sign, flip=False
    ),
)
