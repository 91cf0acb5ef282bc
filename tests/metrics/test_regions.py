import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from voxelry.errors import GridMismatchError, LabelError, UsageError
from voxelry.metrics import overlap
from voxelry.metrics.empty_policy import EmptyPolicy
from voxelry.metrics.overlap import confusion, count_values
from voxelry.metrics.regions import VOXEL_METRICS, count_regions

MAPS = hnp.arrays(np.int16, (4, 5), elements=st.sampled_from([0, 1, 2, 4, 300, -7]))
SHAPE = (7, 11, 9)


@pytest.fixture(params=["plain", "compiled"])
def way(request, monkeypatch):
    """Every case by the path of small arrays and by that of large ones."""
    if request.param == "compiled":
        monkeypatch.setattr(overlap, "LARGE_VOXELS", 0)


def pair(seed=0, labels=5, dtype=np.uint8):
    rng = np.random.default_rng(seed)
    reference = rng.integers(0, labels, SHAPE)
    prediction = np.where(rng.random(SHAPE) < 0.6, reference, rng.integers(0, labels, SHAPE))
    return reference.astype(dtype), prediction.astype(dtype)


def nnunet_counts(reference, prediction, label):
    """tp, fp, fn, tn as nnU-Net's ``compute_tp_fp_fn_tn`` defines them (nnunetv2.evaluation.evaluate_predictions)."""
    truth, guess = reference == label, prediction == label
    return (truth & guess).sum(), (~truth & guess).sum(), (truth & ~guess).sum(), (~truth & ~guess).sum()


@given(MAPS, MAPS)
def test_counts_are_those_of_a_dictionary(reference, prediction):
    pairs = count_values(reference, prediction)
    expected = {}
    for cell in zip(reference.ravel().tolist(), prediction.ravel().tolist(), strict=True):
        expected[cell] = expected.get(cell, 0) + 1
    got = {
        (r, p): n
        for r, row in zip(pairs.reference, pairs.matrix, strict=True)
        for p, n in zip(pairs.prediction, row, strict=True)
    }
    assert {cell: n for cell, n in got.items() if n} == expected


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.int32, np.int64, np.uint32, np.uint64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_types_and_memory_orders_do_not_matter(way, dtype, order):
    reference, prediction = (np.asarray(map_, order=order) for map_ in pair(dtype=dtype))
    pairs = count_values(reference, prediction)
    np.testing.assert_array_equal(pairs.matrix, np.histogram2d(reference.ravel(), prediction.ravel(), bins=5)[0])
    np.testing.assert_array_equal(confusion(reference, prediction, 5), pairs.matrix)


def test_offset_read_only_and_strided_arrays(way):
    wide = np.zeros((3, 1001), np.uint8)
    wide[0, ::3] = 200
    for reference, prediction in (
        (wide[0, 1:], wide[1, 3:-1][:1000]),
        (wide[:, ::2], wide[:, ::-2]),
        (wide, wide.copy(order="F")),
    ):
        if reference.shape != prediction.shape:
            prediction = np.zeros_like(reference)
        reference.flags.writeable = False
        pairs = count_values(reference, prediction)
        for n, value in enumerate(pairs.reference):
            for m, other in enumerate(pairs.prediction):
                assert pairs.matrix[n, m] == ((reference == value) & (prediction == other)).sum()


def test_values_far_apart_take_little_memory(way):
    reference, prediction = pair(dtype=np.int64)
    spread = np.array([-5, 0, 1 << 40, 70_000, 255])
    pairs = count_values(spread[reference], spread[prediction])
    order = np.argsort(spread)
    np.testing.assert_array_equal(pairs.reference, spread[order])
    np.testing.assert_array_equal(pairs.matrix, confusion(reference, prediction, 5)[np.ix_(order, order)])


def test_full_bytes_do_not_overflow(way):
    reference, prediction = np.full(1000, 255, np.uint8), np.full(1000, 254, np.uint8)
    judged = count_regions(count_values(reference, prediction))
    assert judged.names == ("254", "255")
    assert judged.fp.tolist() == [1000, 0]


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_nnunet(way, seed):
    reference, prediction = pair(seed)
    judged = count_regions(count_values(reference, prediction))
    for n in range(4):
        tp, fp, fn, tn = nnunet_counts(reference, prediction, n + 1)
        assert (judged.tp[n], judged.fp[n], judged.fn[n], judged.tn[n]) == (tp, fp, fn, tn)
        assert judged.score("dice")[n] == pytest.approx(2 * tp / (2 * tp + fp + fn), abs=1e-12)
        assert judged.score("specificity")[n] == pytest.approx(tn / (tn + fp), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_simpleitk(way, seed):
    reference, prediction = pair(seed)
    judged = count_regions(count_values(reference, prediction))
    peer = SimpleITK.LabelOverlapMeasuresImageFilter()
    peer.Execute(SimpleITK.GetImageFromArray(prediction), SimpleITK.GetImageFromArray(reference))
    for n in range(4):
        assert judged.score("dice")[n] == pytest.approx(peer.GetDiceCoefficient(n + 1), abs=1e-12)
        assert judged.score("iou")[n] == pytest.approx(peer.GetJaccardCoefficient(n + 1), abs=1e-12)
        assert 1 - judged.score("precision")[n] == pytest.approx(peer.GetFalseDiscoveryRate(n + 1), abs=1e-12)
        assert 1 - judged.score("recall")[n] == pytest.approx(peer.GetFalseNegativeError(n + 1), abs=1e-12)


def test_a_region_is_the_union_of_its_labels(way):
    reference, prediction = pair()
    regions = {"whole": (1, 2, 4), "core": (1, 4), "absent": (99,)}
    judged = count_regions(count_values(reference, prediction), regions)
    for n, members in enumerate(regions.values()):
        expected = nnunet_counts(np.isin(reference, members).astype(int), np.isin(prediction, members).astype(int), 1)
        assert (judged.tp[n], judged.fp[n], judged.fn[n], judged.tn[n]) == expected


def test_ignored_reference_voxels_count_nowhere(way):
    reference, prediction = pair()
    kept = reference != 3
    expected = count_regions(count_values(reference[kept], prediction[kept]), {"one": (1,), "two": (2,)})
    got = count_regions(count_values(reference, prediction), {"one": (1,), "two": (2,)}, ignore=[3])
    for field in ("tp", "fp", "fn", "tn"):
        np.testing.assert_array_equal(getattr(got, field), getattr(expected, field))
    assert count_regions(count_values(reference, prediction), ignore=[3]).names == ("1", "2", "4")


def test_means():
    reference, prediction = np.array([0, 1, 1, 1, 2, 0]), np.array([0, 1, 1, 0, 0, 2])
    judged = count_regions(count_values(reference, prediction), {"1": (1,), "2": (2,), "3": (3,)})
    assert judged.mean("iou") == pytest.approx((2 / 3 + 0) / 2)
    assert judged.mean("iou", "micro") == pytest.approx(2 / 5)
    assert judged.mean("iou", "frequency") == pytest.approx((3 * 2 / 3 + 0) / 4)
    assert np.isnan(count_regions(count_values(reference, prediction), {"3": (3,)}).mean("dice"))


def test_empty_masks_follow_the_policy():
    reference, prediction = np.array([0, 1, 1, 0]), np.array([0, 0, 0, 2])
    judged = count_regions(
        count_values(reference, prediction), {"only reference": (1,), "only prediction": (2,), "neither": (3,)}
    )
    expected = {
        "dice": [0, 0, np.nan], "iou": [0, 0, np.nan], "precision": [np.nan, 0, np.nan], "recall": [0, np.nan, np.nan],
        "specificity": [1, 0.75, 1], "fpr": [0, 0.25, 0], "volume_error": [-1, np.nan, np.nan],
    }  # fmt: skip
    assert set(expected) == set(VOXEL_METRICS)
    for metric, values in expected.items():
        np.testing.assert_array_equal(judged.score(metric), values)
    assert judged.score("dice", EmptyPolicy(both=1.0)).tolist() == [0, 0, 1]
    assert judged.volume_error_mm3(0.5).tolist() == [-1, 0.5, 0]


def test_nothing_at_all():
    empty = np.zeros((0, 3), np.uint8)
    judged = count_regions(count_values(empty, empty), {"a": (1,)})
    assert np.isnan(judged.score("specificity")).all()
    assert count_regions(count_values(empty, empty)).names == ()


def test_refusals():
    pairs = count_values(np.array([0, 1]), np.array([0, 1]))
    with pytest.raises(UsageError, match="'dice'"):
        count_regions(pairs).score("dise")
    with pytest.raises(LabelError, match="'a'"):
        count_regions(pairs, {"a": ()})
    with pytest.raises(LabelError, match="ignored"):
        count_regions(pairs, {"a": (1,)}, ignore=[1])
    with pytest.raises(GridMismatchError):
        count_values(np.zeros(2, int), np.zeros(3, int))
    with pytest.raises(LabelError, match="float"):
        count_values(np.zeros(2), np.zeros(2))
