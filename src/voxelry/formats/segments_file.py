"""The file of segments that `predict` writes beside maps of ids: ``a.json`` of ``a.png``, with ``segments_info`` and the labels.

A map of ids says which voxels are one object, and nothing else. Where the file beside it names it, reading it as labels gives
both: the label of each object, and its id. Maps of labels that the file names take their names from it, where they hold none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.base.files import read_json, write_json
from voxelry.base.schema import parse
from voxelry.base.version import __version__
from voxelry.core.geometry import Geometry
from voxelry.core.labels import LabelTable
from voxelry.core.segment_info import SegmentInfo
from voxelry.core.volume import LabelMap, Source
from voxelry.errors import CorruptFileError, LabelError, VoxelryError
from voxelry.formats.table import stem_of

ENDING = ".json"
_MAPS, _LABEL_MAPS, _SEGMENTS, _TABLE = "id_maps", "label_maps", "segments_info", "label_table"


def write_segments(
    path: Path,
    task: str,
    table: LabelTable,
    segments: Iterable[SegmentInfo],
    id_maps: Sequence[Path] = (),
    label_maps: Sequence[Path] = (),
) -> Path:
    """Write what is known of each segment of a scan.

    Args:
        path: ends in ``.json``; replaced if it exists.
        task: instance or panoptic.
        table: the labels.
        segments: of the scan.
        id_maps: files beside it, of which each voxel is an id of `segments`, or 0.
        label_maps: files beside it, of which each voxel is a value of `table`, or 0.

    Returns:
        The path.
    """
    content = {
        "voxelry": __version__,
        "task": task,
        _MAPS: [file.name for file in id_maps],
        _LABEL_MAPS: [file.name for file in label_maps],
        "id2label": {str(value): name for value, name in table.id2label.items()},
        _TABLE: table.model_dump(mode="json", exclude_defaults=True),
        _SEGMENTS: [segment.as_dict() for segment in segments],
    }
    write_json(path, content)
    return path


def segments_beside(path: Path) -> dict[str, Any] | None:
    """The content of the file of segments that names a file as a map of their ids; None where there is none.

    Args:
        path: a file that may be a map of ids.
    """
    return _naming(path, _MAPS)


def table_beside(path: Path, values: Iterable[int]) -> LabelTable | None:
    """The labels of the file of segments that names a file as a map of labels; None without one, or where values are not theirs.

    Args:
        path: a file that may be a map of labels.
        values: which it holds.

    Raises:
        LabelError: the file of segments is damaged.
    """
    content = _naming(path, _LABEL_MAPS)
    table = None if content is None else parse(LabelTable, content.get(_TABLE), f"{path.name} ({_TABLE} beside it)")
    known = set() if table is None else {0, *(label.value for label in table.labels)}
    return table if known.issuperset(values) else None


def _naming(path: Path, key: str) -> dict[str, Any] | None:
    """The content of the file of segments beside a file which that names under a key."""
    file = path.with_name(f"{stem_of(path)}{ENDING}")
    if file == path or not file.is_file():
        return None
    try:
        content = read_json(file)
    except VoxelryError:
        return None  # of another program
    maps = content.get(key)
    return content if isinstance(maps, list) and path.name in maps else None


def labels_of_ids(
    ids: NDArray[np.uint32], geometry: Geometry, source: Source, content: dict[str, Any], table: LabelTable | None
) -> LabelMap:
    """The labels of a map of ids, with these.

    Args:
        ids: ``(*spatial)``.
        geometry: their grid.
        source: their file.
        content: of the file of segments beside it.
        table: meaning of the values; None takes the file's.

    Raises:
        CorruptFileError: the file of segments is damaged.
        LabelError: ids that it does not list, or labels that `table` does not know.
    """
    known = table or parse(LabelTable, content.get(_TABLE), f"{source.name} ({_TABLE} beside it)")
    try:
        rows = sorted((int(row["id"]), int(row["label_id"])) for row in content[_SEGMENTS])
    except (KeyError, TypeError, ValueError):
        raise CorruptFileError(
            f"{source.name}: the file of segments beside it has no {_SEGMENTS} of id and label_id", remedy="Predict it again."
        ) from None
    numbers = np.array([0, *(number for number, _ in rows)], np.uint32)
    values = np.array([0, *(value for _, value in rows)], np.uint16)
    places = np.searchsorted(numbers, ids).clip(max=len(numbers) - 1)
    unknown = np.unique(ids[numbers[places] != ids])
    if len(unknown):
        raise LabelError(
            f"{source.name}: ids {', '.join(map(str, unknown[:8].tolist()))} are not listed beside it",
            remedy="Keep the map and its file of segments as predict wrote them.",
        )
    known.check_values({value for _, value in rows}, source.name)
    return LabelMap(values[places][None], geometry, known, source, ids[None])
