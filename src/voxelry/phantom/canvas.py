"""Canvas of a phantom: shapes painted over each other, into an image with partial volume and into labels without."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from voxelry.core.geometry import Geometry
from voxelry.phantom.shapes import Field, Points, coverage, points

Paint = float | Field


class Canvas:
    """An image and its labels while they are being painted.

    Attributes:
        points: voxel centres, float32 ``(3, *shape)``, RAS+ mm.
        image: float32 ``(C, *shape)``.
        labels: uint8 ``(*shape)``; a voxel has the label of the last shape that holds its centre.
        width: the voxel size in mm over which edges are blurred.
    """

    def __init__(self, geometry: Geometry, background: Sequence[float]) -> None:
        self.points: Points = points(geometry)
        self.image: NDArray[np.float32] = np.empty((len(background), *geometry.shape), dtype=np.float32)
        self.image[:] = np.reshape(np.asarray(background, dtype=np.float32), (-1, 1, 1, 1))
        self.labels: NDArray[np.uint8] = np.zeros(geometry.shape, dtype=np.uint8)
        self.width = float(np.mean(geometry.spacing or (1.0,)))

    def paint(self, distance: Field, *values: Paint, label: int = 0) -> None:
        """Paint a shape over image and labels.

        Args:
            distance: signed distance in mm ``(*shape)``, negative inside.
            values: one number, or field ``(*shape)``, per channel.
            label: stored label value; 0 for an unlabelled shape.
        """
        share = coverage(distance, self.width)
        touched = share > 0
        share = share[touched]
        for channel, value in zip(self.image, values, strict=True):
            paint = value[touched] if isinstance(value, np.ndarray) else np.float32(value)
            channel[touched] += share * (paint - channel[touched])
        self.labels[distance < 0] = label
