"""Rows and summary of a follow-up, by boxes whose volumes are known."""

import json
from datetime import date

import numpy as np
import polars as pl
import pytest

from voxelry.cohort.follow_up_lesions import Examination, compare_dates
from voxelry.cohort.follow_up_table import ROW_TYPES, follow_up_rows, follow_up_summary
from voxelry.cohort.registration import Registration
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Volume

GRID = Geometry.from_spacing((30, 10, 6), (2, 1, 1))
TABLE = LabelTable(labels=(Label(value=1, name="organ"), Label(value=2, name="lesion", kind="thing")))


@pytest.fixture
def course(monkeypatch):
    """Lesion 1 doubles, lesion 2 vanishes, lesion 3 comes; the organ shrinks to make room."""
    monkeypatch.setattr(
        "voxelry.cohort.follow_up_lesions.register", lambda fixed, moving, kind: Registration(np.eye(4), kind, 1.0, 0.5)
    )
    examinations = []
    for day, places in ((date(2026, 1, 1), [(2, 6), (20, 23)]), (date(2026, 3, 2), [(2, 10), (27, 29)])):
        array = np.ones(GRID.shape, np.uint8)
        ids = np.zeros(GRID.shape, np.uint32)
        for id, (first, end) in enumerate(places, start=1):
            array[first:end, 2:5, 1:3], ids[first:end, 2:5, 1:3] = 2, id
        labels = LabelMap(array[None], GRID, TABLE, instances=ids[None])
        examinations.append(Examination(f"scan of {day}", day, Volume(array[None] * np.int16(10), GRID, 1, "CT"), labels))
    return compare_dates(examinations)


def test_a_row_for_each_lesion_and_label_at_each_date(course):
    rows = follow_up_rows("anna", course)
    assert all(list(row) == list(ROW_TYPES) for row in rows)
    told = [(row["days"], row["label"], row["lesion"], row["change"], row["volume_mm3"]) for row in rows]
    organ = GRID.shape[0] * 60 * 2.0
    assert told == [
        (0, "organ", None, None, organ - 84), (0, "lesion", 1, None, 48), (0, "lesion", 2, None, 36),
        (60, "organ", None, None, organ - 120), (60, "lesion", 1, "kept", 96),
        (60, "lesion", 3, "new", 24), (60, "lesion", 2, "gone", 0),
    ]  # fmt: skip
    changes = [row["volume_change"] for row in rows]
    assert changes[:3] == [None] * 3
    assert changes[3:] == pytest.approx([(organ - 120) / (organ - 84) - 1, 1, None, -1], nan_ok=True)
    assert [row["came_from"] for row in rows[4:]] == ["1", None, "2"]
    assert rows[1]["intensity_mean"] == 20
    assert rows[1]["intensity_unit"] == "HU"
    uids = {row["lesion"]: set() for row in rows}
    for row in rows:
        uids[row["lesion"]].add(row["tracking_uid"])
    assert uids.pop(None) == {None}
    assert [len(values) for values in uids.values()] == [1, 1, 1]
    assert pl.DataFrame(rows, schema=ROW_TYPES).height == len(rows)


def test_the_summary_is_plain_and_adds_up(course):
    rows = follow_up_rows("anna", course)
    summary = json.loads(json.dumps(follow_up_summary("anna", course, rows), allow_nan=False))
    assert [(day["date"], day["lesions"], day["lesion_volume_mm3"]) for day in summary["examinations"]] == [
        ("2026-01-01", 2, 84), ("2026-03-02", 2, 120),
    ]  # fmt: skip
    assert [(change["change"], change["lesions_before"], change["lesions_after"]) for change in summary["changes"]] == [
        ("kept", [1], [1]), ("gone", [2], []), ("new", [], [3]),
    ]  # fmt: skip
    assert summary["transforms"][0]["from_first_ras_mm"] == np.eye(4).tolist()
    assert summary["examinations"][0]["sum_of_long_axes_mm"] == pytest.approx(
        sum(row["long_axis_mm"] for row in rows if row["lesion"] and row["days"] == 0)
    )
