"""The digital phantom of the Image Biomarker Standardisation Initiative, and published reference values of it.

Zwanenburg et al., reference manual (arXiv:1612.07003), section 5.1; 2 mm voxels. Values and tolerances are those of the tables
of the manual for this phantom.
"""

import numpy as np

IMAGE = np.array(
    [
        [[1, 1, 1, 1], [1, 1, 1, 1], [4, 1, 1, 1], [4, 4, 1, 1]],
        [[4, 4, 4, 4], [4, 1, 1, 1], [1, 1, 1, 1], [4, 4, 1, 1]],
        [[4, 4, 4, 4], [6, 6, 1, 1], [6, 3, 9, 1], [6, 6, 6, 6]],
        [[1, 1, 1, 1], [1, 1, 1, 1], [4, 1, 1, 1], [4, 1, 1, 1]],
        [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]],
    ],
    np.int16,
)
"""``(5, 4, 4)``: column, row, slice."""

OUTSIDE = ((0, 2, 1), (2, 2, 2), (3, 0, 2), (3, 0, 3), (4, 0, 2), (4, 0, 3))
SPACING = (2.0, 2.0, 2.0)

SHAPE = {
    "surface_mm2": (388, 3),
    "sphericity": (0.843, 0.005),
    "largest_diameter_mm": (13.1, 0.1),
    "major_mm": (11.4, 0.1),
    "minor_mm": (9.31, 0.06),
    "least_mm": (8.54, 0.05),
    "elongation": (0.816, 0.005),
    "flatness": (0.749, 0.005),
}
"""Attribute of an `ObjectShape` -> reference value and tolerance."""


def mask() -> np.ndarray:
    """``(5, 4, 4)`` bool, 74 voxels."""
    inside = np.ones(IMAGE.shape, bool)
    inside[tuple(np.transpose(OUTSIDE))] = False
    return inside
