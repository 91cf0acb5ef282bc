"""Names told apart: of files, segments and objects that are named after labels, so that none takes the place of another."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence


def folded(name: str) -> str:
    """A text that is equal for names which some file system takes for one: those that differ in case or in how accents are coded.

    Example:
        >>> folded("Leber") == folded("LEBER"), folded("Niere") == folded("Leber")
        (True, False)
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def distinct_names(
    names: Sequence[str],
    numbers: Sequence[int],
    *,
    separator: str = " ",
    longest: int = 64,
    key: Callable[[str], str] = str,
) -> list[str]:
    """The names, those that clash or are empty with their number appended; a second number where even that clashes.

    Args:
        names: any texts.
        numbers: a number for each, to tell it from the others by.
        separator: stands before the number.
        longest: characters of a name at most; it is cut before the number.
        key: two names clash where this gives the same for both.

    Returns:
        As many names, no two of the same key. A name that clashes with none is left as it is.

    Example:
        >>> distinct_names(["a", "b", "b", "b 2"], [1, 2, 3, 4])
        ['a', 'b 2 2', 'b 3', 'b 2']
    """
    counts = Counter(map(key, names))
    unchanged = [bool(name) and len(name) <= longest and counts[key(name)] == 1 for name in names]
    taken = {key(name) for name, stays in zip(names, unchanged, strict=True) if stays}
    result = []
    for name, number, stays in zip(names, numbers, unchanged, strict=True):
        candidate, repetition = name, 1
        while not stays and (repetition == 1 or key(candidate) in taken):
            suffix = f"{separator if name else ''}{number}" + (f"{separator}{repetition}" if repetition > 1 else "")
            candidate, repetition = name[: longest - len(suffix)] + suffix, repetition + 1
        taken.add(key(candidate))
        result.append(candidate)
    return result
