"""Implicit shapes and random fields of phantoms, in patient millimetres.

A shape is a function of points that returns the signed distance to its surface in mm, near enough: negative inside, exact
to first order close to the surface. Shapes are independent of voxel grids, so one anatomy can be sampled on any grid. Points are
float32 arrays ``(3, *any)``, RAS+ mm; distances and fields are float32 ``(*any)``.

Sources: signed distances after I. Quilez, "Distance functions" (https://iquilezles.org/articles/distfunctions).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from voxelry.core.geometry import Geometry
from voxelry.errors import GeometryError

Points = NDArray[np.floating[Any]]
Field = NDArray[np.floating[Any]]
Vector = Sequence[float]

GRAIN_LATTICE = 48


def points(geometry: Geometry) -> Points:
    """The world position of every voxel centre.

    Args:
        geometry: a grid with an affine.

    Returns:
        float32 ``(3, *shape)``, RAS+ mm.

    Raises:
        GeometryError: the grid is a picture.
    """
    if geometry.affine is None:
        raise GeometryError("a picture has no position in the patient")
    affine = geometry.affine.astype(np.float32)
    i, j, k = np.ogrid[tuple(slice(n) for n in geometry.shape)]
    return np.stack(
        [(affine[d, 0] * i + affine[d, 1] * j + affine[d, 2] * k + affine[d, 3]).astype(np.float32) for d in range(3)]
    )


def rotation(degrees: Vector) -> NDArray[np.float64]:
    """The ``(3, 3)`` matrix that turns by x, then y, then z degrees about the RAS+ axes."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        a, b = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def local(p: Points, centre: Vector, degrees: Vector = (0.0, 0.0, 0.0)) -> Points:
    """Points in the coordinates of a shape: its centre is the origin, its axes are turned by `degrees`."""
    moved = [p[d] - np.float32(centre[d]) for d in range(3)]
    if not any(degrees):
        return np.stack(moved)
    turn = rotation(degrees).astype(np.float32)
    return np.stack([turn[0, d] * moved[0] + turn[1, d] * moved[1] + turn[2, d] * moved[2] for d in range(3)])


def ellipsoid(p: Points, centre: Vector, radii: Vector, degrees: Vector = (0.0, 0.0, 0.0)) -> Field:
    """Distance to an ellipsoid with semi-axes `radii` in mm, turned by `degrees` about its centre."""
    q = local(p, centre, degrees)
    return _scaled_norm([q[0], q[1], q[2]], radii)


def elliptic_cylinder(x: Field, y: Field, radius_x: float, radius_y: float) -> Field:
    """Distance to an endless cylinder along the third axis; `x`, `y` are coordinates from its axis."""
    return _scaled_norm([x, y], (radius_x, radius_y))


def _scaled_norm(coordinates: Sequence[Field], radii: Vector) -> Field:
    """The value of ``|q/r|`` less one, divided by the length of its gradient."""
    level = np.zeros_like(coordinates[0])
    slope = np.zeros_like(coordinates[0])
    for coordinate, radius in zip(coordinates, radii, strict=True):
        scaled = coordinate * np.float32(1 / radius)
        level += scaled * scaled
        scaled *= np.float32(1 / radius)
        slope += scaled * scaled
    np.sqrt(level, out=level)
    np.sqrt(slope, out=slope)
    result: Field = level * (level - 1) / np.maximum(slope, np.float32(1e-6))
    return np.where(slope < 1e-6, np.float32(-min(radii)), result)


def superellipse(x: Field, y: Field, half_width: float, half_depth: float, power: float = 2.4) -> Field:
    """Distance to an endless column of rounded-box section, the outline of a trunk."""
    scaled = np.abs(x / np.float32(half_width)) ** np.float32(power) + np.abs(y / np.float32(half_depth)) ** np.float32(power)
    level = np.maximum(scaled, np.float32(1e-9)) ** np.float32(1 / power)
    radius = np.sqrt(x * x + y * y)
    result: Field = radius * (1 - 1 / np.maximum(level, np.float32(1e-3)))
    return np.maximum(result, np.float32(-min(half_width, half_depth)))


def capsule(p: Points, start: Vector, end: Vector, radius: float) -> Field:
    """Distance to a stick with round ends."""
    axis = np.subtract(end, start)
    q = local(p, start)
    along = sum(np.float32(axis[d]) * q[d] for d in range(3)) / np.float32(axis @ axis)
    along = np.clip(along, 0, 1)
    apart = sum((q[d] - np.float32(axis[d]) * along) ** 2 for d in range(3))
    result: Field = np.sqrt(apart) - np.float32(radius)
    return result


def half_space(p: Points, point: Vector, outward: Vector) -> Field:
    """Distance to a plane through `point`; the side that `outward` points to is outside."""
    normal = np.asarray(outward, dtype=np.float64) / np.linalg.norm(outward)
    q = local(p, point)
    result: Field = sum(np.float32(normal[d]) * q[d] for d in range(3))
    return result


def smooth_union(a: Field, b: Field, blend: float) -> Field:
    """The union of two shapes with the crease rounded over `blend` mm."""
    mix = np.maximum(np.float32(blend) - np.abs(a - b), 0) / np.float32(blend)
    result: Field = np.minimum(a, b) - mix * mix * np.float32(blend / 4)
    return result


def smooth_intersection(a: Field, b: Field, blend: float) -> Field:
    """The intersection of two shapes with the edge rounded over `blend` mm."""
    return -smooth_union(-a, -b, blend)


def coverage(distance: Field, width: float) -> Field:
    """The share of a voxel `width` mm wide that lies inside: the partial volume effect, 0..1."""
    result: Field = np.clip(np.float32(0.5) - distance / np.float32(width), 0, 1)
    return result


@dataclass(frozen=True, eq=False)
class Waves:
    """A smooth random field: a sum of a few plane waves.

    Attributes:
        vectors: ``(n, 3)`` wave vectors, rad/mm.
        phases: ``(n,)`` rad.
        amplitude: standard deviation of the field.
    """

    vectors: NDArray[np.float32]
    phases: NDArray[np.float32]
    amplitude: float

    @classmethod
    def draw(cls, rng: np.random.Generator, wavelength: tuple[float, float], amplitude: float, count: int = 5) -> Waves:
        """A field with wavelengths in a range, in mm."""
        direction = rng.normal(size=(count, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        vectors = direction * (2 * np.pi / rng.uniform(*wavelength, size=(count, 1)))
        return cls(vectors.astype(np.float32), rng.uniform(0, 2 * np.pi, count).astype(np.float32), amplitude)

    def __call__(self, p: Points) -> Field:
        """The field at points, of mean about 0 and standard deviation about `amplitude`."""
        total = np.zeros(p.shape[1:], dtype=np.float32)
        for vector, phase in zip(self.vectors, self.phases, strict=True):
            total += np.sin(vector[0] * p[0] + vector[1] * p[1] + vector[2] * p[2] + phase)
        return total * np.float32(self.amplitude * np.sqrt(2 / len(self.phases)))


@dataclass(frozen=True)
class Warp:
    """A smooth random displacement of space, one field per world axis, in mm."""

    fields: tuple[Waves, Waves, Waves]

    @classmethod
    def draw(cls, rng: np.random.Generator, wavelength: tuple[float, float], amplitude: float) -> Warp:
        """A displacement with a standard deviation of `amplitude` mm along each axis."""
        x, y, z = (Waves.draw(rng, wavelength, amplitude) for _ in range(3))
        return cls((x, y, z))

    def __call__(self, p: Points) -> Points:
        """Displaced points, the same shape."""
        return np.stack([p[d] + self.fields[d](p) for d in range(3)])


@dataclass(frozen=True, eq=False)
class Grain:
    """Band-limited texture: white noise on a periodic lattice, interpolated linearly.

    Attributes:
        lattice: ``(n, n, n)`` float32 of unit variance.
        size: lattice spacing in mm: the size of a grain.
    """

    lattice: NDArray[np.float32]
    size: float

    @classmethod
    def draw(cls, rng: np.random.Generator, size: float) -> Grain:
        """Texture with grains of `size` mm."""
        return cls(rng.standard_normal((GRAIN_LATTICE,) * 3, dtype=np.float32), size)

    def __call__(self, p: Points) -> Field:
        """The texture at points, mean 0, standard deviation about 0.6."""
        result: Field = map_coordinates(self.lattice, p / np.float32(self.size), order=1, mode="grid-wrap", output=np.float32)
        return result
