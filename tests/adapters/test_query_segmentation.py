"""The oracle is Hugging Face's own post-processing of the same logits; see `helpers/transformers_outputs.py`."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.transformers_outputs import INSTANCE, PANOPTIC, SEEDS, SEMANTIC, STORED, dense_logits, plain, query_outputs
from voxelry.adapters import (
    post_process_instance_segmentation,
    post_process_panoptic_segmentation,
    post_process_semantic_segmentation,
)
from voxelry.errors import UsageError

EXPECTED = json.loads(STORED.read_text(encoding="utf-8"))


def cases(kind, options):
    runs = [(seed, choice) for seed in SEEDS for choice in options]
    assert len(runs) == len(EXPECTED[kind])
    return [(seed, choice, expected) for (seed, choice), expected in zip(runs, EXPECTED[kind], strict=True)]


@pytest.mark.parametrize(("seed", "options", "expected"), cases("semantic", SEMANTIC))
def test_classes_of_queries(seed, options, expected):
    assert plain(post_process_semantic_segmentation(query_outputs(seed), **options)) == expected


@pytest.mark.parametrize(("seed", "options", "expected"), cases("dense", SEMANTIC))
def test_classes_of_dense_logits(seed, options, expected):
    for outputs in (dense_logits(seed), SimpleNamespace(logits=dense_logits(seed)), {"logits": dense_logits(seed)}):
        assert plain(post_process_semantic_segmentation(outputs, **options)) == expected


def assert_scores(rows, others):
    assert [row.keys() for row in rows] == [other.keys() for other in others]
    assert [row["score"] for row in rows] == pytest.approx([other["score"] for other in others], abs=2e-6)


@pytest.mark.parametrize(("seed", "options", "expected"), cases("instance", INSTANCE))
def test_objects_of_queries(seed, options, expected):
    for result, other in zip(post_process_instance_segmentation(query_outputs(seed), **options), expected, strict=True):
        assert plain(result["segmentation"]) == other["segmentation"]
        assert_scores(result["segments_info"], other["segments_info"])
        for key in ("id", "label_id", "was_fused"):
            assert [row[key] for row in result["segments_info"]] == [row[key] for row in other["segments_info"]]


@pytest.mark.parametrize(("seed", "options", "expected"), cases("panoptic", PANOPTIC))
def test_panoptic_maps_of_queries(seed, options, expected):
    """Equal but for the ids where that library gives one id to two segments."""
    for result, other in zip(post_process_panoptic_segmentation(query_outputs(seed), **options), expected, strict=True):
        rows, theirs = result["segments_info"], other["segments_info"]
        assert_scores(rows, theirs)
        assert [(row["label_id"], row["was_fused"]) for row in rows] == [(row["label_id"], row["was_fused"]) for row in theirs]
        owners = {row["id"]: row["label_id"] for row in rows}
        assert all(owners[row["id"]] == row["label_id"] for row in rows)
        their_id = {-1: -1, 0: 0} | {row["id"]: their["id"] for row, their in zip(rows, theirs, strict=True)}
        assert [[their_id[i] for i in line] for line in result["segmentation"].tolist()] == other["segmentation"]
        if not has_one_id_twice(theirs):
            assert [row["id"] for row in rows] == [row["id"] for row in theirs]


def has_one_id_twice(rows):
    labels = {}
    for row in rows:
        labels.setdefault(row["id"], []).append(row)
    return any(len(same) > 1 and not all(row["was_fused"] for row in same) for same in labels.values())


def test_that_library_gives_one_id_twice_in_some_case():
    assert any(has_one_id_twice(item["segments_info"]) for result in EXPECTED["panoptic"] for item in result)


@given(st.integers(0, 1000))
def test_a_volume_of_one_slice_is_a_picture(seed):
    flat = query_outputs(seed)
    deep = SimpleNamespace(
        class_queries_logits=flat.class_queries_logits, masks_queries_logits=flat.masks_queries_logits[:, :, None]
    )
    options = {"threshold": 0.2, "overlap_mask_area_threshold": 0.1}
    for process, more in (
        (post_process_instance_segmentation, {"threshold": 0.2}),
        (post_process_panoptic_segmentation, options | {"label_ids_to_fuse": {1}}),
    ):
        for picture, volume in zip(process(flat, **more), process(deep, **more), strict=True):
            assert torch.equal(picture["segmentation"], volume["segmentation"][0])
            assert picture["segments_info"] == volume["segments_info"]
    pictures, volumes = post_process_semantic_segmentation(flat), post_process_semantic_segmentation(deep)
    assert all(torch.equal(picture, volume[0]) for picture, volume in zip(pictures, volumes, strict=True))


def test_a_volume_can_be_resized():
    outputs = query_outputs(0)
    outputs.masks_queries_logits = outputs.masks_queries_logits[:, :, None].expand(-1, -1, 3, -1, -1)
    sizes = [(2, 4, 5), (6, 7, 8)]
    assert [tuple(item.shape) for item in post_process_semantic_segmentation(outputs, sizes)] == sizes
    for process in (post_process_instance_segmentation, post_process_panoptic_segmentation):
        assert [tuple(item["segmentation"].shape) for item in process(outputs, target_sizes=sizes)] == sizes


def test_outputs_are_left_as_they_are():
    outputs, before = query_outputs(1), query_outputs(1)
    post_process_panoptic_segmentation(outputs, threshold=0.1, label_ids_to_fuse={0})
    post_process_instance_segmentation(outputs, threshold=0.1)
    assert torch.equal(outputs.masks_queries_logits, before.masks_queries_logits)


def test_thresholds_without_effect_are_said(caplog):
    with caplog.at_level("WARNING"):
        post_process_instance_segmentation(query_outputs(0), mask_threshold=0.7)
    assert "change nothing" in caplog.text


WITHOUT = [{"logits": torch.zeros(1, 2, 3, 3)}, SimpleNamespace(), {"class_queries_logits": torch.zeros(1, 2, 3)}]


@pytest.mark.parametrize("outputs", WITHOUT)
@pytest.mark.parametrize("process", [post_process_instance_segmentation, post_process_panoptic_segmentation])
def test_outputs_without_queries_are_an_error(process, outputs):
    with pytest.raises(UsageError, match="without class_queries_logits and masks_queries_logits"):
        process(outputs)


@pytest.mark.parametrize(
    ("classes", "masks"), [((1, 2, 3), (1, 4, 5, 5)), ((2, 3), (1, 2, 5, 5)), ((1, 2, 1), (1, 2, 5, 5)), ((1, 2, 3), (1, 2, 5))]
)
def test_shapes_that_do_not_fit_are_an_error(classes, masks):
    outputs = {"class_queries_logits": torch.zeros(classes), "masks_queries_logits": torch.zeros(masks)}
    with pytest.raises(UsageError, match=r"beside masks_queries_logits of"):
        post_process_semantic_segmentation(outputs)


@pytest.mark.parametrize("sizes", [[(4, 4)], [(4, 4), (4,)], [(4, 4), (0, 4)], np.zeros((0, 2))])
def test_sizes_that_do_not_fit_are_an_error(sizes):
    with pytest.raises(UsageError, match="for a batch of 2 with 2 spatial axes"):
        post_process_panoptic_segmentation(query_outputs(0), target_sizes=sizes)


def test_two_other_forms_at_once_are_an_error():
    with pytest.raises(UsageError, match="at once"):
        post_process_instance_segmentation(query_outputs(0), return_binary_maps=True, return_coco_annotation=True)


def test_logits_of_other_axes_are_an_error():
    with pytest.raises(UsageError, match=r"logits of shape \(3, 4\)"):
        post_process_semantic_segmentation(torch.zeros(3, 4))
