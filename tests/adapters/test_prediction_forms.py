import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelry.adapters import segmentation_answer, segmentation_result
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import UsageError
from voxelry.inference.predictor import Prediction

TABLE = LabelTable(
    labels=(
        Label(value=1, name="tissue"),
        Label(value=2, name="nucleus", kind="thing"),
        Label(value=3, name="over", kind="thing", layer=1),
    )
)
FLAT, DEEP = (10, 12), (5, 6, 7)


def prediction_of(seed, layers=1, shape=FLAT, probability=True):
    """Random voxels; ids 1, 2, 3 of nuclei, and 11, 12 on a second layer."""
    rng = np.random.default_rng(seed)
    classes = np.zeros((layers, *shape), np.uint8)
    ids = np.zeros((layers, *shape), np.uint32)
    classes[0] = rng.choice([0, 1, 2], shape)
    ids[0] = np.where(classes[0] == 2, rng.choice([1, 2, 3], shape), 0)
    if layers == 2:
        classes[1] = rng.choice([0, 3], shape)
        ids[1] = np.where(classes[1] == 3, rng.choice([11, 12], shape), 0)
    geometry = Geometry(shape) if len(shape) == 2 else Geometry.from_spacing(shape, (1, 1, 2))
    table = TABLE if layers == 2 else LabelTable(labels=TABLE.labels[:2])
    grey = Volume(rng.integers(100, 256, (1, *shape)).astype(np.uint8), geometry, channel_names=("probability",))
    labels = LabelMap(classes, geometry, table, instances=ids)
    return Prediction(labels, {"tissue": 0.8, "nucleus": 0.6, "over": 0.7}, map=grey if probability else None)


def by_id(result):
    return {row["id"]: row for row in result["segments_info"]}


@given(st.integers(0, 40), st.sampled_from([FLAT, DEEP]))
def test_a_prediction_is_whole_by_default(seed, shape):
    prediction = prediction_of(seed, shape=shape)
    result = segmentation_result(prediction)
    classes, ids = prediction.labels.layers[0], prediction.labels.instances[0]
    assert np.array_equal(result["segmentation"], np.where(classes == 2, ids, np.where(classes == 1, ids.max() + 1, 0)))
    assert result["segmentation"].dtype == np.uint32
    assert [row.as_dict() for row in prediction.segments_info] == [
        {key: value for key, value in row.items() if key != "was_fused"} for row in result["segments_info"]
    ]
    assert {row["label"]: row["was_fused"] for row in result["segments_info"]} == {"nucleus": False, "tissue": True}
    json.dumps(result["segments_info"])


def test_scores_are_those_of_the_map_or_else_of_the_label():
    with_map, without = prediction_of(1), prediction_of(1, probability=False)
    ids, grey = with_map.labels.instances[0], with_map.map.array[0]
    assert by_id(segmentation_result(with_map))[2]["score"] == pytest.approx(grey[ids == 2].mean() / 255)
    assert by_id(segmentation_result(without))[2]["score"] == 0.6
    entropy = replace(with_map, map=replace(with_map.map, channel_names=("entropy",)))
    assert by_id(segmentation_result(entropy))[2]["score"] == 0.6


def test_a_threshold_leaves_out_segments():
    prediction = prediction_of(2)
    scores = sorted(row["score"] for row in segmentation_result(prediction)["segments_info"])
    kept = segmentation_result(prediction, threshold=scores[2])
    assert sorted(row["score"] for row in kept["segments_info"]) == scores[2:]
    assert set(np.unique(kept["segmentation"])) - {0} == set(by_id(kept))


def test_a_segment_of_unknown_score_is_kept():
    prediction = replace(prediction_of(3, probability=False), confidence={"tissue": None})
    assert segmentation_result(prediction, threshold=0.99)["segments_info"] != []


def test_a_mask_threshold_leaves_out_voxels_and_then_segments():
    prediction = prediction_of(4)
    sure = prediction.map.array[0] / 255 >= 0.7
    whole, cut = segmentation_result(prediction), segmentation_result(prediction, mask_threshold=0.7)
    assert np.array_equal(cut["segmentation"], np.where(sure, whole["segmentation"], 0))
    for number, row in by_id(cut).items():
        assert row["voxels"] == np.count_nonzero(cut["segmentation"] == number)
    shares = {i: by_id(cut)[i]["voxels"] / row["voxels"] for i, row in by_id(whole).items()}
    middle = sorted(shares.values())[1]
    large = segmentation_result(prediction, mask_threshold=0.7, overlap_mask_area_threshold=middle)
    assert set(by_id(large)) == {i for i, share in shares.items() if share > middle}


@given(st.integers(0, 20))
def test_of_overlapping_segments_the_highest_score_wins(seed):
    prediction = prediction_of(seed, layers=2)
    scores = {row.id: row.score for row in prediction.segments_info}
    result = segmentation_result(prediction)
    stuff = max(scores)
    first = np.where(prediction.labels.layers[0] == 1, stuff, prediction.labels.instances[0])
    score = np.vectorize(lambda number: scores.get(number, -1.0))
    second = prediction.labels.instances[1]
    assert np.array_equal(result["segmentation"], np.where(score(second) > score(first), second, first))


def test_fused_things_are_one_segment():
    prediction = prediction_of(5)
    assert len(segmentation_result(prediction, label_ids_to_fuse=None)["segments_info"]) > 2
    result = segmentation_result(prediction, label_ids_to_fuse={2})
    assert [(row["label"], row["was_fused"]) for row in result["segments_info"]] == [("tissue", True), ("nucleus", True)]
    [nucleus] = [row for row in result["segments_info"] if row["label"] == "nucleus"]
    assert np.array_equal(result["segmentation"] == nucleus["id"], prediction.labels.array == 2)


def test_tasks():
    prediction = prediction_of(6)
    names = {
        task: [row["label"] for row in segmentation_result(prediction, task)["segments_info"]]
        for task in ("semantic", "instance")
    }
    assert names == {"semantic": ["tissue", "nucleus"], "instance": ["nucleus"] * 3}


def test_masks_of_an_answer_are_the_segments():
    for shape in (FLAT, DEEP):
        prediction = prediction_of(7, shape=shape)
        result, answer = segmentation_result(prediction), segmentation_answer(prediction)
        assert [set(row) for row in answer] == [{"score", "label", "mask"}] * 4
        for row, segment in zip(answer, result["segments_info"], strict=True):
            assert (row["score"], row["label"]) == (segment["score"], segment["label"])
            assert np.array_equal(np.asarray(row["mask"]), np.where(result["segmentation"] == segment["id"], 255, 0))
    assert segmentation_answer(prediction_of(7))[0]["mask"].mode == "L"


def test_nothing_is_an_empty_answer():
    labels = LabelMap.of(np.zeros(FLAT, np.uint8), Geometry(FLAT), TABLE)
    prediction = Prediction(labels, {})
    assert segmentation_answer(prediction) == []
    assert not segmentation_result(prediction, "instance")["segmentation"].any()


def test_ids_far_apart():
    prediction = prediction_of(8)
    far = np.where(prediction.labels.instances == 3, 2**31, prediction.labels.instances).astype(np.uint32)
    prediction = replace(prediction, labels=replace(prediction.labels, instances=far))
    result = segmentation_result(prediction)
    assert [row["id"] for row in result["segments_info"]] == [1, 2, 2**31, 2**31 + 1]
    assert np.array_equal(result["segmentation"] == 2**31, far[0] == 2**31)


def test_a_mask_threshold_needs_a_map():
    with pytest.raises(UsageError, match=r"without a map of probabilities.*confidence='probability'"):
        segmentation_result(prediction_of(9, probability=False), mask_threshold=0.5)
