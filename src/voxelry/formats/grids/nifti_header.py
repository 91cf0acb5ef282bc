"""Parses and checks NIfTI and Analyze 7.5 headers before anything is allocated, and decides which affine is used.

Where a file stores two affines, or none, `AFFINE_POLICY` applies; `Source.remarks` says which was used:

1. the sform, if its code is above 0, even where a coded qform differs (`ReadOptions.transform` can prefer the qform);
2. else the qform, if its code is above 0;
3. else the grid of `pixdim`, centred, as nibabel builds it: spacings are correct, orientation and position are not stored.

The qform is computed as the standard's own code does (`nifti1.h`, method 2): qfac is -1 where pixdim[0] is negative, else 1; a
quaternion longer than 1 is shortened. Negative pixdim count without their sign, as in nibabel. Each is a remark.

Units: millimetres where the header names none; metres and microns are converted.

Analyze 7.5 stores neither affine: its grid is taken from `pixdim`, the first axis running to the left (radiological order), as
nibabel and FSL do; SPM's origin, in the bytes of `originator`, is not used, since other programs store text there.

A file without affine whose intent name is `PICTURE`, as `nifti_write` writes it, is a picture ``(rows, cols)`` stored as
``(cols, rows, 1)``; where the header names no unit its pixel size is not known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.analyze import AnalyzeHeader
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.quaternions import quat2mat
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from voxelry.core.geometry import Geometry
from voxelry.errors import CorruptFileError, GeometryError, UnsupportedFormatError
from voxelry.formats.detection import head_of, header_beside, is_gzip, voxels_beside
from voxelry.formats.grids.grid_file import grid
from voxelry.formats.grids.stored import Stored
from voxelry.formats.read_options import Transform
from voxelry.formats.signatures import is_analyze, is_nifti_pair, nifti_version

AFFINE_POLICY = ("sform", "qform", "pixdim")
"""Order of preference of affines: the first of these that the file stores is used."""

PICTURE = "picture"
"""The intent name that marks a file as a picture, which has no position in the patient."""

_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_UNIT_NAMES = {1: "metres", 3: "microns"}
_HEADER_SIZES = {0: 348, 1: 348, 2: 540}
_HEADERS: dict[int, Any] = {0: AnalyzeHeader, 1: Nifti1Header, 2: Nifti2Header}
_NO_REST, _LONG = 1e-7, 1e-5
"""A quaternion's first number is 0 where less than this is left for its square; a longer one than this is no rounding."""

_MOST_EXTENSIONS = 1 << 24
_LABEL_INTENT = 1002
_VECTOR_AXES = 5
_PLAIN_INTENTS = (0, _LABEL_INTENT)


@dataclass(frozen=True)
class NiftiHeader:
    """Everything needed to read the voxels.

    Attributes:
        path: the file that holds the header.
        kind: ``nifti`` or ``analyze``.
        stored: where the voxels are.
        geometry: the grid ``(x, y, z)``, RAS+ mm; of a picture ``(rows, cols)``.
        channels: C, from the fourth axis, or the fifth (the components of a vector) where the fourth has length 1.
        size: bytes of the header itself, after which extensions follow.
        byte_order: ``<`` or ``>``.
        slope, intercept: grey value = slope * stored + intercept.
        remarks: which affine was used and what had to be decided.
        components: the channels are components of a vector.
    """

    path: Path
    kind: str
    stored: Stored
    geometry: Geometry
    channels: int
    size: int
    byte_order: str
    slope: float
    intercept: float
    remarks: tuple[str, ...]
    components: bool

    @property
    def extension_end(self) -> int:
        """End of the extensions, in bytes of the decompressed file."""
        return self.stored.offset if self.stored.path == self.path else self.size + _MOST_EXTENSIONS


def read_header(path: Path, transform: Transform = "sform") -> NiftiHeader:
    """Parse and check the header of a NIfTI or Analyze image.

    Args:
        path: the file; of a pair, either one.
        transform: which affine is taken where both are coded and differ.

    Raises:
        UnsupportedFormatError: not such a file; voxels that are complex or coloured; more than one axis beyond the third.
        CorruptFileError: impossible sizes, offsets or affines, or more voxels than the file can hold.
        MissingFileError: the voxels of a pair are not beside the header.
    """
    path = header_beside(path)
    head = head_of(path)
    version = nifti_version(head)
    if not version and not is_analyze(head):
        raise UnsupportedFormatError(f"{path}: not a NIfTI or Analyze image", remedy="Check that it is what its name says.")
    size = _HEADER_SIZES[version]
    if len(head) < size:
        raise CorruptFileError(f"{path}: ends within its header", remedy="Copy or download the file again.")
    fields = _HEADERS[version](head[:size], check=False)
    sizes = _sizes(fields, path)
    spatial, channels = _axes(sizes, path)
    if _is_picture(fields, spatial):
        geometry, remarks = _picture_geometry(fields, spatial, path)
    else:
        geometry, remarks = _geometry(fields, spatial, transform, flat=len(sizes) == 2, path=path)
    slope, intercept = _scaling(fields, path)
    image = (voxels_beside(path) or path.with_suffix(".img")) if version == 0 or is_nifti_pair(head) else path
    stored = Stored(
        path=image,
        dtype=_dtype(fields, path),
        count=prod(spatial) * channels,
        encoding="gzip" if image.is_file() and is_gzip(image) else "raw",
        offset=_offset(fields, 0 if image != path else size, path),
        header=path,
    )
    stored.check_room()
    return NiftiHeader(
        path=path,
        kind="nifti" if version else "analyze",
        stored=stored,
        geometry=geometry,
        channels=channels,
        size=size,
        byte_order=fields.endianness,
        slope=slope,
        intercept=intercept,
        remarks=(*remarks, *_intent(fields)),
        components=len(sizes) == _VECTOR_AXES and channels > 1,
    )


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


def _intent(fields: Any) -> list[str]:
    """A remark where the header states that voxels are a statistic, a vector or another derived quantity."""
    if "intent_code" not in fields or int(fields["intent_code"]) in _PLAIN_INTENTS:
        return []
    try:
        return [f"intent: {fields.get_intent()[0]}"]
    except (HeaderDataError, KeyError, ValueError):
        return []


def _dtype(fields: Any, path: Path) -> np.dtype[Any]:
    code = int(fields["datatype"])
    try:
        dtype: np.dtype[Any] = fields.get_data_dtype()
    except (HeaderDataError, KeyError) as error:
        raise CorruptFileError(f"{path}: data type code {code} is unknown", remedy="The file is damaged.") from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise UnsupportedFormatError(
            f"{path}: voxels of type {dtype} (code {code}) are no plain grey values",
            remedy="Store a magnitude, or one channel per file, as integers or floats of up to 64 bits.",
        )
    return dtype


def _offset(fields: Any, size: int, path: Path) -> int:
    offset = float(fields["vox_offset"])
    if not (np.isfinite(offset) and size <= offset < 2**62):
        raise CorruptFileError(f"{path}: vox_offset {offset:g} lies within the header", remedy="The file is damaged.")
    return int(offset)


def _scaling(fields: Any, path: Path) -> tuple[float, float]:
    """Slope and intercept; a slope of 0 (no scaling in the standard) or NaN gives 1 and 0."""
    if not isinstance(fields, Nifti1Header):
        return 1.0, 0.0
    try:
        slope, intercept = fields.get_slope_inter()
    except HeaderDataError as error:
        raise CorruptFileError(f"{path}: {error}", remedy="Set scl_slope 1 and scl_inter 0, if that is meant.") from error
    return (1.0, 0.0) if slope is None else (float(slope), float(intercept or 0.0))


def _is_picture(fields: Any, shape: tuple[int, int, int]) -> bool:
    if "sform_code" not in fields:
        return False
    has_affine = int(fields["sform_code"]) > 0 or int(fields["qform_code"]) > 0
    return shape[2] == 1 and not has_affine and bytes(fields["intent_name"].item()).rstrip(b"\0 ") == PICTURE.encode()


def _picture_geometry(fields: Any, shape: tuple[int, int, int], path: Path) -> tuple[Geometry, tuple[str, ...]]:
    """Rows and columns, and the pixel size where the header names its unit."""
    columns, rows, _ = shape
    unit = int(fields["xyzt_units"]) & 7
    if not unit:
        return Geometry((rows, columns)), ("a picture, no physical size",)
    scale = _MM_PER_UNIT.get(unit, 1.0)
    between_columns, between_rows = (float(size) * scale for size in fields["pixdim"][1:3])
    size = (between_rows, between_columns)
    return grid((rows, columns), None, size, path, "pixdim"), ("a picture, pixel size from pixdim",)


@np.errstate(over="ignore", invalid="ignore")
def _geometry(
    fields: Any, shape: tuple[int, int, int], transform: Transform, *, flat: bool, path: Path
) -> tuple[Geometry, tuple[str, ...]]:
    """The grid by `AFFINE_POLICY`, and remarks on it; Geometry refuses damaged numbers."""
    used, other = _coded(fields, transform)
    if other and not flat and _is_singular(fields, used):
        used, other = other, used
    affine = _affine(fields, used, path)
    remarks = [f"{used} used" if used else "no orientation stored: the grid is taken from pixdim"]
    remarks += _odd_pixdim(fields, used)
    unit = int(fields["xyzt_units"]) & 7 if "xyzt_units" in fields else 0
    scale = _MM_PER_UNIT.get(unit, 1.0)
    if unit in _UNIT_NAMES:
        remarks.append(f"spatial units {_UNIT_NAMES[unit]} converted to mm")
    affine[:3] *= scale
    if flat and not np.linalg.norm(affine[:3, 2]):
        affine[:3, 2] = _unit_normal(affine)
        remarks.append("2D file without a slice thickness: 1 mm taken")
    geometry = grid(shape, affine, None, path, "sform, qform or pixdim")
    return geometry, (*remarks, *_disagreement(fields, other, geometry, scale))


def _coded(fields: Any, transform: Transform) -> tuple[str, str]:
    """The name of the affine that is used, and of the coded one that is not; empty where there is none."""
    order = ("sform", "qform") if transform == "sform" else ("qform", "sform")
    coded = [name for name in order if f"{name}_code" in fields and int(fields[f"{name}_code"]) > 0]
    used, other = (*coded, "", "")[:2]
    return used, other


def _is_singular(fields: Any, name: str) -> bool:
    """The affine of this name is singular, as of a writer that sets the code and leaves the numbers 0."""
    try:
        Geometry((1, 1, 1), _affine(fields, name, Path()))
    except (CorruptFileError, GeometryError):
        return True
    return False


def _affine(fields: Any, name: str, path: Path) -> NDArray[np.float64]:
    """The affine of this name; that of `pixdim` for an empty name."""
    if name == "qform":
        return _qform(fields)
    fields = fields.copy()
    fields["pixdim"][1:4] = np.abs(fields["pixdim"][1:4])
    try:
        return np.array(fields.get_sform() if name else fields.get_base_affine(), dtype=np.float64)
    except (HeaderDataError, ValueError) as error:
        raise CorruptFileError(f"{path}: the {name} is invalid ({error})", remedy="Repair the header.") from error


def _qform(fields: Any) -> NDArray[np.float64]:
    """The affine of quaternion, offset and pixdim (`nifti1.h`, method 2)."""
    vector = np.array([float(fields[f"quatern_{letter}"]) for letter in "bcd"])
    rest = 1.0 - float(vector @ vector)
    if rest < _NO_REST:
        rest, vector = 0.0, vector / max(float(np.linalg.norm(vector)), 1.0)
    affine = np.eye(4)
    affine[:3, :3] = quat2mat([np.sqrt(rest), *vector]) * np.abs(fields["pixdim"][1:4].astype(np.float64))
    affine[:3, 2] *= _qfac(fields)
    affine[:3, 3] = [float(fields[f"qoffset_{letter}"]) for letter in "xyz"]
    return affine


def _qfac(fields: Any) -> float:
    """The handedness of the qform: "If pixdim[0]=0.0 (which should not occur), we take qfac=1" (`nifti1.h`)."""
    return -1.0 if float(fields["pixdim"][0]) < 0 else 1.0


def _odd_pixdim(fields: Any, used: str) -> list[str]:
    """Remarks on numbers of the header that should not occur, where the affine depends on them."""
    pixdim = fields["pixdim"][:4]
    remarks = []
    if used == "qform" and float(pixdim[0]) not in (-1.0, 1.0):
        remarks.append(f"pixdim[0] is {pixdim[0]:g}, neither 1 nor -1: qfac {_qfac(fields):g} taken, as the standard does")
    if used == "qform" and sum(float(fields[f"quatern_{letter}"]) ** 2 for letter in "bcd") > 1 + _LONG:
        remarks.append("the qform's quaternion is longer than 1: shortened")
    if used != "sform" and (pixdim[1:] < 0).any():
        remarks.append("negative pixdim: taken without the sign, as nibabel does")
    return remarks


def _disagreement(fields: Any, other: str, geometry: Geometry, scale: float) -> list[str]:
    """A remark where the coded affine that was not used places voxels elsewhere."""
    if not other:
        return []
    try:
        affine = _affine(fields, other, Path())
        affine[:3] *= scale
        apart = geometry.distance(replace(geometry, affine=affine))
    except (CorruptFileError, GeometryError):
        return [f"the {other} is invalid and was not used"]
    if apart <= geometry.grid_tolerance:
        return []
    return [f"the {other} places voxels up to {apart:.4g} mm elsewhere and was not used"]


def _unit_normal(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    length = float(np.linalg.norm(normal))
    return normal / length if length else normal
