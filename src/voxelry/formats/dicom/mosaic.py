"""Mosaics of Siemens and UIH: splits an image whose tiles are the slices of a volume into planes.

Tiles lie row by row, as many in a row as the side of the smallest square that holds all.

UIH (ImageType VFRAME) states the position of each tile in a private sequence, and leaves out empty rows of tiles.

Siemens (ImageType MOSAIC) has the number of tiles and the direction from slice to slice in its private CSA header.
ImagePositionPatient is the position that the first pixel would have if the whole mosaic were one slice, of the same pixel size,
centred on the first slice; the first tile therefore starts half of the difference in size further along rows and columns
(nibabel's documentation, "Siemens mosaic").
"""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pydicom
from pydicom.values import convert_SQ

from voxelry.errors import CorruptFileError
from voxelry.formats.dicom.elements import PARSE_ERRORS, numbers_of, short_message
from voxelry.formats.dicom.header import DicomHeader

_CSA_IMAGE = (0x0029, 0x1010)
_TILES = (0x0019, 0x100A)
"""The number of tiles, beside the CSA header, in newer files."""

_LARGEST_CSA = 2**20
_UIH_GROUP, _UIH_CREATOR = 0x0065, "Image Private Header"
_UIH_TILES = 0x51
"""The private sequence of UIH that has an item with the position of each tile, (0065,1051)."""


def expand_mosaic(header: DicomHeader, data: Any) -> tuple[DicomHeader, ...]:
    """A header for each tile.

    Args:
        header: the file's header.
        data: its elements before the pixels.

    Returns:
        The slices in their stored order; of Siemens along the CSA header's SliceNormalVector. `header` alone where an image of
        UIH has no positions of tiles but one of its own.

    Raises:
        CorruptFileError: the number of tiles is missing, or does not divide the image.
    """
    if "MOSAIC" not in header.image_type:
        tiles = _uih_positions(header, data)
        return _planes(header, tiles, (-(-len(tiles) // _side(len(tiles))), _side(len(tiles)))) if tiles else (header,)
    csa = _csa(header, data)
    count = _tiles(header, data, csa)
    grid = (_side(count), _side(count))
    return _planes(header, _positions(header, csa, _tile_size(header, grid, count), count), grid)


def _side(count: int) -> int:
    """The side of the smallest square that holds so many tiles."""
    return math.ceil(math.sqrt(count))


def _tile_size(header: DicomHeader, grid: tuple[int, int], count: int) -> tuple[int, int]:
    """Rows and columns of a tile.

    Raises:
        CorruptFileError: the tiles do not divide the image.
    """
    if header.rows % grid[0] or header.columns % grid[1]:
        raise _wrong(header, f"{count} tiles do not divide {header.rows} x {header.columns} pixels")
    return header.rows // grid[0], header.columns // grid[1]


def _planes(header: DicomHeader, positions: list[tuple[float, ...]], grid: tuple[int, int]) -> tuple[DicomHeader, ...]:
    """A header for each tile of a grid of rows and columns of tiles."""
    count, side = len(positions), grid[1]
    rows, columns = _tile_size(header, grid, count)
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


def _uih_positions(header: DicomHeader, data: Any) -> list[tuple[float, ...]]:
    """The position of each tile's first pixel, LPS+ mm; none where the image has a position of its own and no tiles.

    Raises:
        CorruptFileError: a tile without a position, or no tiles and no position.
    """
    items = _uih_items(header, data)
    if not items and header.position is not None:
        return []
    positions = [numbers_of(item, "ImagePositionPatient", 3) for item in items]
    if not positions or None in positions:
        raise _wrong(header, "it does not state the positions of its tiles in (0065,1051)")
    return [position for position in positions if position is not None]


def _uih_items(header: DicomHeader, data: Any) -> Any:
    """The items of UIH's private sequence, whatever value representation it is stored with; none where there is none."""
    try:
        tag = data.private_block(_UIH_GROUP, _UIH_CREATOR).get_tag(_UIH_TILES)
    except KeyError:  # the creator was removed
        tag = pydicom.tag.Tag(_UIH_GROUP, 0x1000 | _UIH_TILES)
    try:
        value = data[tag].value if tag in data else []
        return convert_SQ(value, is_implicit_VR=True, is_little_endian=True) if isinstance(value, bytes) else value
    except PARSE_ERRORS as error:
        raise _wrong(header, f"its positions of tiles cannot be read ({short_message(error)})") from error


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
    maker = "Siemens" if "MOSAIC" in header.image_type else "UIH"
    return CorruptFileError(
        f"{header.path}: a {maker} mosaic, but {problem}", remedy="Export it as single slices, or convert it with dcm2niix."
    )
