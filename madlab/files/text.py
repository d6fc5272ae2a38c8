"""How messages name many things, and what others' errors say, in part of one sentence."""

from collections.abc import Iterable

LONGEST = 200
"""Letters of another library's error that a message repeats; zipfile's may quote half of a damaged archive."""


def some(names: Iterable[object], most: int = 3) -> str:
    """The first few names in order, and how many more there are."""
    ordered = sorted(map(str, names))
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + more


def reason(error: BaseException) -> str:
    """What an error says, in one line: its first, cut where it is long, or its kind where it says nothing."""
    lines = [line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()]
    first = lines[0] if lines else type(error).__name__
    return first if len(first) <= LONGEST else f"{first[:LONGEST]} ..."
