"""Geometry of voxel grids: affines, spacing, orientation, crops, and the one conversion between LPS and RAS.

Conventions, named once:

* World coordinates are millimetres in RAS+ (x towards the patient's right hand, y to the front, z to the head), as NIfTI has
  them. DICOM and ITK use LPS+; `flip_lps_ras` is the only conversion.
* The affine maps voxel indices to the world position of the voxel's **centre**. Its first three columns are the three
  spatial axes in array order: for DICOM column index (along a row), row index (down a column), slice.
* `spacing` is the length of each column, in mm. Columns need not be orthogonal (gantry tilt).
* Pictures and projections have two spatial axes `(rows, cols)`, no affine, and a pixel size in mm or None.
* Two grids are the same when no voxel centre lies further apart than `grid_tolerance`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxelry.errors import GeometryError

Affine = NDArray[np.float64]

GRID_TOLERANCE_MM = 1e-3
GRID_TOLERANCE_VOXEL = 0.01
_CODES = (("L", "R"), ("P", "A"), ("I", "S"))


@dataclass(frozen=True)
class Reindex:
    """A permutation of the spatial axes followed by flips: the change from one memory order of a grid to another.

    Attributes:
        order: the source axis that becomes each target axis.
        flips: whether each target axis is reversed.

    Example:
        >>> import numpy as np
        >>> change = Reindex(order=(1, 0, 2), flips=(False, False, True))
        >>> change.apply(np.zeros((1, 4, 5, 6))).shape
        (1, 5, 4, 6)
    """

    order: tuple[int, ...]
    flips: tuple[bool, ...]

    @property
    def is_identity(self) -> bool:
        """Nothing is permuted, nothing is flipped."""
        return self.order == tuple(range(len(self.order))) and not any(self.flips)

    @property
    def inverse(self) -> Reindex:
        """The reindexing that undoes this one."""
        order = tuple(self.order.index(axis) for axis in range(len(self.order)))
        return Reindex(order, tuple(self.flips[target] for target in order))

    def apply(self, array: NDArray[Any]) -> NDArray[Any]:
        """A view of `array` with its last axes (the spatial ones) permuted and flipped; leading axes stay.

        Args:
            array: ``(..., *spatial)``.

        Returns:
            A view of the same dtype, ``(..., *reindexed spatial)``.
        """
        lead = array.ndim - len(self.order)
        moved = np.transpose(array, (*range(lead), *(lead + axis for axis in self.order)))
        steps = [slice(None, None, -1 if flip else 1) for flip in self.flips]
        return moved[tuple([slice(None)] * lead + steps)]


_TURNS = tuple(
    Reindex((a, b, c), (x, y, z))
    for a, b, c in itertools.permutations(range(3))
    for x, y, z in itertools.product((False, True), repeat=3)
)
"""Every way to permute and flip three axes, the identity first."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """The grid of an image: its shape, and the position of its voxels in the patient.

    Attributes:
        shape: voxels along each spatial axis, three numbers, or two ``(rows, cols)`` for a picture.
        affine: ``(4, 4)`` float64, voxel index -> RAS+ mm; None for pictures. Stored read-only.
        pixel_size: ``(row, column)`` spacing in mm of a picture, or None where it is not known; None for volumes.

    Raises:
        GeometryError: a singular or non-finite affine, an empty axis, or a spacing that is not positive.

    Example:
        >>> grid = Geometry.from_spacing((64, 64, 20), (0.8, 0.8, 3.0))
        >>> grid.orientation, grid.world((1, 0, 2)).tolist()
        ('RAS', [0.8, 0.0, 6.0])
    """

    shape: tuple[int, ...]
    affine: Affine | None = None
    pixel_size: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if any(size < 1 for size in self.shape):
            raise GeometryError(f"a grid of shape {self.shape} has no voxels")
        expected = 2 if self.affine is None else 3
        if len(self.shape) != expected:
            kind = "picture without affine" if self.affine is None else "volume with affine"
            raise GeometryError(f"a {kind} has {expected} spatial axes, not {len(self.shape)} (shape {self.shape})")
        if self.affine is not None:
            object.__setattr__(self, "affine", _checked(self.affine))
            if self.pixel_size is not None:
                raise GeometryError("a volume takes its spacing from its affine, not from a pixel size")
        elif self.pixel_size is not None:
            size = np.array(self.pixel_size, dtype=np.float64)
            if size.shape != (2,) or not (np.isfinite(size) & (size > 0)).all():
                raise GeometryError(f"pixel size {self.pixel_size} mm is not two positive numbers")

    @classmethod
    def from_spacing(cls, shape: Sequence[int], spacing: Sequence[float], origin: Sequence[float] = (0.0, 0.0, 0.0)) -> Geometry:
        """An axis-aligned RAS+ grid.

        Args:
            shape: three sizes in voxels.
            spacing: three spacings in mm.
            origin: world position in mm of the first voxel's centre.

        Raises:
            GeometryError: not three of each.
        """
        if not len(shape) == len(spacing) == len(origin) == 3:
            raise GeometryError(
                f"shape {tuple(shape)}, spacing {tuple(spacing)} and origin {tuple(origin)}, where a volume has three axes",
                remedy="For a picture give Geometry(shape, pixel_size=...).",
            )
        affine = np.diag([*spacing, 1.0])
        affine[:3, 3] = origin
        return cls(tuple(int(size) for size in shape), affine)

    @property
    def ndim(self) -> int:
        """Spatial axes: 3, or 2 for a picture."""
        return len(self.shape)

    @cached_property
    def spacing(self) -> tuple[float, ...] | None:
        """Distance in mm between voxel centres along each axis; None for a picture of unknown size."""
        if self.affine is None:
            return self.pixel_size
        return tuple(float(length) for length in np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def voxel_volume(self) -> float | None:
        """mm^3 of one voxel (mm^2 of a picture's pixel); right for sheared grids too. None where unknown."""
        if self.affine is not None:
            return float(abs(np.linalg.det(self.affine[:3, :3])))
        return None if self.pixel_size is None else float(np.prod(self.pixel_size))

    @property
    def direction(self) -> Affine | None:
        """``(3, 3)`` unit vectors of the axes as columns, in RAS+; None for pictures."""
        return None if self.affine is None else self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def orientation(self) -> str | None:
        """The direction of each axis, to the nearest of R/L, A/P, S/I: ``'RAS'``, ``'LPS'``...; None for pictures."""
        if self.affine is None:
            return None
        return "".join(_CODES[world][int(positive)] for world, positive in self._closest_axes())

    @property
    def is_orthogonal(self) -> bool:
        """The axes are perpendicular to within 1e-4 (cosine); False on a tilted acquisition."""
        direction = self.direction
        return direction is None or bool(np.abs(direction.T @ direction - np.eye(3)).max() < 1e-4)

    @property
    def grid_tolerance(self) -> float:
        """Largest distance in mm between voxels of two grids that count as the same grid.

        The larger of 1e-3 mm and 1 % of the smallest spacing: real files carry affines that differ by rounding.
        """
        return max(GRID_TOLERANCE_MM, GRID_TOLERANCE_VOXEL * min(self.spacing or (0.0,)))

    def _closest_axes(self) -> list[tuple[int, bool]]:
        """For each voxel axis, the world axis it runs along and whether in the positive sense; each world axis once."""
        direction = self.direction
        assert direction is not None
        best = max(
            itertools.permutations(range(3)), key=lambda order: sum(abs(direction[order[axis], axis]) for axis in range(3))
        )
        return [(world, bool(direction[world, axis] > 0)) for axis, world in enumerate(best)]

    def world(self, index: ArrayLike) -> NDArray[np.float64]:
        """World positions of voxel indices.

        Args:
            index: ``(..., 3)`` voxel indices, may be fractional.

        Returns:
            ``(..., 3)`` float64, mm, RAS+.

        Raises:
            GeometryError: the grid is a picture.
        """
        if self.affine is None:
            raise GeometryError("a picture has no position in the patient")
        return np.asarray(index, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def index(self, world: ArrayLike) -> NDArray[np.float64]:
        """Voxel indices of world positions, the inverse of `world`.

        Args:
            world: ``(..., 3)`` mm, RAS+.

        Returns:
            ``(..., 3)`` float64, fractional between voxel centres.

        Raises:
            GeometryError: the grid is a picture.
        """
        if self.affine is None:
            raise GeometryError("a picture has no position in the patient")
        offset = np.asarray(world, dtype=np.float64) - self.affine[:3, 3]
        return np.asarray(np.linalg.solve(self.affine[:3, :3], offset[..., None])[..., 0], dtype=np.float64)

    def indices_of(self, other: Geometry) -> Affine:
        """The map ``(4, 4)`` from voxel indices of another grid to those of this one.

        Raises:
            GeometryError: one of them is a picture.
        """
        if self.affine is None or other.affine is None:
            raise GeometryError("a picture has no position in the patient")
        return np.asarray(np.linalg.solve(self.affine, other.affine), dtype=np.float64)

    def offset_of(self, other: Geometry) -> tuple[int, ...] | None:
        """The voxel of this grid at which another grid begins, if both lie on one lattice with the same axes.

        Returns:
            Whole voxels along each axis (negative: it begins before), or None if they do not lie on one lattice.
        """
        if self.affine is None or other.affine is None:
            return None
        start = tuple(int(n) for n in np.round(self.index(other.affine[:3, 3])))
        return start if self.cropped(start, other.shape).same_grid(other) else None

    def joined(self, other: Geometry) -> Geometry | None:
        """The smallest grid that contains this one and another of the same lattice; None if it lies on another lattice."""
        start = self.offset_of(other)
        if start is None:
            return None
        low = [min(0, first) for first in start]
        high = [max(n, first + m) for n, first, m in zip(self.shape, start, other.shape, strict=True)]
        return self.cropped(low, [end - begin for begin, end in zip(low, high, strict=True)])

    def same_grid(self, other: Geometry) -> bool:
        """The same shape, and every voxel centre within `grid_tolerance` of its twin.

        An affine map is linear, so the largest distance is found at a corner of the grid. Pictures compare shapes, and
        pixel sizes where both are known (to 1 %).
        """
        return self.shape == other.shape and self.distance(other) <= self.grid_tolerance

    def distance(self, other: Geometry) -> float:
        """The largest distance in mm between voxel centres of equal index; infinite between a volume and a picture."""
        if (self.affine is None) != (other.affine is None):
            return float("inf")
        if self.affine is None or other.affine is None:
            if self.pixel_size is None or other.pixel_size is None:
                return 0.0
            return float(np.abs(np.subtract(self.pixel_size, other.pixel_size)).max())
        corners = np.array(list(itertools.product(*((0, size - 1) for size in self.shape))), dtype=np.float64)
        return float(np.linalg.norm(self.world(corners) - other.world(corners), axis=1).max())

    def reindexing_to(self, other: Geometry) -> Reindex | None:
        """The permutation and flips that bring an array on this grid onto `other`; None if there are none.

        Of several that fit, the first is returned, so equal grids give the identity.
        """
        if self.affine is None or other.affine is None:
            same = Reindex(tuple(range(self.ndim)), (False,) * self.ndim)
            return same if self.same_grid(other) else None
        return next((turn for turn in _TURNS if self.reindexed(turn).same_grid(other)), None)

    def reindexing_into(self, other: Geometry) -> Reindex | None:
        """The permutation and flips that bring an array on this grid onto the lattice of `other`; None if there are none."""
        if self.affine is None or other.affine is None:
            return None
        return next((turn for turn in _TURNS if other.offset_of(self.reindexed(turn)) is not None), None)

    def reindexing_to_orientation(self, codes: str) -> Reindex:
        """The permutation and flips that bring the axes to the orientation `codes`, such as ``'RAS'``.

        Raises:
            GeometryError: not three letters, one of each pair R/L, A/P, S/I; or a picture.
        """
        wanted = []
        for code in codes.upper():
            wanted += [(world, pair.index(code) == 1) for world, pair in enumerate(_CODES) if code in pair]
        if len(codes) != 3 or sorted(world for world, _ in wanted) != [0, 1, 2] or self.affine is None:
            raise GeometryError(
                f"'{codes}' is not an orientation of this {self.ndim}D grid", remedy="Use three letters, as 'RAS'."
            )
        mine = self._closest_axes()
        order = tuple(next(a for a, (world, _) in enumerate(mine) if world == target) for target, _ in wanted)
        flips = tuple(mine[axis][1] != positive for axis, (_, positive) in zip(order, wanted, strict=True))
        return Reindex(order, flips)

    def reindexed(self, change: Reindex) -> Geometry:
        """The grid after `change`; every voxel keeps its world position."""
        shape = tuple(self.shape[axis] for axis in change.order)
        if self.affine is None:
            size = self.pixel_size
            return Geometry(shape, None, None if size is None else (size[change.order[0]], size[change.order[1]]))
        affine = self.affine.copy()
        affine[:3, :3] = self.affine[:3, list(change.order)]
        for axis, flip in enumerate(change.flips):
            if flip:
                affine[:3, 3] += affine[:3, axis] * (shape[axis] - 1)
                affine[:3, axis] *= -1
        return Geometry(shape, affine)

    def cropped(self, start: Sequence[int], shape: Sequence[int]) -> Geometry:
        """The grid of the box of `shape` voxels that begins at voxel `start` (negative: padded)."""
        size = tuple(int(n) for n in shape)
        if self.affine is None:
            return Geometry(size, None, self.pixel_size)
        affine = self.affine.copy()
        affine[:3, 3] = self.world(start)
        return Geometry(size, affine)

    def zoomed(self, shape: Sequence[int]) -> Geometry:
        """The grid that covers the same block of space (voxel edges, not centres) with another number of voxels."""
        size = tuple(int(n) for n in shape)
        factors = np.array(self.shape, dtype=np.float64) / np.array(size, dtype=np.float64)
        if self.affine is None:
            pixel = self.pixel_size
            return Geometry(size, None, None if pixel is None else (pixel[0] * factors[0], pixel[1] * factors[1]))
        affine = self.affine.copy()
        affine[:3, :3] = self.affine[:3, :3] * factors
        affine[:3, 3] = self.world((factors - 1) / 2)
        return Geometry(size, affine)

    def describe(self) -> str:
        """One line for messages: shape, spacing, orientation."""
        spacing = "unknown pixel size" if self.spacing is None else " x ".join(f"{s:.4g}" for s in self.spacing) + " mm"
        return f"{' x '.join(map(str, self.shape))} voxels, {spacing}" + (f", {self.orientation}" if self.orientation else "")


def _checked(affine: Affine) -> Affine:
    matrix = np.array(affine, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise GeometryError(f"an affine is a finite 4 x 4 matrix, not {matrix.tolist()}")
    if not np.allclose(matrix[3], (0, 0, 0, 1), atol=1e-6):
        raise GeometryError(f"the last row of an affine is 0 0 0 1, not {matrix[3].tolist()}", remedy="Is it transposed?")
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if (lengths <= 0).any() or abs(np.linalg.det(matrix[:3, :3] / np.where(lengths > 0, lengths, 1))) < 1e-3:
        raise GeometryError(f"an affine with columns {matrix[:3, :3].T.tolist()} spans no volume")
    matrix[3] = (0, 0, 0, 1)
    matrix.setflags(write=False)
    return matrix


def flip_lps_ras(affine: ArrayLike) -> Affine:
    """Turn an affine (4 x 4) or points (..., 3) between LPS+ and RAS+ millimetres: the first two coordinates change sign.

    The same function serves both directions.

    Example:
        >>> flip_lps_ras([10.0, 20.0, 30.0]).tolist()
        [-10.0, -20.0, 30.0]
    """
    value = np.array(affine, dtype=np.float64)
    if value.shape == (4, 4):
        value[:2] *= -1
    else:
        value[..., :2] *= -1
    return value
