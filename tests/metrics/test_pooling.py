"""Metrics of a whole set against those of all cases as one picture."""

import numpy as np
import pytest

from helpers.predicted_map import predicted
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.metrics.families import measure
from voxelry.metrics.scores import Scores

TABLE = LabelTable(labels=(Label(value=1, name="cell", kind="thing"), Label(value=2, name="dot", kind="thing")))


def blobs(seed, shape=(40, 40)):
    """Classes of squares apart from each other and from the edge, so that pictures can be joined."""
    rng = np.random.default_rng(seed)
    array = np.zeros(shape, np.uint8)
    for row in range(2, shape[0] - 6, 8):
        for column in range(2, shape[1] - 6, 8):
            array[row : row + rng.integers(1, 6), column : column + rng.integers(1, 6)] = rng.choice([0, 1, 1, 2])
    return array


def as_map(array):
    return LabelMap.of(array, Geometry(array.shape, None, (1.0, 1.0)), TABLE)


FAMILIES = ("instances", "panoptic", "lesions", "identification", "calibration")


def test_pooled_metrics_are_those_of_all_cases_as_one_picture():
    arrays = [(blobs(2 * n), blobs(2 * n + 1)) for n in range(4)]
    scores = Scores.merge([measure(as_map(t), predicted(as_map(g)), str(n), FAMILIES) for n, (t, g) in enumerate(arrays)])
    whole = measure(
        as_map(np.concatenate([t for t, _ in arrays])),
        predicted(as_map(np.concatenate([g for _, g in arrays]))),
        metrics=FAMILIES,
    )
    pooled = scores.pooled
    assert {"panoptic_pq", "instance_pq", "dsb_ap50", "lesion_f1", "identification_rate_20mm", "ece"} <= set(pooled)
    for metric in pooled:
        for k, label in enumerate(scores.labels):
            assert pooled[metric][label] == pytest.approx(whole.values[metric][0, k]), metric
    assert pooled["panoptic_pq"]["all labels"] == pytest.approx(np.mean([pooled["panoptic_pq"][name] for name in scores.labels]))
    right, objects = (scores.values[f"identification_{name}"].sum() for name in ("right", "objects"))
    assert pooled["identification_rate_all"]["all labels"] == pytest.approx(right / objects)
    assert scores.to_dict()["pooled"] == pooled


def test_training_cases_and_labels_of_other_cases_are_left_out():
    first = measure(as_map(blobs(0)), as_map(blobs(1)), "a", ["instances"])
    other = LabelTable(labels=(Label(value=1, name="cell", kind="thing"),))
    second = measure(LabelMap.of(blobs(2) % 2, Geometry((40, 40)), other), as_map(blobs(3) % 2), "b", ["instances"])
    merged = Scores.merge([first, second])
    assert merged.pooled["instance_pq"]["dot"] == pytest.approx(first.values["instance_pq"][0, 1])
    held = Scores(merged.cases, merged.labels, merged.confusions, merged.measures, splits=("train", "val"))
    assert held.pooled["instance_pq"]["cell"] == pytest.approx(second.values["instance_pq"][0, 0])


def test_overlap_alone_has_nothing_pooled():
    scores = measure(as_map(blobs(0)), as_map(blobs(1)))
    assert scores.pooled == {}
    assert "pooled" not in scores.to_dict()
