"""Reads a mask with what lies beside it: segments that say what its ids are, scores of objects, a map of confidence.

A mask whose values are ids of objects (``predict --task instance``) is read by the segments beside it: ``<case id>.json`` or
``<case id>.segments.json``, whose key ``segments_info`` lists mappings with ``id``, ``label``, ``label_id``, ``kind``, ``score``.
Without them its objects are those of the only thing of the reference's labels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError

from voxelry.base.files import read_json
from voxelry.base.listing import shown
from voxelry.base.schema import Frozen
from voxelry.cohort.folder_search import case_id
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Source, Volume
from voxelry.errors import CorruptFileError, LabelError, UnsupportedFormatError
from voxelry.formats.id_map import read_ids
from voxelry.formats.object_ids import from_mask_ids
from voxelry.formats.reader import read, read_labels
from voxelry.metrics.aligned_pair import is_numbered
from voxelry.metrics.predicted_map import PredictedMap

log = logging.getLogger(__name__)

_ENDINGS = (".segments.json", ".json")


class StoredSegment(Frozen, extra="ignore"):
    """A segment of a file of segments; other keys are passed over."""

    id: int = Field(ge=1)
    label: str
    label_id: int | None = None
    kind: Literal["thing", "stuff"] = "thing"
    score: float | None = Field(default=None, allow_inf_nan=False)


_SEGMENTS = TypeAdapter(tuple[StoredSegment, ...])


def segments_beside(mask: Path) -> tuple[StoredSegment, ...] | None:
    """The segments that a file beside a mask lists; None where there is no such file.

    Raises:
        CorruptFileError: a list of segments without ids and labels, or an id twice.
    """
    for ending in _ENDINGS:
        file = mask.parent / f"{case_id(mask)}{ending}"
        if file == mask or not file.is_file():
            continue
        rows = read_json(file).get("segments_info")
        if rows is None:
            continue
        try:
            segments = _SEGMENTS.validate_python(rows)
        except ValidationError as error:
            place = ".".join(str(step) for step in error.errors()[0]["loc"])
            raise CorruptFileError(
                f"{file}: segment {place}: {error.errors()[0]['msg']}", remedy="Each segment has an id and the name of its label."
            ) from error
        ids = [segment.id for segment in segments]
        if len(set(ids)) < len(ids):
            raise CorruptFileError(f"{file}: lists an id twice", remedy="Give each segment an id of its own.")
        return segments
    return None


def scores_beside(mask: Path) -> dict[int, float] | None:
    """Id -> score of the segments beside a mask; None where there is no list of segments, or none of them has a score."""
    segments = segments_beside(mask)
    scores = {segment.id: segment.score for segment in segments or () if segment.score is not None}
    return scores if scores or segments == () else None


def confidence_beside(mask: Path) -> Volume | None:
    """The map of the probability of the predicted class, as ``predict --confidence probability`` writes it beside a mask."""
    file = mask.parent / f"{case_id(mask)}.probability.nii.gz"
    return read(file) if file.is_file() else None


def read_predicted(mask: Path, table: LabelTable) -> PredictedMap:
    """A mask with all that lies beside it; the labels to expect are those of `table`. Raises as `read_objects`."""
    return PredictedMap(read_objects(mask, partial(read_labels, mask), table), scores_beside(mask), confidence_beside(mask))


def read_objects(mask: Path, read_mask: Callable[[], LabelMap], table: LabelTable | None = None) -> LabelMap:
    """A mask as labels, with instance ids where its values are ids.

    Args:
        mask: its file.
        read_mask: reads it as labels.
        table: the reference's labels; None where they are not known.

    Raises:
        LabelError: ids of objects without a label, where the reference has several.
        CorruptFileError: as `segments_beside`.
        ReadError: as `voxelry.read_labels`.
    """
    segments = segments_beside(mask)
    things = table is not None and any(label.kind == "thing" for label in table.labels)
    if segments is None and not things:
        return read_mask()
    labels = _labels_or_none(read_mask)
    if labels is not None and (labels.instances is not None or not is_numbered(labels.table)):
        return labels
    try:
        ids, geometry, source = read_ids(mask)
    except (UnsupportedFormatError, LabelError):
        return labels or read_mask()
    values = set(np.unique(ids).tolist()) - {0}
    fits = table is None or values <= {label.value for label in table.labels} | {table.ignore}
    if segments is not None:
        is_ids = _are_ids(values, segments)
        return _of_segments(ids, geometry, source, segments, table) if is_ids or labels is None or not fits else labels
    assert table is not None
    if labels is not None and fits:
        return labels
    log.info("%s: its values are ids of %d objects", mask, len(values))
    return from_mask_ids(ids, geometry, table.model_copy(update={"ignore": None}), source)  # each value is an id


def _labels_or_none(read_mask: Callable[[], LabelMap]) -> LabelMap | None:
    """The mask as labels; None where its values are no labels, as ids of many objects."""
    try:
        return read_mask()
    except LabelError:
        return None


def _are_ids(values: set[int], segments: Sequence[StoredSegment]) -> bool:
    """Whether a mask's values are the ids of segments, and not the values of their labels."""
    ids = {segment.id for segment in segments}
    labels = {segment.label_id for segment in segments}
    return values <= ids and (not values <= labels or values == ids)


def _of_segments(
    ids: NDArray[np.uint32], geometry: Geometry, source: Source, segments: Sequence[StoredSegment], table: LabelTable | None
) -> LabelMap:
    """Labels and instance ids of a mask of segments; of stuff there are no instance ids.

    Raises:
        LabelError: an id without a segment.
    """
    rows = sorted(segments, key=lambda segment: segment.id)
    known = np.array([0, *(segment.id for segment in rows)], dtype=np.int64)
    place = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    unknown = np.unique(ids[known[place] != ids])
    if unknown.size:
        raise LabelError(
            f"{source.name}: ids {shown([str(value) for value in unknown])} are not among the {len(rows)} segments beside it",
            remedy="Give each id of the mask a segment with its label.",
        )
    names = _table_of(rows, table)
    values = np.array([0, *(names[segment.label].value for segment in rows)], dtype=np.uint16)
    kept = np.array([0, *(segment.id if names[segment.label].kind == "thing" else 0 for segment in rows)], dtype=np.uint32)
    return LabelMap(values[place][None], geometry, names, source, kept[place][None])


def _table_of(segments: Sequence[StoredSegment], table: LabelTable | None) -> LabelTable:
    """The reference's table where it knows all labels, else one of the segments' own."""
    labels = {segment.label: segment for segment in segments}
    if table is not None and set(labels) <= set(table.names):
        return LabelTable(labels=tuple(label.model_copy(update={"layer": 0}) for label in table.labels), ignore=table.ignore)
    return LabelTable(
        labels=tuple(Label(value=number, name=name, kind=labels[name].kind) for number, name in enumerate(labels, start=1))
    )
