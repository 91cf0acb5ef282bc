"""Reads a mask with what lies beside it: segments that say what its ids are, scores of objects, a map of confidence.

A mask whose values are ids of objects (``predict --task instance``) is read by the segments beside it: ``<case id>.json`` or
``<case id>.segments.json``, whose key ``segments_info`` lists mappings with ``id``, ``label``, ``label_id``, ``kind``, ``score``;
or, as Hugging Face and COCO's panoptic form have it, ``label_id`` or ``category_id`` alone, which are named by ``id2label`` or
``categories`` of the file, or else are values of the reference's labels. Without segments its objects are those of the only thing
of the reference's labels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AliasChoices, Field, TypeAdapter, ValidationError

from voxelry.base.files import read_json
from voxelry.base.listing import shown
from voxelry.base.schema import Frozen
from voxelry.cohort.folder_search import case_id
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Source, Volume
from voxelry.errors import CorruptFileError, LabelError, UnsupportedFormatError
from voxelry.formats.detection import detect
from voxelry.formats.id_map import read_ids
from voxelry.formats.object_ids import from_mask_ids
from voxelry.formats.pictures.coco_read import open_coco
from voxelry.formats.reader import read, read_labels
from voxelry.metrics.aligned_pair import is_numbered
from voxelry.metrics.predicted_map import PredictedMap

log = logging.getLogger(__name__)

Names = Mapping[int | None, tuple[str, str]]
"""Label id -> name, and whether it is a thing or stuff."""

_ENDINGS = (".segments.json", ".json")


class StoredSegment(Frozen, extra="ignore"):
    """A segment of a file of segments; other keys are passed over."""

    id: int = Field(ge=1)
    label: str = ""
    label_id: int | None = Field(default=None, validation_alias=AliasChoices("label_id", "category_id"))
    kind: Literal["thing", "stuff"] = "thing"
    score: float | None = Field(default=None, allow_inf_nan=False)
    was_fused: bool = False


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
        content = read_json(file)
        rows = content.get("segments_info")
        if rows is None:
            continue
        try:
            segments = _with_names(_SEGMENTS.validate_python(rows), _names_of(content))
        except ValidationError as error:
            place = ".".join(str(step) for step in error.errors()[0]["loc"])
            raise CorruptFileError(
                f"{file}: segment {place}: {error.errors()[0]['msg']}", remedy="Each segment has an id and its label."
            ) from error
        nameless = [segment.id for segment in segments if not segment.label and not segment.label_id]
        if nameless:
            raise CorruptFileError(
                f"{file}: segment {nameless[0]} has no label",
                remedy="Give each its `label`, or a `label_id` that `id2label` of the file names.",
            )
        return _once_each(segments, file)
    return None


def _once_each(segments: Sequence[StoredSegment], file: Path) -> tuple[StoredSegment, ...]:
    """Segments, of fused ones the surest: Hugging Face lists them once for each that went into them.

    Raises:
        CorruptFileError: another id that stands twice.
    """
    by_id: dict[int, StoredSegment] = {}
    for segment in segments:
        known = by_id.setdefault(segment.id, segment)
        is_same = known is segment or (known.was_fused and segment.was_fused and known.label_id == segment.label_id)
        if not is_same:
            raise CorruptFileError(f"{file}: lists an id twice ({segment.id})", remedy="Give each segment an id of its own.")
        by_id[segment.id] = max(known, segment, key=lambda each: -1.0 if each.score is None else each.score)
    return tuple(by_id.values())


def _names_of(content: Mapping[str, Any]) -> Names:
    """The labels that a file lists in ``categories`` or ``id2label``; nothing where it has neither, or a damaged one."""
    try:
        if "categories" in content:
            return {
                int(row["id"]): (str(row["name"]), "thing" if row.get("isthing", 1) else "stuff") for row in content["categories"]
            }
        return {int(number): (str(name), "thing") for number, name in content.get("id2label", {}).items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _with_names(segments: Sequence[StoredSegment], names: Names) -> tuple[StoredSegment, ...]:
    """Segments, of which those without a name have that of their label's id, where it is known."""
    return tuple(_called(segment, names.get(segment.label_id)) for segment in segments)


def _called(segment: StoredSegment, name: tuple[str, str] | None) -> StoredSegment:
    if segment.label or name is None:
        return segment
    return segment.model_copy(update={"label": name[0], "kind": name[1]})


def scores_beside(mask: Path, picture: str | None = None) -> dict[int, float] | None:
    """Id -> score of the segments beside a mask, or of the objects of a COCO file; None where none of them has a score.

    Args:
        mask: its file.
        picture: which picture of a COCO file of several.
    """
    segments = segments_beside(mask)
    if segments is None and detect(mask).name == "coco":
        annotations = open_coco(mask)
        return annotations.scores_of(annotations.picture(picture))
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
    names: dict[int | None, tuple[str, str]] = {row.label_id: (f"label_{row.label_id}", row.kind) for row in segments}
    names |= {} if table is None else {label.value: (label.name, label.kind) for label in table.labels}
    rows = sorted(_with_names(segments, names), key=lambda segment: segment.id)
    known = np.array([0, *(segment.id for segment in rows)], dtype=np.int64)
    place = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    unknown = np.unique(ids[known[place] != ids])
    if unknown.size:
        raise LabelError(
            f"{source.name}: ids {shown([str(value) for value in unknown])} are not among the {len(rows)} segments beside it",
            remedy="Give each id of the mask a segment with its label.",
        )
    labels = _table_of(rows, table)
    values = np.array([0, *(labels[segment.label].value for segment in rows)], dtype=np.uint16)
    kept = np.array([0, *(segment.id if labels[segment.label].kind == "thing" else 0 for segment in rows)], dtype=np.uint32)
    return LabelMap(values[place][None], geometry, labels, source, kept[place][None])


def _table_of(segments: Sequence[StoredSegment], table: LabelTable | None) -> LabelTable:
    """The reference's table where it knows all labels, else one of the segments' own."""
    labels = {segment.label: segment for segment in segments}
    if table is not None and set(labels) <= set(table.names):
        return LabelTable(labels=tuple(label.model_copy(update={"layer": 0}) for label in table.labels), ignore=table.ignore)
    is_value = all(name == f"label_{segment.label_id}" for name, segment in labels.items())
    return LabelTable(
        labels=tuple(
            Label(value=segment.label_id if is_value and segment.label_id else number, name=name, kind=segment.kind)
            for number, (name, segment) in enumerate(labels.items(), start=1)
        )
    )
