"""What a NIfTI header says, checked before anything is allocated.

Where a file stores two affines, or none, this is the policy (`AFFINE_POLICY`); `Source.remarks` says which was taken:

1. the sform, if its code is above 0, even where a coded qform differs;
2. else the qform, if its code is above 0;
3. else the grid of `pixdim`, centred, as nibabel builds it: spacings are right, orientation and position are not stored.

Units: millimetres where the header names none; metres and microns are converted.

A file without affine whose intent name is `PICTURE`, as `voxelry.export.nifti` writes it, is a picture ``(rows, cols)`` stored as
``(cols, rows, 1)``; where the header names no unit its pixel size is not known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from voxelry.errors import CorruptFileError, GeometryError, UnsupportedFormatError
from voxelry.geometry import Geometry
from voxelry.read.detect import head_of, is_gzip, nifti_version

AFFINE_POLICY = ("sform", "qform", "pixdim")
"""Which affine is used: the first of these that the file stores."""

PICTURE = "picture"
"""The intent name that marks a file as a picture, which has no place in the patient."""

MAX_GZIP_RATIO = 1032
"""Deflate cannot compress better than this (zlib's technical details), so a file cannot hold more bytes than it implies."""

_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_UNIT_NAMES = {1: "metres", 3: "microns"}
_HEADER_SIZES = {1: 348, 2: 540}


@dataclass(frozen=True)
class NiftiHeader:
    """Everything needed to read the voxels.

    Attributes:
        path: the file.
        is_gzip: whether it is compressed.
        dtype: the stored type, in the file's byte order.
        geometry: the grid ``(x, y, z)``, RAS+ mm; of a picture ``(rows, cols)``.
        channels: C, from the fourth axis (or the fifth, where the fourth has length 1).
        size: bytes of the header itself, after which extensions follow.
        byte_order: ``<`` or ``>``.
        offset: bytes before the first voxel, uncompressed.
        slope, intercept: grey value = slope * stored + intercept.
        remarks: which affine was used and what had to be decided.
    """

    path: Path
    is_gzip: bool
    dtype: np.dtype[Any]
    geometry: Geometry
    channels: int
    size: int
    byte_order: str
    offset: int
    slope: float
    intercept: float
    remarks: tuple[str, ...]

    @property
    def count(self) -> int:
        """Voxels times channels."""
        return int(np.prod(self.geometry.shape)) * self.channels


def read_header(path: Path) -> NiftiHeader:
    """Parse and check the header of a single-file NIfTI.

    Raises:
        UnsupportedFormatError: not such a file; voxels that are complex or coloured; more than one axis beyond the third.
        CorruptFileError: impossible sizes, offsets or affines, or more voxels than the file can hold.
    """
    head = head_of(path)
    version = nifti_version(head)
    if not version:
        raise UnsupportedFormatError(f"{path}: not a single-file NIfTI", remedy="Is it what its name says?")
    size = _HEADER_SIZES[version]
    if len(head) < size:
        raise CorruptFileError(f"{path}: ends within its header", remedy="Copy or download the file again.")
    fields = (Nifti1Header if version == 1 else Nifti2Header)(head[:size], check=False)
    sizes = _sizes(fields, path)
    spatial, channels = _axes(sizes, path)
    if _is_picture(fields, spatial):
        geometry, remarks = _picture_geometry(fields, spatial, path)
    else:
        geometry, remarks = _geometry(fields, spatial, flat=len(sizes) == 2, path=path)
    slope, intercept = _scaling(fields, path)
    header = NiftiHeader(
        path=path,
        is_gzip=is_gzip(path),
        dtype=_dtype(fields, path),
        geometry=geometry,
        channels=channels,
        size=size,
        byte_order=fields.endianness,
        offset=_offset(fields, size, path),
        slope=slope,
        intercept=intercept,
        remarks=remarks,
    )
    _check_room(header)
    return header


def _sizes(fields: Any, path: Path) -> tuple[int, ...]:
    dim = [int(n) for n in fields["dim"]]
    sizes = tuple(dim[1 : dim[0] + 1])
    if not 1 <= dim[0] <= 7 or any(n < 1 for n in sizes):
        raise CorruptFileError(f"{path}: the header's dim {dim} is impossible", remedy="The file is damaged, or no NIfTI.")
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes = sizes[:-1]
    return sizes


def _axes(sizes: tuple[int, ...], path: Path) -> tuple[tuple[int, int, int], int]:
    """Three spatial sizes and the number of channels."""
    beyond = [n for n in sizes[3:] if n > 1]
    if len(beyond) > 1 or len(sizes) < 2:
        raise UnsupportedFormatError(
            f"{path}: has shape {sizes}; 2D, 3D and 4D (x, y, z, channel) are read", remedy="Split it into 4D or 3D files."
        )
    x, y, z = (*sizes[:3], 1)[:3]
    return (x, y, z), (beyond or [1])[0]


def _dtype(fields: Any, path: Path) -> np.dtype[Any]:
    code = int(fields["datatype"])
    try:
        dtype: np.dtype[Any] = fields.get_data_dtype()
    except (HeaderDataError, KeyError) as error:
        raise CorruptFileError(f"{path}: data type code {code} is unknown", remedy="The file is damaged.") from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise UnsupportedFormatError(
            f"{path}: voxels of type {dtype} (code {code}) are no plain grey values",
            remedy="Store a magnitude, or one channel a file, as integers or floats of up to 64 bits.",
        )
    return dtype


def _offset(fields: Any, size: int, path: Path) -> int:
    offset = float(fields["vox_offset"])
    if not (np.isfinite(offset) and offset >= size):
        raise CorruptFileError(f"{path}: vox_offset {offset:g} lies within the header", remedy="The file is damaged.")
    return int(offset)


def _scaling(fields: Any, path: Path) -> tuple[float, float]:
    """Slope and intercept; the standard's 'slope 0: no scaling' gives 1 and 0, and so do floats that hold NaN."""
    try:
        slope, intercept = fields.get_slope_inter()
    except HeaderDataError as error:
        raise CorruptFileError(f"{path}: {error}", remedy="Set scl_slope 1 and scl_inter 0, if that is meant.") from error
    return (1.0, 0.0) if slope is None else (float(slope), float(intercept or 0.0))


def _check_room(header: NiftiHeader) -> None:
    """Refuse a header that promises more bytes than the file can hold."""
    wanted = header.offset + header.count * header.dtype.itemsize
    size = header.path.stat().st_size
    most = size * MAX_GZIP_RATIO if header.is_gzip else size
    if wanted > most:
        raise CorruptFileError(
            f"{header.path}: the header promises {wanted} bytes ({header.channels} x {header.geometry.shape} of "
            f"{header.dtype}), a file of {size} bytes holds at most {most}",
            remedy="The file is truncated or its header damaged: copy it again.",
        )


def _is_picture(fields: Any, shape: tuple[int, int, int]) -> bool:
    placed = int(fields["sform_code"]) > 0 or int(fields["qform_code"]) > 0
    return shape[2] == 1 and not placed and bytes(fields["intent_name"].item()).rstrip(b"\0 ") == PICTURE.encode()


def _picture_geometry(fields: Any, shape: tuple[int, int, int], path: Path) -> tuple[Geometry, tuple[str, ...]]:
    """Rows and columns, and the pixel size where the header names its unit."""
    columns, rows, _ = shape
    unit = int(fields["xyzt_units"]) & 7
    if not unit:
        return Geometry((rows, columns)), ("a picture, no physical size",)
    scale = _MM_PER_UNIT.get(unit, 1.0)
    between_columns, between_rows = (float(size) * scale for size in fields["pixdim"][1:3])
    try:
        return Geometry((rows, columns), None, (between_rows, between_columns)), ("a picture, pixel size from pixdim",)
    except GeometryError as error:
        raise CorruptFileError(f"{path}: {error.problem}", remedy="Repair pixdim.") from error


@np.errstate(over="ignore", invalid="ignore")
def _geometry(fields: Any, shape: tuple[int, int, int], *, flat: bool, path: Path) -> tuple[Geometry, tuple[str, ...]]:
    """The grid by `AFFINE_POLICY`, and what to remark about it; damaged numbers are refused by Geometry, not warned of."""
    affine, remarks = _affine(fields, path)
    unit = int(fields["xyzt_units"]) & 7
    scale = _MM_PER_UNIT.get(unit, 1.0)
    if unit in _UNIT_NAMES:
        remarks.append(f"spatial units {_UNIT_NAMES[unit]} converted to mm")
    affine[:3] *= scale
    if flat and not np.linalg.norm(affine[:3, 2]):
        affine[:3, 2] = _unit_normal(affine)
        remarks.append("2D file without a slice thickness: 1 mm taken")
    try:
        geometry = Geometry(shape, affine)
    except GeometryError as error:
        raise CorruptFileError(f"{path}: {error.problem}", remedy="Repair sform, qform or pixdim.") from error
    if remarks[0].startswith("sform"):
        remarks += _disagreement(fields, geometry, scale)
    return geometry, tuple(remarks)


def _affine(fields: Any, path: Path) -> tuple[NDArray[np.float64], list[str]]:
    if int(fields["sform_code"]) > 0:
        return np.array(fields.get_sform(), dtype=np.float64), ["sform used"]
    if int(fields["qform_code"]) > 0:
        try:
            return np.array(fields.get_qform(), dtype=np.float64), ["qform used"]
        except (HeaderDataError, ValueError) as error:
            raise CorruptFileError(f"{path}: the qform is invalid ({error})", remedy="Repair the header.") from error
    return np.array(fields.get_base_affine(), dtype=np.float64), ["no orientation stored: the grid is taken from pixdim"]


def _disagreement(fields: Any, geometry: Geometry, scale: float) -> list[str]:
    """A remark where a coded qform places voxels elsewhere than the sform does."""
    if int(fields["qform_code"]) <= 0:
        return []
    try:
        affine = np.array(fields.get_qform(), dtype=np.float64)
        affine[:3] *= scale
        other = replace(geometry, affine=affine)
    except (HeaderDataError, ValueError, GeometryError):
        return ["the qform is invalid and was not used"]
    apart = geometry.distance(other)
    if apart <= geometry.grid_tolerance:
        return []
    return [f"the qform places voxels up to {apart:.4g} mm elsewhere and was not used"]


def _unit_normal(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    length = float(np.linalg.norm(normal))
    return normal / length if length else normal
