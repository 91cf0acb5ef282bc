"""The grid of an NRRD file, from whichever fields its header has, by Teem's "Definition of NRRD File Format", version 5.

| fields | grid |
|---|---|
| `space directions` | theirs, with `space origin`, in the coordinates that `space` names; sheared directions are kept |
| `spacings`, or `axis mins` and `axis maxs` | axes along those of `space` |

Without directions the middle of the first voxel is at `space origin`, else at `axis mins` (half a voxel further where axes are
cell centred, as they are by default), else at 0. `space` is LPS where it names no anatomical directions. What is not used, of
fields that contradict each other, is a remark.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from voxelry.core.geometry import Geometry
from voxelry.errors import CorruptFileError
from voxelry.formats.grids.grid_file import NO_ORIENTATION, grid
from voxelry.formats.grids.nrrd_header import NrrdHeader, Vector

_SIGNS = {
    "right": ("x", 1),
    "left": ("x", -1),
    "anterior": ("y", 1),
    "posterior": ("y", -1),
    "superior": ("z", 1),
    "inferior": ("z", -1),
}
_ABBREVIATIONS = {"r": "right", "l": "left", "a": "anterior", "p": "posterior", "s": "superior", "i": "inferior", "t": "time"}
_MM = {
    "mm": 1.0,
    "millimeter": 1.0,
    "millimeters": 1.0,
    "cm": 10.0,
    "m": 1000.0,
    "meter": 1000.0,
    "um": 0.001,
    "µm": 0.001,
    "micron": 0.001,
}
_UNIT = re.compile(r'"([^"]*)"|(\S+)')
_NODE = "node"
"""The centering of samples at both ends of an axis; cells end half a sample beyond."""

_SAME = 1e-3
"""Relative difference below which two statements of one length are equal."""

Floats = NDArray[np.float64]


def nrrd_geometry(
    header: NrrdHeader, sizes: Sequence[int], spatial: Sequence[int], directions: Sequence[Vector | None]
) -> tuple[Geometry, list[str]]:
    """The grid of the spatial axes, and remarks on it.

    Args:
        header: the parsed header.
        sizes: sizes of all axes, fastest first.
        spatial: which of them run through space, two or three.
        directions: the vectors of `space directions`, one for each axis; empty where the header has none.

    Returns:
        A grid ``(x, y, z)``, RAS+ mm; ``(rows, columns)`` of an image of two axes without directions in three dimensions.

    Raises:
        CorruptFileError: the fields contradict each other, or span no grid.
    """
    shape = tuple(sizes[axis] for axis in spatial)
    if directions and not (len(spatial) == 2 and all(len(directions[axis] or ()) == 2 for axis in spatial)):
        return _directed(header, sizes, spatial, directions)
    axes = _PlainAxes(header, sizes, spatial, directions)
    return _picture(header, shape, axes) if len(shape) == 2 else _along_space(header, shape, axes)


def _directed(
    header: NrrdHeader, sizes: Sequence[int], spatial: Sequence[int], directions: Sequence[Vector | None]
) -> tuple[Geometry, list[str]]:
    """A grid with directions in space."""
    shape = tuple(sizes[axis] for axis in spatial)
    signs, remarks = _space(header)
    columns = [_in_space(header, "space directions", directions[axis]) for axis in spatial]
    if len(columns) == 2:
        columns.append(_normal(columns))
        shape = (*shape, 1)
        remarks.append("2D file without a slice thickness: 1 mm taken")
    unused = [field for field in ("axis mins", "axis maxs") if header.has_numbers(field)]
    spacing = np.array(header.numbers("spacings", len(sizes)) or (np.nan,) * len(sizes))[list(spatial)]
    lengths = np.linalg.norm(columns[: len(spatial)], axis=1)
    if (np.abs(spacing - lengths) > _SAME * lengths).any():
        unused.insert(0, "spacings")
    if unused:
        remarks.append(f"{' and '.join(map(repr, unused))} not used: 'space directions' count")
    origin = _origin(header)
    if origin is None:
        remarks.append("no 'space origin' stored: 0, 0, 0 taken")
    scale = _scale(header, remarks)
    with np.errstate(over="ignore", invalid="ignore"):
        affine = _affine(signs, np.stack(columns, axis=1) * scale, np.zeros(3) if origin is None else origin * scale)
    return grid(shape, affine, None, header.path, "'space directions' and 'space origin'"), remarks


class _PlainAxes:
    """What is stored of each spatial axis on its own.

    Args:
        header: the parsed header.
        sizes: sizes of all axes.
        spatial: which of them run through space.
        directions: their vectors in a plane, or none.

    Attributes:
        spacing: mm along each spatial axis, NaN where it is not stored.
        first: mm, the middle of the first sample of each axis by `axis mins`; None where they are not all stored.
        remarks: on what was decided.
    """

    def __init__(
        self, header: NrrdHeader, sizes: Sequence[int], spatial: Sequence[int], directions: Sequence[Vector | None]
    ) -> None:
        count = len(sizes)
        self.remarks: list[str] = []
        chosen = list(spatial)
        unit = _axis_scales(header, count)[chosen]
        low, high = (self._numbers(header, field, count)[chosen] * unit for field in ("axis mins", "axis maxs"))
        centers = header.fields.get("centers", "").lower().split() or [""] * count
        if len(centers) != count:
            raise header.wrong("centers")
        is_node = np.array([centers[axis] == _NODE for axis in chosen])
        steps = np.maximum(np.array([sizes[axis] for axis in chosen]) - is_node, 1)
        between = (high - low) / steps
        self.spacing = self._numbers(header, "spacings", count)[chosen] * unit
        if directions:
            self.spacing = np.array([np.linalg.norm(directions[axis] or (np.nan,)) for axis in chosen]) * _scale(header, [])
        elif not np.isfinite(self.spacing).all() and np.isfinite(between).all() and all(centers[axis] for axis in chosen):
            self.spacing = between
            self.remarks.append("spacing from 'axis mins' and 'axis maxs'")
        if (np.abs(between - self.spacing) > _SAME * np.abs(self.spacing)).any():
            self.remarks.append("'axis maxs' contradict 'spacings', which count")
        if (unit != 1).any():
            self.remarks.append("units of the axes converted to mm")
        self.first: Floats | None = low + np.where(is_node, 0.0, self.spacing / 2) if np.isfinite(low).all() else None
        if self.first is None and header.has_numbers("axis mins"):
            self.remarks.append("'axis mins' not used: they are not stored of every axis")

    @staticmethod
    def _numbers(header: NrrdHeader, field: str, count: int) -> Floats:
        """A number for each axis, NaN where it is not stored."""
        return np.array(header.numbers(field, count) or (np.nan,) * count)


def _picture(header: NrrdHeader, shape: tuple[int, ...], axes: _PlainAxes) -> tuple[Geometry, list[str]]:
    """A picture, which has no position."""
    known = bool(np.isfinite(axes.spacing).all())
    size = (float(axes.spacing[1]), float(axes.spacing[0])) if known else None
    remarks = [*axes.remarks, *([] if known else ["no physical size"])]
    origins = header.vectors("space origin", 1)
    stored = {"space origin": any((origins and origins[0]) or ()), "axis mins": header.has_numbers("axis mins")}
    unused = [field for field, is_stored in stored.items() if is_stored]
    if unused:
        remarks.append(f"{' and '.join(map(repr, unused))} not used: a picture has no position")
    return grid((shape[1], shape[0]), None, size, header.path, "'spacings'"), remarks


def _along_space(header: NrrdHeader, shape: tuple[int, ...], axes: _PlainAxes) -> tuple[Geometry, list[str]]:
    """A grid whose axes run along those of its space."""
    if not np.isfinite(axes.spacing).all():
        raise CorruptFileError(
            f"{header.path}: neither 'space directions' nor 'spacings' are given, and 1 mm is never assumed",
            remedy="Write them into its header.",
        )
    signs, remarks = _space(header)
    remarks = remarks or [f"no 'space directions' stored: axes taken to run along those of '{header.fields['space']}'"]
    remarks += axes.remarks
    stored, first = _origin(header), axes.first
    if stored is not None:
        origin = stored * _scale(header, remarks)
        if first is not None and np.abs(origin - first).max() > _SAME * np.abs(axes.spacing).max():
            remarks.append("'axis mins' contradict 'space origin', which counts")
    else:
        origin = np.zeros(3) if first is None else first
        remarks.append("no position stored: 0, 0, 0 taken" if first is None else "position from 'axis mins'")
    with np.errstate(over="ignore", invalid="ignore"):
        affine = _affine(signs, np.diag(axes.spacing), origin)
    return grid(shape, affine, None, header.path, "'spacings'"), remarks


def _affine(signs: Floats, columns: Floats, origin: Floats) -> Floats:
    """RAS+ affine from columns and origin in the header's space."""
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = columns, origin
    affine[:3] = signs @ affine[:3]
    return affine


def _origin(header: NrrdHeader) -> Floats | None:
    """The middle of the first voxel in the header's space and units; None where it is not stored."""
    origins = header.vectors("space origin", 1)
    return _in_space(header, "space origin", origins[0]) if origins and origins[0] else None


def _in_space(header: NrrdHeader, field: str, vector: Vector | None) -> Floats:
    """The first three coordinates of a vector; a fourth is time."""
    if vector is None or len(vector) not in (3, 4):
        raise header.wrong(field)
    return np.array(vector[:3], dtype=np.float64)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _normal(columns: Sequence[Floats]) -> Floats:
    normal = np.cross(columns[0], columns[1])
    return np.asarray(normal / np.linalg.norm(normal), dtype=np.float64)


def _space(header: NrrdHeader) -> tuple[Floats, list[str]]:
    """The matrix that turns the header's coordinates to RAS+, and a remark where the header names no anatomical space."""
    name = header.fields.get("space", "").lower()
    words = name.split("-") if "-" in name or name in _SIGNS else [_ABBREVIATIONS.get(letter, "?") for letter in name]
    signs = [_SIGNS[word] for word in words if word in _SIGNS]
    matrix = np.zeros((3, 3))
    if len(signs) == 3 and sorted(axis for axis, _ in signs) == ["x", "y", "z"]:
        for column, (axis, sign) in enumerate(signs):
            matrix["xyz".index(axis), column] = sign
        return matrix, []
    return np.diag([-1.0, -1.0, 1.0]), [NO_ORIENTATION]


def _scale(header: NrrdHeader, remarks: list[str]) -> float:
    """Millimetres per unit of space; millimetres where the header names none that is known."""
    words = [word.strip('"').lower() for word in header.fields.get("space units", "").split()]
    scales = {_MM[word] for word in words if word in _MM}
    if len(scales) != 1:
        return 1.0
    scale = scales.pop()
    if scale != 1.0:
        remarks.append(f"spatial units {words[0]} converted to mm")
    return scale


def _axis_scales(header: NrrdHeader, count: int) -> Floats:
    """Millimetres per unit of each axis, by `units`; millimetres where the header names none that is known."""
    words = [quoted or bare for quoted, bare in _UNIT.findall(header.fields.get("units", ""))]
    return np.array([_MM.get(word.lower(), 1.0) for word in words] if len(words) == count else [1.0] * count)
