"""Volumes slice by slice: 2D networks with patches one voxel deep, against MONAI's sliding window and against single slices."""

import itertools

import numpy as np
import pytest

from helpers.dense import dense_logits, disagreements
from helpers.plans import SIDED, tiny_model, tiny_network, tiny_plan
from voxelry.core.geometry import Geometry, Reindex
from voxelry.core.volume import Volume
from voxelry.inference.patches import SHEETS_AT_A_TIME, PatchGrid
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.predictor import Predictor

OFF = PredictOptions(mixed_precision="off")
AFFINE = np.array([[0.9, 0.0, 0.1, -20], [0.1, 1.1, 0.0, 8], [0.0, -0.1, 4.0, 3], [0, 0, 0, 1.0]])


def sliced(axis=2, **changes):
    """A plan of slices across `axis`, 16 x 16 pixels a patch."""

    def spread(value, other):
        return tuple(other if one == axis else value for one in range(3))

    network = tiny_network(3, strides=((1, 1, 1), spread(2, 1), spread(2, 1)), kernels=(spread(3, 1),) * 3, deep_supervision=1)
    parts = {"configuration": "2d", "slice_axis": axis, "patch_size": spread(16, 1), "network": network}
    return tiny_plan(3, **(parts | changes))


def scan(shape=(19, 17, 37), seed=0):
    return Volume(np.random.default_rng(seed).normal(40, 20, (1, *shape)).astype(np.float32), Geometry(shape, AFFINE))


def classes(prediction):
    return SIDED.to_classes(prediction.labels.array, "test")


@pytest.mark.parametrize(("axis", "spacing"), [(0, None), (1, None), (2, (1.3, 0.8, None))])
def test_slices_equal_monais_sliding_window(axis, spacing):
    plan, volume = sliced(axis, spacing=spacing), scan(tuple(np.roll((37, 19, 17), axis)))
    predictor = Predictor(tiny_model(plan), "cpu", OFF)
    assert predictor.segmenter.ensembles[0].task(volume).grid.axis == axis
    values = dense_logits(lambda x: predictor.networks[0](x)[0], plan, volume)
    found = classes(predictor.predict(volume))
    wrong, ties = disagreements(found, values)
    assert (wrong, ties < 0.01, len(np.unique(found)) > 1) == (0, True, True)


def test_slices_do_not_see_each_other():
    volume, predictor = scan((16, 16, SHEETS_AT_A_TIME + 5)), Predictor(tiny_model(sliced()), "cpu", OFF)
    assert predictor.segmenter.ensembles[0].task(volume).grid.axis == 2
    whole = predictor.predict(volume).labels.array
    for index in (0, 7, SHEETS_AT_A_TIME - 1, SHEETS_AT_A_TIME, SHEETS_AT_A_TIME + 4):
        part = Volume(volume.array[..., index : index + 1], Geometry((16, 16, 1), AFFINE))
        assert np.array_equal(predictor.predict(part).labels.array[..., 0], whole[..., index])


def test_stored_order_does_not_matter():
    predictor, volume = Predictor(tiny_model(sliced()), "cpu", OFF), scan()
    expected = predictor.predict(volume).labels
    every = itertools.product(itertools.permutations(range(3)), itertools.product((False, True), repeat=3))
    for order, flips in list(every)[::7]:
        labels = predictor.predict(volume.reindexed(Reindex(order, flips))).labels
        assert np.array_equal(labels.on_grid(volume.geometry).array, expected.array)


def test_a_mirror_across_the_slices_is_left_out():
    volume, seen = scan(), {}
    for flips in ((), (2,), (0,), (0, 2)):
        predictor = Predictor(tiny_model(sliced(flips=flips)), "cpu", OFF)
        seen[flips] = predictor.predict(volume).labels.array
        assert len(predictor.segmenter.ensembles[0].mirrors) == (2 if 0 in flips else 1)
    assert np.array_equal(seen[()], seen[(2,)])
    assert np.array_equal(seen[(0,)], seen[(0, 2)])
    assert not np.array_equal(seen[()], seen[(0,)])


def test_patches_stream_across_the_slices_many_slices_at_a_time():
    grid = PatchGrid.of((256, 256, 100), (192, 192, 1), 0.5)
    assert (grid.axis, grid.depth, len(grid.sheets)) == (2, SHEETS_AT_A_TIME, -(-100 // SHEETS_AT_A_TIME))
    assert [s for along in grid.sheets for s in along] == list(range(100))
    assert PatchGrid((256, 256, 3), (192, 192, 1), 0.5, 2).depth == 3
    deep = PatchGrid.of((256, 256, 100), (64, 64, 32), 0.5)
    assert (deep.depth, len(deep.sheets)) == (deep.patch_shape[0], len(deep.starts[0]))


def test_batches_are_full_across_slices():
    volume, sizes = scan((16, 16, 20)), []
    predictor = Predictor(tiny_model(sliced()), "cpu", PredictOptions(mixed_precision="off", batch=8))
    forwards = predictor.segmenter.ensembles[0].members.forwards(lambda: pytest.fail("no choice"), 1)
    run = forwards[0]

    def watched(patches):
        sizes.append(len(patches))
        return run(patches)

    forwards[0] = watched
    many = predictor.predict(volume).labels.array
    assert sizes == [8, 8, 4]  # 16 slices together, then 4
    assert np.array_equal(many, Predictor(tiny_model(sliced()), "cpu", OFF).predict(volume).labels.array)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_backends_compute_slices(backend):
    pytest.importorskip(backend)
    pytest.importorskip("onnxscript")
    volume = scan((12, 12, 5))
    plain = Predictor(tiny_model(sliced()), "cpu", OFF).predict(volume).labels.array
    other = Predictor(tiny_model(sliced()), "cpu", PredictOptions(mixed_precision="off", backend=backend))
    assert (other.predict(volume).labels.array != plain).mean() < 1e-3


@pytest.mark.parametrize("roi", ["body", "coarse"])
def test_regions_of_interest_of_slices(roi):
    volume = scan((24, 40, 60))
    volume.array[:, :, :12] = 0
    volume.array[:, 0, 0, 0] = 1  # so that nothing is cropped
    predictor = Predictor(tiny_model(sliced()), "cpu", PredictOptions(mixed_precision="off", roi=roi))
    labels = predictor.predict(volume).labels.array
    plain = Predictor(tiny_model(sliced()), "cpu", OFF).predict(volume).labels.array
    assert np.array_equal(labels[:, 28:], plain[:, 28:])
    assert labels.any()
