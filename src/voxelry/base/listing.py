"""Lists and counts in messages."""

from __future__ import annotations

from collections.abc import Sequence


def shown(names: Sequence[str], most: int = 5) -> str:
    """The first few of some names, and how many there are more.

    Example:
        >>> shown(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def counted(count: int, singular: str, plural: str) -> str:
    """A number with its noun.

    Example:
        >>> counted(1, "mask", "masks"), counted(0, "mask", "masks")
        ('1 mask', '0 masks')
    """
    return f"{count} {singular if count == 1 else plural}"
