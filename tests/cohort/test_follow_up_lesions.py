"""Numbers of lesions over dates: by phantoms whose courses are known, and by balls."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from helpers.dated_dicom import DAYS
from voxelry.cohort.follow_up_lesions import Examination, compare_dates
from voxelry.cohort.registration import Registration
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Source, Volume
from voxelry.errors import GeometryError, LabelError, UsageError
from voxelry.phantom import Acquisition, dated_phantoms, small_phantom

GRID = Geometry.from_spacing((60, 20, 12), (1, 1, 1))
TABLE = LabelTable(labels=(Label(value=1, name="organ"), Label(value=2, name="lesion", kind="thing")))
MEDIUM = Acquisition(spacing=(8.0, 8.0, 10.0), fov=(384.0, 320.0, 240.0), axes="LPS", noise=14.0, blur=1.5)


@pytest.fixture
def at_rest(monkeypatch):
    """All examinations lie in one space."""
    monkeypatch.setattr(
        "voxelry.cohort.follow_up_lesions.register", lambda fixed, moving, kind: Registration(np.eye(4), kind, 1.0, 1.0)
    )


def boxes(day, **places):
    """An examination with boxes as lesions: name -> (first, end) along the first axis; ids in the order given, from 5."""
    array = np.ones(GRID.shape, np.uint8)
    ids = np.zeros(GRID.shape, np.uint32)
    for id, (first, end) in enumerate(places.values(), start=5):
        array[first:end, 5:12, 3:9], ids[first:end, 5:12, 3:9] = 2, id
    return Examination(f"scan {day}", day, Volume(array[None].astype(np.int16), GRID, 1, "CT"),
                       LabelMap(array[None], GRID, TABLE, instances=ids[None]))  # fmt: skip


def number_at(course, place, x):
    return int(course.examinations[place].labels.instances[0][x, 7, 5])


def test_a_lesion_keeps_its_number_while_others_come_and_go(at_rest):
    first = boxes(DAYS[0], a=(2, 8), b=(20, 30), c=(50, 56))
    second = boxes(DAYS[1], new=(38, 42), b=(19, 31), a=(3, 7))
    third = boxes(DAYS[2], b=(18, 33), new=(38, 44))
    course = compare_dates([third, first, second])
    assert [each.date for each in course.examinations] == list(DAYS)
    assert [number_at(course, place, 24) for place in range(3)] == [2, 2, 2]
    assert [number_at(course, place, 5) for place in range(3)] == [1, 1, 0]
    assert [number_at(course, place, 40) for place in range(3)] == [0, 4, 4]
    told = {(change.later, change.change.kind, change.change.first, change.change.second) for change in course.changes}
    assert told == {
        (1, "kept", (1,), (1,)), (1, "kept", (2,), (2,)), (1, "gone", (3,), ()), (1, "new", (), (4,)),
        (2, "gone", (1,), ()), (2, "kept", (2,), (2,)), (2, "kept", (4,), (4,)),
    }  # fmt: skip
    uids = [{number: uid for number, _, uid in each.labels.source.tracking} for each in course.examinations]
    assert uids[0][2] == uids[1][2] == uids[2][2]
    assert len({uid for each in uids for uid in each.values()}) == 4


def test_the_largest_piece_and_the_largest_of_the_merged_keep_the_number(at_rest):
    first = boxes(DAYS[0], whole=(2, 20), small=(30, 33), large=(38, 46))
    second = boxes(DAYS[1], left=(2, 6), right=(9, 20), joined=(30, 46))
    course = compare_dates([first, second])
    assert (number_at(course, 1, 12), number_at(course, 1, 3), number_at(course, 1, 40)) == (1, 4, 3)
    changes = {each.change.kind: each.change for each in course.changes}
    assert (changes["split"].first, set(changes["split"].second)) == ((1,), {1, 4})
    assert (set(changes["merged"].first), changes["merged"].second) == ({2, 3}, (3,))


def test_lesions_without_ids_are_components_and_labels_can_be_named(at_rest):
    examinations = [boxes(day, a=(2, 8), b=(20, 30)) for day in DAYS[:2]]
    plain = LabelTable(labels=tuple(label.model_copy(update={"kind": "stuff"}) for label in TABLE.labels))
    bare = [replace(each, labels=replace(each.labels, table=plain, instances=None)) for each in examinations]
    with pytest.raises(LabelError, match="--lesion"):
        compare_dates(bare)
    course = compare_dates(bare, ["lesion"])
    assert [each.change.kind for each in course.changes] == ["kept", "kept"]
    assert course.examinations[0].labels.table["lesion"].kind == "thing"
    with pytest.raises(LabelError, match="no label tumour"):
        compare_dates(bare, ["tumour"])


def test_a_lesion_that_its_file_tracks_keeps_its_uid(at_rest):
    first, second = boxes(DAYS[0], a=(2, 8)), boxes(DAYS[1], a=(2, 9))
    tracked = Source(tracking=((5, "target 1", "2.25.77"),))
    course = compare_dates([replace(first, labels=replace(first.labels, source=tracked)), second])
    assert [each.labels.source.tracking for each in course.examinations] == [((1, "target 1", "2.25.77"),)] * 2


def test_no_lesion_at_any_date(at_rest):
    course = compare_dates([boxes(day) for day in DAYS])
    assert course.changes == ()
    assert all(each.labels.source.tracking == () for each in course.examinations)


def test_what_cannot_be_followed(at_rest):
    only = boxes(DAYS[0], a=(2, 8))
    with pytest.raises(UsageError, match=r"1 examination .*2026-01-05"):
        compare_dates([only])
    with pytest.raises(UsageError, match="both of 2026-01-05"):
        compare_dates([only, boxes(DAYS[0])])
    xray = small_phantom("chest-xray")
    pictures = [Examination(str(day), day, xray.volume, xray.labels) for day in DAYS[:2]]
    with pytest.raises(GeometryError, match="picture"):
        compare_dates(pictures, ["lung_left"])


def test_moved_patients_whose_lesions_change():
    dated, courses = dated_phantoms(0, dates=2, acquisition=MEDIUM)
    days = (date(2025, 1, 1), date(2026, 1, 1))
    examinations = [Examination(str(d), d, each.phantom.volume, each.phantom.labels) for d, each in zip(days, dated, strict=True)]
    course = compare_dates(examinations, transform="rigid")
    found = set()
    for each in course.changes:
        numbers = set()
        for place, members in enumerate((each.change.first, each.change.second)):
            ids = course.examinations[place].labels.instances[0]
            numbers |= {
                dated[place].courses[int(id)]
                for n in members
                for id in np.unique(dated[place].phantom.labels.instances[0][ids == n])
            }
        assert len(numbers) == 1
        found.add((each.change.kind, courses[numbers.pop()].fate))
    assert found == {
        ("kept", "grow"), ("kept", "shrink"), ("kept", "stay"), ("gone", "vanish"), ("new", "come"), ("split", "split"),
        ("merged", "merge"),
    }  # fmt: skip
