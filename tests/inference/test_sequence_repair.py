from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxelry.core.geometry import Geometry
from voxelry.core.label_sequence import LabelSequence
from voxelry.core.labels import Label, LabelTable
from voxelry.core.model import CleanUp
from voxelry.core.volume import LabelMap
from voxelry.errors import LabelError
from voxelry.formats.reader import read_labels
from voxelry.inference.cleanup import clean
from voxelry.inference.naming_flags import row_flags
from voxelry.inference.row_objects import instance_votes
from voxelry.inference.sequence_repair import name_rows, with_filled_ids
from voxelry.planning.sequence_survey import SequenceSurvey

NAMES = ("L1", "L2", "L3", "L4", "L5")
BODIES = tuple(Label(value=3 * number, name=name) for number, name in enumerate(NAMES, start=1))
TABLE = LabelTable(labels=(*BODIES, Label(value=2, name="cord")))
ROW = LabelSequence(name="vertebrae", labels=NAMES)


def spine(tops=(2, 11, 20, 29, 38), values=(3, 6, 9, 12, 15), shape=(14, 14, 48), cord=True):
    """Cubes of 6 voxels' edge of 2 mm from the head down, with a cord beside them."""
    array = np.zeros(shape, np.uint8)
    for top, value in zip(tops, values, strict=True):
        array[4:10, 2:8, top : top + 6] = value
    if cord:
        array[6:8, 10:12, 1:-1] = 2
    return LabelMap.of(array, Geometry(shape, np.diag([2.0, 2.0, -2.0, 1.0])), TABLE)


def learnt(row=ROW, maps=()):
    survey = SequenceSurvey((row,))
    for each in maps or [spine()] * 12:
        survey.add(each)
    return survey.result()


def with_ids(labels):
    """Bodies as instances 11, 12... from the head down."""
    bodies = np.where(labels.array % 3 == 0, labels.array, 0)
    places = np.cumsum((bodies.any(axis=(0, 1))[1:] & ~bodies.any(axis=(0, 1))[:-1]), axis=0)
    ids = np.where(bodies > 0, 10 + np.insert(places, 0, 0), 0)
    return replace(labels, instances=ids.astype(np.uint32)[None])


def repaired(labels, rows=None):
    named, result = name_rows(labels, learnt() if rows is None else rows)
    return named, result[0], row_flags(result[0])


def test_a_right_prediction_stays_as_it_is_without_a_flag():
    named, row, flags = repaired(spine())
    assert np.array_equal(named.layers, spine().layers)
    assert (row.names, flags, row.is_certain, row.renamed) == (NAMES, [], True, 0)


@pytest.mark.parametrize("instances", [False, True])
def test_shifted_lower_levels_are_put_right_and_said(instances):
    shifted = spine(values=(3, 6, 6, 9, 12))
    named, row, flags = repaired(with_ids(shifted) if instances else shifted)
    assert np.array_equal(named.array, spine().array)
    assert row.renamed == pytest.approx(0.6)
    changes = "L3 was predicted as L2, L4 was predicted as L3, L5 was predicted as L4"
    assert flags == [f"vertebrae: names were corrected by their order (60% of the voxels): {changes}"]
    assert [each.instance for each in row.objects] == ([11, 12, 13, 14, 15] if instances else [0] * 5)


def test_a_body_in_two_labels_gets_one():
    labels = spine()
    labels.array[4:10, 2:8, 23:26] = 12
    named, _, flags = repaired(labels)
    assert np.array_equal(named.array, spine().array)
    assert flags == ["vertebrae: 10% of the voxels took the name of the object they lie in"]


def test_a_missing_body_shifts_nothing_and_is_said():
    named, row, flags = repaired(spine((2, 11, 29, 38), (3, 6, 9, 12)))
    assert row.names == ("L1", "L2", "L4", "L5")
    assert np.array_equal(named.array, spine((2, 11, 29, 38), (3, 6, 12, 15)).array)
    assert "vertebrae: L3 is missing between L2 and L4" in flags


def test_an_extra_body_is_named_if_the_row_allows_it_else_left_out_and_said():
    tops, shape = (2, 11, 20, 29, 38, 47), (14, 14, 60)
    seven = spine(tops, (3, 6, 9, 12, 15, 15), shape)
    named, row, flags = repaired(seven)
    assert row.names == NAMES
    assert not named.array[4:10, 2:8, 47:].any()
    assert "vertebrae: an object of 1728 mm^3 at (13, 9, -99), predicted as L5, has no place in the row and was left out" in flags
    table = LabelTable(labels=(*TABLE.labels, Label(value=18, name="L6")))
    six = LabelSequence(name="vertebrae", labels=(*NAMES, "L6"), optional=("L6",))
    rows = learnt(six, [replace(spine(), table=table)] * 12)
    named, row, _ = repaired(replace(seven, table=table), rows)
    assert row.names == (*NAMES, "L6")
    assert (named.array[4:10, 2:8, 47:53] == 18).all()


def test_pieces_are_joined_under_one_id():
    labels = spine()
    labels.array[:, 2:8, 22:24] = np.where(labels.array[:, 2:8, 22:24] == 2, 2, 0)
    cut = with_ids(labels)
    named, row, flags = repaired(cut)
    assert np.array_equal(named.array, cut.array)
    assert "vertebrae: L3 was joined from 2 pieces" in flags
    assert [each.pieces for each in row.objects] == [1, 1, 2, 1, 1]
    ids = np.unique(named.instances[0][named.array == 9])
    assert len(ids) == 1


def test_an_instance_of_two_bodies_is_said():
    labels = with_ids(spine())
    labels.instances[labels.instances == 14] = 13
    labels.array[labels.array == 12] = 9
    _, _, flags = repaired(labels)
    assert any("times the volume that the others suggest; it may be two objects" in flag for flag in flags)


def test_crumbs_follow_their_body_and_far_ones_are_left_out_and_said():
    labels = spine()
    labels.array[11, 4, 24] = 9
    named, row, flags = repaired(labels)
    assert named.array[11, 4, 24] == 9
    assert (row.debris, flags) == ((1, 0), [])


def test_an_ambiguous_row_is_said_with_its_alternatives():
    labels = spine((11, 20, 29), (3, 6, 9), cord=False)
    for top, value in ((11, 6), (20, 9), (29, 12)):
        labels.array[4:10, 2:8, top : top + 3] = value
    _, row, flags = repaired(labels)
    assert not row.is_certain
    assert flags[0].startswith("vertebrae: the names are uncertain")
    others = tuple(max(each.alternatives, key=each.alternatives.get) for each in row.objects)
    assert {row.names, others} == {NAMES[:3], NAMES[1:4]}


def test_scores_of_instances_come_before_their_voxels():
    labels = with_ids(spine((2, 11, 20, 29), (3, 6, 9, 12)))
    scores = {id: {NAMES[place + 1]: 0.9, NAMES[place]: 0.1} for place, id in enumerate((11, 12, 13, 14))}
    named, rows = name_rows(labels, learnt(), scores)
    assert rows[0].names == NAMES[1:]
    assert np.unique(named.array[4:10, 2:8]).tolist() == [0, 6, 9, 12, 15]


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(3)), st.tuples(*[st.booleans()] * 3), st.sampled_from([(3, 6, 6, 9, 12), (6, 3, 9, 15, 12)]))
def test_any_orientation_of_the_scan_and_any_ids_give_the_same_result(order, flips, values):
    labels = with_ids(spine(values=values))
    ids = labels.instances.copy()
    for old, new in zip(range(11, 16), (70_000, 4, 12, 900, 5), strict=True):
        ids[labels.instances == old] = new
    codes = ["RAS"[axis] if not flip else "LPI"[axis] for axis, flip in zip(order, flips, strict=True)]
    change = labels.geometry.reindexing_to_orientation("".join(codes))
    turned = replace(
        labels,
        layers=change.apply(labels.layers),
        geometry=labels.geometry.reindexed(change),
        instances=change.apply(ids),
    )
    named, rows = name_rows(turned, learnt())
    assert rows[0].names == NAMES
    assert np.array_equal(named.on_grid(labels.geometry).array, spine().array)
    assert np.array_equal(named.on_grid(labels.geometry).instances, ids)


def test_other_labels_and_maps_without_the_row_are_untouched():
    empty = spine((), ())
    named, rows = name_rows(empty, learnt())
    assert named is empty
    assert rows == ()


def test_a_row_of_unknown_labels_is_refused():
    with pytest.raises(LabelError, match="L9"):
        name_rows(spine(), [LabelSequence(name="row", labels=("L1", "L9"))])


def test_two_rows_on_one_map():
    table = LabelTable(labels=(*TABLE.labels, Label(value=40, name="d1"), Label(value=41, name="d2")))
    labels = replace(spine(values=(3, 6, 6, 9, 12)), table=table)
    labels.array[4:10, 2:8, 9:10], labels.array[4:10, 2:8, 18:19] = 40, 40
    discs = LabelSequence(name="discs", labels=("d1", "d2"), direction=(0.0, 0.0, -1.0))
    named, rows = name_rows(labels, (*learnt(), discs))
    assert [row.names for row in rows] == [NAMES, ("d1", "d2")]
    assert np.unique(named.array[4:10, 2:8, 18]).tolist() == [41]


def test_voxels_vote_as_they_were_before_each_object_got_one_label():
    decoded = with_ids(spine((2, 11, 20, 29), (3, 6, 9, 12)))
    before = decoded.layers.copy()
    for top, value in ((2, 6), (11, 9), (20, 12), (29, 15)):
        before[0, 4:10, 2:8, top : top + 5] = value
    votes = instance_votes(replace(decoded, layers=before), learnt())
    assert votes[12] == {"L1": 0, "L2": 36, "L3": 180, "L4": 0, "L5": 0}
    assert name_rows(decoded, learnt(), votes)[1][0].names == NAMES[1:]
    assert name_rows(decoded, learnt())[1][0].names == NAMES[:4]


def test_a_hole_that_was_filled_after_naming_gets_its_objects_id():
    labels = with_ids(spine(values=(3, 6, 6, 9, 12)))
    labels.layers[0, 6, 4, 22], labels.instances[0, 6, 4, 22] = 0, 0
    named, rows = name_rows(labels, learnt())
    filled = with_filled_ids(clean(named, [CleanUp(label="L3", fill_holes=True)]), rows)
    assert (filled.array[6, 4, 22], filled.instances[0, 6, 4, 22]) == (9, 13)
    assert with_filled_ids(spine(), rows).instances is None


LUMBAR = LabelTable(labels=tuple(Label(value=number, name=name) for number, name in enumerate(NAMES, start=1)))


def shifted(array):
    return np.where(array > 2, array - 1, array)


def halved(array):
    """The lower half of every body but the last called the next level; rows run from the head down."""
    result = array.copy()
    for value in (1, 2, 3, 4):
        rows = np.flatnonzero((array == value).any(axis=(1, 2)))
        below = array[rows[len(rows) // 2] :] == value
        result[rows[len(rows) // 2] :][below] = value + 1
    return result


def bridged(array):
    """A bar from the third body to the fourth, both called the third."""
    result = np.where(array == 4, 3, array)
    upper, lower = (np.argwhere(array == value).mean(axis=0).astype(int) for value in (3, 4))
    bar = result[upper[0] : lower[0], upper[1] - 4 : upper[1] + 4, upper[2] - 4 : upper[2] + 4]
    bar[bar == 0] = 3
    return result


@pytest.mark.realdata
@pytest.mark.parametrize("corrupt", [shifted, halved, bridged])
def test_corrupted_references_of_real_spines_are_put_right(realdata, corrupt):
    files = [realdata / "spine_mri_waterfat" / "labels" / f"myo_{number}.nii.gz" for number in (11, 17, 31, 38, 51)]
    maps = [read_labels(file, LUMBAR) for file in files]
    for number, reference in enumerate(maps):
        rows = learnt(ROW, [other for place, other in enumerate(maps) if place != number])
        named, _ = name_rows(replace(reference, layers=corrupt(reference.array)[None]), rows)
        inside = reference.array > 0
        assert (named.array[inside] == reference.array[inside]).mean() > 0.97
