"""Fine-grained machines: aircraft from above, told apart by wings, tails and engines, and cars from the side."""

from dataclasses import dataclass, replace

import numpy as np

from madlab.benchmarks.pocket.drawing import (
    Colour,
    Frame,
    Pen,
    Random,
    cloudy,
    clutter,
    finish,
    mixed,
    some_colour,
)
from madlab.benchmarks.pocket.spec import Pixels, PocketSpec


@dataclass(frozen=True)
class Plane:
    """An aircraft from above, its nose at the top; lengths in half lengths of the aircraft.

    span: half the wing span. chord, tip: depth of the wing at the root and at its tip. sweep: how far the tip lies
    behind the root. at: where the wing begins, -1 is the nose. body: half width. tail: half span of the tailplane, at
    tail_at. engines: along one wing (jets), or at the tail (rear). propellers: on the nose (1) or on the engines.
    """

    span: float = 0.9
    chord: float = 0.35
    tip: float = 0.12
    sweep: float = 0.35
    at: float = -0.25
    body: float = 0.1
    tail: float = 0.35
    tail_at: float = 0.72
    engines: int = 0
    rear: bool = False
    propellers: bool = False
    booms: bool = False
    floats: bool = False


airliner = Plane(engines=1)
PLANES = {
    "twin jet": airliner,
    "four-engined jet": replace(airliner, engines=2),
    "rear-engined jet": replace(airliner, engines=0, rear=True, at=-0.1),
    "straight-wing propeller": Plane(sweep=0, tip=0.28, chord=0.3, propellers=True, at=-0.4, span=0.85),
    "twin propeller": Plane(sweep=0.02, tip=0.15, engines=1, propellers=True),
    "four propellers": Plane(sweep=0.02, tip=0.15, engines=2, propellers=True, span=1),
    "glider": Plane(span=1.25, chord=0.16, tip=0.07, sweep=0.02, at=-0.3, body=0.06, tail=0.25),
    "delta": Plane(span=0.6, chord=1.1, tip=0.02, sweep=1.05, at=-0.3, tail=0),
    "supersonic liner": Plane(span=0.48, chord=1.25, tip=0.1, sweep=1.1, at=-0.35, body=0.06, tail=0, engines=1),
    "swept fighter": Plane(span=0.6, chord=0.5, tip=0.15, sweep=0.5, at=-0.15, body=0.12, tail=0.42, tail_at=0.6),
    "forward-swept": Plane(span=0.65, chord=0.4, tip=0.18, sweep=-0.4, at=0.15, tail=0.3),
    "canard": Plane(span=0.65, chord=0.6, tip=0.1, sweep=0.55, at=0.15, tail=0.33, tail_at=-0.6),
    "flying wing": Plane(span=1.1, chord=0.65, tip=0.15, sweep=0.65, at=-0.5, body=0, tail=0),
    "twin boom": Plane(span=0.95, chord=0.28, tip=0.16, sweep=0.05, body=0.12, tail=0.32, booms=True),
    "seaplane": Plane(sweep=0, tip=0.26, chord=0.3, span=1, propellers=True, at=-0.45, floats=True),
    "tandem wings": Plane(span=0.7, chord=0.26, tip=0.2, sweep=0.08, at=-0.6, tail=0.7, tail_at=0.4),
}


def paint_plane(pen: Pen, plane: Plane) -> None:
    span = plane.span * pen.rng.uniform(0.93, 1.07)
    for x in (-0.4, 0.4) if plane.floats else ():
        pen.disc(x, -0.25, 0.1, pen.second, 0.5)
    for side in (-1, 1):
        root, tip = plane.at, plane.at + plane.sweep
        wing = [(0, root), (side * span, tip), (side * span, tip + plane.tip), (0, root + plane.chord)]
        pen.fill(wing, pen.main)
        back, deep = plane.tail_at, 0.2 if plane.tail < 0.6 else 0.26
        pen.fill(
            [(0, back), (side * plane.tail, back + 0.1), (side * plane.tail, back + 0.22), (0, back + deep)], pen.main
        )
        for share in np.linspace(0.4, 0.68, 2)[: plane.engines] if plane.engines > 1 else [0.4] * plane.engines:
            x, y = side * share * span, root + share * plane.sweep
            pen.disc(x, y, 0.07, pen.dark, 0.16)
            if plane.propellers:
                pen.line([(x - 0.15, y - 0.16), (x + 0.15, y - 0.16)], pen.light, 0.05)
        if plane.rear:
            pen.disc(side * 0.2, 0.5, 0.09, pen.dark, 0.19)
        if plane.booms:
            pen.line([(side * 0.3, root), (side * 0.3, back + 0.1)], pen.main, 0.1)
    if plane.body:
        pen.disc(
            0,
            -0.25 if plane.booms else 0,
            plane.body * pen.rng.uniform(0.9, 1.3),
            pen.second,
            0.6 if plane.booms else 1,
        )
        pen.disc(0, -0.6, plane.body * 0.6, pen.dark, 0.12)
    if plane.propellers and not plane.engines:
        pen.line([(-0.25, -0.98), (0.25, -0.98)], pen.light, 0.06)


def draw_plane(rng: Random, label: int) -> Pixels:
    below = some_colour(rng, float(rng.choice([0.1, 0.3, 0.58])), (0.1, 0.7), (0.3, 0.95))
    image = cloudy(rng, below, 28)
    clutter(rng, image, int(rng.integers(0, 9)), below, 0.35, 0.35)
    paint_plane(Pen(rng, image, Frame(rng, (0.6, 0.85), np.pi, 0.15, 0.12, 0.03), below), list(PLANES.values())[label])
    return finish(rng, image, blur=0.6)


@dataclass(frozen=True)
class Car:
    """A car from the side, facing right, from x = -1 to 1; the ground is at y = 0.55.

    roof: outline of the cabin from back to front as (x, y). belt: y of the body's upper edge, as (back, middle, front).
    wheel: radius. wheels: where. load: what it carries.
    """

    roof: tuple[tuple[float, float], ...]
    belt: tuple[float, float, float] = (0.0, -0.02, 0.05)
    wheel: float = 0.22
    wheels: tuple[float, ...] = (-0.58, 0.6)
    load: str = ""


CARS = {
    "sedan": Car(((-0.68, 0), (-0.42, -0.36), (0.12, -0.36), (0.42, 0))),
    "hatchback": Car(((-0.92, 0), (-0.78, -0.38), (0.08, -0.4), (0.42, 0)), wheels=(-0.6, 0.58)),
    "estate": Car(((-0.98, 0), (-0.92, -0.34), (0.1, -0.36), (0.42, 0))),
    "coupe": Car(((-0.9, 0), (-0.25, -0.3), (0.05, -0.3), (0.4, 0)), wheel=0.24),
    "convertible": Car(((0.1, 0), (0.02, -0.3), (0.1, -0.3), (0.4, 0)), load="seats"),
    "pickup": Car(((-0.1, 0), (-0.1, -0.42), (0.2, -0.42), (0.45, 0)), belt=(-0.05, -0.05, -0.02), wheel=0.26),
    "off-roader": Car(
        ((-0.9, 0), (-0.88, -0.5), (0.2, -0.5), (0.35, -0.05)), belt=(-0.08, -0.08, -0.05), wheel=0.3, load="spare"
    ),
    "van": Car(((-0.98, 0), (-0.98, -0.65), (0.5, -0.65), (0.82, 0)), belt=(-0.1, -0.1, 0), load="panel"),
    "minibus": Car(((-0.98, 0), (-0.98, -0.55), (0.75, -0.55), (0.95, 0)), belt=(-0.12, -0.12, -0.1)),
    "bus": Car(
        ((-1, 0), (-1, -0.72), (0.95, -0.72), (1, 0)), belt=(-0.15, -0.15, -0.15), wheel=0.19, wheels=(-0.6, 0.62)
    ),
    "lorry": Car(
        ((0.4, 0), (0.4, -0.55), (0.82, -0.55), (0.95, 0)),
        belt=(0.2, 0.1, -0.05),
        wheel=0.2,
        wheels=(-0.75, -0.4, 0.65),
        load="box",
    ),
    "tanker": Car(
        ((0.42, 0), (0.42, -0.5), (0.82, -0.5), (0.95, 0)),
        belt=(0.2, 0.1, -0.05),
        wheel=0.2,
        wheels=(-0.75, -0.4, 0.65),
        load="tank",
    ),
    "limousine": Car(
        ((-0.85, 0), (-0.65, -0.3), (0.38, -0.3), (0.6, 0)), wheel=0.18, wheels=(-0.72, 0.76), belt=(0.02, 0, 0.05)
    ),
    "beetle": Car(((-0.85, 0.1), (-0.5, -0.42), (0.1, -0.42), (0.4, 0.02)), belt=(0.2, 0, 0.18), wheel=0.24),
    "racing car": Car(
        ((-0.3, 0.15), (-0.25, -0.05), (-0.05, -0.05), (0.05, 0.15)),
        belt=(0.15, 0.15, 0.32),
        wheel=0.27,
        wheels=(-0.62, 0.68),
        load="wing",
    ),
    "tractor": Car(
        ((-0.75, 0), (-0.7, -0.65), (-0.05, -0.65), (0, 0)),
        belt=(0, -0.1, -0.05),
        wheel=0.25,
        wheels=(0.65,),
        load="big wheel",
    ),
}


def paint_car(pen: Pen, car: Car) -> None:
    back, middle, front = car.belt
    ends = [roof[0] for roof in (car.roof[0], car.roof[-1])]
    if car.load == "box":
        pen.box(-1, -0.75, 0.32, 0.2, pen.second)
    elif car.load == "tank":
        pen.disc(-0.35, -0.15, 0.65, pen.second, 0.36)
    elif car.load == "wing":
        pen.box(-1, -0.2, -0.7, -0.1, pen.second)
        pen.line([(-0.85, -0.15), (-0.8, 0.2)], pen.dark, 0.07)
    elif car.load == "seats":
        for x in (-0.45, -0.1):
            pen.fill([(x - 0.1, -0.2), (x + 0.02, -0.2), (x + 0.1, 0.05), (x - 0.05, 0.05)], pen.dark)
    elif car.load == "spare":
        pen.box(-1.08, -0.35, -0.92, 0.12, pen.dark)
    pen.fill(car.roof, pen.main)
    body = [(-1, 0.4), (-0.98, back), (ends[0], middle), (ends[1], middle), (0.97, front), (1, 0.4)]
    pen.fill(body, pen.main)
    if car.load not in ("wing", "seats"):
        centre = np.mean(car.roof, 0)
        glass = centre + 0.72 * (np.asarray(car.roof) - centre) + [0, 0.02]
        if car.load == "panel":
            glass[:2, 0] = 0.15
        pane = pen.light if brightness_low(pen.main) else pen.dark
        pen.fill(glass, pane)
        for x in np.arange(glass[0, 0] + 0.28, glass[-1, 0] - 0.2, 0.36):
            pen.line([(x, centre[1] - 0.5 * abs(car.roof[1][1])), (x, middle)], pen.main, 0.07)
    pen.line([(-0.97, 0.3), (0.97, 0.3)], mixed(pen.main, pen.dark, 0.6), 0.09)
    pen.disc(0.9, front + 0.12, 0.07, pen.light)
    wheels = [(x, car.wheel) for x in car.wheels] + ([(-0.5, 0.48)] if car.load == "big wheel" else [])
    for x, radius in wheels:
        pen.disc(x, 0.6 - radius, radius, (25, 25, 28))
        pen.disc(x, 0.6 - radius, 0.5 * radius, (170, 170, 175))


def brightness_low(colour: Colour) -> bool:
    return sum(colour) < 330


def draw_car(rng: Random, label: int) -> Pixels:
    wall, road = (
        some_colour(rng, saturation=(0.05, 0.5), value=(0.3, 1)),
        some_colour(rng, saturation=(0, 0.2), value=(0.25, 0.7)),
    )
    image = cloudy(rng, wall, 22)
    clutter(rng, image, int(rng.integers(2, 8)), wall, 0.5, 0.35)
    frame = Frame(rng, (0.62, 0.92), 0.12, 0.16, 0.12, 0.03)
    pen = Pen(rng, image, frame, wall)
    pen.box(-3, rng.uniform(0.3, 0.55), 3, 3, road)
    paint_car(pen, list(CARS.values())[label])
    clutter(rng, image, int(rng.integers(0, 2)), wall, 0.5, 0.2)
    return finish(rng, image)


SPECS = (
    PocketSpec(
        "planes",
        "aircraft",
        "aircraft from above, told apart by wings, tails and engines",
        tuple(PLANES),
        (50, 15, 28),
        draw_plane,
    ),
    PocketSpec("cars", "cars", "cars from the side, told apart by their shape", tuple(CARS), (50, 15, 28), draw_car),
)
