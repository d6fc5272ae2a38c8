"""Fine-grained birds: one build, told apart by plumage, beak, tail and legs."""

from dataclasses import dataclass

from madlab.benchmarks.pocket.drawing import Colour, Frame, Pen, Random, curve, ellipse, finish, mixed, some_colour
from madlab.benchmarks.pocket.flowers import leaves
from madlab.benchmarks.pocket.spec import Pixels, PocketSpec

PLUMAGE: dict[str, Colour] = {
    "black": (35, 32, 38), "white": (240, 238, 232), "grey": (135, 140, 148), "brown": (120, 85, 55),
    "cream": (225, 205, 165), "rust": (190, 95, 45), "red": (200, 35, 40), "yellow": (240, 205, 45),
    "green": (115, 135, 60), "blue": (50, 95, 185),
}  # fmt: skip


@dataclass(frozen=True)
class Bird:
    """Plumage by part, and build: beak, tail, legs and neck are lengths; the body is about one long."""

    back: str
    belly: str
    head: str
    wing: str
    face: str = ""
    beak: float = 0.2
    thick: float = 0.08
    tail: float = 0.4
    legs: float = 0.3
    neck: float = 0.0
    crest: bool = False
    bill: str = "grey"


BIRDS = {
    "blackbird": Bird("black", "black", "black", "black", bill="yellow"),
    "blue tit": Bird("green", "yellow", "blue", "blue", "white", 0.12),
    "bullfinch": Bird("grey", "red", "black", "black", thick=0.13, beak=0.15),
    "canary": Bird("yellow", "yellow", "yellow", "cream", beak=0.13),
    "cardinal": Bird("red", "red", "red", "red", "black", 0.16, 0.13, crest=True, bill="rust"),
    "chaffinch": Bird("brown", "rust", "blue", "white", beak=0.15),
    "crow": Bird("black", "black", "black", "black", beak=0.3, thick=0.13),
    "goldfinch": Bird("brown", "cream", "black", "yellow", "red", 0.15),
    "great tit": Bird("green", "yellow", "black", "grey", "white", 0.13),
    "heron": Bird("grey", "white", "white", "grey", beak=0.45, tail=0.15, legs=0.75, neck=0.45, bill="yellow"),
    "jay": Bird("rust", "cream", "rust", "blue", beak=0.2, crest=True),
    "kingfisher": Bird("blue", "rust", "blue", "blue", "rust", 0.5, 0.09, 0.18, 0.15, bill="black"),
    "magpie": Bird("black", "white", "black", "white", tail=0.9, bill="black"),
    "robin": Bird("brown", "cream", "brown", "brown", "rust", 0.13),
    "sandpiper": Bird("brown", "white", "brown", "grey", beak=0.42, thick=0.05, tail=0.2, legs=0.55, bill="black"),
    "sparrow": Bird("brown", "grey", "brown", "brown", "grey", 0.14),
    "starling": Bird("black", "black", "black", "brown", beak=0.28, tail=0.25, bill="yellow"),
    "wagtail": Bird("grey", "yellow", "grey", "black", tail=0.8, beak=0.15),
    "waxwing": Bird("rust", "cream", "rust", "yellow", "black", 0.13, crest=True),
    "woodpecker": Bird("black", "white", "red", "white", "white", 0.33, 0.08, 0.45, 0.12, bill="black"),
}


def paint_bird(pen: Pen, bird: Bird) -> None:
    rng = pen.rng
    tint = some_colour(rng, saturation=(0, 1), value=(0, 1))
    hues = {part: mixed(colour, tint, rng.uniform(0, 0.18)) for part, colour in PLUMAGE.items()}
    stretch, nod = rng.uniform(-0.08, 0.08), rng.uniform(-0.12, 0.12)
    head = 0.45 + 0.3 * bird.neck, -0.38 - bird.neck + nod

    def beside(dx: float, dy: float) -> tuple[float, float]:
        return head[0] + dx, head[1] + dy

    for x in (-0.02, 0.16):
        pen.line([(x, 0.35), (x + rng.uniform(-0.08, 0.08), 0.42 + bird.legs)], (110, 70, 50), 0.06)
    lift = rng.uniform(-0.15, 0.25)
    tip = (-0.42 - bird.tail, 0.2 + lift)
    pen.fill([(-0.35, 0.0), (tip[0], tip[1] - 0.08), (tip[0] + 0.02, tip[1] + 0.08), (-0.35, 0.22)], hues[bird.back])
    pen.disc(0, 0.08, 0.52, hues[bird.back], 0.35 + stretch)
    pen.fill([*ellipse(0.06, 0.08, 0.46, 0.36 + stretch, -0.03, 0.42, 14)], hues[bird.belly])
    if bird.neck:
        pen.line(curve([(0.35, 0), (0.65, -0.2), (0.3, -0.45), head], 9), hues[bird.head], 0.2)
    pen.fill(
        [(0.12, -0.2), (0.5, 0.15), beside(0.2, 0.05), beside(-0.2, -0.05)],
        hues[bird.head if not bird.face else bird.belly],
    )
    pen.disc(head[0], head[1], 0.25, hues[bird.head])
    if bird.crest:
        pen.fill([beside(0.1, -0.2), beside(-0.4, -0.4), beside(-0.2, 0.0)], hues[bird.head])
    if bird.face:
        pen.disc(head[0] + 0.08, head[1] + 0.08, 0.17, hues[bird.face], 0.14)
    half = bird.thick * rng.uniform(0.9, 1.2)
    pen.fill([beside(0.2, -half), beside(0.22 + bird.beak, 0.03), beside(0.2, half)], hues[bird.bill])
    pen.disc(head[0] + 0.07, head[1] - 0.05, 0.05, (10, 10, 12))
    pen.fill(
        [
            *curve([(0.25, -0.1), (-0.1, -0.3), (-0.65, 0.22)], 8),
            *curve([(-0.65, 0.22), (-0.1, 0.35), (0.25, -0.1)], 8),
        ],
        hues[bird.wing],
    )
    pen.line([(0.0, -0.05), (-0.5, 0.18)], mixed(hues[bird.back], (0, 0, 0), 0.2), 0.1)


def draw_bird(rng: Random, label: int) -> Pixels:
    image, green = leaves(rng)
    bird = list(BIRDS.values())[label]
    pen = Pen(rng, image, Frame(rng, (0.6, 0.92), 0.25, 0.2, 0.15, 0.04), green)
    perch = 0.45 + bird.legs
    pen.line(
        [(-3, perch + rng.uniform(-0.5, 0.5)), (0, perch), (3, perch + rng.uniform(-0.5, 0.5))],
        pen.dark,
        rng.uniform(0.08, 0.18),
    )
    paint_bird(pen, bird)
    return finish(rng, image, light=0.4, noise=10)


SPECS = (
    PocketSpec(
        "birds",
        "cubs",
        "birds of one build, told apart by plumage, beak, tail and legs",
        tuple(BIRDS),
        (45, 12, 24),
        draw_bird,
    ),
)
