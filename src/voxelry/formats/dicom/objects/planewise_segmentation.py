"""highdicom's Segmentation built one plane at a time, without its stack of all segments in memory.

highdicom takes overlapping segments, and probabilities, as a stack of all segments at once, sums that stack in int64 and sorts
its values: tens of gigabytes for 100 labels on a CT. Here the layers of a LabelMap hold segment numbers, probabilities are in
steps of 1/255 already, and both become frames plane by plane. Frames, functional groups and references are highdicom's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from highdicom.seg import Segmentation, SegmentationTypeValues, SegmentsOverlapValues
from numpy.typing import NDArray


def layers_overlap(numbers: NDArray[Any]) -> bool:
    """Whether two layers ``(L, *spatial)`` of segment numbers have a voxel in common."""
    occupied = np.zeros(numbers.shape[1:], dtype=bool)
    for layer in numbers:
        if (occupied & (layer != 0)).any():
            return True
        occupied |= layer != 0
    return False


class PlanewiseSegmentation(Segmentation):  # type: ignore[misc]
    """A Segmentation of ``(slice, row, column)`` or ``(slice, row, column, L)``.

    LABELMAP: segment numbers. BINARY: segment numbers on L layers. FRACTIONAL: uint8, one channel per segment.
    """

    @classmethod
    def _check_and_cast_pixel_array(
        cls, pixel_array: NDArray[Any], segment_numbers: Any, segmentation_type: SegmentationTypeValues, dtype: type
    ) -> tuple[NDArray[Any], SegmentsOverlapValues]:
        """The array unchanged, since `seg_write` has checked it, and whether segments overlap."""
        if segmentation_type == SegmentationTypeValues.FRACTIONAL:
            single = len(segment_numbers) == 1
            return pixel_array, SegmentsOverlapValues.NO if single else SegmentsOverlapValues.UNDEFINED
        if segmentation_type == SegmentationTypeValues.LABELMAP:
            return pixel_array.astype(dtype, copy=False), SegmentsOverlapValues.NO
        layers = np.moveaxis(pixel_array, -1, 0)
        return pixel_array, SegmentsOverlapValues.YES if layers_overlap(layers) else SegmentsOverlapValues.NO

    @staticmethod
    def _get_segment_pixel_array(
        pixel_array: NDArray[Any], segment_number: int, segmentation_type: SegmentationTypeValues, dtype: type, **_: Any
    ) -> NDArray[Any]:
        """One segment's frame of a plane."""
        if segmentation_type == SegmentationTypeValues.FRACTIONAL:
            channel: NDArray[Any] = pixel_array[..., segment_number - 1]
            return channel
        frame: NDArray[Any] = pixel_array[..., 0] == segment_number
        for layer in range(1, pixel_array.shape[-1]):
            frame |= pixel_array[..., layer] == segment_number
        return frame.view(dtype)
