"""How messages name many things: the first few, and how many more there are."""

from collections.abc import Iterable


def some(names: Iterable[object], most: int = 3) -> str:
    """The first few names in order, and how many more there are."""
    ordered = sorted(map(str, names))
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + more
