"""Tables of follow-ups: a row for each label and lesion at each date, and a summary of each patient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from voxelry.cohort.follow_up_lesions import DatedChange, FollowUp
from voxelry.metrics.measurement_columns import COLUMNS, measurement_rows

SCHEMA = 1
"""Version of the JSON of a follow-up."""

_TYPES: dict[type, Any] = {str: pl.String, int: pl.Int64, float: pl.Float64, bool: pl.Boolean}
_MEASURED = {name: kind for name, kind in COLUMNS.items() if name not in ("instance", "kind")}
ROW_TYPES: dict[str, Any] = {
    "patient": pl.String, "examination": pl.String, "date": pl.Date, "days": pl.Int64, "lesion": pl.Int64,
    "tracking_uid": pl.String, "change": pl.String, "came_from": pl.String, "volume_change": pl.Float64,
    **{name: _TYPES[kind] for name, kind in _MEASURED.items()},
}  # fmt: skip
"""Column -> polars type of `follow_up_rows`."""


def follow_up_rows(patient: str, course: FollowUp) -> list[dict[str, Any]]:
    """A row for each lesion and each other label, at each date.

    Args:
        patient: the first column.
        course: the patient over time.

    Returns:
        Rows with the keys of `ROW_TYPES`: ``days`` since the first date; ``lesion``, the number that stays with it, None for
        other labels; ``change`` since the previous date (``kept``, ``new``, ``split``, ``merged``, ``rearranged``; ``gone`` once,
        with 0 voxels); ``came_from``, the lesions that it was; ``volume_change``, of all that the change joins, as a share of
        the previous volume; and the measurements of `voxelry.metrics.measurement_rows`.
    """
    rows, previous = list[dict[str, Any]](), dict[str, float]()
    start = course.examinations[0].date
    for place, each in enumerate(course.examinations):
        about = {"patient": patient, "examination": each.name, "date": each.date, "days": (each.date - start).days}
        changes = [change for change in course.changes if change.later == place]
        by_lesion = {number: change for change in changes for number in change.change.second}
        uids = {number: uid for number, _, uid in each.labels.source.tracking}
        names = {label.name for label in each.labels.table.labels if label.kind == "thing"}
        for measured in measurement_rows(each.labels, each.volume):
            label, lesion = measured["label"], measured["instance"] or None
            if label in names and lesion is None:
                continue  # a lesion label without a lesion
            row = dict.fromkeys(ROW_TYPES) | about | {name: measured[name] for name in _MEASURED}
            if lesion is not None:
                row |= {"lesion": lesion, "tracking_uid": uids[lesion]} | _told(by_lesion.get(lesion))
            else:
                row["volume_change"] = _share(previous.get(label), measured["volume_mm3"])
                previous[label] = measured["volume_mm3"]
            rows.append(row)
        rows += [
            _gone(about, change, number) for change in changes if change.change.kind == "gone" for number in change.change.first
        ]
    uids = {row["lesion"]: row["tracking_uid"] for row in rows if row["tracking_uid"]}
    return [row | {"tracking_uid": uids.get(row["lesion"])} for row in rows]


def _told(change: DatedChange | None) -> dict[str, Any]:
    if change is None:
        return {}
    came_from = " ".join(map(str, change.change.first)) or None
    return {"change": change.change.kind, "came_from": came_from, "volume_change": change.change.growth}


def _gone(about: dict[str, Any], change: DatedChange, number: int) -> dict[str, Any]:
    values = {"lesion": number, "label": change.label, "change": "gone", "came_from": str(number), "volume_change": -1.0}
    return dict.fromkeys(ROW_TYPES) | about | values | {"voxels": 0, "volume_mm3": 0.0}


def _share(before: float | None, after: float) -> float | None:
    return after / before - 1 if before else None


def follow_up_summary(patient: str, course: FollowUp, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a follow-up found as plain data, for JSON: dates with lesions, volume and sum of long axes; transforms; changes."""
    dates = []
    for each in course.examinations:
        lesions = [row for row in rows if row["date"] == each.date and row["lesion"] and row["voxels"]]
        dates.append(
            {
                "examination": each.name,
                "date": each.date.isoformat(),
                "lesions": len(lesions),
                "lesion_volume_mm3": sum(row["volume_mm3"] for row in lesions),
                "sum_of_long_axes_mm": sum(row["long_axis_mm"] for row in lesions),
            }
        )
    transforms = [
        {
            "examination": each.name,
            "kind": registration.kind,
            "from_first_ras_mm": registration.matrix.tolist(),
            "mutual_information": registration.similarity,
            "rotation_degrees": registration.rotation_degrees,
            "volume_ratio": registration.volume_ratio,
        }
        for each, registration in zip(course.examinations[1:], course.registrations, strict=True)
    ]
    return {"patient": patient, "examinations": dates, "transforms": transforms, "changes": _changes(course)}


def _changes(course: FollowUp) -> list[dict[str, Any]]:
    days = [each.date.isoformat() for each in course.examinations]
    return [
        {
            "from": days[dated.later - 1],
            "to": days[dated.later],
            "label": dated.label,
            "change": dated.change.kind,
            "lesions_before": list(dated.change.first),
            "lesions_after": list(dated.change.second),
            "volume_before_mm3": dated.change.first_volume_mm3,
            "volume_after_mm3": dated.change.second_volume_mm3,
            "volume_change": dated.change.growth,
        }
        for dated in course.changes
    ]
