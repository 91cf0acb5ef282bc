"""NIfTI-1 and NIfTI-2, plain or gzip: the voxels of a file whose header `nifti_header` has understood."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from isal import igzip
from numpy.typing import NDArray

from voxelry.errors import CorruptFileError, LabelError
from voxelry.geometry import Geometry
from voxelry.read.detect import GZIP_ERRORS
from voxelry.read.nifti_header import NiftiHeader, read_header
from voxelry.read.voxels import as_labels, check_finite, rescaled
from voxelry.volume import Source, Volume

_CHUNK = 1 << 24


def read_nifti(path: str | os.PathLike[str]) -> Volume:
    """An image from a ``.nii`` or ``.nii.gz`` file; voxels are decoded when `Volume.array` is first asked for.

    Which affine is used, and what a file without one gets, is said in `nifti_header`. A 4D file ``(x, y, z, c)`` gives C
    channels, a 2D one has depth 1, trailing axes of length 1 are dropped. `scl_slope` and `scl_inter` are applied.

    Args:
        path: the file.

    Returns:
        A Volume ``(C, x, y, z)``, of a picture ``(C, rows, cols)``; int16 where that is lossless, else float32.

    Raises:
        CorruptFileError: a header that contradicts itself, or more voxels than the file can hold.
        UnsupportedFormatError: not a single-file NIfTI, or voxels that are no plain numbers.
        NonFiniteError: (from `Volume.array`) NaN or infinite voxels.
    """
    header = read_header(Path(path))
    return Volume(partial(_image, header), header.geometry, channels=header.channels, source=_source(header))


def read_nifti_labels(path: str | os.PathLike[str]) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], Geometry, Source]:
    """The labels of a NIfTI file; stored floats are taken where they are whole numbers.

    Args:
        path: the file, 3D, 2D, or 4D with a last axis of 1.

    Returns:
        Labels ``(x, y, z)``, of a picture ``(rows, cols)``, in the smallest unsigned type, their grid, and where they came from.

    Raises:
        LabelError: fractions, negative values, or several channels.
        ReadError: as `read_nifti`.
    """
    header = read_header(Path(path))
    if header.channels != 1:
        raise LabelError(
            f"{header.path}: a label file has one channel, this one {header.channels}",
            remedy="Merge one-hot channels into one map, or split them into a file each.",
        )
    return as_labels(_scaled(header)[0], str(header.path)), header.geometry, _source(header)


def _source(header: NiftiHeader) -> Source:
    return Source(kind="nifti", files=(str(header.path),), remarks=header.remarks)


def _image(header: NiftiHeader) -> NDArray[Any]:
    array = _scaled(header)
    check_finite(array, str(header.path))
    return array


def _scaled(header: NiftiHeader) -> NDArray[Any]:
    """``(C, x, y, z)``, of a picture ``(C, rows, cols)``, after slope and intercept."""
    shape = header.geometry.shape
    if len(shape) == 2:
        stored = stored_voxels(header).reshape((header.channels, *shape))
    else:
        stored = np.moveaxis(stored_voxels(header).reshape((*shape, header.channels), order="F"), -1, 0)
    return rescaled(stored, header.slope, header.intercept)


def stored_voxels(header: NiftiHeader) -> NDArray[Any]:
    """The numbers as stored, one-dimensional in file order, native byte order.

    Raises:
        CorruptFileError: the file ends before its last voxel, or its gzip stream is damaged.
    """
    voxels = np.empty(header.count, dtype=header.dtype)
    try:
        with igzip.open(header.path, "rb") if header.is_gzip else header.path.open("rb") as stream:
            _skip(stream, header.offset)
            got = _fill(stream, voxels)
            stream.read(1)  # past the end: gzip compares its checksum
    except GZIP_ERRORS as error:
        raise CorruptFileError(
            f"{header.path}: the gzip stream is damaged ({error})", remedy="Copy or download the file again."
        ) from error
    if got < voxels.nbytes:
        raise CorruptFileError(
            f"{header.path}: ends after {got} of {voxels.nbytes} bytes of voxels", remedy="Copy or download the file again."
        )
    return voxels if voxels.dtype.isnative else voxels.astype(voxels.dtype.newbyteorder("="))


def _skip(stream: BinaryIO, count: int) -> None:
    while count > 0:
        chunk = stream.read(min(count, _CHUNK))
        if not chunk:
            return
        count -= len(chunk)


def _fill(stream: BinaryIO, voxels: NDArray[Any]) -> int:
    """Read bytes until the array is full or the stream ends; how many were read."""
    buffer = voxels.view(np.uint8).data
    got = 0
    while got < len(buffer):
        chunk = stream.readinto(buffer[got : got + _CHUNK])  # type: ignore[attr-defined]
        if not chunk:
            break
        got += chunk
    return got
