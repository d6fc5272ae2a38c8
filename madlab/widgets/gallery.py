"""The pocket domains, to look through; used in notebook 00."""

import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from madlab import figures
from madlab.benchmarks.pocket import DOMAINS, SKETCH_DOMAINS, SPECS
from madlab.widgets.panel import Panel, button, choice

COLUMNS, LINES = 12, 2
EVERY = "one of every class"


def domain_gallery() -> Panel:
    """Choose a domain and a class, and see 24 of its images, which are drawn on the spot.

    The panel's `state` has domain, label (None for every class), numbers of the images, and the images themselves,
    uint8 (24, 36, 36, 3).
    """
    place = {"first": 0}

    def draw(figure: Figure, domain: str, label: str) -> dict[str, Any]:
        spec, first = SPECS[domain], place["first"]
        names = spec.class_names
        # There are no more scans of a class than the domain has images of it: from then on they come again.
        scans = sum(spec.counts) if spec.from_scans else sys.maxsize

        def number_of(place: int, per_image: int = 1) -> int:
            return place // per_image % scans

        if label == EVERY:
            wanted = [((first + i) % len(names), number_of(first + i, len(names))) for i in range(COLUMNS * LINES)]
            some = "" if len(names) <= len(wanted) else f"{len(wanted)} of "
            title = f"{domain}: {some}its {len(names)} classes in turn"
        else:
            wanted = [(names.index(label), number_of(first + i)) for i in range(COLUMNS * LINES)]
            title = f"{domain}, class {label!r}: no two images are the same"
        images = np.stack([_image(domain, class_number, number) for class_number, number in wanted])

        ax = figure.add_axes((0.005, 0.02, 0.99, 0.83))
        figures.pictures(ax, images, columns=COLUMNS)
        ax.set_title(title)
        train, val, test = (count * len(names) for count in spec.counts)
        note = (
            f"<b>{domain}</b> stands for <i>{spec.stands_for}</i>: {spec.description}. "
            f"{train} images for training, {val} for validation, {test} for the test."
        )
        return {
            "note": note,
            "domain": domain,
            "label": None if label == EVERY else label,
            "numbers": [number for _, number in wanted],
            "images": images,
        }

    def before(panel: Panel, moved: str) -> None:
        if moved == "domain":
            panel.label.options = [EVERY, *SPECS[panel.domain.value].class_names]
            panel.label.value = EVERY
        place["first"] = place["first"] + COLUMNS * LINES if moved == "more" else 0

    controls = {
        "domain": choice("domain", list(dict.fromkeys(DOMAINS + SKETCH_DOMAINS))),
        "label": choice("class", [EVERY, *SPECS[DOMAINS[0]].class_names]),
        "more": button("more images"),
    }
    shown = [EVERY, *(name for spec in SPECS.values() for name in spec.class_names[:2])]
    states: dict[str, Sequence[Any]] = {"label": shown, "more": (0, 1)}
    return Panel(draw, controls, size=(9.5, 1.95), before=before, states=states, start=lambda: place.update(first=0))


@lru_cache(maxsize=4096)
def _image(domain: str, label: int, number: int) -> np.ndarray:
    return SPECS[domain].image(label, number)
