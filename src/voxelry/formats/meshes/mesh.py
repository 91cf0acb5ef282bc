"""Closed surfaces of labels: smooth, watertight, and of the volume of their voxels.

Marching cubes (Lewiner et al. 2003) on the voxels, Taubin's filter (A signal processing approach to fair surface design, SIGGRAPH
1995) against the steps, then every vertex is moved along its normal until the surface encloses the voxels' volume: each component
and each cavity separately, since the filter shrinks a single voxel to a point and hardly changes an organ. All this is done in
voxel space, independent of spacing and orientation, and then transformed into the patient. The filter moves vertices and keeps
triangles, so that the closed surface of marching cubes stays closed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components
from skimage.measure import marching_cubes

from voxelry.core.catalogue import coded
from voxelry.core.geometry import flip_lps_ras
from voxelry.core.label_boxes import Box, boxes
from voxelry.core.labels import Label
from voxelry.core.volume import LabelMap
from voxelry.errors import ExportError, UsageError
from voxelry.formats.label_values import split_instances

Space = Literal["LPS", "RAS"]

_LEVEL = 0.45
"""Between the 0 outside and the 1 inside, and not in the middle: there marching cubes meets ties, and leaves gaps."""
_SHRINK, _SWELL, _ROUNDS = 0.5, -0.53, 15
_VOLUME_TOLERANCE = 1e-3
_MOST_CORRECTIONS = 25
_LONGEST_MOVE = 0.3
"""Voxels that one correction may move a vertex."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """A closed surface.

    Attributes:
        vertices: ``(n, 3)`` float64, mm in `space`.
        faces: ``(m, 3)`` int32 vertex numbers, counter-clockwise seen from outside.
        label: label whose surface this is.
        space: which way the axes point: left-posterior-superior or right-anterior-superior.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int32]
    label: Label
    space: Space

    @property
    def volume(self) -> float:
        """Enclosed mm^3."""
        return _volume(self.vertices, self.faces)


def meshes(labels: LabelMap, path: str | os.PathLike[str], *, space: Space = "LPS") -> list[Mesh]:
    """The surface of every label, and of every instance of a thing, that has a voxel, in the order of the table.

    Args:
        labels: three spatial axes; the grid may be oblique, mirrored or sheared.
        path: the file they go to, for messages.
        space: which way the axes of the vertices point.

    Returns:
        Closed surfaces; the volume of each part is within 0.1 % of its voxels' (1 % where it is a voxel thin).

    Raises:
        UsageError: another space.
        ExportError: a picture, or no voxel at all.
        LabelError: values that the table does not know.
    """
    if labels.geometry.affine is None:
        raise ExportError(f"{path}: a picture has no surface", remedy="Write PNG or COCO.")
    if space not in ("LPS", "RAS"):
        raise UsageError(f"space {space!r} is unknown", remedy="Known: LPS, RAS.")
    labels, _ = split_instances(labels)
    table = coded(labels.table).labels
    surfaces = [(label, box) for label, (_, box) in zip(table, boxes(labels, path), strict=True) if box is not None]
    if not surfaces:
        raise ExportError(f"{path}: no label has a voxel, and a mesh without a triangle cannot be read", remedy="Write NIfTI.")
    return [_mesh(labels, label, box, space) for label, box in surfaces]


def _mesh(labels: LabelMap, label: Label, box: Box, space: Space) -> Mesh:
    inside = labels.layers[label.layer][box] == label.value
    vertices, faces = _surface(inside)
    mean = _mean_of_neighbours(len(vertices), faces)
    sheets = connected_components(mean, directed=False)[1]
    vertices = _with_volume(_smoothed(vertices, mean), faces, sheets, _voxels_within(vertices, sheets))
    world = labels.geometry.world(vertices + [side.start for side in box])
    if space == "LPS":
        world = flip_lps_ras(world)
    if _volume(world, faces) < 0:
        faces = np.ascontiguousarray(faces[:, ::-1])
    return Mesh(world, faces, label, space)


def _surface(inside: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Vertices in voxels and triangles around a mask, counter-clockwise seen from outside."""
    field = np.zeros([size + 2 for size in inside.shape], np.float32)
    field[1:-1, 1:-1, 1:-1] = inside
    vertices, faces, _, _ = marching_cubes(field, _LEVEL)
    vertices, faces = vertices.astype(np.float64) - 1.0, faces.astype(np.int32)
    return vertices, faces if _volume(vertices, faces) > 0 else np.ascontiguousarray(faces[:, ::-1])


def _voxels_within(vertices: NDArray[np.float64], sheets: NDArray[np.int32]) -> NDArray[np.float64]:
    """Number of voxels that each sheet of a surface by marching cubes encloses, negative for a cavity.

    A vertex marks the voxel face that it lies on, except those that marching cubes puts within a cube; the volume follows from
    the sides across the first axis by the divergence theorem.
    """
    inward = vertices - np.floor(vertices)
    between = np.abs(inward - 0.5) < 0.25
    across = between[:, 0] & ~between[:, 1] & ~between[:, 2]
    outward = np.where(inward[:, 0] > 0.5, 1.0, -1.0)
    enclosed: NDArray[np.float64] = np.bincount(sheets, across * outward * (2 * np.floor(vertices[:, 0]) + 1)) / 2
    return enclosed


def _smoothed(vertices: NDArray[np.float64], mean: csr_array[Any]) -> NDArray[np.float64]:
    """Taubin's filter: a step towards the mean of the neighbours, then a slightly longer one away from it, repeated."""
    moved = vertices
    for _ in range(_ROUNDS):
        for weight in (_SHRINK, _SWELL):
            moved = moved + weight * (mean @ moved - moved)
    return moved


def _mean_of_neighbours(count: int, faces: NDArray[np.int32]) -> csr_array[Any]:
    """A sparse ``(n, n)`` matrix that takes the mean over the vertices that share an edge with each."""
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    matrix = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count)).tocsr()
    degree = np.diff(matrix.indptr)
    matrix.data = np.repeat(1.0 / degree, degree)
    return matrix


def _with_volume(
    vertices: NDArray[np.float64], faces: NDArray[np.int32], sheets: NDArray[np.int32], volume: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Vertices moved along their normals until every sheet encloses its `volume` in voxels."""
    for _ in range(_MOST_CORRECTIONS):
        crosses, owner = _crosses(vertices, faces), sheets[faces[:, 0]]
        centred = vertices - vertices.mean(axis=0)
        lacking = volume - np.bincount(owner, (centred[faces[:, 0]] * crosses).sum(axis=1) / 6, minlength=len(volume))
        off = np.abs(lacking) > _VOLUME_TOLERANCE * np.abs(volume)
        moving = off[owner]  # sheets that are done have no faces any more, and stay
        if not moving.any():
            break
        faces, crosses, owner = faces[moving], crosses[moving], owner[moving]
        normals = np.column_stack(
            [np.bincount(faces.ravel(), np.repeat(crosses[:, axis], 3), minlength=len(vertices)) for axis in range(3)]
        )
        normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        # how fast the volume grows as vertices move along their normals
        growth = np.bincount(owner, (crosses * normals[faces].mean(axis=1)).sum(axis=1) / 2, minlength=len(volume))
        step = np.where(growth > 0, lacking / np.where(growth > 0, growth, 1), np.copysign(_LONGEST_MOVE, lacking))
        vertices = vertices + np.clip(step, -_LONGEST_MOVE, _LONGEST_MOVE)[sheets, None] * normals
    return vertices


def _crosses(vertices: NDArray[np.float64], faces: NDArray[np.int32]) -> NDArray[np.float64]:
    """``(m, 3)`` outward, twice the area long."""
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    crosses: NDArray[np.float64] = np.cross(b - a, c - a)
    return crosses


def _volume(vertices: NDArray[np.float64], faces: NDArray[np.int32]) -> float:
    """Signed volume by the divergence theorem, from the middle of the vertices for precision."""
    centred = vertices - vertices.mean(axis=0)
    return float((centred[faces[:, 0]] * _crosses(centred, faces)).sum() / 6)
