"""The table of metrics: every entry against its function, and the how-to that adds one."""

import re
import sys
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, ModuleType

import numpy as np
import pytest

import voxelry as vx
from helpers.predicted_map import predicted
from voxelry.cohort.comparison import compare_scores
from voxelry.core.geometry import Geometry
from voxelry.core.labels import LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import UsageError
from voxelry.metrics import metric_table
from voxelry.metrics.empty_policy import EmptyPolicy
from voxelry.metrics.families import measure
from voxelry.metrics.metric_table import (
    DEFAULT_POLICIES,
    FAMILIES,
    Family,
    Metric,
    check_metrics,
    family_of,
    metric_named,
    with_unit,
)
from voxelry.metrics.regions import VOXEL_METRICS
from voxelry.metrics.scores import Scores

ROOT = Path(__file__).parents[2]
COLUMNS = [metric for family in FAMILIES.values() for metric in family.metrics]
BOTH, ONLY_REFERENCE = 0, 1
"""Columns of the labels of `tubes`."""


def tubes():
    """Four labels: in both maps, only in the reference, only in the prediction, in neither."""
    maps = np.zeros((2, 24, 24, 24), np.uint8)
    maps[:, 3:6, 3:6, 2:22] = 1
    maps[0, 10:13, 10:13, 2:22] = 2
    maps[1, 17:20, 17:20, 2:22] = 3
    grid = Geometry.from_spacing(maps.shape[1:], (1.0, 2.0, 3.0))
    return [LabelMap.of(array, grid, LabelTable.numbered([1, 2, 3, 4])) for array in maps]


def test_every_column_stands_once_and_scores_empty_masks_as_its_entry_says():
    assert len({metric.name for metric in COLUMNS}) == len(COLUMNS)
    reference, prediction = tubes()
    scores = measure(reference, predicted(prediction), metrics=list(FAMILIES)).values
    assert list(scores) == [metric.name for metric in COLUMNS]
    for metric in COLUMNS:
        values = scores[metric.name][0]
        assert np.isfinite(values[BOTH]), metric.name
        rule = metric.empty
        for column, value in enumerate((rule.only_reference, rule.only_prediction, rule.both), start=ONLY_REFERENCE):
            if value is not None:
                np.testing.assert_equal(values[column], value, err_msg=metric.name)
            else:
                assert np.isfinite(values[column]), metric.name


@pytest.mark.parametrize("metric", COLUMNS, ids=lambda metric: metric.name)
def test_a_perfect_prediction_is_no_worse_than_a_shifted_one(metric):
    reference, _ = tubes()
    shifted = replace(reference, layers=np.roll(reference.layers, 2, axis=3))
    family = family_of(metric.name).name
    scores = [
        measure(reference, predicted(other), metrics=[family]).values[metric.name][0, BOTH] for other in (reference, shifted)
    ]
    perfect, worse = np.abs(scores) if metric.better == "zero" else scores
    assert perfect >= worse if metric.better == "higher" else perfect <= worse
    assert metric_named(metric.name) is metric


def test_functions_that_are_no_columns_have_a_rule_for_empty_masks():
    assert {"msd_to_prediction", "msd_to_reference", *VOXEL_METRICS} <= set(DEFAULT_POLICIES)
    assert family_of("msd_to_prediction") is None
    assert metric_named("a column of somebody else's table") is None


def test_names_with_units():
    assert [with_unit(name) for name in ("hd95", "nsd", "assd_px", "instance_fp", "seconds")] == [
        "hd95 (mm)", "nsd", "assd_px (px)", "instance_fp (objects)", "seconds",
    ]  # fmt: skip


def test_an_unknown_family_names_the_nearest():
    with pytest.raises(UsageError, match=r"'surfaces'.*'surface'"):
        check_metrics(["overlap", "surfaces"])


@pytest.fixture
def added(monkeypatch):
    """The metric of the how-to, added as the how-to says."""
    page = (ROOT / "docs" / "how-to" / "add-a-metric.md").read_text(encoding="utf-8")
    module, entry = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    code = ModuleType("voxelry.metrics.volume_similarity")
    exec(module, code.__dict__)
    monkeypatch.setitem(sys.modules, code.__name__, code)
    names = {"Family": Family, "Metric": Metric, "EmptyPolicy": EmptyPolicy, "MISSING": metric_table.MISSING}
    family = eval(entry, names)
    families = MappingProxyType({**FAMILIES, family.name: family})
    for place in ("voxelry.metrics.metric_table", "voxelry.metrics.families"):
        monkeypatch.setattr(sys.modules[place], "FAMILIES", families)
    return family


def test_the_metric_of_the_how_to(added):
    reference, prediction = tubes()
    prediction = replace(prediction, layers=prediction.layers * np.r_[np.ones(12), np.zeros(12)].astype(np.uint8))
    values = vx.evaluate(reference, prediction, metrics=["similarity"]).values["volume_similarity"][0]
    np.testing.assert_allclose(values, [2 / 3, 0, 0, np.nan])
    with pytest.raises(UsageError, match="similarity"):
        vx.evaluate(reference, prediction, metrics=["similarities"])


def test_comparison_prefers_the_model_that_the_table_calls_better(monkeypatch):
    def scores(name, values):
        confusions = np.tile(np.array([[50, 0], [0, 50]]), (8, 1, 1))
        return Scores(tuple("abcdefgh"), ("x",), confusions, {name: np.array(values, float)[:, None]})

    low, high = np.arange(8.0) + 1, np.arange(8.0) + 5
    for name, winner in (("nsd_px", "B"), ("hd95_px", "A"), ("volume_error", "A"), ("dsb_ap50_95", "B")):
        rows = compare_scores(scores(name, low), scores(name, high), [name])
        assert rows[0].winner == winner, name
    rows = compare_scores(scores("volume_error", -low), scores("volume_error", -high), ["volume_error"])
    assert rows[0].winner == "A"
