"""Labels on several layers from a manifest to a layered map on the scan's grid: overlaps are learnt, predicted and stored."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.tiny import recipe
from voxelry.base.files import read_yaml, write_yaml
from voxelry.base.progress import no_progress
from voxelry.core.geometry import Geometry
from voxelry.core.instance_plan import InstancePlan
from voxelry.core.label_combinations import LabelCombinations
from voxelry.core.labels import LabelTable
from voxelry.core.volume import LabelMap
from voxelry.datasets.load import load_case
from voxelry.datasets.manifest import load_manifest
from voxelry.errors import ConfigError, LabelError, TrainingError
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.predictor import Predictor
from voxelry.networks.weights import load_model_folder
from voxelry.phantom.dataset import write_phantoms
from voxelry.phantom.phantom import ACQUISITIONS, TABLES, make_phantom
from voxelry.recipes.recipe import load_config
from voxelry.training.loss import make_loss
from voxelry.training.options import RunOptions
from voxelry.training.predictions import StoredPredictions
from voxelry.training.run import train_model
from voxelry.training.setup import dataset_fingerprint, make_plans, prepare_cases

KIND = "chest-xray-heart"
TABLE = TABLES[KIND]
COARSE = replace(ACQUISITIONS[KIND], spacing=(6.0, 6.0, 12.0))
RECIPE = {
    "steps": 150,
    "seed": 1,
    "optimiser": {"learning_rate": 0.01},
    "plan": {"patch_size": [64, 64], "features": [8, 16, 16], "batch_size": 4},
}


@pytest.fixture(scope="module")
def manifest_file(tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("hearts"), KIND, 9, val=1, test=2, format="png", acquisition=COARSE)


def options(manifest_file, folder, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    return RunOptions(load_config(recipe(folder, manifest_file, **RECIPE | changes)), load_manifest(manifest_file))


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@pytest.mark.slow
def test_overlapping_labels_are_learnt_and_predicted(manifest_file, tmp_path):
    run = options(manifest_file, tmp_path / "recipe")
    result = train_model(run, tmp_path / "run")
    assert set(result.history[-1].per_label) == set(TABLE.names)
    assert result.scores.mean_dice > 0.8
    assert result.history[-1].validation > 0.8
    model = load_model_folder(tmp_path / "run" / "model")
    for option in (PredictOptions(confidence="probability"), PredictOptions(average="probabilities", flips=False)):
        predictor = Predictor(model, "cpu", option)
        for case in run.manifest.split("test"):
            volume, reference = load_case(case, run.manifest)
            found = predictor.predict(volume)
            assert found.labels.layers.shape == reference.layers.shape == (2, *volume.geometry.shape)
            scores = {name: dice(found.labels.mask(name), reference.mask(name)) for name in TABLE.names}
            assert min(scores["lung_left"], scores["lung_right"]) > 0.88, scores
            assert scores["heart"] > 0.7, scores
            both, meant = ((labels.layers > 0).all(axis=0) for labels in (found.labels, reference))
            assert dice(both, meant) > 0.4
            assert all(0.5 <= found.confidence[name] <= 1 for name in TABLE.names)
    assert volume.geometry.shape == found.labels.geometry.shape


def test_the_loss_of_combinations_is_that_of_a_sigmoid_for_each_label(manifest_file, tmp_path):
    run = options(manifest_file, tmp_path)
    (plan,) = make_plans(run, dataset_fingerprint(run.manifest, run.manifest.split("train"), no_progress)).values()
    case, *_ = prepare_cases(run.manifest, plan, run.manifest.split("test"), tmp_path / "cache", no_progress)
    _, reference = load_case(run.manifest.split("test")[0], run.manifest)
    classes = torch.from_numpy(np.asarray(case.classes))[None].long()
    masks = torch.stack([torch.from_numpy(reference.mask(region.label)) for region in plan.regions])[None].float()
    assert masks.shape[2:] == classes.shape[1:]
    assert (masks.sum(1) > 1).any()
    logits = torch.randn((1, 4, *classes.shape[1:]), generator=torch.Generator().manual_seed(0))
    loss = make_loss(run.config.loss, plan, TABLE)
    ours = loss.of_head(logits, classes)
    shares = logits[:, 1:].sigmoid()
    overlap = (shares * masks).sum((0, 2, 3))
    soft = 1 - (2 * overlap + 1e-5) / (shares.sum((0, 2, 3)) + masks.sum((0, 2, 3)) + 1e-5)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 1:], masks)
    assert ours.item() == pytest.approx((soft.mean() + entropy).item(), abs=1e-4)


def test_a_picture_and_its_labels_are_what_the_phantom_is(manifest_file):
    manifest = load_manifest(manifest_file)
    assert manifest.card.table == TABLE
    _, labels = load_case(manifest.cases[1], manifest)
    made = make_phantom(KIND, 1, COARSE).labels
    assert np.array_equal(labels.layers, made.layers)
    assert (labels.layers > 0).all(axis=0).any()


def test_stored_predictions_keep_their_layers(tmp_path):
    grid = Geometry((5, 6), None)
    layers = np.random.default_rng(0).integers(0, 2, (2, 5, 6)).astype(np.uint8)
    store = StoredPredictions(tmp_path, TABLE)
    store.save("a", LabelMap(layers, grid, TABLE))
    assert np.array_equal(store.load("a", grid).layers, layers)
    assert store.load("a", grid).instances is None
    ids = np.arange(60, dtype=np.uint32).reshape(layers.shape)
    store.save("b", LabelMap(layers, grid, TABLE, instances=ids))
    assert np.array_equal(store.load("b", grid).instances, ids)
    alone = LabelTable(labels=TABLE.labels[:2])
    with pytest.raises(TrainingError, match="voxels on layers"):
        StoredPredictions(tmp_path, alone).load("a", grid)


def plans_of(run):
    return make_plans(run, dataset_fingerprint(run.manifest, run.manifest.split("train"), no_progress))


def test_regions_beside_layers_are_refused(manifest_file, tmp_path):
    run = options(manifest_file, tmp_path, loss={"regions": {"chest": list(TABLE.names)}})
    with pytest.raises(ConfigError, match=r"loss\.regions names chest, but the labels lie on 2 layers"):
        plans_of(run)


def test_a_plan_without_regions_learns_the_layers_all_the_same(manifest_file, tmp_path):
    run = options(manifest_file, tmp_path)
    (plan,) = plans_of(run).values()
    exclusive = replace(run, config=run.config.model_copy(update={"plan": type(run.config.plan)()}))
    bare = replace(exclusive, plan=plan.model_copy(update={"regions": ()}))
    assert plans_of(bare)["2d"].regions == plan.regions


def test_one_layer_where_the_card_has_two_is_refused(manifest_file, tmp_path):
    card = read_yaml(manifest_file)
    single = manifest_file.parent / "labels" / "heart_000" / "heart.png"
    case = {"id": "heart_000", "images": ["images/heart_000.png"], "labels": str(single), "split": "train"}
    write_yaml(tmp_path / "one.yaml", card | {"cases": [case]})
    manifest = load_manifest(tmp_path / "one.yaml", root=manifest_file.parent)
    with pytest.raises(LabelError, match="labels on 1 layers, those of the card lie on 2"):
        load_case(manifest.cases[0], manifest)


def test_combinations_of_a_case_are_those_of_its_labels(manifest_file, tmp_path):
    run = options(manifest_file, tmp_path)
    (plan,) = plans_of(run).values()
    case, *_ = prepare_cases(run.manifest, plan, run.manifest.split("test"), tmp_path / "cache", no_progress)
    combinations = LabelCombinations(TABLE)
    assert case.classes.dtype == np.int8
    assert sum(case.counts.values()) == np.prod(case.classes.shape)
    assert any(case.count(number) for number in set(combinations.containing[1]) & set(combinations.containing[3]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"configuration": "3d_cascade"}, "2 layers, and a cascade's second stage takes one label a voxel"),
        ({"instances": InstancePlan(labels=("lung_left", "heart"), diameter=9)}, "lung_left, heart lie on several layers"),
    ],
)
def test_what_layers_cannot_have_is_refused(changes, message, manifest_file, tmp_path):
    run = options(manifest_file, tmp_path)
    (plan,) = plans_of(run).values()
    bare = replace(run, config=run.config.model_copy(update={"plan": type(run.config.plan)()}))
    with pytest.raises(ConfigError, match=message):
        plans_of(replace(bare, plan=plan.model_copy(update=changes)))
