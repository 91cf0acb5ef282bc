"""The scan that stands in for a real one has the training set's grey values and the plan's grid."""

import numpy as np

from voxelry.exchange import make_sample_scan
from voxelry.networks.weights import load_models
from voxelry.preparation.preparation import prepare


def test_it_is_a_few_patches_of_the_usual_grey_values(torso_model):
    (model,) = load_models(torso_model)
    scan = make_sample_scan(model)
    prepared = prepare(scan, model.plan)
    assert all(size > edge for size, edge in zip(prepared.shape, model.plan.patch_size, strict=True))
    grey = model.card.fingerprint.statistics[0]
    inside = (scan.array >= grey.p005) & (scan.array <= grey.p995)
    assert inside.mean() > 0.9
    low, high = np.percentile(scan.array, [5, 95])
    assert (high - low) > 0.4 * (grey.p995 - grey.p005)


def test_it_is_the_same_every_time(torso_model):
    (model,) = load_models(torso_model)
    assert np.array_equal(make_sample_scan(model).array, make_sample_scan(model).array)
    assert not np.array_equal(make_sample_scan(model).array, make_sample_scan(model, seed=1).array)
