"""How messages name many things, and what others' errors say, in part of one sentence."""

from collections.abc import Iterable


def some(names: Iterable[object], most: int = 3) -> str:
    """The first few names in order, and how many more there are."""
    ordered = sorted(map(str, names))
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + more


def reason(error: BaseException) -> str:
    """What an error says, in one line: its first, or its kind where it says nothing."""
    lines = [line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
