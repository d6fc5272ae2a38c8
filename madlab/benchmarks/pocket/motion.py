"""Movements as one picture: each is a short film, summed so that early frames darken and late ones brighten.

That is a dynamic image (Bilen et al., CVPR 2016), as the Visual Decathlon uses it for UCF101: what stands still
cancels out and goes grey, what moves leaves a trace.
"""

from collections.abc import Callable
from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from madlab.benchmarks.pocket.drawing import SIZE, Random, finish
from madlab.benchmarks.pocket.spec import Pixels, PocketSpec

FRAMES = 14
FINE = 2 * SIZE

Pose = tuple[float, float, float, float]
"""Where the moving thing is, how large and how turned: x, y from -1 to 1, relative size, radians."""


def path(x: Callable[[float], float], y: Callable[[float], float]) -> Callable[[float], list[Pose]]:
    """A film of one thing that goes along (x(t), y(t)), t from 0 to 1, and keeps its size."""
    return lambda t: [(x(t), y(t), 1, 0)]


def still(t: float) -> float:
    return 0


def across(t: float) -> float:
    return 1.6 * t - 0.8


MOTIONS: dict[str, Callable[[float], list[Pose]]] = {
    "approach": lambda t: [(0, 0, 0.4 + 1.9 * t, 0)],
    "bounce": path(across, lambda t: 0.6 - 1.2 * abs(sin(3 * pi * t))),
    "circle": path(lambda t: 0.65 * cos(2 * pi * t), lambda t: 0.65 * sin(2 * pi * t)),
    "fall": path(still, lambda t: 1.7 * t * t - 0.85),
    "figure eight": path(lambda t: 0.75 * sin(2 * pi * t), lambda t: 0.45 * sin(4 * pi * t)),
    "jump": path(lambda t: 1.1 * t - 0.55, lambda t: 0.65 - 5.2 * t * (1 - t)),
    "meet": lambda t: [(0.85 - 0.75 * t, 0, 0.8, 0), (0.75 * t - 0.85, 0, 0.8, 0)],
    "nod": path(still, lambda t: 0.35 * sin(6 * pi * t)),
    "part": lambda t: [(0.1 + 0.75 * t, 0, 0.8, 0), (-0.1 - 0.75 * t, 0, 0.8, 0)],
    "recede": lambda t: [(0, 0, 2.3 - 1.9 * t, 0)],
    "rise": path(still, lambda t: 0.85 - 1.7 * t),
    "run": path(lambda t: 1.7 * t * t - 0.85, still),
    "shake": path(lambda t: 0.35 * sin(6 * pi * t), still),
    "spin": lambda t: [(0.3 * cos(a), 0.3 * sin(a), 0.9, a) for a in (2.6 * t, 2.6 * t + pi)],
    "spiral": path(lambda t: 0.8 * t * cos(4 * pi * t), lambda t: 0.8 * t * sin(4 * pi * t)),
    "swing": path(lambda t: 0.8 * sin(1.1 * cos(2 * pi * t)), lambda t: 1.1 * cos(1.1 * cos(2 * pi * t)) - 0.7),
    "throw": path(across, lambda t: 0.6 - 1.9 * t + 1.6 * t * t * t),
    "zigzag": path(across, lambda t: 0.5 * (1 - 4 * abs((2.5 * t) % 1 - 0.5))),
}


def draw_motion(rng: Random, label: int) -> Pixels:
    film = list(MOTIONS.values())[label]
    angle, size = rng.uniform(-0.5, 0.5), rng.uniform(0.55, 0.95, 2) * FINE / 2
    turn = np.array([[cos(angle), sin(angle)], [-sin(angle), cos(angle)]]) * size[:, None]
    turn[0] *= rng.choice([-1, 1])
    centre = FINE / 2 * (1 + rng.uniform(-0.2, 0.2, 2))
    corners = int(rng.integers(3, 9))
    outline = np.stack([np.cos(steps := 2 * pi * np.arange(corners) / corners), 1.3 * np.sin(steps)], 1)
    outline *= rng.uniform(0.13, 0.22) * rng.uniform(0.7, 1.2, (corners, 1))
    start, length, camera = rng.uniform(0, 0.15), rng.uniform(0.7, 0.85), rng.normal(0, 3, 2)
    spots = rng.uniform(0, FINE, (int(rng.integers(2, 7)), 2))
    bright, haze = 200, int(rng.integers(20, 70))
    total = np.zeros((FINE, FINE), np.float32)
    for frame in range(FRAMES):
        share = frame / (FRAMES - 1)
        image = Image.new("L", (FINE, FINE))
        canvas = ImageDraw.Draw(image)
        for x, y in spots + camera * share:  # the background, seen by a hand that is not quite still
            canvas.ellipse((x - 5, y - 5, x + 5, y + 5), fill=haze)
        for x, y, large, lean in film(start + length * share):
            spun = outline @ np.array([[cos(lean), sin(lean)], [-sin(lean), cos(lean)]]) if lean else outline
            placed = (spun * large + [x, y] + rng.normal(0, 0.03, 2)) @ turn + centre
            canvas.polygon(placed.ravel().tolist(), fill=bright)
        total += (2 * share - 1) * np.asarray(image, np.float32)
    trace = rng.uniform(70, 125) * total / np.abs(total).max() + rng.uniform(115, 140)
    tinted = trace[..., None] + rng.normal(0, 6, 3).astype(np.float32)
    smooth = Image.fromarray(np.clip(tinted, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.8))
    return finish(rng, smooth, light=0.12, blur=0.7, noise=10)


SPECS = (
    PocketSpec(
        "motion",
        "ucf101",
        "movements summed into one picture: early frames dark, late ones bright",
        tuple(MOTIONS),
        (50, 14, 26),
        draw_motion,
    ),
)
