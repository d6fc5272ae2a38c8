"""Exercises that check themselves: the reader's answer against an oracle on random shapes.

A check is a function that takes the answer and raises `Wrong` with a sentence that says what is wrong. The checks of
notebook 02 are in exercises/nb02.py, where the dict EXERCISES maps names to checks: `lessons.check("02.merge", merge)`.
"""

import math
import random
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from madlab.errors import MadlabError


class Wrong(Exception):
    """The answer is wrong; the message tells the reader what is wrong with it."""


@dataclass(frozen=True)
class CheckResult:
    """The outcome of a check; shown as Markdown when it is the last value of a cell."""

    passed: bool
    message: str

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        return f"{'✓' if self.passed else '✗'} {self.message}"

    def _repr_markdown_(self) -> str:
        return f"{'✓ **Right.**' if self.passed else '✗ **Not yet.**'} {self.message}"


def check(name: str, answer: Any) -> CheckResult:
    """Check the answer to an exercise. name: notebook and exercise, e.g. "02.merge".

    Nothing is raised for a wrong answer, so that the notebook runs on; the verdict says what is wrong.
    """
    number, _, exercise = name.partition(".")
    try:
        exercises: dict[str, Callable[[Any], str]] = import_module(f"madlab.lessons.exercises.nb{number}").EXERCISES
        judge = exercises[exercise]
    except (ModuleNotFoundError, KeyError):
        raise MadlabError(f"There is no exercise {name!r}: take its name from the notebook.") from None
    if answer is None or answer is ...:
        return CheckResult(False, "There is no answer yet: replace the `...`.")
    drawn = random.getstate()  # later cells draw the same numbers, whatever the answer draws
    try:
        with torch.random.fork_rng(devices=[]):
            return CheckResult(True, judge(answer))
    except Wrong as wrong:
        message = str(wrong)
        if message[:1].isascii():  # a Greek letter stays small, because a capital β looks like B
            message = message[:1].upper() + message[1:]
        return CheckResult(False, message)
    except Exception as error:
        return CheckResult(False, f"It stopped with {type(error).__name__}: {error}{_place(error, answer)}")
    finally:
        random.setstate(drawn)


def _place(error: Exception, answer: Any) -> str:
    """Where the answer stopped. The lines of the check itself are not shown, because they contain the solution."""
    code = getattr(answer, "__code__", None) or getattr(getattr(answer, "forward", None), "__code__", None)
    if code is not None:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == code.co_filename]
        if frames:
            return f", in `{frames[-1].line or frames[-1].name}`."
    return ". Does the answer take and return what the exercise says?"


def in_format_of(want: Tensor, got: Any) -> Any:
    """An answer that is a tensor of float64, or of another float, in the format of the right one; all else as it is."""
    return got.to(want.dtype) if isinstance(got, Tensor) and got.is_floating_point() else got


def same_tensor(got: Any, want: Tensor, what: str, tolerance: float = 1e-5) -> None:
    """Raise Wrong unless `got` equals `want`, up to tolerance * max(1, largest value of want).

    what: the name of the result in messages, e.g. "the merged weight".
    """
    present(got, what)
    if not isinstance(got, Tensor):
        raise Wrong(f"{what} should be a tensor, not {type(got).__name__}.")
    if got.shape != want.shape:
        raise Wrong(f"{what} has the shape {tuple(got.shape)}; it should be {tuple(want.shape)}.")
    if got.is_floating_point() and not got.isfinite().all():
        raise Wrong(f"{what} has values that are not finite.")

    got, want = got.detach(), want.detach()
    distance = (got.to(want.dtype) - want).abs()
    if distance.numel() and distance.max() > tolerance * max(1.0, float(want.abs().max())):
        place = tuple(int(index) for index in torch.unravel_index(distance.argmax(), distance.shape))
        where = f" at {list(place)}" if place else ""
        wrong, right = apart(float(got[place]), float(want[place]))
        raise Wrong(f"{what} is wrong{where}: {wrong} instead of {right}.")


def apart(wrong: float, right: float) -> tuple[str, str]:
    """Two numbers for a message, in as many digits as it takes to see that they differ."""
    digits = next((digits for digits in (4, 6, 8) if f"{wrong:.{digits}g}" != f"{right:.{digits}g}"), 10)
    return f"{wrong:.{digits}g}", f"{right:.{digits}g}"


def number_in(got: Any, what: str) -> float:
    """An answer as a number, whether Python's, NumPy's or PyTorch's; raises Wrong if it is not a number."""
    present(got, what)
    try:
        if isinstance(got, str):
            raise TypeError
        number = float(got)
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: a tensor with several values
        raise Wrong(f"{what} should be a number, not {type(got).__name__}.") from None
    if math.isnan(number):  # which no comparison would find
        raise Wrong(f"{what} is not a number (nan).")
    return number


def same_number(got: Any, want: float, what: str, tolerance: float = 1e-6) -> None:
    """Raise Wrong unless `got` is the number `want`, up to a relative tolerance."""
    number = number_in(got, what)
    if not abs(number - want) <= tolerance * max(1.0, abs(want)):
        raise Wrong(f"{what} is {number:,.10g}; it should be {want:,.10g}.")


def present(got: Any, what: str) -> None:
    """Raise Wrong if an answer is still the `...` of the exercise, or None."""
    if got is ...:
        raise Wrong("there is no answer yet: replace the `...`.")
    if got is None:
        raise Wrong(f"{what} is missing: the answer returned nothing. Replace the `...`, and `return` the result.")


def random_convs(count: int = 3, **options: Any) -> Iterator[tuple[torch.nn.Conv2d, Tensor]]:
    """Yield convolutions of random shapes with images that fit: (conv, x of shape (B, N, H, W)).

    M and N are drawn anew each time, at least 2 and never equal, so that an answer that mixes them up or forgets one is
    caught. The kernels are larger than 1 × 1, then of another size, then 1 × 1, and so on, so that an answer for one
    size only is caught too. options: of nn.Conv2d.
    """
    sizes = [3, 5] if torch.rand(()) < 0.5 else [5, 3]
    for number in range(count):
        in_channels, more, size, batch = (int(torch.randint(1, 5, ())) for _ in range(4))
        in_channels += 1
        kernel = [*sizes, 1][number % 3]
        conv = torch.nn.Conv2d(in_channels, in_channels + more, kernel, padding=kernel // 2, **options)
        yield conv, torch.randn(batch, in_channels, 5 + size, 6 + size)
