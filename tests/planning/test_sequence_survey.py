import numpy as np
import pytest

from voxelry.core.geometry import Geometry
from voxelry.core.label_sequence import LabelSequence
from voxelry.core.labels import LabelTable
from voxelry.core.volume import LabelMap
from voxelry.planning.sequence_survey import SequenceSurvey

TABLE = LabelTable.numbered([1, 2, 3])
ROW = LabelSequence(name="row", labels=TABLE.names)


def stack(heights, spacing=(1.0, 1.0, 1.0), flipped=False, shape=(6, 6, 40)):
    """Cubes of 3 x 3 x 3 voxels, label i at the i-th height; None for a label that is not there."""
    array = np.zeros(shape, np.uint8)
    for value, height in enumerate(heights, start=1):
        if height is not None:
            array[2:5, 2:5, height : height + 3] = value
    grid = Geometry.from_spacing(shape, spacing)
    if flipped:
        affine = grid.affine @ np.diag([-1, 1, -1, 1.0])
        grid = Geometry(shape, affine)
    return LabelMap.of(array, grid, TABLE)


def survey(*maps, rows=(ROW,)):
    collected = SequenceSurvey(rows)
    for each in maps:
        collected.add(each)
    return collected.result()


def test_distances_volumes_and_presence_are_those_of_the_references():
    (row,) = survey(stack((2, 12, 24)), stack((2, 14, 24)), stack((2, 12, None)), stack((2, None, 24)))
    assert (row.cases, row.present) == (4, (4, 3, 3))
    assert [(spread.mean, spread.std) for spread in row.distances] == [
        (pytest.approx(32 / 3, abs=1e-3), pytest.approx(np.std([10, 12, 10]), abs=1e-3)),
        (11, 1),
    ]
    assert [spread.mean for spread in row.volumes] == [27, 27, 27]
    assert row.direction == (0, 0, 1)


def test_world_coordinates_count_not_the_order_of_voxels():
    (stored,), (flipped,) = survey(stack((2, 12, 24), (1, 1, 2.5))), survey(stack((2, 12, 24), (1, 1, 2.5), flipped=True))
    assert [spread.mean for spread in stored.distances] == [25, 30]
    assert flipped.distances == stored.distances
    assert flipped.direction == (0, 0, -1)


def test_cases_that_run_both_ways_have_no_direction():
    (row,) = survey(stack((2, 12, 24)), stack((24, 12, 2)))
    assert row.direction is None


def test_objects_at_the_border_are_there_but_not_measured():
    (row,) = survey(stack((0, 12, 24)), stack((None, 12, 24)))
    assert row.present == (1, 2, 2)
    assert row.volumes[0] is None
    assert row.distances[0] is None
    assert row.distances[1].mean == 12


def test_pictures_are_measured_along_rows_and_columns():
    array = np.zeros((30, 40), np.uint8)
    for value in (1, 2, 3):
        array[10:13, 8 * value : 8 * value + 3] = value
    (row,) = survey(LabelMap.of(array, Geometry(array.shape, None, (0.5, 0.25)), TABLE))
    assert [spread.mean for spread in row.distances] == [2, 2]
    assert row.direction == (0, 1)


def test_a_dataset_without_rows_is_not_measured():
    assert survey(stack((2, 12, 24)), rows=()) == ()
