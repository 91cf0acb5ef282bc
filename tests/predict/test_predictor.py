import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from plans import SIDED, picture, tiny_model, tiny_plan
from voxelry.errors import ModelError
from voxelry.geometry import Geometry, Reindex
from voxelry.labels import LabelTable
from voxelry.predict.predictor import Predictor
from voxelry.volume import Source, Volume

ORGAN = LabelTable.numbered([7])
AFFINE = np.array([[0.9, 0.0, 0.1, -20], [0.1, 1.1, 0.0, 8], [0.0, -0.1, 2.0, 3], [0, 0, 0, 1.0]])


class Threshold(nn.Module):
    """Class 1 where the (not normalised) grey value is above 100, with a margin that grows with it."""

    def forward(self, x):
        return [torch.cat([torch.zeros_like(x), (x - 100) / 50], 1)]


def threshold(plan, **changes):
    predictor = Predictor(tiny_model(plan, ORGAN, **changes), "cpu", "off")
    predictor.network = Threshold()
    return predictor


def scan(shape=(18, 15, 12), seed=0):
    rng = np.random.default_rng(seed)
    array = rng.integers(20, 60, shape).astype(np.int16)
    array[5:12, 4:9, 3:8] = rng.integers(150, 300, (7, 5, 5))
    return Volume(
        array[None], Geometry(shape, AFFINE), source=Source(kind="dicom", instances=tuple(("1.2", i + 1) for i in range(3)))
    )


def every_order():
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((False, True), repeat=3):
            yield Reindex(order, flips)


def test_labels_lie_on_the_scans_own_grid():
    volume = scan()
    prediction = threshold(tiny_plan()).predict(volume)
    assert np.array_equal(prediction.labels.array, np.where(volume.array[0] > 100, 7, 0))
    assert prediction.labels.geometry is volume.geometry
    assert prediction.labels.source is volume.source
    assert prediction.labels.table == ORGAN


@pytest.mark.parametrize("spacing", [None, (1.3, 1.0, 1.6)])
def test_stored_order_does_not_matter(spacing):
    predictor, volume = threshold(tiny_plan(spacing=spacing)), scan()
    expected = predictor.predict(volume).labels
    assert expected.array.any()
    for change in every_order():
        labels = predictor.predict(volume.reindexed(change)).labels
        assert labels.geometry.same_grid(volume.geometry.reindexed(change))
        assert np.array_equal(labels.on_grid(volume.geometry).array, expected.array)


def test_a_random_network_does_not_see_the_stored_order_either():
    predictor, volume = Predictor(tiny_model(tiny_plan()), "cpu", "off"), scan()
    expected = predictor.predict(volume).labels
    assert len(np.unique(expected.array)) > 1
    for change in list(every_order())[::7]:
        assert np.array_equal(predictor.predict(volume.reindexed(change)).labels.on_grid(volume.geometry).array, expected.array)


def test_resampled_labels_stay_in_place():
    volume = scan((40, 36, 20))
    labels = threshold(tiny_plan(spacing=(1.5, 1.5, 1.5))).predict(volume).labels
    inside, truth = labels.array > 0, volume.array[0] > 100
    apart = volume.geometry.world(np.argwhere(inside).mean(0)) - volume.geometry.world(np.argwhere(truth).mean(0))
    assert np.linalg.norm(apart) < 0.5
    assert 2 * (inside & truth).sum() / (inside.sum() + truth.sum()) > 0.85


def test_confidence_is_the_mean_probability_of_the_voxels_won():
    volume = scan()
    (name,) = ORGAN.names
    won = volume.array[0][volume.array[0] > 100].astype(float)
    expected = (1 / (1 + np.exp(-(won - 100) / 50))).mean()
    assert threshold(tiny_plan()).predict(volume).confidence == {name: pytest.approx(expected, abs=1e-5)}


def test_confidence_of_many_classes_lies_between_one_over_k_and_one():
    confidence = Predictor(tiny_model(tiny_plan(), seed=3), "cpu").predict(scan()).confidence
    assert list(confidence) == list(SIDED.names)
    assert any(value is not None for value in confidence.values())
    assert all(value is None or 0.25 <= value <= 1 for value in confidence.values())


def test_a_label_that_is_nowhere_has_no_confidence():
    volume = Volume(np.full((1, 9, 9, 9), 30, np.int16), Geometry((9, 9, 9), np.eye(4)))
    prediction = threshold(tiny_plan()).predict(volume)
    assert prediction.confidence == {"label_7": None}
    assert not prediction.labels.array.any()
    assert prediction.flags == ()


def test_a_label_at_the_border_is_flagged():
    volume = scan()
    assert not any("border" in flag for flag in threshold(tiny_plan()).predict(volume).flags)
    touching = Volume(volume.array[:, 5:], Geometry((13, 15, 12), AFFINE))
    assert "label_7 reaches the border of the scan" in threshold(tiny_plan()).predict(touching).flags


def test_a_single_slice_has_no_border_along_its_depth():
    volume = scan()
    single = Volume(volume.array[..., 5:6], Geometry((18, 15, 1), AFFINE))
    assert not any("border" in flag for flag in threshold(tiny_plan()).predict(single).flags)


def test_spacings_unlike_the_training_set_are_flagged_along_ras_axes():
    plan = tiny_plan(orientation="SAR")
    predictor = threshold(plan, spacing_range=((0.8, 0.8, 2.0), (1.0, 1.0, 3.0)))

    def flags(spacing, change):
        grid = Geometry.from_spacing((9, 9, 9), spacing)
        return predictor.predict(Volume(np.full((1, 9, 9, 9), 30, np.int16), grid).reindexed(change)).flags

    for change in (Reindex((0, 1, 2), (False,) * 3), Reindex((2, 0, 1), (True, False, True))):
        assert flags((1.0, 1.0, 2.5), change) == ()
        assert flags((1.4, 0.6, 4.4), change) == ()
        assert flags((1.0, 1.0, 5.0), change) == ("spacing unlike the training set: 5 mm (trained on 2 to 3)",)
        assert flags((0.5, 1.0, 2.0), change) == ("spacing unlike the training set: 0.5 mm (trained on 0.8 to 1)",)


def test_pictures():
    array = np.full((1, 30, 20), 30, np.uint8)
    array[0, 8:20, 4:12] = 200
    plan = tiny_plan(2, long_side=15)
    predictor = threshold(plan, spacing=None, spacing_range=None)
    labels = predictor.predict(picture(array)).labels
    assert np.array_equal(labels.array > 0, array[0] > 100)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 2), (30, 3, 1)])
def test_scans_smaller_than_a_window(shape):
    volume = Volume(np.full((1, *shape), 200, np.int16), Geometry(shape, AFFINE))
    assert (threshold(tiny_plan()).predict(volume).labels.array == 7).all()


def test_channels_and_axes_must_fit():
    predictor = Predictor(tiny_model(tiny_plan(channels=("water", "fat"))), "cpu")
    with pytest.raises(ModelError, match=r"1 channels, the plan has 2 \(water, fat\)"):
        predictor.predict(scan())
    with pytest.raises(ModelError, match="a picture"):
        predictor.predict(picture(np.ones((2, 9, 9))))


def test_one_predictor_in_two_threads():
    predictor = Predictor(tiny_model(tiny_plan(flips=(0,))), "cpu")
    volumes = [scan(seed=seed) for seed in range(6)]
    alone = [predictor.predict(volume).labels.array for volume in volumes]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda volume: predictor.predict(volume).labels.array, volumes))
    assert all(np.array_equal(one, two) for one, two in zip(alone, together, strict=True))
    assert not all(np.array_equal(alone[0], other) for other in alone[1:])
