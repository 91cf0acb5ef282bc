"""SegmentInfo: one segment of a panoptic map: label, score, size, box, centroid, whether it touches the border."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from voxelry.core.labels import Label


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """One segment: an object of a thing, or all voxels of a label of kind stuff.

    Voxels and axes are those of the array: ``(rows, columns)`` for pictures.

    Attributes:
        id: its number in the panoptic map, from 1; of an object its instance id.
        label: the label.
        score: mean probability (0..1) of the label over the segment; None where it is not known.
        voxels: number of voxels (pixels of a picture).
        volume_mm3: their volume; None for pictures.
        area_mm2: a picture's area; None for volumes and where the pixel size is not known.
        box: first voxel along each axis, then one past the last along each, as scikit-image's ``bbox``.
        centroid: mean voxel index along each axis; a voxel's centre has whole numbers.
        centroid_mm: the same in the world, RAS+; None for pictures.
        touches_border: whether it reaches a face of the scan, and may go on beyond it. An axis of a single voxel has no faces.

    Example:
        >>> from voxelry import segments_info
        >>> from voxelry.phantom import small_phantom
        >>> liver = segments_info(small_phantom().labels)[0]
        >>> liver.label.name, liver.as_dict()["label_id"]
        ('liver', 1)
    """

    id: int
    label: Label
    score: float | None
    voxels: int
    volume_mm3: float | None
    area_mm2: float | None
    box: tuple[int, ...]
    centroid: tuple[float, ...]
    centroid_mm: tuple[float, ...] | None
    touches_border: bool

    def as_dict(self) -> dict[str, Any]:
        """The segment as plain values, for JSON.

        Returns:
            ``label`` is the label's name, ``label_id`` its stored value, ``kind`` thing or stuff, ``code`` its coded anatomy
            (value, scheme, meaning) or None, ``modifier`` the code of its side or part or None; the other keys are attributes.
        """
        code, modifier = self.label.type, self.label.modifier
        return {
            "id": self.id,
            "label": self.label.name,
            "label_id": self.label.value,
            "kind": self.label.kind,
            "code": None if code is None else code.model_dump(),
            "modifier": None if modifier is None else modifier.model_dump(),
            "score": self.score,
            "voxels": self.voxels,
            "volume_mm3": self.volume_mm3,
            "area_mm2": self.area_mm2,
            "box": list(self.box),
            "centroid": list(self.centroid),
            "centroid_mm": None if self.centroid_mm is None else list(self.centroid_mm),
            "touches_border": self.touches_border,
        }
