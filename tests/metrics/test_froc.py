import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelry.errors import UsageError
from voxelry.metrics.froc import Detections, detections, froc
from voxelry.metrics.instances import connected_objects, object_overlaps

CASES = st.lists(
    st.integers(0, 3).flatmap(
        lambda n: st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.7, 0.9]), st.integers(-1, n - 1)), max_size=5).map(
            lambda rows: Detections(np.array([s for s, _ in rows], float), np.array([f for _, f in rows], np.int64), n)
        )
    ),
    min_size=1,
    max_size=4,
)


@given(CASES)
def test_the_curve_is_that_of_counting_at_every_threshold(cases):
    curve = froc(cases)
    total = sum(case.references for case in cases)
    assert curve.thresholds.tolist() == sorted({s for case in cases for s in case.scores.tolist()}, reverse=True)
    for threshold, sensitivity, wrong in zip(curve.thresholds, curve.sensitivity, curve.false_positives, strict=True):
        hits = sum(len({f for f, s in zip(c.hits.tolist(), c.scores, strict=True) if f >= 0 and s >= threshold}) for c in cases)
        false = sum(int(((c.hits < 0) & (c.scores >= threshold)).sum()) for c in cases)
        assert wrong == pytest.approx(false / len(cases))
        assert np.isnan(sensitivity) if not total else sensitivity == pytest.approx(hits / total)


def test_two_cases_by_hand():
    curve = froc(
        [
            Detections(np.array([0.9, 0.8, 0.3]), np.array([0, -1, 0]), 1),
            Detections(np.array([0.7, 0.2]), np.array([1, -1]), 2),
        ]
    )
    assert curve.thresholds.tolist() == [0.9, 0.8, 0.7, 0.3, 0.2]
    assert curve.sensitivity.tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3, 2 / 3])
    assert curve.false_positives.tolist() == [0, 0.5, 0.5, 0.5, 1]
    assert curve.at(0.25) == pytest.approx(1 / 3)
    assert curve.at(0.5) == pytest.approx(2 / 3)
    assert curve.mean_sensitivity == pytest.approx((2 * 1 / 3 + 5 * 2 / 3) / 7)


def test_without_detections_nothing_is_found_and_without_lesions_nothing_can_be():
    assert froc([Detections(np.zeros(0), np.zeros(0, np.int64), 3)]).mean_sensitivity == 0
    assert np.isnan(froc([Detections(np.array([0.5]), np.array([-1]), 0)]).mean_sensitivity)
    assert np.isnan(froc([Detections(np.zeros(0), np.zeros(0, np.int64), 0)]).mean_sensitivity)
    with pytest.raises(UsageError):
        froc([])


def test_an_object_hits_the_lesion_it_overlaps_best():
    reference = np.array([[1, 1, 0, 1, 1, 1, 0, 1]], np.uint8)
    prediction = np.array([[0, 1, 1, 1, 1, 0, 0, 0]], np.uint8)
    pairs = object_overlaps(connected_objects(reference), connected_objects(prediction))
    assert detections(pairs, np.array([0.9])).hits.tolist() == [1]
    assert detections(pairs, np.array([0.9]), 0.5).hits.tolist() == [-1]
    with pytest.raises(UsageError):
        detections(pairs, np.array([0.9, 0.1]))
    with pytest.raises(UsageError):
        detections(pairs, np.array([np.nan]))
