"""Footprint: bytes of memory of each named part of a task, added up and printed with the largest part first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Footprint:
    """Bytes of memory of each named part.

    Names are nouns that a user understands (``ring buffer``, ``prepared slices``): errors and logs print them.

    Args:
        parts: name -> bytes, 0 or more; parts of 0 bytes are left out.

    Raises:
        ValueError: a part is negative.

    Example:
        >>> scan = Footprint({"prepared slices": 3 << 20, "labels": 1 << 20})
        >>> whole = scan + Footprint({"labels": 4 << 20})
        >>> whole.total == 8 << 20
        True
        >>> print(whole)
        8MiB (labels 5MiB, prepared slices 3MiB)
    """

    parts: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        negative = [name for name, count in self.parts.items() if count < 0]
        if negative:
            raise ValueError(f"a negative number of bytes: {', '.join(negative)}")
        parts = {name: int(count) for name, count in self.parts.items() if count}
        object.__setattr__(self, "parts", MappingProxyType(parts))

    def __hash__(self) -> int:
        return hash(frozenset(self.parts.items()))

    @classmethod
    def sum(cls, footprints: Iterable[Footprint]) -> Footprint:
        """All of them together; the parts of one name are added."""
        parts: dict[str, int] = {}
        for footprint in footprints:
            for name, count in footprint.parts.items():
                parts[name] = parts.get(name, 0) + count
        return cls(parts)

    @property
    def total(self) -> int:
        """Bytes of all parts."""
        return sum(self.parts.values())

    def __add__(self, other: Footprint) -> Footprint:
        return Footprint.sum((self, other))

    def __mul__(self, times: int) -> Footprint:
        """So many of the same, e.g. a batch of patches."""
        return Footprint({name: count * times for name, count in self.parts.items()})

    def __getitem__(self, name: str) -> int:
        """Bytes of one part, 0 where there is none of that name."""
        return self.parts.get(name, 0)

    @property
    def breakdown(self) -> str:
        """The parts, largest first, e.g. ``ring buffer 840MiB, prepared slices 175MiB``."""
        ordered = sorted(self.parts.items(), key=lambda item: (-item[1], item[0]))
        return ", ".join(f"{name} {format_memory(count)}" for name, count in ordered)

    def __str__(self) -> str:
        """The total, and in brackets its parts."""
        return f"{format_memory(self.total)} ({self.breakdown})" if self.parts else format_memory(0)


def format_memory(count: float) -> str:
    """Bytes as text that `voxelry.recipes.settings.parse_memory` reads, e.g. ``512MiB``, rounded up."""
    return f"{math.ceil(count / MEBIBYTE)}MiB"


def short_memory(count: float) -> str:
    """Bytes as text of two or three digits, e.g. ``1.2 GB``, ``350 MB`` or ``40 kB``.

    Example:
        >>> short_memory(1.234e9), short_memory(3.5e8), short_memory(999)
        ('1.23 GB', '350 MB', '999 B')
    """
    for size, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= 0.9995 * size:
            return f"{float(f'{count / size:.3g}'):g} {unit}"
    return f"{count:.0f} B"
