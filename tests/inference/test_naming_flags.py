import numpy as np
import pytest

from voxelry.core.label_sequence import LabelSequence, Spread
from voxelry.inference.named_row import NamedObject, NamedRow
from voxelry.inference.naming_flags import row_flags
from voxelry.inference.sequence_naming import ConsistentSequence

LABELS = ("L1", "L2", "L3", "L4")
USUAL = LabelSequence(name="row", labels=LABELS, cases=20, present=(20, 20, 20, 4), volumes=(Spread(mean=100, std=9),) * 4)


def body(name, predicted=None, volume=100.0, **others):
    return NamedObject(name, predicted or name, 1.0, (1.2, -3.4, 5.0), volume, **others)


def row(*objects, sequence=USUAL, is_reversed=False, **others):
    choice = ConsistentSequence(1.0, tuple(each.name for each in objects), is_reversed)
    return NamedRow(sequence, objects, (choice,), **{"is_certain": True, **others})


@pytest.mark.parametrize(
    ("named", "flags"),
    [
        (row(body("L1"), body("L2"), body("L3")), []),
        (row(body("L1"), body("L2"), body("L3"), renamed=0.004), []),
        (
            row(body("L1"), body("L2", "L1"), body("L3"), renamed=0.331),
            ["names were corrected by their order (33% of the voxels): L2 was predicted as L1"],
        ),
        (row(body("L1"), body("L3")), ["L2 is missing between L1 and L3"]),
        (row(body("L2"), body("L3")), ["not found: L1"]),
        (
            row(body("L1"), body("L2"), body("L3"), body(None, "L4", 41.6)),
            ["an object of 42 mm^3 at (1, -3, 5), predicted as L4, has no place in the row and was left out"],
        ),
        (row(body("L1"), body("L2", pieces=3), body("L3")), ["L2 was joined from 3 pieces"]),
        (row(body("L1"), body("L2"), body("L3"), debris=(4, 0)), []),
        (row(body("L1"), body("L2"), body("L3"), debris=(4, 1)), ["1 small part was left out"]),
        (
            row(body("L1"), body("L2", volume=190), body("L3")),
            ["L2 has 1.9 times the volume that the others suggest; it may be two objects"],
        ),
        (
            row(body("L1"), body("L2"), body("L3"), is_reversed=True),
            ["its order runs against that of the training cases; check the orientation of the scan"],
        ),
        (
            row(body("L1"), body("L2", alternatives={"L3": 0.4, None: 0.01}), body("L3"), is_certain=False),
            ["the names are uncertain (likelihood compared with the name given): L2 may be L3 (0.4)"],
        ),
        (
            row(body("L1"), body("L2"), body(None, "L4", alternatives={"L3": 0.5}), is_certain=False, sequence=USUAL),
            [
                "the names are uncertain (likelihood compared with the name given): the object at (1, -3, 5) may be L3 (0.5)",
                "not found: L3",
                "an object of 100 mm^3 at (1, -3, 5), predicted as L4, has no place in the row and was left out",
            ],
        ),
    ],
)
def test_what_is_said_of_a_row(named, flags):
    assert row_flags(named) == [f"row: {flag}" for flag in flags]


def test_what_some_people_lack_is_not_missing():
    lumbar = LabelSequence(name="row", labels=LABELS, optional=("L2",))
    assert row_flags(row(body("L1"), body("L3"), sequence=lumbar)) == []
    always = USUAL.model_copy(update={"optional": LABELS})
    assert row_flags(row(body("L2"), body("L3"), sequence=always)) == []


def test_volumes_are_compared_with_the_others_of_the_scan():
    small = row(body("L1", volume=40), body("L2", volume=72), body("L3", volume=41), body("L4", volume=40))
    assert row_flags(small) == ["row: L2 has 1.8 times the volume that the others suggest; it may be two objects"]
    unknown = LabelSequence(name="row", labels=LABELS)
    assert len(row_flags(row(*small.objects, sequence=unknown))) == 1


def test_a_picture_has_areas():
    flat = row(*(NamedObject(name, "L1", 0.0, tuple(np.zeros(2)), 7.0) for name in ("L1", None, "L2", "L3")))
    assert "7 mm^2" in " ".join(row_flags(flat))
