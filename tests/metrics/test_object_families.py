"""Families of objects: against the rules of the papers by brute force, and objects that touch, nest, or are one voxel."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.metrics.families import measure

# panoptica 2.1.7 (UNMATCHED_INSTANCE, NaiveThresholdMatching at 0.5) and stardist 0.9.2 (stardist.matching.matching, whose
# accuracy at 0.50, 0.55, ..., 0.95 has this mean) on balls(0) and balls(1, 0.2, 1.5)
PEERS = {
    "instance_tp": 40,
    "instance_fp": 7,
    "instance_fn": 19,
    "instance_pq": 0.4838900125690243,
    "instance_sq": 0.6411542666539571,
    "instance_rq": 0.7547169811320755,
    "dsb_ap50": 0.6060606060606061,
    "dsb_ap50_95": 0.17757833586782634,
    "panoptic_pq": 0.4838900125690243,
}


def balls(seed, lost=0.0, shift=0.0):
    """Ids of balls in 48^3 that touch and cut each other."""
    places, moves, ids = np.random.default_rng(3), np.random.default_rng(seed), np.zeros((48, 48, 48), np.uint32)
    for number in range(1, 61):
        centre, radius = places.uniform(0, 48, 3), places.uniform(2, 7)
        centre, is_lost = centre + moves.uniform(-shift, shift, 3), moves.random() < lost
        if not is_lost:
            ids[sum((axis - c) ** 2 for axis, c in zip(np.ogrid[:48, :48, :48], centre, strict=True)) < radius**2] = number
    table = LabelTable(labels=(Label(value=1, name="cell", kind="thing"),))
    return LabelMap((ids > 0).astype(np.uint8)[None], Geometry.from_spacing(ids.shape, (1, 1, 1)), table, instances=ids[None])


def test_touching_balls_score_as_panoptica_and_stardist_score_them():
    values = measure(balls(0), balls(1, 0.2, 1.5), metrics=["instances", "panoptic"]).values
    for metric, expected in PEERS.items():
        np.testing.assert_allclose(values[metric][0, 0], expected, rtol=1e-12, err_msg=metric)


TABLE = LabelTable(
    labels=(Label(value=1, name="road"), Label(value=5, name="car", kind="thing"), Label(value=6, name="bus", kind="thing"))
)
FAMILIES = ("instances", "panoptic", "lesions", "identification")
IDS = hnp.arrays(np.uint32, (6, 7), elements=st.integers(0, 5))
"""Ids 1 and 2 are cars, 3 and 4 buses, 5 the road, which has no objects."""

CLASS_OF_ID = np.array([0, 5, 5, 6, 6, 1])


def picture(ids, names=None):
    """A map of classes and instance ids; `names` are other ids for the same objects."""
    given_ids = np.where(CLASS_OF_ID[ids] == 1, 0, ids if names is None else names[ids]).astype(np.uint32)
    layers = CLASS_OF_ID[ids].astype(np.uint8)[None]
    return LabelMap(layers, Geometry(ids.shape, None, (0.5, 2.0)), TABLE, instances=given_ids[None])


def segments(ids, value):
    return {i: ids == i for i in np.unique(ids).tolist() if i and CLASS_OF_ID[i] == value}


def iou(one, two):
    return (one & two).sum() / (one | two).sum()


@given(IDS, IDS)
def test_panoptic_quality_is_the_rule_of_the_coco_panoptic_api(truth, guess):
    """Segments of one class match above an IoU of 0.5; PQ is the sum of their IoU over TP + FP / 2 + FN / 2."""
    found = measure(picture(truth), picture(guess), metrics=["panoptic"]).values
    for k, label in enumerate(TABLE.labels):
        ours, theirs = segments(truth, label.value), segments(guess, label.value)
        values = [iou(one, two) for one in ours.values() for two in theirs.values()]
        matched = [value for value in values if value > 0.5]
        tp, fp, fn = len(matched), len(theirs) - len(matched), len(ours) - len(matched)
        assert [found[f"panoptic_{name}"][0, k] for name in ("tp", "fp", "fn")] == [tp, fp, fn]
        expected = sum(matched) / (tp + fp / 2 + fn / 2) if tp + fp + fn else np.nan
        np.testing.assert_allclose(found["panoptic_pq"][0, k], expected)
        np.testing.assert_allclose(found["panoptic_sq"][0, k], np.mean(matched) if matched else np.nan)


@given(IDS, IDS)
def test_dsb_ap_is_counting_at_every_threshold(truth, guess):
    found = measure(picture(truth), picture(guess), metrics=["instances"]).values
    for k, value in ((1, 5), (2, 6)):
        ours, theirs = segments(truth, value), segments(guess, value)
        scores = []
        for threshold in np.arange(0.5, 1, 0.05).round(2):
            taken, tp = set(), 0
            for one in ours.values():  # from 0.5 on no object has two partners but for ties, of which any counts
                partner = next((j for j, two in theirs.items() if j not in taken and iou(one, two) >= threshold), None)
                tp += partner is not None
                taken.add(partner)
            total = len(ours) + len(theirs) - tp
            scores.append(tp / total if total else np.nan)
        np.testing.assert_allclose(found["dsb_ap50"][0, k], scores[0])
        np.testing.assert_allclose(found["dsb_ap50_95"][0, k], np.mean(scores))
        error = len(theirs) - len(ours)
        assert found["instance_count_error"][0, k] == error
        assert found["instance_count_error_abs"][0, k] == abs(error)
        assert found["instance_count_exact"][0, k] == (error == 0)


@given(IDS, IDS)
def test_lesions_are_found_by_any_shared_voxel(truth, guess):
    found = measure(picture(truth), picture(guess), metrics=["lesions"]).values
    for k, value in ((1, 5), (2, 6)):
        ours, theirs = segments(truth, value).values(), segments(guess, value).values()
        tp = sum(any((one & two).any() for two in theirs) for one in ours)
        fp = sum(not any((one & two).any() for one in ours) for two in theirs)
        fn = len(ours) - tp
        assert [found[f"lesion_{name}"][0, k] for name in ("tp", "fp", "fn")] == [tp, fp, fn]
        np.testing.assert_allclose(found["lesion_f1"][0, k], 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else np.nan)


@given(IDS, IDS)
def test_identification_matches_first_and_asks_for_the_label_then(truth, guess):
    found = measure(picture(truth), picture(guess), metrics=["identification"]).values
    things = (1, 2, 3, 4)
    for k, label in ((1, 5), (2, 6)):
        ours = segments(truth, label)
        partners = [
            [int(CLASS_OF_ID[j]) for j in things if (guess == j).any() and iou(one, guess == j) > 0.5] for one in ours.values()
        ]
        detected, right = sum(bool(p) for p in partners), sum(p == [label] for p in partners)
        if any(iou(one, guess == j) == 0.5 for one in ours.values() for j in things):
            continue  # a tie, of which one counts
        assert found["identification_objects"][0, k] == len(ours)
        assert found["identification_detected"][0, k] == detected
        np.testing.assert_allclose(found["identification_rate"][0, k], right / detected if detected else np.nan)
        np.testing.assert_allclose(found["identification_rate_all"][0, k], right / len(ours) if ours else np.nan)
    assert np.isnan(found["identification_rate"][0, 0])  # stuff has no objects beside things


@settings(max_examples=50)
@given(IDS, IDS, st.permutations([1, 2, 3, 4]), st.sampled_from([1, 1000, 2**30 - 1]))
def test_a_permutation_of_ids_changes_no_score(truth, guess, order, factor):
    names = np.array([0, *order, 0], dtype=np.uint32) * np.uint32(factor)
    plain = measure(picture(truth), picture(guess), metrics=FAMILIES).values
    renamed = measure(picture(truth, names), picture(guess, names[::-1][[5, 1, 2, 3, 4, 0]]), metrics=FAMILIES).values
    for metric, values in plain.items():
        np.testing.assert_array_equal(renamed[metric], values, err_msg=metric)


def volume(*boxes, shape=(12, 12, 12), ids=True, spacing=(1.0, 1.0, 5.0)):
    """One thing: boxes (start, size) of ids 1, 2..., the later on top."""
    array = np.zeros(shape, np.uint32)
    for number, (start, size) in enumerate(boxes, start=1):
        array[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = number
    table = LabelTable(labels=(Label(value=2, name="lesion", kind="thing"),))
    layers = np.where(array > 0, 2, 0).astype(np.uint8)[None]
    return LabelMap(layers, Geometry.from_spacing(shape, spacing), table, instances=array[None] if ids else None)


TOUCHING = (((0, 0, 0), (4, 4, 4)), ((4, 0, 0), (4, 4, 4)))
NESTED = (((0, 0, 0), (9, 9, 9)), ((3, 3, 3), (2, 2, 2)))
SINGLE = (((0, 0, 0), (1, 1, 1)), ((1, 0, 0), (1, 1, 1)), ((5, 5, 5), (1, 1, 1)))


@pytest.mark.parametrize(("boxes", "objects", "parts"), [(TOUCHING, 2, 1), (NESTED, 2, 1), (SINGLE, 3, 2)])
def test_touching_nested_and_one_voxel_objects_are_told_apart_by_id_alone(boxes, objects, parts):
    truth = volume(*boxes)
    scores = measure(truth, truth, metrics=FAMILIES).values
    assert scores["instance_tp"][0, 0] == scores["panoptic_tp"][0, 0] == scores["lesion_tp"][0, 0] == objects
    assert scores["dsb_ap50_95"][0, 0] == scores["panoptic_pq"][0, 0] == scores["identification_rate_20mm"][0, 0] == 1
    joined = measure(truth, volume(*boxes, ids=False), metrics=FAMILIES).values
    assert joined["dice"][0, 0] == 1
    assert joined["instance_count_error"][0, 0] == parts - objects


@pytest.mark.parametrize("with_ids", [True, False])
def test_without_objects_on_either_side_or_both(with_ids):
    full, empty = volume(*TOUCHING, ids=with_ids), volume(ids=with_ids)
    both, missed, spurious = (measure(*p, metrics=FAMILIES).values for p in ((empty, empty), (full, empty), (empty, full)))
    assert np.isnan([both["panoptic_pq"], both["dsb_ap50"], both["lesion_f1"], both["identification_rate_all"]]).all()
    assert both["instance_count_exact"] == 1
    for name in ("panoptic_pq", "dsb_ap50", "dsb_ap50_95", "lesion_f1"):
        assert missed[name] == spurious[name] == 0, name
    assert missed["identification_rate_all"] == 0
    assert np.isnan(missed["identification_rate"])


def test_twenty_millimetres_are_measured_with_the_spacing():
    truth = volume(((0, 0, 1), (2, 2, 2)), spacing=(1, 1, 5))
    for away, near in ((3, 1), (4, 0)):  # 15 mm and 20 mm along the third axis
        guess = volume(((0, 0, 1 + away), (2, 2, 2)), spacing=(1, 1, 5))
        assert measure(truth, guess, metrics=["identification"]).values["identification_near"][0, 0] == near
    assert measure(truth, guess, metrics=["identification"]).values["identification_detected"][0, 0] == 0


def test_seventy_thousand_objects_take_seconds():
    cells = np.random.default_rng(0).permutation(80_000)[: 42**3].reshape(42, 42, 42).astype(np.uint32) + 1
    ids = np.zeros((256, 256, 256), np.uint32)
    ids[:252, :252, :252] = np.kron(cells, np.ones((6, 6, 6), np.uint32))
    table = LabelTable(labels=(Label(value=1, name="cell", kind="thing"),))
    truth, guess = (
        LabelMap((i > 0).astype(np.uint8)[None], Geometry.from_spacing(i.shape, (1, 1, 1)), table, instances=i[None])
        for i in (ids, np.roll(ids, 1, axis=0))
    )
    started = time.process_time()
    scores = measure(truth, guess, metrics=["instances", "panoptic", "lesions"]).values
    assert time.process_time() - started < 30
    assert scores["instance_tp"][0, 0] == scores["lesion_tp"][0, 0] == 42**3 == 74_088
    np.testing.assert_allclose(scores["panoptic_pq"], 5 / 7)
