"""RECIST 1.1 diameters: the long and short axis of a structure within its slices.

Eisenhauer et al. 2009, New response evaluation criteria in solid tumours: revised RECIST guideline (version 1.1), European
Journal of Cancer 45:228. The long axis is the longest straight line between the edges of the structure within one slice; the
short axis is the longest line at a right angle to it, in the same slice.

Edges are the midpoints of voxel sides, half a spacing from a voxel's centre, so that a single voxel has its spacing as diameter
and a disc of voxels is not enlarged by its corners (marching squares puts the vertices of a mask there too). Components of a
slice (8-connected) are measured separately, so that no line runs from one component to another; it may cross a concavity. The
short axis is measured across the convex hull of the component.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxelry.core.measurement import Diameters
from voxelry.metrics.diameter_kernel import longest_axes


def diameters(mask: NDArray[np.bool_], spacing: tuple[float, float]) -> Diameters | None:
    """The axes of a mask in the slice where the long axis is longest; the first such slice where several are equal.

    Args:
        mask: ``(A, B, slices)`` bool.
        spacing: mm along the first two axes, which are perpendicular.

    Returns:
        The axes, None for an empty mask.
    """
    long, short, k, *ends = longest_axes(mask, float(spacing[0]), float(spacing[1]))
    return None if long < 0 else Diameters(long, short, int(k), ((ends[0], ends[1]), (ends[2], ends[3])))
