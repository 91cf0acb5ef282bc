import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import ndimage
from skimage.measure import regionprops

from voxelry.core.geometry import Geometry
from voxelry.core.labels import Code, Label, LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import GridMismatchError, LabelError, UsageError
from voxelry.metrics.segments import panoptic_ids, segments_info

SHAPE = (9, 8, 6)
AFFINE = np.array([[0.9, 0.0, 0.1, -20], [0.1, 1.1, 0.0, 8], [0.0, -0.1, 2.0, 3], [0, 0, 0, 1.0]])
NUCLEUS = Code(value="84640000", meaning="Nucleus")
TABLE = LabelTable(
    labels=(
        Label(value=5, name="organ"),
        Label(value=2, name="lesion", kind="thing", type=NUCLEUS),
        Label(value=9, name="absent"),
        Label(value=2, name="over", layer=1),
        Label(value=3, name="node", kind="thing", layer=1),
    ),
    ignore=255,
)


def labels_of(seed, order="C", ids=(0, 4, 7), shape=SHAPE):
    """Random voxels on two layers; ids of the second layer follow those of the first."""
    rng = np.random.default_rng(seed)
    layers, instances = np.zeros((2, *shape), np.uint16), np.zeros((2, *shape), np.uint32)
    layers[0] = rng.choice(np.array([0, 2, 5, 255]), shape, p=[0.6, 0.2, 0.1, 0.1])
    layers[1] = rng.choice(np.array([0, 2, 3]), shape, p=[0.8, 0.1, 0.1])
    instances[0] = np.where(layers[0] == 2, rng.choice(np.array(ids), shape), 0)
    instances[1] = np.where(layers[1] == 3, rng.choice(np.array(ids), shape) + 1, 0)
    geometry = Geometry(shape, AFFINE) if len(shape) == 3 else Geometry(shape, None, (0.5, 0.25))
    layers, instances = (np.stack([np.asarray(layer, order=order) for layer in array]) for array in (layers, instances))
    if order == "F":
        layers, instances = (np.moveaxis(np.asfortranarray(np.moveaxis(a, 0, -1)), -1, 0) for a in (layers, instances))
    return LabelMap(layers, geometry, TABLE, instances=instances)


def by_brute_force(labels):
    """(name, id or 0, layer, mask) of each segment in the order of the table."""
    for label in labels.table.labels:
        mask = labels.mask(label.name)
        if label.kind == "thing" and labels.instances is not None:
            ids = labels.instances[label.layer]
            yield from ((label, int(i), mask & (ids == i)) for i in np.unique(ids[mask]) if i)
        elif mask.any():
            yield label, 0, mask


@given(st.integers(0, 50), st.sampled_from("CF"), st.sampled_from([SHAPE, (7, 9)]), st.sampled_from([(0, 4, 7), (1, 3, 2**31)]))
def test_segments_by_scipy(seed, order, shape, ids):
    labels = labels_of(seed, order, ids, shape)
    confidence = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    rows = segments_info(labels, Volume(confidence[None], labels.geometry))
    expected = sorted(by_brute_force(labels), key=lambda item: (item[0].kind == "stuff" or not item[1], item[1]))
    assert [row.id for row in rows] == sorted(row.id for row in rows)
    assert [(row.label, row.id) for row in rows if row.label.kind == "thing"] == [(label, i) for label, i, _ in expected if i]
    assert [row.label for row in rows] == [label for label, _, _ in expected]
    for row, (_, _, mask) in zip(rows, expected, strict=True):
        assert row.voxels == mask.sum()
        assert_allclose(row.centroid, ndimage.center_of_mass(mask))
        assert row.box == regionprops(mask.astype(np.uint8))[0].bbox
        assert_allclose(row.score, confidence[mask].mean() / 255)
        inner = np.zeros(shape, bool)
        inner[tuple(slice(1, -1) for _ in shape)] = True
        assert row.touches_border == bool((mask & ~inner).any())
        if len(shape) == 3:
            assert_allclose(row.volume_mm3, mask.sum() * abs(np.linalg.det(AFFINE)))
            assert_allclose(row.centroid_mm, AFFINE[:3, :3] @ ndimage.center_of_mass(mask) + AFFINE[:3, 3])
            assert row.area_mm2 is None
        else:
            assert_allclose(row.area_mm2, mask.sum() * 0.125)
            assert (row.volume_mm3, row.centroid_mm) == (None, None)


@given(st.integers(0, 50), st.sampled_from("CF"), st.sampled_from([(0, 4, 7), (1, 3, 2**31)]))
def test_the_map_of_ids_holds_the_segments(seed, order, ids):
    labels = labels_of(seed, order, ids)
    panoptic = panoptic_ids(labels)
    assert panoptic.dtype == np.uint32
    named = {row.id: row for row in segments_info(labels)}
    assert set(np.unique(panoptic).tolist()) - {0} == set(named)
    for number, row in named.items():
        assert np.count_nonzero(panoptic == number) == row.voxels
        assert (labels.layers[panoptic == number] == row.label.value).all()
    things = labels.layers[0] == 2
    assert np.array_equal(panoptic[0][things], labels.instances[0][things])


@given(st.integers(0, 20), st.permutations([3, 4, 9, 11, 2**24]))
def test_other_ids_change_no_segment_but_its_number(seed, numbers):
    labels = labels_of(seed, ids=(0, 2, 4))
    other = np.array([0, *numbers], np.uint32)[labels.instances]
    first = {replace(row, id=0) for row in segments_info(labels)}
    second = {replace(row, id=0) for row in segments_info(replace(labels, instances=other))}
    assert first == second


def test_a_map_without_ids_has_a_segment_a_label():
    labels = replace(labels_of(1), instances=None)
    assert [(row.id, row.label.name) for row in segments_info(labels)] == [(1, "organ"), (2, "lesion"), (3, "over"), (4, "node")]


def test_an_empty_map_has_no_segment():
    labels = LabelMap(np.zeros((1, *SHAPE), np.uint8), Geometry(SHAPE, AFFINE), TABLE)
    assert segments_info(labels) == []
    assert not panoptic_ids(labels).any()
    assert segments_info(replace(labels, table=LabelTable(labels=()))) == []


def test_scores_of_an_id_come_before_the_map_and_those_of_a_label_after_it():
    labels = labels_of(2)
    confidence = Volume(np.full((1, *SHAPE), 51, np.uint8), labels.geometry)
    scores = {4: 0.9, "lesion": 0.3, "organ": None}
    by_map = {row.id: row.score for row in segments_info(labels, confidence, scores)}
    assert (by_map[4], by_map[7]) == (0.9, 0.2)
    by_label = {(row.id, row.label.name): row.score for row in segments_info(labels, scores=scores)}
    assert (by_label[4, "lesion"], by_label[7, "lesion"], by_label[9, "organ"]) == (0.9, 0.3, None)


def test_plain_values_can_be_written_as_json():
    rows = [json.loads(json.dumps(row.as_dict())) for row in segments_info(labels_of(3))]
    [lesion] = [row for row in rows if row["id"] == 4]
    assert lesion | {"label": "lesion", "label_id": 2, "kind": "thing", "code": NUCLEUS.model_dump()} == lesion
    assert [row["code"] for row in rows if row["label"] == "organ"] == [None]
    assert len(rows[0]["box"]) == 6


def test_an_axis_of_one_voxel_has_no_border():
    array = np.zeros((1, 5, 5), np.uint8)
    array[0, 2, 2] = 5
    [row] = segments_info(LabelMap.of(array, Geometry.from_spacing(array.shape, (1, 1, 1)), TABLE))
    assert not row.touches_border


def test_seventy_thousand_objects():
    side, shape = 42, (126, 126, 126)
    ids = np.zeros(shape, np.uint32)
    ids[1::3, 1::3, 1::3] = np.arange(1, side**3 + 1).reshape(side, side, side)
    labels = LabelMap.of(np.where(ids > 0, 2, 0).astype(np.uint8), Geometry.from_spacing(shape, (1, 1, 1)), TABLE)
    labels = replace(labels, instances=ids[None])
    rows = segments_info(labels)
    assert len(rows) == side**3 == 74088
    assert rows[-1].centroid == (124, 124, 124)
    assert np.array_equal(panoptic_ids(labels)[0], ids)


def test_an_id_in_two_labels_is_an_error():
    labels = labels_of(4)
    clashing = np.where(labels.layers == 3, 4, labels.instances).astype(np.uint32)
    for ask in (segments_info, panoptic_ids):
        with pytest.raises(LabelError, match="instance 4 lies in the labels 'lesion' and 'node'"):
            ask(replace(labels, instances=clashing))


@pytest.mark.parametrize(("value", "kind"), [(6, np.uint8), (70000, np.int32), (-1, np.int16)])
def test_unknown_values_are_an_error(value, kind):
    layers = np.zeros((1, *SHAPE), kind)
    layers[0, 0, 0, 0] = value
    with pytest.raises(LabelError, match=f"label values {value} are not in the table"):
        segments_info(LabelMap(layers, Geometry(SHAPE, AFFINE), TABLE))


def test_ids_up_to_the_largest_leave_no_number_for_labels():
    labels = labels_of(5)
    largest = np.where(labels.instances == 7, 2**32 - 1, labels.instances).astype(np.uint32)
    with pytest.raises(LabelError, match="leave no number"):
        segments_info(replace(labels, instances=largest))


def test_a_map_of_confidence_of_another_grid_or_type_is_an_error():
    labels = labels_of(6)
    with pytest.raises(GridMismatchError, match="different grids"):
        segments_info(labels, Volume(np.zeros((1, 2, 2, 2), np.uint8), Geometry.from_spacing((2, 2, 2), (1, 1, 1))))
    with pytest.raises(UsageError, match="float32"):
        segments_info(labels, Volume(np.zeros((1, *SHAPE), np.float32), labels.geometry))
