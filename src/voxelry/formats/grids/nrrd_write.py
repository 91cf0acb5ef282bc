"""Writes NRRD label files: LPS, gzip, one grid; names, colours and codes in the header as Slicer's segment fields.

Sheared grids are written unchanged: an NRRD holds any three directions.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from isal import igzip
from numpy.typing import NDArray

from voxelry.base.distinct_names import distinct_names
from voxelry.base.files import atomic_path
from voxelry.core.catalogue import coded
from voxelry.core.geometry import Geometry, flip_lps_ras
from voxelry.core.label_boxes import Box, boxes
from voxelry.core.labels import Code, Label
from voxelry.core.volume import LabelMap
from voxelry.errors import ExportError
from voxelry.formats.ids_beside import smallest_ids, write_with_ids
from voxelry.formats.label_values import segment_layers

OBJECT_TAG = "Voxelry.Object"
"""A segment's tag that says which object of which label it is."""

KIND_TAG = "Voxelry.Kind"
"""A segment's tag that is ``thing`` where its label is (`Label.kind`)."""

NO_NOTES: Mapping[str, str] = MappingProxyType({})
_GZIP_LEVEL = 2
_CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list"
_ANATOMY = "Anatomic codes - DICOM master list"


def write_nrrd(labels: LabelMap, path: str | os.PathLike[str]) -> Path:
    """Write one layer of labels as NRRD, uint8 or uint16, on its own grid; its instance ids into a second file beside it.

    A picture is written as ``(columns, rows)`` with its pixel size where that is known. Names, colours and codes stand in the
    header as `write_seg_nrrd` writes them; voxels of the ignore value are background.

    Args:
        labels: one layer.
        path: ends in ``.nrrd``; replaced if it exists.

    Returns:
        The path.

    Raises:
        ExportError: several layers, another ending, or values outside 0..65535.
        LabelError: values that the table does not know.
    """
    if len(labels.layers) != 1:
        raise ExportError(
            f"{path}: labels overlap and lie on {len(labels.layers)} layers, a plain NRRD holds one", remedy="Write .seg.nrrd."
        )
    picture = labels.geometry.affine is None
    fields = segment_fields(labels, path)

    def save(target: Path, array: NDArray[Any], record: str, is_ids: bool) -> None:
        pairs = {} if is_ids else fields
        save_nrrd(target, array.T if picture else array, labels.geometry, pairs, comment=record)

    return write_with_ids(labels, segment_layers(labels, path)[0], _checked(Path(path)), save)


def write_nrrd_ids(ids: NDArray[np.uint32], geometry: Geometry, path: Path) -> Path:
    """Write ids of objects as NRRD, uint16 or where needed uint32; of a picture as ``(columns, rows)``.

    Args:
        ids: ``(*spatial)``.
        geometry: their grid.
        path: ends in ``.nrrd``; replaced if it exists.

    Raises:
        ExportError: another ending.
    """
    stored = smallest_ids(ids)
    return save_nrrd(path, stored.T if geometry.affine is None else stored, geometry, {})


def save_nrrd(
    path: Path, array: NDArray[np.unsignedinteger], geometry: Geometry, pairs: Mapping[str, str], comment: str = ""
) -> Path:
    """Write an array with its header.

    Args:
        path: ends in ``.nrrd``.
        array: first axis fastest; a leading axis beyond those of the grid is a list.
        geometry: the grid of the last axes.
        pairs: key/value pairs; values in UTF-8 on one line.
        comment: a line of the header.

    Raises:
        ExportError: another ending.
    """
    _checked(path)
    lists = array.ndim - geometry.ndim
    lines = [
        "NRRD0005",
        "# Complete NRRD file format specification at:",
        "# http://teem.sourceforge.net/nrrd/format.html",
        *([f"# {comment}"] if comment else []),
        f"type: {array.dtype.newbyteorder('=').name}",
        f"dimension: {array.ndim}",
        *_grid_fields(geometry, lists),
        f"sizes: {' '.join(map(str, array.shape))}",
        f"kinds: {' '.join(['list'] * lists + ['domain'] * geometry.ndim)}",
        "endian: little",
        "encoding: gzip",
        *(f"{key}:={value}" for key, value in pairs.items()),
    ]
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(("\n".join(lines) + "\n\n").encode())
        with igzip.IGzipFile(filename="", mode="wb", fileobj=file, compresslevel=_GZIP_LEVEL, mtime=0) as packed:
            packed.write(little.tobytes(order="F"))
    return path


def _checked(path: Path) -> Path:
    if not path.name.lower().endswith(".nrrd"):
        raise ExportError(f"{path}: an NRRD file ends in .nrrd", remedy="Change the name.")
    return path


def _grid_fields(geometry: Geometry, lists: int) -> list[str]:
    """The grid in LPS mm, or a picture's pixel size where it is known."""
    if geometry.affine is None:
        if geometry.pixel_size is None:
            return []
        between_rows, between_columns = geometry.pixel_size
        return [f"spacings: {between_columns!r} {between_rows!r}", 'units: "mm" "mm"']
    affine = flip_lps_ras(geometry.affine)
    directions = ["none"] * lists + [_vector(affine[:3, axis]) for axis in range(3)]
    return [
        "space: left-posterior-superior",
        f"space directions: {' '.join(directions)}",
        f"space origin: {_vector(affine[:3, 3])}",
    ]


def _vector(values: NDArray[np.float64]) -> str:
    return f"({','.join(repr(float(value) + 0.0) for value in values)})"


def segment_fields(labels: LabelMap, path: str | os.PathLike[str], notes: Mapping[str, str] = NO_NOTES) -> dict[str, str]:
    """The header fields by which Slicer knows its segments: name, value, layer, colour, extent, terminology.

    Args:
        labels: the map.
        path: the file they go to, for messages.
        notes: text that becomes a tag `OBJECT_TAG` of the label of that name.

    Raises:
        LabelError: values that the table does not know.
    """
    fields = {
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    table = coded(labels.table).labels
    names = distinct_names([_line(label.name) for label in table], range(1, len(table) + 1))
    for number, (label, name, (_, box)) in enumerate(zip(table, names, boxes(labels, path), strict=True)):
        about = {"ID": f"Segment_{number + 1}", "Name": name} | _about(label, box, labels.geometry.ndim)
        about["Tags"] += f"{OBJECT_TAG}:{_line(notes[label.name])}|" if label.name in notes else ""
        fields |= {f"Segment{number}_{key}": value for key, value in about.items()}
    return fields


def _about(label: Label, box: Box | None, ndim: int) -> dict[str, str]:
    """One segment's fields."""
    sides: Sequence[slice] = box if box is not None else [slice(0, 0)] * ndim
    sides = [*(sides if ndim == 3 else sides[::-1]), slice(0, 1)][:3]
    kind = f"{KIND_TAG}:thing|" if label.kind == "thing" else ""
    return {
        "NameAutoGenerated": "0",
        "LabelValue": str(label.value),
        "Layer": str(label.layer),
        "Color": " ".join(f"{channel / 255:.6g}" for channel in label.rgb),
        "ColorAutoGenerated": "0" if label.color else "1",
        "Extent": " ".join(f"{side.start} {side.stop - 1}" for side in sides),
        "Tags": f"Segmentation.Status:completed|TerminologyEntry:{_terminology(label)}|{kind}",
    }


def _terminology(label: Label) -> str:
    """Slicer's serialised terminology entry: context~category~type~modifier~anatomy context~region~region modifier."""
    codes = [_code(label.category), _code(label.type), _code(label.modifier)]
    return "~".join([_CONTEXT, *codes, _ANATOMY, "^^", "^^"])


def _code(code: Code | None) -> str:
    return "^^" if code is None else "^".join(_line(word) for word in (code.scheme, code.value, code.meaning))


def _line(text: str) -> str:
    """A text on one line, without the characters that separate entries."""
    return " ".join("".join(" " if letter in "|~^&\\" or not letter.isprintable() else letter for letter in text).split())
