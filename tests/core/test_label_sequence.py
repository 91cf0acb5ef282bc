import pytest
from pydantic import ValidationError

from voxelry.core.geometry import Geometry
from voxelry.core.label_sequence import LabelSequence, Spread, row_position

ROW = {"name": "row", "labels": ("L1", "L2", "L3")}


def test_chances_follow_the_rule_of_succession():
    learnt = LabelSequence(**ROW, cases=10, present=(10, 4, 0))
    assert learnt.chances == (11 / 12, 5 / 12, 1 / 12)


def test_before_any_case_optional_labels_are_as_likely_there_as_not():
    assert LabelSequence(**ROW, optional=("L3",)).chances == (0.95, 0.95, 0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ("L1", "L2", "L1")}, "L1 occurs twice"),
        ({"labels": ("L1",)}, "at least 2"),
        ({"optional": ("L6",)}, "optional L6 is not among"),
        ({"present": (1, 2)}, "present of sequence 'row' has 2 values, 3 are needed"),
        ({"distances": (None,)}, "distances of sequence 'row' has 1 values, 2 are needed"),
        ({"volumes": (Spread(mean=1, std=0),)}, "volumes of sequence 'row' has 1 values, 3 are needed"),
    ],
)
def test_rows_that_contradict_themselves_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        LabelSequence(**ROW | changes)


def test_positions_are_millimetres_where_they_are_known():
    assert row_position(Geometry.from_spacing((4, 4, 4), (1, 2, 3), (5, 0, 0)), (1, 1, 1)).tolist() == [6, 2, 3]
    assert row_position(Geometry((4, 4), None, (0.5, 2.0)), (2, 2)).tolist() == [1, 4]
    assert row_position(Geometry((4, 4)), (2, 3)).tolist() == [2, 3]
