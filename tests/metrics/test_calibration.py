import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import GridMismatchError, LabelError, UsageError
from voxelry.metrics.calibration import calibrate, calibration


def softmax(seed, classes, shape):
    logits = np.exp(np.random.default_rng(seed).normal(0, 2, (classes, *shape)))
    return logits / logits.sum(axis=0)


@given(st.integers(0, 10**6), st.integers(2, 4), st.integers(1, 20))
def test_bins_and_brier_are_those_of_a_voxel_by_voxel_loop(seed, classes, bins):
    p = softmax(seed, classes, (4, 5))
    truth = np.random.default_rng(seed + 1).integers(-1, classes, (4, 5))
    gaps, brier, counted = [[] for _ in range(bins)], [], 0
    for index in np.ndindex(4, 5):
        if truth[index] < 0:
            continue
        counted += 1
        chance = p[(slice(None), *index)]
        place = next(b for b in range(bins) if chance.max() <= (b + 1) / bins + 1e-12)
        gaps[place].append((chance.max(), chance.argmax() == truth[index]))
        brier.append(sum((chance[k] - (truth[index] == k)) ** 2 for k in range(classes)))
    result = calibration(p, truth, bins=bins)
    assert result.counts.tolist() == [len(gap) for gap in gaps]
    if not counted:
        assert np.isnan(result.ece)
        assert np.isnan(result.brier)
        assert np.isnan(result.mce)
        return
    expected = sum(abs(np.sum([a - c for c, a in gap])) for gap in gaps) / counted
    assert result.ece == pytest.approx(expected)
    assert result.brier == pytest.approx(np.mean(brier))


@pytest.mark.parametrize(
    ("sure", "counts"),
    [(0.5, [0, 1, 0, 0]), (0.75, [0, 0, 1, 0]), (1.0, [0, 0, 0, 1]), (np.nextafter(0.75, 1), [0, 0, 0, 1])],
)
def test_a_confidence_on_the_edge_of_two_bins_is_in_the_lower(sure, counts):
    result = calibration(np.array([[1 - sure], [sure]]), np.array([1]), bins=4)
    assert result.counts.tolist() == counts


def test_four_equal_classes_are_in_the_first_of_four_bins():
    assert calibration(np.full((4, 1), 0.25), np.array([1]), bins=4).counts.tolist() == [1, 0, 0, 0]


def test_a_sure_and_right_prediction_is_perfect_and_a_sure_and_wrong_one_the_worst():
    truth = np.array([0, 1, 1])
    right = np.eye(2)[truth].T
    best, worst = calibration(right, truth), calibration(right[::-1], truth)
    assert (best.ece, best.mce, best.brier) == (0, 0, 0)
    assert (worst.ece, worst.mce, worst.brier) == (1, 1, 2)


def test_a_coin_that_knows_it_is_one_is_calibrated():
    p = np.full((2, 1000), 0.5)
    truth = np.arange(1000) % 2
    result = calibration(p, truth)
    assert result.ece == 0
    assert result.brier == 0.5


def test_volumes_are_laid_on_one_grid_and_the_ignored_left_out():
    geometry = Geometry((2, 2, 1), np.eye(4))
    table = LabelTable(labels=(Label(value=5, name="a"),), ignore=9)
    p = np.zeros((2, 2, 2, 1), np.float32)
    p[1, 0] = p[0, 1] = 1
    truth = np.array([[[5], [9]], [[0], [9]]], np.uint8)
    volume = Volume(p, geometry, channels=2)
    flipped = LabelMap.of(truth, geometry, table)
    change = geometry.reindexing_to_orientation("LAS")
    flipped = LabelMap.of(change.apply(truth), geometry.reindexed(change), table)
    result = calibrate(volume, flipped)
    assert result.counts.sum() == 2
    assert result.brier == 0
    with pytest.raises(LabelError, match="3 channels"):
        calibrate(Volume(np.ones((3, 2, 2, 1), np.float32) / 3, geometry, channels=3), flipped)


@pytest.mark.parametrize(
    ("p", "truth", "error"),
    [
        (np.ones((2, 3)), np.zeros(3, int), LabelError),
        (np.array([[2.0], [-1.0]]), np.zeros(1, int), LabelError),
        (np.full((2, 1), np.nan), np.zeros(1, int), LabelError),
        (np.full((2, 1), 0.5), np.array([2]), LabelError),
        (np.full((2, 1), 0.5), np.zeros(2, int), GridMismatchError),
    ],
)
def test_what_is_no_probability_is_refused(p, truth, error):
    with pytest.raises(error):
        calibration(p, truth)


def test_at_least_one_bin():
    with pytest.raises(UsageError):
        calibration(np.full((2, 1), 0.5), np.zeros(1, int), bins=0)
