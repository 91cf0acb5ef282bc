"""LabelSequence: labels that lie in one row (vertebrae, discs, ribs, a dental arch), and what training showed of that row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, model_validator

from voxelry.base.schema import Frozen
from voxelry.core.geometry import Geometry


class Spread(Frozen):
    """Mean and standard deviation of one quantity over the training cases.

    Example:
        >>> Spread(mean=35.2, std=2.1).mean
        35.2
    """

    mean: PositiveFloat
    std: float = Field(ge=0)


class LabelSequence(Frozen):
    """Labels that lie in one row, each at most once; the objects of a prediction are named so that they keep this order.

    All but the first three are learnt from the references when a dataset is planned; a card leaves them out.

    Attributes:
        name: for messages, such as ``lumbar vertebrae``.
        labels: names of the labels, in the order of the row.
        optional: those that some people lack without a gap in the row (T13, L6, teeth).
        cases: training cases.
        present: of each label, the number of training cases that have it.
        distances: between the centroids of each label and the next, in mm (pixels of pictures of unknown pixel size); None where
            no case has both.
        volumes: of each label in mm^3 (mm^2, pixels), objects at the border of a scan left out; None where there are none.
        direction: unit vector from the first label that a case has to the last, in the coordinates of the world (of rows and
            columns in pictures); None where the cases differ in it.

    Example:
        >>> LabelSequence(name="lumbar vertebrae", labels=("L1", "L2", "L3", "L4", "L5", "L6"), optional=("L6",)).chances[-1]
        0.5
    """

    name: str = Field(min_length=1, max_length=64)
    labels: tuple[str, ...] = Field(min_length=2)
    optional: tuple[str, ...] = ()
    cases: int = Field(default=0, ge=0)
    present: tuple[int, ...] = ()
    distances: tuple[Spread | None, ...] = ()
    volumes: tuple[Spread | None, ...] = ()
    direction: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        twice = sorted({label for label in self.labels if self.labels.count(label) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} occurs twice in sequence '{self.name}'")
        unknown = [label for label in self.optional if label not in self.labels]
        if unknown:
            raise ValueError(f"optional {', '.join(unknown)} is not among the labels of sequence '{self.name}'")
        expected = {"present": len(self.labels), "volumes": len(self.labels), "distances": len(self.labels) - 1}
        for name, count in expected.items():
            if len(getattr(self, name)) not in (0, count):
                raise ValueError(f"{name} of sequence '{self.name}' has {len(getattr(self, name))} values, {count} are needed")
        return self

    @property
    def chances(self) -> tuple[float, ...]:
        """The probability that a scan shows each label: of the training cases, by Laplace's rule of succession."""
        if self.cases and self.present:
            return tuple((count + 1) / (self.cases + 2) for count in self.present)
        return tuple(_OPTIONAL_CHANCE if label in self.optional else _CHANCE for label in self.labels)


_CHANCE, _OPTIONAL_CHANCE = 0.95, 0.5
"""Probability that a scan shows a label before any case was seen."""


def row_position(geometry: Geometry, index: Sequence[float]) -> NDArray[np.float64]:
    """The position of a voxel index in the coordinates of rows of labels.

    Args:
        geometry: the grid.
        index: along each axis, fractional between voxel centres.

    Returns:
        mm, RAS+; of pictures along rows and columns in mm, or in pixels where their size is not known.

    Example:
        >>> row_position(Geometry((8, 8), None, (0.5, 0.25)), (4, 4)).tolist()
        [2.0, 1.0]
    """
    if geometry.affine is not None:
        return geometry.world(index)
    return np.asarray(index, dtype=np.float64) * (geometry.spacing or (1.0, 1.0))
