"""The second stage of a cascade: what the first found is seen as training's cache has it, and nothing else changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.networks.utils import one_hot

from helpers.dense import dense_logits, disagreements
from helpers.plans import SIDED, tiny_model, tiny_plan
from voxelry.core.geometry import Geometry
from voxelry.core.labels import LabelTable
from voxelry.core.model import CleanUp
from voxelry.core.volume import Volume
from voxelry.errors import BudgetError, ModelError
from voxelry.inference.cascade import PreviousLabels, one_hot_labels
from voxelry.inference.patches import PatchGrid
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.predictor import Predictor
from voxelry.preparation.preparation import prepare

OFF = PredictOptions(mixed_precision="off")
AFFINE = np.array([[0.9, 0.0, 0.1, -20], [0.1, 1.1, 0.0, 8], [0.0, -0.1, 2.0, 3], [0, 0, 0, 1.0]])


def scan(shape=(18, 15, 20), seed=0):
    return Volume(np.random.default_rng(seed).normal(40, 20, (1, *shape)).astype(np.float32), Geometry(shape, AFFINE))


def cascade(seed=1, *, first=2, **changes):
    """A second stage with random weights whose first stage has other random weights and a coarser grid."""
    lowres = tiny_model(tiny_plan(spacing=(2.0, 2.0, 3.0), configuration="3d_lowres"), seed=first)
    plan = tiny_plan(spacing=(1.3, 1.0, 1.6), configuration="3d_cascade", **changes)
    return replace(tiny_model(plan, seed=seed), previous=lowres)


def labels_of(predictor, volume):
    return SIDED.to_classes(predictor.predict(volume).labels.array, "test")


def dense(models, volume, found, turn=lambda network, x: network(x)[0]):
    """The mean of the second stages' logits where they see `found`."""
    networks = Predictor(models, "cpu", OFF).networks
    return dense_logits(lambda x: sum(turn(one, x) for one in networks) / len(networks), models[0].plan, volume, found)


def test_the_second_stage_sees_what_the_first_one_found():
    model, volume = cascade(), scan()
    found = labels_of(Predictor(model.previous, "cpu", OFF), volume).astype(np.uint8)
    assert set(np.unique(found)) == {0, 1, 2, 3}
    labels = labels_of(Predictor(model, "cpu", OFF), volume)
    wrong, ties = disagreements(labels, dense([model], volume, found))
    assert (wrong, ties < 0.01, len(np.unique(labels)) > 1) == (0, True, True)
    blind = dense([model], volume, np.where(found == 3, 3, 0).astype(np.uint8))
    assert disagreements(labels, blind)[0] > 0


def test_folds_start_from_the_ensemble_of_their_first_stages():
    models, volume = [cascade(seed, first=seed + 5) for seed in (1, 2)], scan()
    found = labels_of(Predictor([one.previous for one in models], "cpu", OFF), volume).astype(np.uint8)
    wrong, _ = disagreements(labels_of(Predictor(models, "cpu", OFF), volume), dense(models, volume, found))
    assert wrong == 0
    shared = [replace(one, previous=models[0].previous) for one in models]
    assert len(Predictor(shared, "cpu", OFF).segmenter.first_stages[0].ensembles[0].models) == 1


def test_left_and_right_change_names_in_a_patch_that_is_mirrored_across_the_body():
    model, volume = cascade(flips=(0, 1)), scan()
    found = labels_of(Predictor(model.previous, "cpu", OFF), volume).astype(np.uint8)
    mirror_map = list(SIDED.mirror_classes())

    def mirrored(network, x):
        total = 0
        for axes in ((), (2,), (3,), (2, 3)):
            seen = x.flip(axes)
            seen = torch.cat([seen[:, :1], seen[:, mirror_map[1:]]], 1) if 2 in axes else seen
            logits = network(seen)[0].flip(axes)
            total = total + (logits[:, mirror_map] if 2 in axes else logits)
        return total / 4

    values = dense([model], volume, found, mirrored)
    assert disagreements(labels_of(Predictor(model, "cpu", OFF), volume), values)[0] == 0


def test_clean_up_rules_of_the_first_stage_are_not_applied_as_in_training():
    model, volume = cascade(), scan()
    rules = tuple(CleanUp(label=name, keep_largest=True) for name in SIDED.names)
    cleaned = replace(model.previous, card=model.previous.card.model_copy(update={"clean_up": rules}))
    expected = Predictor(model, "cpu", OFF).predict(volume).labels.array
    assert np.array_equal(Predictor(replace(model, previous=cleaned), "cpu", OFF).predict(volume).labels.array, expected)


@pytest.mark.parametrize("shape", [(30, 24, 20), (90, 80, 60)])
def test_slices_of_what_was_found_are_those_of_the_whole(shape):
    volume = scan(shape)
    blocks = np.kron(np.random.default_rng(3).integers(0, 4, (6, 5, 4)), np.ones([size // 4 for size in shape], int))
    found = blocks[: shape[0], : shape[1], : shape[2]].astype(np.uint8)
    preparation = prepare(volume, cascade().plan)
    whole = preparation.classes(found)
    for axis in range(3):
        slices = PreviousLabels(found, preparation, axis, (0, 1, 2, 3))
        for first in range(0, whole.shape[axis] - 4, 3):
            assert np.array_equal(slices.slices(first, first + 4)[0], np.take(whole, range(first, first + 4), axis))
    grid = PatchGrid.of(preparation.shape, (8, 8, 8), 0.5)
    assert PreviousLabels.bytes_for(grid) == 2 * 4 * grid.depth * grid.shape[1] * grid.shape[2]


def test_one_channel_a_label_is_monais_one_hot_without_background():
    classes = torch.randint(0, 4, (2, 1, 5, 4, 3), generator=torch.Generator().manual_seed(0)).float()
    made = one_hot_labels(torch.cat([torch.randn(2, 2, 5, 4, 3), classes], 1), 3)
    assert torch.equal(made[:, 2:], one_hot(classes, 4)[:, 1:])
    assert made.shape == (2, 5, 5, 4, 3)


def test_a_second_stage_without_its_first_is_refused():
    model = cascade()
    with pytest.raises(ModelError, match="without its first"):
        Predictor(replace(model, previous=None), "cpu")
    other = tiny_model(tiny_plan(), LabelTable.numbered([1, 2, 3]))
    with pytest.raises(ModelError, match="other labels"):
        Predictor(replace(model, previous=other), "cpu")


def test_a_budget_too_small_for_the_second_stage_is_refused_before_the_first_one_runs():
    model = cascade(patch_size=(64, 64, 64))
    predictor = Predictor(model, "cpu", OFF)
    predictor.segmenter.options = PredictOptions(memory=10 << 20)  # of the second stage alone
    with pytest.raises(BudgetError, match="too small"):
        predictor.predict(scan(), lambda *_: pytest.fail("a patch was run"))


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_backends_compute_the_second_stage(backend):
    pytest.importorskip(backend)
    pytest.importorskip("onnxscript")
    model, volume = cascade(), scan((12, 12, 12))
    plain = Predictor(model, "cpu", OFF).predict(volume).labels.array
    other = Predictor(model, "cpu", PredictOptions(mixed_precision="off", backend=backend)).predict(volume).labels.array
    assert (other != plain).mean() < 5e-3
