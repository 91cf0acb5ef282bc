"""Siemens mosaics: splits an image whose tiles are the slices of a volume into planes.

The number of tiles and the direction from slice to slice are in Siemens' private CSA header. ImagePositionPatient is the position
that the first pixel would have if the whole mosaic were one slice, of the same pixel size, centred on the first slice; the first
tile therefore starts half of the difference in size further along rows and columns (nibabel's documentation, "Siemens mosaic").
"""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from voxelry.errors import CorruptFileError
from voxelry.formats.dicom.elements import PARSE_ERRORS, short_message
from voxelry.formats.dicom.header import DicomHeader

_CSA_IMAGE = (0x0029, 0x1010)
_TILES = (0x0019, 0x100A)
"""The number of tiles, beside the CSA header, in newer files."""

_LARGEST_CSA = 2**20


def expand_mosaic(header: DicomHeader, data: Any) -> tuple[DicomHeader, ...]:
    """A header for each tile.

    Args:
        header: the file's header.
        data: its elements before the pixels.

    Returns:
        The slices in their stored order, along the CSA header's SliceNormalVector.

    Raises:
        CorruptFileError: the number of tiles is missing, or does not divide the image.
    """
    csa = _csa(header, data)
    count = _tiles(header, data, csa)
    side = math.ceil(math.sqrt(count))
    if header.rows % side or header.columns % side:
        raise _wrong(header, f"{count} tiles do not divide {header.rows} x {header.columns} pixels")
    rows, columns = header.rows // side, header.columns // side
    positions = _positions(header, csa, (rows, columns), count)
    return tuple(
        replace(
            header,
            rows=rows,
            columns=columns,
            mosaic=(header.rows, header.columns),
            tile=(index // side * rows, index % side * columns),
            position=positions[index],
            instance_number=f"{header.instance_number}.{index + 1}",
        )
        for index in range(count)
    )


def _positions(header: DicomHeader, csa: dict[str, Any], size: tuple[int, int], count: int) -> list[tuple[float, ...]]:
    """The position of each tile's first pixel, LPS+ mm."""
    if header.position is None or header.orientation is None or header.pixel_spacing is None:
        raise _wrong(header, "it states no position, orientation or pixel spacing")
    across, down = np.array(header.orientation).reshape(2, 3)
    normal = _vector(csa, "SliceNormalVector")
    if normal is None:
        raise _wrong(header, "its CSA header has no SliceNormalVector")
    spacing = header.spacing_between
    if count > 1 and not spacing:  # the slice thickness is wrong where there are gaps between slices
        raise _wrong(header, "it does not state SpacingBetweenSlices")
    row_spacing, column_spacing = header.pixel_spacing
    first = np.array(header.position)
    first = first + across * column_spacing * (header.columns - size[1]) / 2 + down * row_spacing * (header.rows - size[0]) / 2
    return [tuple((first + normal * (spacing or 0.0) * index).tolist()) for index in range(count)]


def _csa(header: DicomHeader, data: Any) -> dict[str, Any]:
    """The entries of the CSA image header by name; empty where there is none."""
    if _CSA_IMAGE not in data:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nibabel warns that its package for Siemens is experimental
        from nibabel.nicom.csareader import CSAReadError, read

    value = data[_CSA_IMAGE].value
    if not isinstance(value, bytes) or len(value) > _LARGEST_CSA:
        return {}
    try:
        return dict(read(value)["tags"])
    except (*PARSE_ERRORS, CSAReadError) as error:
        raise _wrong(header, f"its CSA header cannot be read ({short_message(error)})") from error


def _tiles(header: DicomHeader, data: Any, csa: dict[str, Any]) -> int:
    for values in (csa.get("NumberOfImagesInMosaic", {}).get("items", []), [data[_TILES].value] if _TILES in data else []):
        try:
            count = int(values[0])
        except (LookupError, TypeError, ValueError):
            continue
        if 0 < count <= header.rows:
            return count
    raise _wrong(header, "it does not state NumberOfImagesInMosaic")


def _vector(csa: dict[str, Any], name: str) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    items = csa.get(name, {}).get("items", [])
    return np.array(items, dtype=np.float64) if len(items) == 3 else None


def _wrong(header: DicomHeader, problem: str) -> CorruptFileError:
    return CorruptFileError(
        f"{header.path}: a Siemens mosaic, but {problem}", remedy="Export it as single slices, or convert it with dcm2niix."
    )
