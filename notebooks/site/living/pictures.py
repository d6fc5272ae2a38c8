"""The pictures of a panel's states: cut into columns, compressed, and stored once under the hash of their pixels.

A figure is cut where white space separates its axes. A control that changes one of them then costs one small picture
and not a whole one, and on a phone the columns stand below each other at a readable size.
"""

import hashlib
from collections.abc import Iterable, Sequence
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from madlab.figures import STYLE

SCALE = 2
"""Pixels of a picture for one pixel of the page, so that text is sharp on a phone and on a good screen."""
NARROW = 8
"""Pixels of white that are needed for a cut."""
CODECS = ({"lossless": True, "method": 3}, {"quality": 82, "method": 3})
"""Curves and maps of few colours are smaller without loss, photographs with it."""


def pixels(figure: Figure) -> np.ndarray:
    """The figure as uint8 (H, W, 3)."""
    figure.set_dpi(SCALE * 100)
    with matplotlib.rc_context(STYLE):
        figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3]


def webp(part: np.ndarray, codec: int) -> bytes:
    """Pixels as WebP; codec: index into CODECS."""
    data = BytesIO()
    Image.fromarray(np.ascontiguousarray(part)).save(data, "webp", **CODECS[codec])
    return data.getvalue()


def spans(figures: Iterable[Figure]) -> list[tuple[float, float]]:
    """The columns in which these figures have axes, as shares of their width; axes that overlap share a column."""
    boxes = sorted((ax.get_position().x0, ax.get_position().x1) for figure in figures for ax in figure.axes)
    merged: list[tuple[float, float]] = []
    for left, right in boxes:
        if merged and left < merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], right)
        else:
            merged.append((left, right))
    return merged


def cuts(columns: Sequence[tuple[float, float]], ink: np.ndarray) -> list[int]:
    """Where to cut: between two columns, in the first white space that is wide enough: labels stand left of their axes.

    ink: for each column of pixels whether something is drawn in it. Returns the first and last pixel as well.
    """
    width, places = len(ink), [0]
    for (_, left), (right, _) in pairwise(columns):
        start, stop = round(left * width), round(right * width)
        edges = np.flatnonzero(np.concatenate(([True], ink[start:stop], [True])))
        gaps = np.diff(edges) - 1
        wide = np.flatnonzero(gaps >= NARROW * SCALE)
        if len(wide):
            places.append(start + int(edges[wide[0]] + edges[wide[0] + 1]) // 2)
    return [*places, width]


class Album:
    """Stores the parts of pictures of one panel in a folder, each once."""

    def __init__(self, folder: Path, sample: Sequence[Figure]):
        """sample: some of the panel's figures, which decide where to cut and how to compress."""
        self.folder = folder
        drawn = [pixels(figure) for figure in sample]
        ink = np.any([(picture != 255).any(axis=(0, 2)) for picture in drawn], axis=0)
        self.places = cuts(spans(sample), ink)
        self.codecs = [self._better(self._part(drawn[0], column)) for column in range(len(self.places) - 1)]

    @staticmethod
    def _better(part: np.ndarray) -> int:
        return min(range(len(CODECS)), key=lambda codec: len(webp(part, codec)))

    def _part(self, picture: np.ndarray, column: int) -> np.ndarray:
        return picture[:, self.places[column] : self.places[column + 1]]

    def add(self, figure: Figure) -> list[str]:
        """Store a figure; returns the names of its parts, from left to right."""
        picture = pixels(figure)
        return [self._store(self._part(picture, column), codec) for column, codec in enumerate(self.codecs)]

    def _store(self, part: np.ndarray, codec: int) -> str:
        name = hashlib.sha256(bytes([codec]) + repr(part.shape).encode() + part.tobytes()).hexdigest()[:16]
        path = self.folder / f"{name}.webp"
        if not path.exists():
            scratch = path.with_suffix(".tmp")
            scratch.write_bytes(webp(part, codec))
            scratch.rename(path)
        return name
