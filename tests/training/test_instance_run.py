"""A whole run over pictures whose masks hold ids: planned, trained, predicted and scored as objects."""

import numpy as np
import pytest
from PIL import Image

from voxelry.core.geometry import Geometry
from voxelry.datasets.load import load_case
from voxelry.datasets.manifest import load_manifest
from voxelry.errors import TrainingError
from voxelry.inference.predictor import Predictor
from voxelry.recipes.recipe import Config
from voxelry.training.options import RunOptions
from voxelry.training.predictions import StoredPredictions
from voxelry.training.run import train_model

CARD = """
name: discs
modality: GM
dimensions: 2
instances: mask_ids
labels: [{value: 1, name: disc, kind: thing}]
cases: {images: ["{id}.png"], labels: "{id}_ids.png"}
split: {val: 0.25, seed: 0}
"""


@pytest.fixture(scope="module")
def discs(tmp_path_factory):
    """Eight pictures of discs in touching pairs."""
    folder = tmp_path_factory.mktemp("discs")
    for number in range(8):
        rng = np.random.default_rng(number)
        ids, grid = np.zeros((48, 64), np.uint16), np.indices((48, 64))
        for pair in range(3):
            row, column = int(rng.integers(8, 40)), 10 + 22 * pair
            for half in (0, 1):
                inside = (grid[0] - row) ** 2 + (grid[1] - column - 9 * half) ** 2 <= 20
                ids[inside & (ids == 0)] = 300 * pair + half + 1
        grey = np.clip(30 + 120 * (ids > 0) + rng.normal(0, 10, ids.shape), 0, 255).astype(np.uint8)
        Image.fromarray(grey).save(folder / f"disc{number}.png")
        Image.fromarray(ids).save(folder / f"disc{number}_ids.png")
    (folder / "discs.yaml").write_text(CARD)
    return load_manifest(folder / "discs.yaml")


@pytest.fixture(scope="module")
def run(discs, tmp_path_factory):
    plan = {"patch_size": (32, 32), "features": (8, 16, 16), "batch_size": 4}
    config = Config(manifest=str(discs.path), steps=40, validations=2, device="cpu", plan=plan, optimiser={"learning_rate": 1e-2})
    return train_model(RunOptions(config, discs), tmp_path_factory.mktemp("run") / "run")


def test_the_plan_follows_from_the_masks(run):
    plan = run.model.plan.instances
    assert (plan.labels, plan.decoder) == (("disc",), "watershed")
    assert 8 < plan.diameter < 10
    assert any("touch another" in reason for reason in run.model.plan.reasons)


def test_held_out_pictures_are_scored_as_objects(run, discs):
    assert {"instance_pq", "instance_tp", "dsb_ap50"} <= set(run.scores.values)
    reference = 6 * len(discs.split("val"))
    assert np.nansum(run.scores.values["instance_tp"] + run.scores.values["instance_fn"]) == reference
    assert "instance_pq" in (run.folder / "validation.csv").read_text().splitlines()[0]


def test_predictions_keep_their_ids(run, discs):
    case = discs.split("val")[0]
    image, reference = load_case(case, discs)
    stored = StoredPredictions(run.folder / "predictions", run.model.labels).load(case.id, reference.geometry)
    predicted = Predictor(run.model, "cpu").predict(image).labels
    assert predicted.instances.max() >= 1
    assert ((predicted.instances > 0) <= (predicted.layers > 0)).all()
    assert np.array_equal(np.unique(stored.instances), np.unique(predicted.instances))


def test_ids_of_another_shape_are_refused(run, discs, tmp_path):
    store = StoredPredictions(tmp_path, discs.card.table)
    np.savez(store.file("x"), labels=np.zeros((1, 4, 5), np.uint8), instances=np.zeros((1, 5, 4), np.uint32))
    with pytest.raises(TrainingError, match="voxels on layers"):
        store.load("x", Geometry((4, 5)))
