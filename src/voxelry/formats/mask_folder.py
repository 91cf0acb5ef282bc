"""Reads a folder with one mask file for each structure, as TotalSegmentator writes them, as one LabelMap."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Source
from voxelry.errors import GridMismatchError, LabelError, MissingFileError
from voxelry.formats.detection import header_beside
from voxelry.formats.ids_beside import is_ids_file
from voxelry.formats.label_layers import SegmentBox, clean_name, match_segments, stack_segments, unique_names
from voxelry.formats.table import label_formats, stem_of

KIND = "mask-folder"
"""Name of the Source of such a map."""


def mask_files(folder: Path) -> list[Path]:
    """The mask files that lie in a folder, by name; none where it is no folder.

    Files of every format that is read as labels count, but DICOM, whose folders are series; pictures count only where no volume
    lies beside them, since such are previews of it.
    """
    if not folder.is_dir():
        return []
    visible = [file for file in sorted(folder.iterdir()) if not file.name.startswith(".") and header_beside(file) == file]
    visible = [file for file in visible if not is_ids_file(file)]
    volumes, pictures = _endings()
    masks = [file for file in visible if file.name.lower().endswith(volumes)]
    return masks or [file for file in visible if file.name.lower().endswith(pictures)]


def _endings() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The endings of mask files: of formats that hold volumes, and of those of pictures alone."""
    formats = [row for row in label_formats() if row.family != "dicom"]
    volumes = tuple(ending for row in formats if not row.is_picture for ending in row.own_endings)
    return volumes, tuple(ending for row in formats if row.is_picture for ending in row.own_endings)


def read_mask_folder(path: str | os.PathLike[str], table: LabelTable | None, read: Callable[[Path], LabelMap]) -> LabelMap:
    """Read a folder of masks as one map.

    Args:
        path: the folder; each file is one structure, inside wherever it is not 0.
        table: labels of the structures, matched by name; None names them after their files and numbers them from 1; names that
            come out equal get their number appended.
        read: reads one file.

    Returns:
        A LabelMap on the grid of the first file, on several layers where masks overlap.

    Raises:
        MissingFileError: no mask in the folder.
        GridMismatchError: files on different grids.
        LabelError: a file with several labels, one that `table` does not know, or two files of one label of it.
        ReadError: a file that cannot be read.
    """
    folder = Path(path)
    files = mask_files(folder)
    if not files:
        endings = ", ".join(ending for endings in _endings() for ending in endings)
        raise MissingFileError(f"{folder}: holds no mask file", remedy=f"Files ending in {endings} are looked for.")
    plain = {number: Label(value=number, name=clean_name(stem_of(file), number)) for number, file in enumerate(files, start=1)}
    labels = unique_names(plain) if table is None else match_segments(plain, table, str(folder))
    if table is not None:
        _check_each_its_own(labels, files)
    remarks = [
        f"{file.name} is called '{labels[number].name}': another file comes to the same name"
        for number, file in enumerate(files, start=1)
        if table is None and labels[number].name != plain[number].name
    ]
    grid = None
    boxes: dict[int, list[SegmentBox]] = {}
    for number, file in enumerate(files, start=1):
        mask = read(file)
        grid = grid or mask.geometry
        if mask.geometry.reindexing_to(grid) is None:
            raise GridMismatchError(
                f"{file}: its grid ({mask.geometry.describe()}) is not that of {files[0].name} ({grid.describe()})",
                remedy="Convert the files one by one.",
            )
        if len(mask.table) > 1:
            raise LabelError(
                f"{file}: holds {len(mask.table)} labels; in a folder each file is one structure", remedy="Convert it by itself."
            )
        boxes[number] = mask_boxes(mask.on_grid(grid))
    assert grid is not None
    return stack_segments(boxes, grid, labels, table, Source(KIND, tuple(map(str, files)), remarks=tuple(remarks)))


def _check_each_its_own(labels: Mapping[int, Label], files: Sequence[Path]) -> None:
    """Refuse two files of one label of a table.

    Raises:
        LabelError: naming both.
    """
    first: dict[str, Path] = {}
    for file, label in zip(files, labels.values(), strict=True):
        other = first.setdefault(label.name, file)
        if other is not file:
            raise LabelError(
                f"{file}: is label '{label.name}' of the table, and so is {other.name}",
                remedy="In a folder each file is one structure: remove one.",
            )


def mask_boxes(mask: LabelMap) -> list[SegmentBox]:
    """The smallest box that holds the mask, none where it is empty."""
    inside = mask.array != 0
    if not inside.any():
        return []
    ends = [np.flatnonzero(inside.any(axis=tuple(a for a in range(inside.ndim) if a != axis))) for axis in range(inside.ndim)]
    box = tuple(slice(int(indices[0]), int(indices[-1]) + 1) for indices in ends)
    return [SegmentBox(tuple(indices.start for indices in box), inside[box].copy())]
