import numpy as np
import pytest

from helpers.nnunet_results import configuration, dataset, plans, write_results
from voxelry.api.import_verbs import import_model
from voxelry.core.geometry import Geometry
from voxelry.core.volume import Volume
from voxelry.errors import LabelError, ModelError, UsageError
from voxelry.exchange.nnunet_import import import_results
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.predictor import Predictor
from voxelry.networks.weights import load_models

WHOLE = {300: "liver", 2: "spleen", 7: "left kidney"}
OPTIONS = PredictOptions(mixed_precision="off", confidence="probability", flips=False)


@pytest.fixture
def parts(tmp_path):
    """Two results folders, of other spacings and labels."""
    coarse = plans({"3d_fullres": configuration(spacing=[2.0, 2.0, 2.0])})
    first, _ = write_results(tmp_path / "a", card=dataset(labels={"background": 0, "spleen": 1, "liver": 2}), balanced=True)
    kidney = dataset(labels={"background": 0, "left kidney": 1})
    second, _ = write_results(tmp_path / "b", plan=coarse, card=kidney, classes=2, balanced=True)
    return [first, second]


def test_a_later_part_lies_over_an_earlier_one(parts, tmp_path):
    import_model("nnunet", parts, tmp_path / "model", labels=WHOLE)
    models = load_models(tmp_path / "model")
    assert [model.card.classes for model in models] == [("spleen", "liver"), ("left kidney",)]
    grey = np.random.default_rng(0).normal(size=(1, 20, 18, 12)).astype(np.float32)
    volume = Volume(grey, Geometry.from_spacing((20, 18, 12), (1, 1, 2)))
    whole = Predictor(models, "cpu", OPTIONS).predict(volume)
    first, second = (Predictor(import_results(folder), "cpu", OPTIONS).predict(volume) for folder in parts)
    values = np.array([0, 2, 300])[first.labels.array]
    expected = np.where(second.labels.array == 1, 7, values)
    assert set(np.unique(expected)) == {0, 2, 7, 300}
    assert np.array_equal(whole.labels.array, expected)
    assert whole.labels.table.id2label == {0: "background"} | WHOLE
    assert whole.confidence == {"spleen": first.confidence["spleen"], "liver": first.confidence["liver"]} | second.confidence
    certain = np.where(expected == 7, second.map.array[0], np.where(expected == 0, 0, first.map.array[0]))
    assert np.array_equal(np.where(expected == 0, 0, whole.map.array[0]), certain)
    doubtful = np.minimum(first.map.array[0], second.map.array[0])
    assert np.array_equal(whole.map.array[0][expected == 0], doubtful[expected == 0])


def test_mistakes_are_explained(parts, tmp_path):
    with pytest.raises(ModelError, match="labels left kidney are not in the table"):
        import_model("nnunet", parts, tmp_path / "model", labels={1: "spleen", 2: "liver"})
    with pytest.raises(ModelError, match="no part gives aorta"):
        import_model("nnunet", parts, tmp_path / "model", labels=WHOLE | {9: "aorta"})
    with pytest.raises(UsageError, match="2 folders without labels"):
        import_model("nnunet", parts, tmp_path / "model")
    with pytest.raises(LabelError, match="value 0 is 'liver'"):
        import_model("nnunet", parts, tmp_path / "model", labels={0: "liver"})
    assert not (tmp_path / "model").exists()


def test_the_table_may_be_a_file(parts, tmp_path):
    file = tmp_path / "labels.json"
    file.write_text('{"300": "liver", "2": "spleen", "7": "left kidney"}')
    assert len(import_model("nnunet", parts, tmp_path / "model", labels=file)) == 2
