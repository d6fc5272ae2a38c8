r"""Rounding: a domain's numbers in 8, 4, 3 or 2 bits each.

    v = rest + unit_r q        q in {-L, ..., L}, L = 2^(bits - 1) - 1, one unit for each row r of a tensor

`rest` is where a number changes nothing (`Adapter.rest`): what the domain left there comes back exactly. The units lie
on a fixed grid of four per octave, so that one byte holds a unit and rounding what was rounded changes nothing. A row's
unit is that of the grid whose squared error over the row is least; it may clip the row's largest numbers. The errors
may be weighed, by what the numbers are multiplied with. Built in notebook 11, there with the unit that clips nothing.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from madlab.adapters.base import whole_number
from madlab.errors import MadlabError

BITS = (2, 3, 4, 8)
"""In how many bits a number can be stored."""
FEW = 8
"""A tensor of fewer numbers is stored as it is: rounding the four scalars of WTPB would save nothing and cost much."""
SHORT = 32
"""Rows of fewer numbers are turned into columns if there are fewer of those: a unit is a byte as well."""
PER_OCTAVE = 4
"""Units per octave: with eight, alpha's error is 0.1 to 1.1 % smaller at 2 to 4 bits (a trained pocket domain)."""
TOP = 16
"""The first of the 256 units is 2^16, the last 2^-47.75."""
GRID = [2.0 ** (TOP - code / PER_OCTAVE) for code in range(256)]
SEARCHED = 16
"""Units that are tried for a row, from the one that clips nothing down: four octaves. Beside them all coarser ones are
tried, with which the numbers of a row that are alike, few or mostly at rest may happen to be met better."""
SEARCHED_WEIGHED = 64
"""The same where errors are weighed, since then a number of any size may be worth nothing."""


def check_bits(bits: Any) -> int:
    """The number of bits; raises MadlabError for one that is not in BITS."""
    number = whole_number(bits)
    if number not in BITS:
        raise MadlabError(f"Numbers cannot be stored in {bits!r} bits: choose one of {', '.join(map(str, BITS))}.")
    return number


def as_rows(tensor: Tensor) -> Tensor:
    """A tensor as the matrix whose rows have a unit each: one for each filter; a vector is one row."""
    matrix = tensor.squeeze()
    matrix = matrix.flatten(1) if matrix.ndim > 1 else matrix.reshape(1, -1)
    return matrix.T if matrix.shape[1] < min(SHORT, matrix.shape[0]) else matrix


def from_rows(rows: Tensor, shape: torch.Size) -> Tensor:
    """The tensor of this shape of which `as_rows` made these rows."""
    places = as_rows(torch.arange(rows.numel(), device=rows.device).view(shape))
    return torch.empty_like(rows.reshape(-1)).index_copy(0, places.reshape(-1), rows.reshape(-1)).view(shape)


@cache
def _grid(device: torch.device) -> Tensor:
    """The units as a tensor, made once: a training step looks them up some hundred times."""
    with torch.inference_mode(False):
        return torch.tensor(GRID, device=device)


def units_of(codes: Tensor) -> Tensor:
    """uint8 codes -> the units of the grid that they stand for, float32."""
    return _grid(codes.device)[codes.long()]


def to_levels(rows: Tensor, units: Tensor, bits: int) -> Tensor:
    """The nearest of the levels -L..L for each number of rows (R, n), in units (R, 1): floats (R, n)."""
    levels = 2 ** (bits - 1) - 1
    return (rows / units).round().clamp(-levels, levels)


def best_codes(rows: Tensor, bits: int, weights: Tensor | None = None) -> Tensor:
    """The code of the unit with the least squared error for each row of (R, n), weighed by (R, n): uint8 (R,)."""
    levels = 2 ** (bits - 1) - 1
    largest = rows.abs().amax(1).clamp(min=1e-30)
    # NaN has no code: it stays NaN by its levels, so that a training that diverged says so.
    first = (PER_OCTAVE * (TOP - (largest / levels).log2())).floor().nan_to_num(0.0).clamp(0, 255)
    best, least = first, torch.full_like(largest, torch.inf)
    coarser = math.ceil(PER_OCTAVE * math.log2(levels))  # the coarsest has the largest number at level 1
    for step in range(-coarser, SEARCHED if weights is None else SEARCHED_WEIGHED):
        codes = (first + step).clamp(0, 255)
        units = units_of(codes)[:, None]
        squares = (rows - units * to_levels(rows, units, bits)).square()
        errors = (squares if weights is None else weights * squares).sum(1)
        best, least = torch.where(errors < least, codes, best), torch.minimum(errors, least)
    return best.to(torch.uint8)


def round_numbers(tensor: Tensor, rest: Tensor, bits: int, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """What is stored of a tensor: the codes of its rows' units, uint8 (R,), and its levels, int8 (R, n).

    weights: in the tensor's shape, of the squared errors; None weighs all alike.
    """
    rows = as_rows((tensor.detach() - rest).float())
    codes = best_codes(rows, bits, None if weights is None else as_rows(weights))
    return codes, to_levels(rows, units_of(codes)[:, None], bits).to(torch.int8)


def restore_numbers(codes: Tensor, levels: Tensor, rest: Tensor) -> Tensor:
    """The tensor that comes back, in the shape and number format of `rest`."""
    distances = units_of(codes)[:, None] * levels
    return (rest + from_rows(distances, rest.shape)).to(rest.dtype)


def rounded_numbers(tensor: Tensor, rest: Tensor, bits: int, weights: Tensor | None = None) -> Tensor:
    """The tensor as it comes back from `bits` bits per number; one of fewer than FEW numbers as it is."""
    if tensor.numel() < FEW:
        return tensor.detach()
    return restore_numbers(*round_numbers(tensor, rest, bits, weights), rest)


@contextmanager
def rounded(numbers: Iterable[tuple[nn.Parameter, Tensor]], bits: int | None) -> Iterator[None]:
    """Inside, parameters hold what they would come back as from `bits` bits; afterwards, what they held.

    numbers: parameters, each with its rest. bits: None rounds nothing. A gradient that is computed inside is that of
    the rounded numbers, and a step of the optimiser afterwards moves the exact ones by it: the straight-through
    estimator (Bengio et al., arXiv 1308.3432), without a parametrization and for every adapter alike.
    """
    if bits is None:
        yield
        return
    numbers = list(numbers)
    held = [(parameter, parameter.detach().clone()) for parameter, _ in numbers]
    with torch.no_grad():
        for parameter, rest in numbers:
            parameter.copy_(rounded_numbers(parameter, rest, bits))
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, exact in held:
                parameter.copy_(exact)


def quantise(alpha: Tensor, bits: int) -> Tensor:
    """Alpha (M, N) as it comes back from `bits` bits per number and one scale (a float32) per filter.

    A filter's row keeps its distances from one as whole numbers from -L to L, in units of its largest distance / L:
    what the domain left at exactly one stays there. Raises MadlabError for fewer than 2 bits.
    """
    if bits < 2:
        raise MadlabError(f"{bits} bits cannot hold a sign and a size: choose at least 2.")
    away = alpha - 1
    largest = away.abs().amax(1, keepdim=True).clamp(min=torch.finfo(alpha.dtype).tiny)
    units = largest / (2 ** (bits - 1) - 1)
    return 1 + units * to_levels(away, units, bits)
