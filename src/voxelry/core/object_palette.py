"""ObjectColours: a colour for each of several objects of one label, from the label's own around the circle of hues."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from voxelry.core.geometry import Geometry
from voxelry.core.labels import LabelTable

Rgb = tuple[int, int, int]

GOLDEN = 0.61803398875
"""Turn of the hue from one object to the next, as a share of the circle: no two of a few objects look alike."""
_LEAST = 0.55
"""Saturation and brightness that objects after the first have at least, so that hues can be told apart."""


class Labelled(Protocol):
    """What is drawn of a LabelMap: it draws itself in a notebook, so that drawing knows no more of it than this."""

    @property
    def layers(self) -> NDArray[Any]:
        """``(L, *spatial)`` stored values."""

    @property
    def geometry(self) -> Geometry:
        """The grid."""

    @property
    def table(self) -> LabelTable:
        """The meaning of the values."""

    @property
    def instances(self) -> NDArray[np.uint32] | None:
        """``(L, *spatial)`` ids of objects, or None."""


@dataclass(frozen=True, eq=False)
class ObjectColours:
    """Colours of the objects that are drawn one by one: those of labels with several objects.

    Attributes:
        by_id: instance id -> colour; the first object of a label has the label's.
        counts: name of the label -> number of objects.
    """

    by_id: Mapping[int, Rgb]
    counts: Mapping[str, int]

    @classmethod
    def of(cls, labels: Labelled) -> ObjectColours:
        """The colours of a map's objects; empty for a map without instances."""
        by_id: dict[int, Rgb] = {}
        counts: dict[str, int] = {}
        if labels.instances is not None:
            for layer, (values, ids) in enumerate(zip(labels.layers, labels.instances, strict=True)):
                inside = ids > 0
                numbers, first = np.unique(ids[inside], return_index=True)
                owners = values[inside][first]
                for label in labels.table.labels:
                    own = numbers[owners == label.value] if label.layer == layer and label.kind == "thing" else numbers[:0]
                    if len(own) > 1:
                        counts[label.name] = len(own)
                        by_id |= {int(number): object_colour(label.rgb, rank) for rank, number in enumerate(own)}
        return cls(by_id, counts)

    def paint(self, colours: NDArray[Any], ids: NDArray[Any]) -> None:
        """Give the pixels of objects their colour, in place.

        Args:
            colours: ``(rows, cols, 3)``.
            ids: ``(rows, cols)`` instance ids; those without a colour are left.
        """
        numbers, where = np.unique(ids, return_inverse=True)
        known = np.array([int(number) in self.by_id for number in numbers])
        palette = np.array([self.by_id.get(int(number), (0, 0, 0)) for number in numbers])
        inside = known[where].reshape(ids.shape)
        colours[inside] = palette[where].reshape(*ids.shape, 3)[inside]


def object_colour(rgb: Rgb, rank: int) -> Rgb:
    """The colour of the object of a rank, from 0, of a label with colour `rgb`."""
    if rank == 0:
        return rgb
    hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in rgb))
    red, green, blue = colorsys.hsv_to_rgb((hue + rank * GOLDEN) % 1, max(saturation, _LEAST), max(value, _LEAST))
    return round(red * 255), round(green * 255), round(blue * 255)


NO_COLOURS = ObjectColours({}, {})
"""Those of a map whose labels have one object at most."""
