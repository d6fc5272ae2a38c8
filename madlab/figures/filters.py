"""Figures of one convolution: its filter bank, its modulation, and the feature maps that it computes.

Filters and modulations have one row per output channel m and one column per input channel n, as the matrix α and the
weights of PyTorch have.
"""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.transforms import offset_copy

from madlab.figures.style import AROUND_ONE, AROUND_ZERO, BLACK, BRIGHTNESS, as_array, mosaic


def filter_bank(
    ax: Axes, weight: Any, *, scale: float | None = None, inputs: Sequence[str] | None = None, outputs: bool = True
) -> AxesImage:
    """Draw weights (M, N, k, k) as k x k tiles: row m, column n. Orange is positive, purple negative.

    scale: the weight that gets the full colour, by default the largest one. inputs, outputs: as for `alpha_map`.
    """
    weight = as_array(weight)
    limit = float(np.abs(weight).max()) if scale is None else scale
    picture, across, down = _tiles(ax, weight, cmap=AROUND_ZERO, vmin=-limit, vmax=limit)
    _name_channels(ax, across, down, inputs, outputs)
    return picture


def alpha_map(
    ax: Axes,
    alpha: Any,
    *,
    span: float = 1.0,
    inputs: Sequence[str] | None = None,
    outputs: bool = True,
    chosen: tuple[int, int] | None = None,
) -> AxesImage:
    """Draw a modulation alpha (M, N): row m, column n. White is one, red is above, blue is below.

    span: the distance from one that gets the full colour. inputs: names of the columns, by default their numbers.
    outputs: whether rows are numbered. chosen: (m, n), a cell to frame.
    """
    alpha = as_array(alpha)
    picture = ax.imshow(alpha, cmap=AROUND_ONE, vmin=1 - span, vmax=1 + span, aspect="auto", origin="upper")
    out_channels, in_channels = alpha.shape
    if alpha.size <= 400:  # lines between the cells; minor ticks would take 50 ms
        across = [[(-0.5, m - 0.5), (in_channels - 0.5, m - 0.5)] for m in range(1, out_channels)]
        down = [[(n - 0.5, -0.5), (n - 0.5, out_channels - 0.5)] for n in range(1, in_channels)]
        ax.add_collection(LineCollection(across + down, colors="0.85", linewidths=0.6), autolim=False)
    if chosen is not None:
        corner = (chosen[1] - 0.5, chosen[0] - 0.5)
        ax.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=BLACK, linewidth=2, clip_on=False))
    _name_channels(ax, range(in_channels), range(out_channels), inputs, outputs)
    return picture


def feature_maps(
    ax: Axes, maps: Any, *, scale: float | None = None, columns: int | None = None, rows: Sequence[str] | None = None
) -> AxesImage:
    """Draw feature maps (R, M, H, W), column m, or (M, H, W) in rows of `columns`.

    Black is zero or less, white is `scale`. rows: a name for each of the R rows, e.g. before and after.
    """
    maps = as_array(maps)
    numbered = maps.ndim == 4
    if not numbered:
        maps = _in_rows(maps, columns or len(maps))
    limit = (float(np.nanmax(maps)) or 1.0) if scale is None else scale
    picture, across, down = _tiles(ax, maps, cmap=BRIGHTNESS, vmin=0, vmax=limit)
    columns_named = _some(maps.shape[1]) if numbered else []
    beside = range(len(maps)) if rows else _some(len(maps))
    _write_names(
        ax,
        [across[m] for m in columns_named],
        columns_named,
        [down[r] for r in beside],
        rows or beside,
        "output channel m" if numbered else "",
        "",
    )
    return picture


def pictures(ax: Axes, images: Any, *, columns: int, names: Sequence[str] | None = None, gap: int = 2) -> AxesImage:
    """Draw colour images, uint8 (N, H, W, 3), in rows of `columns`. names: one per row, written to its left."""
    grid = _in_rows(as_array(images) / 255, columns)
    whole = np.stack([mosaic(grid[..., channel], gap) for channel in range(3)], -1)
    picture = ax.imshow(np.nan_to_num(whole, nan=1.0), interpolation="nearest")
    rows, height = len(grid), grid.shape[2]
    down = [gap + (height + gap) * row + height / 2 - 0.5 for row in range(rows)] if names else []
    _write_names(ax, [], [], down, names or [], "", "")
    return picture


def _in_rows(images: np.ndarray, columns: int) -> np.ndarray:
    """Images (N, ...) as a grid (rows, columns, ...), the last row filled up with NaN."""
    rows = math.ceil(len(images) / columns)
    empty = np.full((rows * columns - len(images), *images.shape[1:]), np.nan, np.float32)
    return np.concatenate([images, empty]).reshape(rows, columns, *images.shape[1:])


def _tiles(ax: Axes, grid: np.ndarray, cmap: str, **options: Any) -> tuple[AxesImage, list[float], list[float]]:
    """Draw a grid of images of one channel, (R, C, h, w): the picture, the middles of columns, and of rows."""
    lines, columns, height, width = grid.shape
    colours = matplotlib.colormaps[cmap].with_extremes(bad="0.92")
    picture = ax.imshow(mosaic(grid), cmap=colours, aspect="auto", interpolation="nearest", **options)
    across = [1 + (width + 1) * column + (width - 1) / 2 for column in range(columns)]
    down = [1 + (height + 1) * line + (height - 1) / 2 for line in range(lines)]
    return picture, across, down


def _name_channels(
    ax: Axes, across: Sequence[float], down: Sequence[float], inputs: Sequence[str] | None, outputs: bool
) -> None:
    """Write names or some numbers of inputs below their columns, and some numbers of outputs beside their rows."""
    columns = _some(len(across)) if inputs is None else range(len(across))
    rows = _some(len(down)) if outputs else []
    below = "input channel n" if inputs is None else ""
    beside = "output channel m" if outputs else ""
    _write_names(ax, [across[n] for n in columns], inputs or columns, [down[m] for m in rows], rows, below, beside)


def _write_names(
    ax: Axes,
    across: Sequence[float],
    columns: Sequence[Any],
    down: Sequence[float],
    rows: Sequence[Any],
    xlabel: str,
    ylabel: str,
) -> None:
    """Write names below columns (at x = across) and beside rows (at y = down); ticks would take three times as long."""
    ax.set_axis_off()
    below, beside = ax.get_xaxis_transform(), ax.get_yaxis_transform()
    for x, name in zip(across, columns, strict=True):
        ax.text(x, 0, str(name), transform=_shifted(ax, below, 0, -4), ha="center", va="top")
    for y, name in zip(down, rows, strict=True):
        ax.text(0, y, str(name), transform=_shifted(ax, beside, -5, 0), ha="right", va="center")
    if xlabel:
        ax.text(0.5, 0, xlabel, transform=_shifted(ax, ax.transAxes, 0, -18), ha="center", va="top")
    if ylabel:
        far = -14 - 6 * max((len(str(name)) for name in rows), default=0)
        ax.text(0, 0.5, ylabel, transform=_shifted(ax, ax.transAxes, far, 0), ha="right", va="center", rotation=90)


def _shifted(ax: Axes, transform: Any, x: float, y: float) -> Any:
    """A transform moved by x and y points."""
    return offset_copy(transform, fig=ax.figure, x=x, y=y, units="points")


def _some(count: int) -> list[int]:
    """A few evenly spaced channel numbers: up to eight if single cells are visible, else up to four."""
    most = 8 if count <= 16 else 4
    return list(range(0, count, math.ceil(count / most)))
