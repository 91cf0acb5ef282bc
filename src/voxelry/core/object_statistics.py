"""ObjectStatistics: number, size and contacts of a dataset's objects."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from voxelry.base.listing import counted
from voxelry.base.schema import Frozen


class ObjectStatistics(Frozen):
    """The objects of one label, or of all things, over the cases of a dataset.

    The diameter of an object is that of the ball (of the disc, in pictures) of the same volume (area).

    Attributes:
        total: number of objects.
        per_case: smallest, median and largest number of objects of a case.
        diameter: 5th percentile, median and 95th percentile of the objects' diameters; None without objects.
        unit: of the diameters: ``pixels`` where the pixel size of a picture is unknown.
        touching: objects of which a voxel touches (26 neighbours, 8 in pictures) or overlaps another object.
        in_parts: objects in several parts that do not touch.

    Example:
        >>> ObjectStatistics(total=4, per_case=(1, 2, 3), diameter=(4.0, 5.0, 9.0), unit="mm", touching=2).describe()
        '4 objects, 1 to 3 a case (median 2), median diameter 5 mm (90 % lie between 4 and 9), 2 touch another (50 %)'
    """

    total: int = Field(ge=0)
    per_case: tuple[int, float, int]
    diameter: tuple[float, float, float] | None = None
    unit: Literal["mm", "pixels"] = "mm"
    touching: int = Field(default=0, ge=0)
    in_parts: int = Field(default=0, ge=0)

    @property
    def median_diameter(self) -> float | None:
        """The median of the objects' diameters."""
        return None if self.diameter is None else self.diameter[1]

    @property
    def share_touching(self) -> float:
        """The share 0..1 of objects that touch another."""
        return self.touching / self.total if self.total else 0.0

    def describe(self) -> str:
        """The numbers in words."""
        if self.diameter is None:
            return "no objects"
        low, median, high = (f"{value:.3g}" for value in self.diameter)
        least, middle, most = self.per_case
        parts = f", {self.in_parts} in several parts" if self.in_parts else ""
        share = f"{self.share_touching:.0%}".replace("%", " %")
        return (
            f"{counted(self.total, 'object', 'objects')}, {least} to {most} a case (median {middle:g}), "
            f"median diameter {median} {self.unit} (90 % lie between {low} and {high}), "
            f"{self.touching} touch another ({share}){parts}"
        )
