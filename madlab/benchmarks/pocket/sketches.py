"""The things of `objects` and `pictures` once more, as quick line drawings."""

import numpy as np
from PIL import Image

from madlab.benchmarks.pocket.drawing import FINE, Colour, Frame, Pen, Points, Random, finish
from madlab.benchmarks.pocket.objects import OBJECTS
from madlab.benchmarks.pocket.scenes import SCENES
from madlab.benchmarks.pocket.spec import Pixels, PocketSpec

THINGS = tuple(sorted(OBJECTS + SCENES, key=lambda thing: thing.__name__))


class Pencil(Pen):
    """Draws outlines with an unsteady hand; what a shape covers is rubbed out."""

    def __init__(self, rng: Random, image: Image.Image, frame: Frame, paper: Colour):
        super().__init__(rng, image, frame, paper)
        level = int(rng.integers(0, 70))
        self.paper, self.lead, self.tip = paper, (level, level, level), int(rng.integers(3, 7))
        self.shake = rng.uniform(0.8, 3)

    def stroke(self, pixels: np.ndarray) -> None:
        """A line through canvas pixels (n, 2): it shakes, and it slips from its place."""
        shaken = pixels + self.rng.normal(0, self.shake, pixels.shape) + self.rng.normal(0, 5, 2)
        self.canvas.line(shaken.ravel().tolist(), fill=self.lead, width=self.tip, joint="curve")

    def fill(self, points: Points, colour: Colour) -> None:
        pixels = self.frame(points)
        self.canvas.polygon(pixels.ravel().tolist(), fill=self.paper)
        overshoot = int(self.rng.integers(1, 3))  # the hand seldom stops where it began
        self.stroke(np.concatenate([pixels, pixels[:overshoot]]))

    def line(self, points: Points, colour: Colour, width: float = 0.1) -> None:
        self.stroke(self.frame(points))


def draw_sketch(rng: Random, label: int) -> Pixels:
    level = int(rng.integers(225, 256))
    paper = (level, level, level)
    image = Image.new("RGB", (FINE, FINE), paper)
    THINGS[label](Pencil(rng, image, Frame(rng, (0.45, 0.9), 0.7, 0.25, 0.35, 0.2), paper))
    return finish(rng, image, light=0.1, blur=0.8, noise=10, grey=True)


SPECS = (
    PocketSpec(
        "sketches",
        "sketch",
        "quick line drawings of forty things",
        tuple(thing.__name__ for thing in THINGS),
        (22, 6, 11),
        draw_sketch,
    ),
)
