"""Metrics of two maps: each against the column of `Scores` of its name, and against MONAI."""

import doctest
import importlib

import numpy as np
import pytest
import torch
from monai.metrics import DiceMetric, HausdorffDistanceMetric, MeanIoU

from voxelry import metrics
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import GeometryError, GridMismatchError, LabelError, UsageError
from voxelry.metrics.families import measure
from voxelry.metrics.metric_table import FAMILIES, family_of

SPACING = (1.0, 1.5, 3.0)
TABLE = LabelTable(labels=(Label(value=1, name="liver"), Label(value=4, name="spleen"), Label(value=9, name="absent")))
COLUMN = {"panoptic_quality": "instance_pq"}
FUNCTIONS = sorted(name for name in metrics.__all__ if getattr(metrics, name).__module__ == "voxelry.metrics.functional")
SURFACE = {metric.name for metric in FAMILIES["surface"].metrics}


def arrays():
    maps = np.zeros((2, 16, 14, 12), np.uint8)
    maps[0, 2:7, 2:8, 2:9], maps[1, 3:8, 2:8, 2:8] = 1, 1
    maps[0, 10:14, 8:12, 2:9], maps[1, 10:15, 7:12, 3:9] = 4, 4
    return maps


def label_maps():
    grid = Geometry.from_spacing((16, 14, 12), SPACING)
    return [LabelMap.of(array, grid, TABLE) for array in arrays()]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_gives_its_column_of_scores(name):
    column = COLUMN.get(name, name)
    expected = measure(*label_maps(), metrics=[family_of(column).name]).values[column][0]
    scores = getattr(metrics, name)(*label_maps())
    assert list(scores) == ["liver", "spleen", "absent"]
    np.testing.assert_array_equal(list(scores.values()), expected)
    spacing = {"spacing": SPACING} if name in SURFACE else {}
    of_arrays = getattr(metrics, name)(*arrays(), **spacing)
    assert list(of_arrays) == [1, 4]
    np.testing.assert_allclose(list(of_arrays.values()), expected[:2], rtol=1e-12)


def test_every_function_and_class_has_an_example_that_runs():
    assert {"dice", "iou", "hd", "hd95", "assd", "masd", "nsd"} <= set(FUNCTIONS)
    for name in metrics.__all__:
        module = importlib.import_module(getattr(metrics, name).__module__)
        examples = doctest.DocTestFinder(recurse=False).find(getattr(metrics, name), name, module=module)
        assert sum(len(example.examples) for example in examples), name
        for example in examples:
            assert doctest.DocTestRunner(verbose=False).run(example).failed == 0, name


@pytest.mark.filterwarnings("ignore:monai.metrics:FutureWarning")
def test_monai_agrees():
    truth, guess = (torch.from_numpy((array == 1)[None, None]) for array in arrays())
    pair = [array == 1 for array in arrays()]
    for name, theirs in (("dice", DiceMetric()), ("iou", MeanIoU())):
        assert getattr(metrics, name)(*pair)[1] == pytest.approx(float(theirs(guess, truth)), abs=1e-6)
    hausdorff = HausdorffDistanceMetric()(guess.float(), truth.float(), spacing=SPACING)
    assert metrics.hd(*pair, spacing=SPACING)[1] == pytest.approx(float(hausdorff), abs=1e-5)


def test_tolerances_and_pictures():
    flat = [array[:, :, 4] for array in arrays()]
    assert metrics.nsd(*flat, tolerance=0.0, spacing=(1, 1))[1] < metrics.nsd(*flat, tolerance=2.0, spacing=(1, 1))[1] == 1
    strict, loose = (metrics.nsd(*label_maps(), tolerance={"liver": 0.1, "spleen": t, "absent": 1.0}) for t in (0.1, 99.0))
    assert strict["liver"] == loose["liver"]
    assert strict["spleen"] < loose["spleen"] == 1


def test_bad_input():
    reference, prediction = arrays()
    with pytest.raises(UsageError, match=r"hd95.*spacing"):
        metrics.hd95(reference, prediction)
    with pytest.raises(UsageError, match="their own"):
        metrics.hd95(*label_maps(), spacing=SPACING)
    with pytest.raises(UsageError, match="beside an array"):
        metrics.dice(label_maps()[0], prediction)
    with pytest.raises(GeometryError, match="spacing"):
        metrics.hd(reference, prediction, spacing=(1.0, 1.0))
    with pytest.raises(GeometryError, match="2D or 3D"):
        metrics.dice(reference[None], prediction[None])
    with pytest.raises(GridMismatchError, match="shape"):
        metrics.dice(reference, prediction[1:])
    with pytest.raises(LabelError, match="whole numbers"):
        metrics.dice(reference.astype(float), prediction)
