"""Ensembles of several plans against the long way: every model's softmax on the scan's own grid, averaged."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import voxelry as vx
from helpers.dense import dense_logits, disagreements, shares
from helpers.plans import SIDED, picture, tiny_model, tiny_network, tiny_plan
from voxelry.core.geometry import Geometry
from voxelry.core.labels import LabelTable
from voxelry.core.model import CleanUp
from voxelry.core.plan import Region
from voxelry.core.volume import Volume
from voxelry.errors import BudgetError, ModelError
from voxelry.formats.grids.nifti_write import write_nifti_image
from voxelry.inference import multi_plan
from voxelry.inference import segmenter as module
from voxelry.inference.cleanup import clean
from voxelry.inference.multi_plan import align_tasks
from voxelry.inference.multi_plan_kernels import decide_mean
from voxelry.inference.patches import SHEETS_AT_A_TIME
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.predictor import Predictor
from voxelry.inference.ring_buffer_torch import DeviceRingBuffer
from voxelry.networks.classes import make_regions
from voxelry.networks.weights import save_ensemble

OFF = PredictOptions(mixed_precision="off")
AFFINE = np.array([[0.9, 0.0, 0.1, -20], [0.1, 1.1, 0.0, 8], [0.0, -0.1, 2.0, 3], [0, 0, 0, 1.0]])
CPU = torch.device("cpu")


def scan(shape=(18, 15, 20), seed=0, channels=1):
    array = np.random.default_rng(seed).normal(40, 20, (channels, *shape)).astype(np.float32)
    return Volume(array, Geometry(shape, AFFINE))


def slices(**changes):
    ones = ((1, 1, 1), (2, 2, 1), (2, 2, 1))
    network = tiny_network(3, strides=ones, kernels=((3, 3, 1),) * 3)
    return tiny_plan(**({"configuration": "2d", "slice_axis": 2, "patch_size": (8, 8, 1), "network": network} | changes))


PLANS = {
    "fine and coarse": (tiny_plan(spacing=(1.3, 1.0, 1.6)), tiny_plan(spacing=(2.0, 2.0, 3.0), configuration="3d_lowres")),
    "slices and patches": (slices(spacing=(1.3, 0.8, None)), tiny_plan(spacing=(1.0, 1.4, 1.5))),
    "patches and slices": (tiny_plan(patch_size=(16, 8, 8)), slices()),
    "turned": (tiny_plan(orientation="RAS", spacing=(1.3, 1.0, 1.6)), tiny_plan(orientation="SPL", patch_size=(8, 12, 8))),
    "three": (slices(), tiny_plan(), tiny_plan(spacing=(1.7, 1.7, 1.7))),
}


def models_of(plans, scale=4.0):
    """Models whose logits are large enough for probabilities to matter."""
    made = []
    for seed, plan in enumerate(plans):
        model = tiny_model(plan, seed=seed)
        weights = {name: value * scale if "output_block" in name else value for name, value in model.weights.items()}
        made.append(replace(model, weights=weights))
    return made


def dense_mean(models, volume, average=shares, before=lambda logits: logits):
    parts = []
    for model in models:
        network = Predictor(model, "cpu", OFF).networks[0]
        parts.append(average(dense_logits(lambda x, net=network: before(net(x)[0]), model.plan, volume)))
    return np.mean(parts, axis=0)


def classes(prediction, table=SIDED):
    return table.to_classes(prediction.labels.array, "test")


@pytest.mark.parametrize("name", list(PLANS))
def test_the_mean_of_probabilities_on_the_scans_own_grid_decides(name):
    models, volume = models_of(PLANS[name]), scan()
    values = dense_mean(models, volume)
    predictor = Predictor(models, "cpu", OFF)
    assert len(predictor.segmenter.ensembles) == len(models)
    found = predictor.predict(volume)
    wrong, ties = disagreements(classes(found), values)
    assert (wrong, ties < 0.01) == (0, True)
    assert all((classes(found) != classes(Predictor(one, "cpu", OFF).predict(volume))).any() for one in models)
    for number, label in enumerate(SIDED.names, start=1):
        own = values.argmax(0) == number
        assert found.confidence[label] == pytest.approx(values[number][own].mean(), abs=1e-3)


@pytest.mark.parametrize("kind", ["probability", "entropy"])
@pytest.mark.parametrize("device", [False, True])
def test_the_map_is_that_of_the_mean(kind, device, monkeypatch):
    if device:
        on_torch(monkeypatch)
    models, volume = models_of(PLANS["turned"], 3.0), scan()
    values = dense_mean(models, volume)
    wanted = values.max(0) if kind == "probability" else -(values * np.log(values)).sum(0) / np.log(len(values))
    found = Predictor(models, "cpu", PredictOptions(mixed_precision="off", confidence=kind)).predict(volume).map
    assert np.abs(found.array[0] - 255 * wanted).max() <= 1.01


def on_torch(monkeypatch):
    """Rings of torch tensors, as a GPU has them."""
    monkeypatch.setattr(
        module, "make_ring_buffer",
        lambda classes, shape, weights, *, half, logits, device=None, regions=False, distance=False, layers=(): DeviceRingBuffer(
            classes, shape, weights, False, logits, CPU, regions, distance, layers
        ),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["slices and patches", "turned"])
def test_rings_of_torch_tensors_agree(name, monkeypatch):
    models, volume = models_of(PLANS[name]), scan()
    expected = classes(Predictor(models, "cpu", OFF).predict(volume))
    on_torch(monkeypatch)
    assert (classes(Predictor(models, "cpu", OFF).predict(volume)) != expected).mean() < 1e-3


@pytest.mark.parametrize("device", [False, True])
@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_regions_are_averaged_each_for_itself(device, average, monkeypatch):
    if device:
        on_torch(monkeypatch)
    regions = (
        Region(name="all", labels=SIDED.names, label="spine"), Region(name="left", labels=("left kidney",), label="left kidney"),
        Region(name="right", labels=("right kidney",), label="right kidney"),
    )  # fmt: skip
    plans = [plan.model_copy(update={"regions": regions}) for plan in (tiny_plan(), tiny_plan(patch_size=(8, 16, 8)))]
    models, volume = models_of(plans, 5.0), scan()

    if average == "logits":
        values = dense_mean(models, volume, lambda logits: 1 / (1 + np.exp(-logits)) - 0.5)
    else:
        values = dense_mean(models, volume, np.asarray, lambda logits: logits.sigmoid() - 0.5)
    last = np.where(values[3] > 0, 2, np.where(values[2] > 0, 1, np.where(values[1] > 0, 3, 0)))
    found = classes(Predictor(models, "cpu", PredictOptions(mixed_precision="off", average=average)).predict(volume))
    sure = (np.abs(values[1:]) > 1e-4).all(0)
    assert sure.mean() > 0.99
    assert np.array_equal(found[sure], last[sure])


@pytest.mark.parametrize("device", [False, True])
@pytest.mark.parametrize("kind", ["probability", "entropy"])
def test_labels_on_layers_are_averaged_and_decided_layer_by_layer(device, kind, monkeypatch):
    if device:
        on_torch(monkeypatch)
    spine = SIDED.labels[2].model_copy(update={"layer": 1})
    table = SIDED.model_copy(update={"labels": (*SIDED.labels[:2], spine)})
    plans = [
        plan.model_copy(update={"regions": make_regions({}, table)}) for plan in (tiny_plan(), tiny_plan(spacing=(2.0,) * 3))
    ]
    models, volume = [layered(model, table) for model in models_of(plans, 5.0)], scan()
    values = dense_mean(models, volume, lambda logits: 1 / (1 + np.exp(-logits)) - 0.5)
    sides = np.where(values[1:3].max(0) > 0, values[1:3].argmax(0) + 1, 0)
    prediction = Predictor(models, "cpu", PredictOptions(mixed_precision="off", confidence=kind)).predict(volume)
    first, second = prediction.labels.layers
    sure = (np.abs(values[1:]) > 1e-4).all(0) & (np.abs(values[1] - values[2]) > 1e-4)
    assert sure.mean() > 0.99
    assert np.array_equal(first[sure], np.array([0, *(label.value for label in table.labels)])[sides][sure])
    assert np.array_equal((second == spine.value)[sure], (values[3] > 0)[sure])
    assert ((first > 0) & (second > 0)).any()
    shares = np.clip(values + 0.5, 1e-9, 1 - 1e-9)
    entropy = -(shares * np.log2(shares) + (1 - shares) * np.log2(1 - shares))
    wanted = {
        "probability": np.minimum(np.abs(values[1:3].max(0)), np.abs(values[3])) + 0.5,
        "entropy": np.maximum(entropy[1:3].mean(0), entropy[3]),
    }[kind]
    assert np.abs(prediction.map.array[0] - 255 * wanted)[sure].max() <= 1.01


def layered(model, table):
    return replace(model, card=model.card.model_copy(update={"labels": table}))


def test_models_of_one_plan_are_one_ensemble_and_its_weight_is_that_of_one():
    fine, other, coarse = models_of((tiny_plan(), tiny_plan(), tiny_plan(spacing=(2.0, 2.0, 3.0))))
    volume = scan()
    logits = [dense_logits(lambda x, n=n: n(x)[0], fine.plan, volume) for n in Predictor([fine, other], "cpu", OFF).networks]
    values = (shares(np.mean(logits, axis=0)) + dense_mean([coarse], volume)) / 2
    predictor = Predictor([fine, coarse, other], "cpu", OFF)
    assert [len(ensemble.models) for ensemble in predictor.segmenter.ensembles] == [2, 1]
    assert disagreements(classes(predictor.predict(volume)), values)[0] == 0


@given(
    shape=st.tuples(*[st.integers(1, 14)] * 3),
    first=st.sampled_from(["RAS", "SPR", "LPS", None]),
    coarse=st.sampled_from([None, (1.3, 1.0, 1.6), (2.4, 2.2, 3.0)]),
    overlap=st.sampled_from([0.7, 0.5, 0.0]),
)
@settings(max_examples=15, deadline=None)
def test_any_scan(shape, first, coarse, overlap):
    plans = (tiny_plan(orientation=first, spacing=coarse), slices(orientation="RAS"))
    models, volume = models_of(plans), scan(shape)
    parts = []
    for model in models:
        network = Predictor(model, "cpu", OFF).networks[0]
        parts.append(shares(dense_logits(lambda x, net=network: net(x)[0], model.plan, volume, overlap=overlap)))
    found = Predictor(models, "cpu", PredictOptions(mixed_precision="off", overlap=overlap)).predict(volume)
    assert disagreements(classes(found), np.mean(parts, axis=0))[0] == 0


def test_pictures_at_two_sizes():
    rng = np.random.default_rng(0)
    volume = picture(rng.integers(1, 255, (1, 40, 30)).astype(np.uint8))
    models = models_of((tiny_plan(2, long_side=40), tiny_plan(2, long_side=24)))
    found = Predictor(models, "cpu", OFF).predict(volume)
    assert disagreements(classes(found), dense_mean(models, volume))[0] == 0


def test_slices_leave_in_order_whatever_the_slab(monkeypatch):
    models, volume = models_of(PLANS["three"]), scan((12, 12, 40))
    predictor = Predictor(models, "cpu", OFF)
    assert align_tasks([ensemble.task(volume) for ensemble in predictor.segmenter.ensembles])[0].grid.depth == SHEETS_AT_A_TIME
    expected = classes(predictor.predict(volume))
    assert disagreements(expected, dense_mean(models, volume))[0] == 0
    monkeypatch.setattr(multi_plan, "SUMMED", 1)  # a slice at a time
    patches = []
    found = Predictor(models, "cpu", OFF).predict(volume, lambda _, done, total: patches.append((done, total)))
    assert np.array_equal(classes(found), expected)
    assert patches[-1][0] == patches[-1][1]
    assert [done for done, _ in patches] == sorted(done for done, _ in patches)


def test_ensembles_stream_along_one_axis_in_one_direction():
    volume = scan((40, 40, 20))
    for orientation, axes in (("SAL", {1, 2}), ("LPS", {2}), ("RPI", {0}), ("PSL", {2})):
        predictor = Predictor(models_of((slices(), tiny_plan(orientation=orientation))), "cpu", OFF)
        tasks = align_tasks([ensemble.task(volume) for ensemble in predictor.segmenter.ensembles])
        (place,) = {task.streaming_axes()[0] for task in tasks}
        assert place[0] in axes
    opposite = Predictor(models_of((tiny_plan(), tiny_plan(orientation="LPI"))), "cpu", OFF)
    with pytest.raises(ModelError, match=r"opposite orientations \(RAS, LPI\)"):
        opposite.predict(volume)


def test_a_cascade_beside_another_configuration():
    lowres = tiny_model(tiny_plan(spacing=(2.0, 2.0, 3.0)), seed=5)
    second, flat = models_of((tiny_plan(configuration="3d_cascade"), slices()))
    second, volume = replace(second, previous=lowres), scan()
    seen = classes(Predictor(lowres, "cpu", OFF).predict(volume)).astype(np.uint8)
    network = Predictor(second, "cpu", OFF).networks[0]
    values = shares(dense_logits(lambda x: network(x)[0], second.plan, volume, seen)) + dense_mean([flat], volume)
    found = Predictor([second, flat], "cpu", OFF).predict(volume)
    assert disagreements(classes(found), values / 2)[0] == 0


def test_a_budget_counts_every_ring(monkeypatch):
    models = models_of(PLANS["fine and coarse"])
    needed = []
    monkeypatch.setattr(module, "resident_memory", lambda: 0)
    for some in (models, models[:1], models[1:]):
        with pytest.raises(BudgetError) as refused:
            Predictor(some, "cpu", PredictOptions(memory=1 << 20)).predict(scan((90, 90, 90)))
        needed.append(refused.value.needed)
    predictor = Predictor(models, "cpu", OFF)
    tasks = align_tasks([ensemble.task(scan((90, 90, 90))) for ensemble in predictor.segmenter.ensembles])
    assert needed[0] > max(needed[1:])
    footprint = predictor.segmenter._footprint(tasks)
    single = [replace(footprint, grids=(task.grid,)) for task in tasks]
    assert footprint.ring(True).total == sum(one.ring(True).total for one in single)


def test_ties_go_to_the_lower_class_and_what_nobody_saw_is_background():
    sums = np.array([[0.25, 0.0, 0.1], [0.5, 0.0, 0.45], [0.25, 0.0, 0.45]], np.float32)
    labels, confidence = np.empty(3, np.uint16), np.empty(3, np.uint8)
    total, won = np.zeros(3), np.zeros(3, np.int64)
    decide_mean(sums, 0, 3, False, False, labels, confidence, total, won)
    assert labels.tolist() == [1, 0, 1]
    assert won.tolist() == [0, 2, 0]
    assert total[1] == pytest.approx(0.95)
    assert confidence.tolist() == [128, 0, 115]


def test_members_of_two_label_tables_are_refused():
    with pytest.raises(ModelError, match="labels"):
        Predictor([tiny_model(tiny_plan()), tiny_model(slices(), LabelTable.numbered([1]))], "cpu")


def test_a_folder_of_slices_and_patches_is_used_like_a_models(tmp_path):
    models, volume = models_of(PLANS["patches and slices"]), scan()
    save_ensemble(models, tmp_path / "model", clean_up=(CleanUp(label="spine", keep_largest=True),))
    write_nifti_image(volume, tmp_path / "case.nii.gz")
    (outcome,) = vx.predict(tmp_path / "model", tmp_path / "case.nii.gz", tmp_path / "out", device="cpu", mixed_precision="off")
    found = vx.read_labels(outcome.files["nifti"])
    expected = clean(Predictor(models, "cpu", OFF).predict(volume).labels, [CleanUp(label="spine", keep_largest=True)])
    assert (found.array != expected.array).mean() < 1e-3
    assert (found.array == 9).any()
