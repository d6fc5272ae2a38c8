"""Progress bars of one wording. They go to standard error; TQDM_DISABLE=1 in the environment switches them all off."""

from collections.abc import Iterable
from typing import Any, TypeVar

from tqdm.auto import tqdm

from madlab.errors import printable

T = TypeVar("T")


def progress_bar(what: str, total: int, unit: str, *, done: int = 0, show: bool = True) -> tqdm:
    """A bar that reads `WHAT:  40% | 400/1.00k UNIT`, to be used in a with statement and moved by `update`.

    total: how many units there are; done: how many of them were there before. show: False hides the bar.
    """
    return tqdm(total=total, initial=done, desc=printable(what), unit=f" {unit}", unit_scale=True, **_hidden(show))


def track(items: Iterable[T], what: str, total: int, unit: str, *, show: bool = True) -> Iterable[T]:
    """The items, one after the other, under a bar as `progress_bar` draws it."""
    return tqdm(items, total=total, desc=printable(what), unit=f" {unit}", unit_scale=True, **_hidden(show))


def _hidden(show: bool) -> dict[str, Any]:
    """`disable` is passed only to hide a bar: any value, False too, would overrule TQDM_DISABLE."""
    return {} if show else {"disable": True}
