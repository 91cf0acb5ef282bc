"""Siemens mosaics: the slices of a volume as tiles of one image.

The number of tiles, the direction in which slices follow each other and, where DICOM's elements lack them, more of the kind is
kept in Siemens' private CSA header. ImagePositionPatient is where the first pixel of the whole mosaic would lie if the mosaic
were one slice of that pixel size around the middle of the first; the first tile therefore begins half of the difference in size
further along rows and columns (as in nibabel's documentation, "Siemens mosaic").
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
        header: of the file.
        data: its elements up to the pixels.

    Returns:
        The slices in the order of acquisition along the CSA header's SliceNormalVector.

    Raises:
        CorruptFileError: no number of tiles is stated, or it does not divide the image.
    """
    csa = _csa(header, data)
    count = _tiles(header, data, csa)
    side = math.ceil(math.sqrt(count))
    if header.rows % side or header.columns % side:
        raise _wrong(header, f"{count} tiles do not divide {header.rows} x {header.columns} pixels")
    rows, columns = header.rows // side, header.columns // side
    places = _positions(header, csa, (rows, columns), count)
    return tuple(
        replace(
            header,
            rows=rows,
            columns=columns,
            mosaic=(header.rows, header.columns),
            tile=(index // side * rows, index % side * columns),
            position=places[index],
            instance_number=f"{header.instance_number}.{index + 1}",
        )
        for index in range(count)
    )


def _positions(header: DicomHeader, csa: dict[str, Any], size: tuple[int, int], count: int) -> list[tuple[float, ...]]:
    """Per tile the position of its first pixel, LPS+ mm."""
    if header.position is None or header.orientation is None or header.pixel_spacing is None:
        raise _wrong(header, "it states no position, orientation or pixel spacing")
    across, down = np.array(header.orientation).reshape(2, 3)
    normal = _vector(csa, "SliceNormalVector")
    if normal is None:
        raise _wrong(header, "its CSA header has no SliceNormalVector")
    step = header.spacing_between
    if count > 1 and not step:  # the thickness would be wrong wherever slices have gaps between them
        raise _wrong(header, "it does not state SpacingBetweenSlices")
    between_rows, between_columns = header.pixel_spacing
    first = np.array(header.position)
    first = first + across * between_columns * (header.columns - size[1]) / 2 + down * between_rows * (header.rows - size[0]) / 2
    return [tuple((first + normal * (step or 0.0) * index).tolist()) for index in range(count)]


def _csa(header: DicomHeader, data: Any) -> dict[str, Any]:
    """The tags of the CSA image header, by name; empty where there is none."""
    if _CSA_IMAGE not in data:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nibabel calls its whole package for Siemens experimental
        from nibabel.nicom.csareader import CSAReadError, read

    value = data[_CSA_IMAGE].value
    if not isinstance(value, bytes) or len(value) > _LARGEST_CSA:
        return {}
    try:
        return dict(read(value)["tags"])
    except (*PARSE_ERRORS, CSAReadError) as error:
        raise _wrong(header, f"its CSA header cannot be read ({short_message(error)})") from error


def _tiles(header: DicomHeader, data: Any, csa: dict[str, Any]) -> int:
    for found in (csa.get("NumberOfImagesInMosaic", {}).get("items", []), [data[_TILES].value] if _TILES in data else []):
        try:
            count = int(found[0])
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
