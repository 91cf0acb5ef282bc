"""Regions from a recipe to labels on the scan's grid: nested ones are learnt, predicted and scored."""

import nibabel
import numpy as np
import pytest

from voxelry.base.files import read_json
from voxelry.base.progress import no_progress
from voxelry.datasets.card import Card
from voxelry.datasets.cases import Case
from voxelry.datasets.load import load_case
from voxelry.datasets.manifest import Manifest
from voxelry.errors import ConfigError
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.predictor import Predictor
from voxelry.networks.weights import load_model_folder
from voxelry.recipes.recipe import Config
from voxelry.training.options import RunOptions
from voxelry.training.run import train_model
from voxelry.training.setup import dataset_fingerprint, make_plans

LABELS = [{"value": 2, "name": "core"}, {"value": 7, "name": "edema"}]
RECIPE = {
    "manifest": "tumour.yaml",
    "device": "cpu",
    "mixed_precision": "off",
    "seed": 1,
    "steps": 160,
    "flips": [0],
    "optimiser": {"learning_rate": 0.01},
    "plan": {"patch_size": (16, 16, 16), "features": (4, 8, 8), "batch_size": 2},
    "loss": {"regions": {"whole": ["edema", "core"], "inner": ["core"]}},
}


@pytest.fixture
def manifest(tmp_path):
    """Bright balls with a brighter core off their middle, in noise."""
    cases = []
    for number, split in enumerate(["train", "train", "train", "val"]):
        rng = np.random.default_rng(number)
        places, middle = np.indices((20, 18, 16)).reshape(3, -1).T, rng.integers(7, 10, 3)
        whole = (np.linalg.norm(places - middle, axis=1) < 5.5).reshape(20, 18, 16)
        core = (np.linalg.norm(places - middle - rng.integers(-1, 2, 3), axis=1) < 3.2).reshape(20, 18, 16)
        labels = np.where(core, 2, np.where(whole, 7, 0)).astype(np.uint8)
        labels[:, :, 0] = 99  # ignored
        image = (200 + 300 * whole + 500 * core + rng.normal(0, 40, whole.shape)).astype(np.int16)
        files = tmp_path / f"{number}.nii.gz", tmp_path / f"{number}_seg.nii.gz"
        for array, file in zip((image, labels), files, strict=True):
            nibabel.save(nibabel.Nifti1Image(array, np.diag([1.0, 1.0, 1.2, 1.0])), file)
        cases.append(Case(f"case{number}", files[:1], labels=files[1], group=f"{number}", split=split))
    card = {"name": "tumour", "modality": "MR", "labels": LABELS, "ignore": 99, "licence": "CC0-1.0"}
    return Manifest(Card.model_validate(card), tuple(cases), tmp_path, tmp_path / "tumour.yaml")


@pytest.mark.slow
def test_nested_regions_are_learnt_and_predicted_as_labels(manifest, tmp_path):
    result = train_model(RunOptions(Config.model_validate(RECIPE), manifest), tmp_path / "run")
    model = load_model_folder(tmp_path / "run" / "model")
    assert [(region.name, region.label) for region in model.plan.regions] == [("whole", "edema"), ("inner", "core")]
    assert set(result.history[-1].per_label) == {"whole", "inner"}
    assert result.scores.mean_dice > 0.8
    volume, reference = load_case(manifest.cases[3], manifest)
    kept = read_json(tmp_path / "run" / "validation.json")["regions"]
    options = [PredictOptions(), PredictOptions(average="probabilities"), PredictOptions(confidence="entropy", flips=False)]
    counted = reference.array != 99
    for option in options:
        prediction = Predictor(model, "cpu", option).predict(volume)
        found = prediction.labels.array
        assert set(np.unique(found)) == {0, 2, 7}
        assert all(0.5 <= prediction.confidence[name] <= 1 for name in ("core", "edema"))
        for name, members in (("whole", (2, 7)), ("inner", (2,))):
            one, other = np.isin(found, members) & counted, np.isin(reference.array, members) & counted
            dice = 2 * (one & other).sum() / (one.sum() + other.sum())
            assert dice > 0.85
            assert kept[name] == pytest.approx(dice, abs=0.05)
    assert prediction.map.array[0].max() > prediction.map.array[0].min()


def test_flips_of_a_prediction_that_a_region_does_not_survive_are_refused(manifest):
    twins = [{"value": 2, "name": "core", "mirror": "edema"}, {"value": 7, "name": "edema", "mirror": "core"}]
    card = Card.model_validate({"name": "sided", "modality": "MR", "labels": twins, "ignore": 99, "licence": "CC0-1.0"})
    sided = Manifest(card, manifest.cases, manifest.root, manifest.path)
    with pytest.raises(ConfigError, match="region 'inner' mirrored left to right"):
        make_plans(RunOptions(Config.model_validate(RECIPE), sided), dataset_fingerprint(sided, sided.cases, no_progress))
