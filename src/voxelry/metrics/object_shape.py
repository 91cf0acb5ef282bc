"""The shape of an object: its surface, sphericity, largest diameter and principal axes, in mm.

Definitions are those of the Image Biomarker Standardisation Initiative (Zwanenburg et al. 2020, Radiology 295:328; reference
manual, arXiv:1612.07003, section 3.1), whose tags stand in brackets. The surface is the mesh of marching cubes between voxel
centres: every corner where eight voxels meet has the triangles of its neighbour code, so that area and volume follow from the
number of corners of each code. Principal axes are four square roots of the eigenvalues of the covariance of voxel centres. The
object of a picture has a perimeter and a circularity in their place. Any affine will do, a sheared one too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import cdist
from skimage.measure import marching_cubes

from voxelry.metrics.shape_kernels import MOMENTS, scan_shape
from voxelry.metrics.surface_elements import element_sizes, surface_elements

_CODES = 256
_LEVEL = 0.5 - 2**-12
"""Half way between outside and inside, but for the ties that marching cubes would meet there."""

_FACE_SHARES = {0: 0.0, 1: 1 / 8, 2: 1 / 2, 3: 7 / 8, 4: 1.0}
_DIAGONAL_SHARE = 3 / 4
"""Of the face of a cube, the part inside by the number of its corners that are; of two opposite ones, which are joined."""

_ROWS = 512
_FEW = 64
"""Points that are compared as they are."""


@dataclass(frozen=True)
class ObjectShape:
    """The shape of an object; what does not apply is None.

    Attributes:
        surface_mm2: area of the mesh [C0JK].
        sphericity: of a ball of the mesh's volume, its surface over this one, 0..1 [QCFX].
        perimeter_mm: of a picture's object.
        circularity: of a disc of its area, the perimeter over this one, 0..1.
        largest_diameter_mm: largest distance of two points of the mesh (of a picture's outline) [L0JK].
        major_mm, minor_mm, least_mm: lengths of the principal axes [TDIC, P9VJ, 7J51]; pictures have no least one.
        elongation: minor over major axis, 1 for round ones [Q3CK]; None where the object is a single voxel.
        flatness: least over major axis [N17B].
    """

    surface_mm2: float | None = None
    sphericity: float | None = None
    perimeter_mm: float | None = None
    circularity: float | None = None
    largest_diameter_mm: float | None = None
    major_mm: float | None = None
    minor_mm: float | None = None
    least_mm: float | None = None
    elongation: float | None = None
    flatness: float | None = None


def shape_of(mask: NDArray[np.bool_], linear: NDArray[np.float64]) -> ObjectShape:
    """Measure the shape of a mask with at least one voxel.

    Args:
        mask: ``(*spatial)`` bool, of a volume or a picture; cut to the object's box, to be fast.
        linear: ``(3, 3)``, of a picture ``(2, 2)``: the affine from voxels to mm without its shift.

    Returns:
        Its shape.
    """
    whole = mask[None] if mask.ndim == 2 else mask
    codes, moments = np.zeros(_CODES, np.int64), np.zeros(MOMENTS)
    first, last = np.empty(whole.shape[:2], np.int64), np.empty(whole.shape[:2], np.int64)
    scan_shape(whole, codes, moments, first, last)
    axes = _principal_axes(moments, int(np.count_nonzero(mask)), linear)
    elongation, flatness = (axis / axes[0] if axes[0] > 0 else None for axis in (axes[1], axes[-1]))
    corners = _ends(first, last)[:, 3 - mask.ndim :]
    diameter = _largest_distance(_sides(corners @ linear.T, linear))
    if mask.ndim == 2:
        spacing = np.diag(linear)
        perimeter = float(element_sizes(spacing.tolist())[surface_elements(mask)[1]].sum())
        circle = 2 * math.sqrt(math.pi * np.count_nonzero(mask) * spacing.prod())
        return ObjectShape(
            perimeter_mm=perimeter,
            circularity=circle / perimeter,
            largest_diameter_mm=diameter,
            major_mm=axes[0],
            minor_mm=axes[1],
            elongation=elongation,
        )
    vectors, owners, volumes = _code_tables()
    area = float(np.linalg.norm(vectors @ _cofactors(linear).T, axis=1) @ codes[owners])
    volume = float(codes @ volumes) * abs(float(np.linalg.det(linear)))
    sphericity = (36 * math.pi * volume**2) ** (1 / 3) / area
    return ObjectShape(area, sphericity, None, None, diameter, axes[0], axes[1], axes[2], elongation, flatness)


@cache
def _code_tables() -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """The ``(n, 3)`` area vectors of the triangles of all neighbour codes, in voxels, the code of each, and the codes' volumes.

    The volume of a code is that of the part of the cube that is inside: a third of the flux of the position through the
    triangles, and through the three sides of the cube that do not hold the origin.
    """
    tables, owners, volumes = list[NDArray[np.float64]](), list[int](), np.zeros(_CODES)
    for code in range(1, _CODES - 1):
        cube = ((code >> np.arange(8)) & 1).reshape(2, 2, 2)
        corners, triangles, _, _ = marching_cubes(cube.astype(np.float32), _LEVEL, gradient_direction="ascent")
        a, b, c = np.rint(corners.astype(np.float64)[triangles.T] * 4) / 4
        vectors = np.cross(b - a, c - a) / 2
        flux = float(np.einsum("ij,ij->", a, vectors)) + sum(_inside_share(np.take(cube, 1, axis)) for axis in range(3))
        tables.append(vectors)
        owners += [code] * len(vectors)
        volumes[code] = flux / 3
    volumes[-1] = 1.0
    return np.concatenate(tables), np.array(owners), volumes


def _inside_share(face: NDArray[np.int64]) -> float:
    """The share of a side of the cube that is inside."""
    count = int(face.sum())
    return _DIAGONAL_SHARE if count == 2 and face[0, 0] == face[1, 1] else _FACE_SHARES[count]


def _cofactors(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """The matrix that area vectors are transformed by."""
    cofactors: NDArray[np.float64] = np.linalg.det(linear) * np.linalg.inv(linear).T
    return cofactors


def _principal_axes(moments: NDArray[np.float64], count: int, linear: NDArray[np.float64]) -> list[float]:
    """Lengths of the principal axes in mm, the longest first."""
    second = np.diag(moments[3:6])
    second[0, 1] = second[1, 0] = moments[6]
    second[0, 2] = second[2, 0] = moments[7]
    second[1, 2] = second[2, 1] = moments[8]
    covariance = (second - np.outer(moments[:3], moments[:3]) / count) / max(1, count - 1)
    own = covariance[3 - len(linear) :, 3 - len(linear) :]
    return [4 * math.sqrt(max(0.0, float(value))) for value in np.linalg.eigvalsh(linear @ own @ linear.T)[::-1]]


def _ends(first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.float64]:
    """The first and last voxel of each line that has one, ``(n, 3)``."""
    rows, columns = np.nonzero(first >= 0)
    ends = [np.stack([rows, columns, side[rows, columns]], axis=1) for side in (first, last)]
    return np.concatenate(ends).astype(np.float64)


def _sides(centres: NDArray[np.float64], linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """The middles of the sides of the voxels at the corners of the hull: the mesh has no point beyond the hull of these."""
    halves = np.concatenate([linear.T, -linear.T]) / 2
    return np.asarray(_hull(centres)[:, None] + halves).reshape(-1, len(linear))


def _hull(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The corners of the convex hull, or all points where they are few or lie in a plane."""
    if len(points) <= _FEW:
        return points
    try:
        corners: NDArray[np.float64] = points[ConvexHull(points).vertices]
    except QhullError:
        return points
    return corners


def _largest_distance(points: NDArray[np.float64]) -> float:
    """The largest distance of two points."""
    corners = _hull(points)
    return max(float(cdist(corners[row : row + _ROWS], corners).max()) for row in range(0, len(corners), _ROWS))
