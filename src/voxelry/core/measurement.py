"""Measurements of labels and lesions: volume, RECIST diameters, intensity.

The types are shared words: `voxelry.metrics.measurements` computes them, reports (`voxelry.formats.dicom.objects.sr_write`)
hold them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from voxelry.core.labels import Label


@dataclass(frozen=True)
class Diameters:
    """The long and short axis of a structure in one slice.

    Attributes:
        long_mm, short_mm: in mm.
        slice: index of the slice along the third axis.
        ends: ``(2, 2)``: the two ends of the long axis, in voxels along the first two axes.
    """

    long_mm: float
    short_mm: float
    slice: int
    ends: tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Intensity:
    """The image's values in a structure, in the image's unit (Hounsfield units for CT).

    Attributes:
        mean, sd: mean and standard deviation of the voxels themselves (divided by n).
        minimum, maximum: the extremes.
    """

    mean: float
    sd: float
    minimum: float
    maximum: float


@dataclass(frozen=True)
class Measurement:
    """The measurements of one label, or of one instance of it.

    Attributes:
        label: the label measured.
        instance: the lesion's instance id, 0 for all of the label.
        voxels: number of voxels.
        volume_mm3: their volume, None for pictures.
        area_mm2: a picture's area, None for volumes and where the pixel size is not known.
        axes: long and short axis in the plane of the first two axes; None where empty or the spacing is not known.
        intensity: intensity of the image, None where empty or no image was given.
        box: the smallest box that holds it, None where empty.
        centroid: mean voxel index along each axis, None where empty.
        centroid_mm: the same in the world, RAS+; None where empty, and for pictures.
        touches_border: whether it reaches a face of the scan and may go on beyond it; an axis of a single voxel has no faces.
    """

    label: Label
    instance: int
    voxels: int
    volume_mm3: float | None
    area_mm2: float | None
    axes: Diameters | None
    intensity: Intensity | None
    box: tuple[slice, ...] | None = None
    centroid: tuple[float, ...] | None = None
    centroid_mm: tuple[float, ...] | None = None
    touches_border: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The measurements as plain values, for JSON.

        Returns:
            ``label`` is the label's name, ``label_id`` its stored value, ``code`` its coded anatomy (value, scheme, meaning) or
            None, ``modifier`` the code of its side or part or None; ``box`` the first voxel along each axis, then one past the
            last; the other keys are attributes.
        """
        sides = self.box or ()
        return {
            "label": self.label.name,
            "label_id": self.label.value,
            "code": None if self.label.type is None else self.label.type.model_dump(),
            "modifier": None if self.label.modifier is None else self.label.modifier.model_dump(),
            "instance": self.instance,
            "voxels": self.voxels,
            "volume_mm3": self.volume_mm3,
            "area_mm2": self.area_mm2,
            "axes": None if self.axes is None else asdict(self.axes),
            "intensity": None if self.intensity is None else asdict(self.intensity),
            "box": [*(side.start for side in sides), *(side.stop for side in sides)] or None,
            "centroid": None if self.centroid is None else list(self.centroid),
            "centroid_mm": None if self.centroid_mm is None else list(self.centroid_mm),
            "touches_border": self.touches_border,
        }
