import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from voxelry.errors import GridMismatchError
from voxelry.metrics.instances import connected_objects, object_overlaps
from voxelry.metrics.matching import match
from voxelry.metrics.panoptic import AP_THRESHOLDS, average_precision, brats_lesion_wise, instance_scores, score_matches

# panoptica 2.1.7 on `lesions(0)` and `lesions((1, 0, 2))`, all of 256^3: tp, fp, fn, pq, sq, rq, sq_dsc of
# Panoptica_Evaluator(SEMANTIC, cc3d, NaiveThresholdMatching(matching_threshold=0.5), groups of one label, IOU and DSC)
# .evaluate(prediction, reference).
PANOPTICA = [
    (37, 19, 19, 0.3842571800354348, 0.5815784346482257, 0.6607142857142857, 0.7336345492338731),
    (43, 15, 15, 0.433646943075916, 0.5849191325210029, 0.7413793103448276, 0.7365992937503809),
    (36, 23, 23, 0.3567695733797992, 0.584705689705782, 0.6101694915254238, 0.7366149718703549),
]


def lesions(shift, size=256):
    """Three labels, 60 balls each, the same ones whatever the shift."""
    array = np.zeros((size,) * 3, np.uint8)
    rng = np.random.default_rng(1)
    for label in (1, 2, 3):
        for _ in range(60):
            centre, radius = rng.integers(12, size - 12, 3), rng.integers(3, 9)
            ball = (np.square(np.indices((2 * radius + 1,) * 3) - radius)).sum(0) <= radius * radius
            array[tuple(slice(x - radius, x + radius + 1) for x in centre + shift)][ball] = label
    return array


def scores_of(reference, prediction, **options):
    return instance_scores(connected_objects(reference), connected_objects(prediction), 2, **options)[0]


def test_it_is_panoptica_on_many_lesions():
    reference, prediction = (connected_objects(lesions(shift)) for shift in (0, np.array([1, 0, 2])))
    for mine, theirs in zip(instance_scores(reference, prediction, 4), PANOPTICA, strict=True):
        assert (mine.tp, mine.fp, mine.fn) == theirs[:3]
        assert (mine.pq, mine.sq, mine.rq, mine.matched_dice) == pytest.approx(theirs[3:], abs=1e-12)


def test_it_is_panoptica_as_installed():
    pytest.importorskip("panoptica")
    from panoptica import ConnectedComponentsInstanceApproximator, InputType, NaiveThresholdMatching, Panoptica_Evaluator
    from panoptica.metrics import Metric
    from panoptica.utils.constants import CCABackend

    evaluator = Panoptica_Evaluator(
        expected_input=InputType.SEMANTIC,
        instance_approximator=ConnectedComponentsInstanceApproximator(cca_backend=CCABackend.cc3d),
        instance_matcher=NaiveThresholdMatching(matching_threshold=0.5),
        instance_metrics=[Metric.IOU, Metric.DSC],
    )
    reference, prediction = ((lesions(shift, 64) > 0).astype(np.uint8) for shift in (0, 1))
    theirs = next(iter(evaluator.evaluate(prediction, reference, verbose=False).values()))
    mine = scores_of(reference, prediction)
    assert (mine.tp, mine.fp, mine.fn) == (theirs.tp, theirs.fp, theirs.fn)
    assert mine.pq == pytest.approx(theirs.pq)


def test_by_hand():
    reference = np.array([[1, 1, 1, 0, 1, 1, 0, 1]], np.uint8)
    prediction = np.array([[1, 1, 0, 0, 1, 1, 0, 0]], np.uint8)
    mine = scores_of(reference, prediction)
    assert (mine.tp, mine.fp, mine.fn, mine.count_error) == (2, 0, 1, -1)
    assert mine.sq == pytest.approx((2 / 3 + 1) / 2)
    assert mine.rq == mine.f1 == pytest.approx(2 / 2.5)
    assert mine.pq == pytest.approx(mine.sq * mine.rq)
    assert mine.lesion_dice == pytest.approx((4 / 5 + 1) / 3)
    assert (mine.sensitivity, mine.precision) == (2 / 3, 1)
    assert mine.to_dict()["f1"] == mine.rq


@given(st.integers(0, 10**6))
def test_swapping_reference_and_prediction_swaps_misses_and_false_finds(seed):
    one, two = (np.random.default_rng(seed).random((2, 8, 8)) < 0.4).astype(np.uint8)
    here, there = scores_of(one, two, threshold=0.3, method="optimal"), scores_of(two, one, threshold=0.3, method="optimal")
    assert (here.tp, here.fp, here.fn) == (there.tp, there.fn, there.fp)
    assert here.pq == pytest.approx(there.pq, nan_ok=True)


def test_empty_masks():
    nothing, something = np.zeros((4, 4), np.uint8), np.eye(4, dtype=np.uint8)
    both, missed, made_up = scores_of(nothing, nothing), scores_of(something, nothing), scores_of(nothing, something)
    assert (both.tp, both.fp, both.fn, both.count_error) == (0, 0, 0, 0)
    assert all(np.isnan([both.pq, both.rq, both.sq, both.lesion_dice, both.sensitivity, both.precision]))
    assert (missed.pq, missed.rq, missed.lesion_dice, missed.sensitivity) == (0, 0, 0, 0)
    assert (made_up.pq, made_up.rq, made_up.lesion_dice, made_up.precision) == (0, 0, 0, 0)
    assert np.isnan(missed.precision)
    assert np.isnan(made_up.sensitivity)


def test_average_precision_falls_with_the_threshold():
    """Squares of 10 x 10 shifted by 0, 1, 2 rows: IoU 1, 9/11, 8/12."""
    reference, prediction = np.zeros((2, 40, 40), np.uint8)
    for n in range(3):
        reference[2:12, 12 * n : 12 * n + 10] = 1
        prediction[2 + n : 12 + n, 12 * n : 12 * n + 10] = 1
    found = average_precision(object_overlaps(connected_objects(reference), connected_objects(prediction)))
    expected = [(tp := sum(iou >= t for iou in (1, 9 / 11, 8 / 12))) / (6 - tp) for t in AP_THRESHOLDS]
    assert found.tolist() == pytest.approx(expected)
    assert AP_THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


def challenge(reference, prediction, dilation, smallest):
    """The BraTS 2023 challenge's own steps, mask by mask."""
    structure, full = ndimage.generate_binary_structure(3, 2), np.ones((3, 3, 3))
    guesses, count = ndimage.label(prediction, full)
    truth, _ = ndimage.label(reference, full)
    group, groups = ndimage.label(ndimage.binary_dilation(reference, structure, iterations=dilation), full)
    merged = np.where(truth > 0, group, 0)
    dices, hit = [], set()
    for number in range(1, groups + 1):
        lesion = merged == number
        reach = ndimage.binary_dilation(lesion, structure, iterations=dilation)
        partners = set(np.unique(guesses[reach])) - {0}
        hit |= partners
        if lesion.sum() > smallest:
            guess = np.isin(guesses, list(partners))
            dices.append(2 * (guess & lesion).sum() / (guess.sum() + lesion.sum()))
    false = count - len(hit)
    return dices, false, sum(dices) / (len(dices) + false) if dices or false else np.nan


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("dilation", "smallest"), [(3, 50), (1, 3)])
def test_brats_lesions_are_the_challenges(seed, dilation, smallest):
    rng = np.random.default_rng(seed)
    reference, prediction = (ndimage.binary_dilation(rng.random((30, 30, 30)) < 0.0006, iterations=2) for _ in range(2))
    prediction |= ndimage.shift(reference, (1, 0, 0), order=0) & (ndimage.label(reference)[0] % 3 > 0)
    dices, false, mean = challenge(reference, prediction, dilation, smallest)
    mine = brats_lesion_wise(reference, prediction, dilation=dilation, smallest=smallest)
    assert mine.lesions == pytest.approx(dices)
    assert mine.fp == false
    assert mine.dice == pytest.approx(mean, nan_ok=True)


def test_brats_empty_masks_are_missing_and_grids_must_agree():
    nothing = np.zeros((5, 5, 5), bool)
    assert np.isnan(brats_lesion_wise(nothing, nothing).dice)
    assert brats_lesion_wise(~nothing, nothing, smallest=0).fn == 1
    assert brats_lesion_wise(nothing, ~nothing).dice == 0
    with pytest.raises(GridMismatchError):
        brats_lesion_wise(nothing, np.zeros((5, 5, 4), bool))


def test_one_matching_serves_every_score():
    pairs = object_overlaps(*(connected_objects(np.eye(3, dtype=np.uint8)) for _ in range(2)))
    assert score_matches(match(pairs)).pq == 1
