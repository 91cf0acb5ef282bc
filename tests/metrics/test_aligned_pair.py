"""Labels on several layers: each scored as if it were alone, whatever lies on which layer of either map."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxelry.core.geometry import Geometry, Reindex
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import SPARSE, LabelMap, Source
from voxelry.errors import LabelError
from voxelry.metrics.families import measure
from voxelry.metrics.metric_table import FAMILIES

GRID = Geometry.from_spacing((9, 8, 7), (1.0, 2.0, 3.0))
NAMES = ("heart", "left lung", "right lung")
PLAIN = [family for family in FAMILIES if not FAMILIES[family].needs]


def layered(masks, layers, values, ignore=None, ignored=None):
    """A map of the masks of `NAMES`, each on a layer with a value."""
    array = np.zeros((max(layers) + 1, *GRID.shape), np.uint8)
    for mask, layer, value in zip(masks, layers, values, strict=True):
        array[layer][mask] = value
    if ignored is not None:
        array[:, ignored] = ignore
    rows = zip(NAMES, layers, values, strict=True)
    return LabelMap(array, GRID, LabelTable(labels=[Label(name=n, layer=k, value=v) for n, k, v in rows], ignore=ignore))


def alone(labels, name):
    """A map of one layer of one label."""
    ignored = np.zeros(GRID.shape, bool) if labels.table.ignore is None else (labels.layers == labels.table.ignore).all(axis=0)
    array = np.where(ignored, 9, labels.mask(name)).astype(np.uint8)
    return LabelMap.of(array, GRID, LabelTable(labels=(Label(name=name, value=1),), ignore=9))


def boxes(random, disjoint=False):
    """A box for each name; apart where they must not overlap, in thirds of the first axis."""
    masks = np.zeros((3, *GRID.shape), bool)
    for number, mask in enumerate(masks):
        starts = [random.randint(0, size - 2) for size in GRID.shape]
        if disjoint:
            starts[0] = 3 * number
        mask[tuple(slice(start, start + random.randint(1, 3)) for start in starts)] = True
    return masks


LAYERS = st.sampled_from([((0, 1, 2), (1, 1, 1)), ((0, 1, 2), (4, 7, 2)), ((2, 0, 1), (3, 3, 5))])


@settings(max_examples=20)
@given(LAYERS, LAYERS, st.booleans(), st.randoms(use_true_random=False))
def test_each_label_scores_as_it_does_alone(truth_on, guess_on, ignoring, random):
    ignored = np.zeros(GRID.shape, bool)
    ignored[:, 5:] = ignoring
    truth = layered(boxes(random), *truth_on, ignore=255 if ignoring else None, ignored=ignored if ignoring else None)
    guess = layered(boxes(random), *guess_on)
    scores = measure(truth, guess, metrics=PLAIN)
    assert scores.labels == NAMES
    for k, name in enumerate(NAMES):
        single = measure(alone(truth, name), alone(guess, name), metrics=PLAIN)
        for metric, values in single.values.items():
            if not metric.startswith("identification"):  # matched over all labels
                np.testing.assert_allclose(scores.values[metric][0, k], values[0, 0], err_msg=f"{name} {metric}")


@settings(max_examples=20)
@given(st.randoms(use_true_random=False))
def test_labels_that_do_not_overlap_score_the_same_on_one_layer_and_on_several(random):
    truths, guesses = boxes(random, disjoint=True), boxes(random, disjoint=True)
    flat = [layered(masks, (0, 0, 0), (1, 2, 3)) for masks in (truths, guesses)]
    apart = [layered(masks, layers, (1, 2, 3)) for masks, layers in ((truths, (0, 1, 0)), (guesses, (1, 1, 0)))]
    expected = measure(*flat, metrics=PLAIN).values
    for truth, guess in ((flat[0], apart[1]), (apart[0], flat[1]), apart):
        found = measure(truth, guess, metrics=PLAIN).values
        for metric, values in expected.items():
            np.testing.assert_allclose(found[metric], values, err_msg=metric)


def test_a_label_that_the_prediction_does_not_know_is_missed():
    masks = np.zeros((3, *GRID.shape), bool)
    masks[:, 2:5, 2:5, 2:5] = True
    truth = layered(masks, (0, 1, 2), (1, 1, 1))
    guess = LabelMap.of(masks[0].astype(np.uint8), GRID, LabelTable(labels=(Label(name="heart", value=1),)))
    assert measure(truth, guess).dice.tolist() == [[1.0, 0.0, 0.0]]


def test_values_of_layers_without_labels_and_ambiguous_ones_are_refused():
    masks = np.zeros((3, *GRID.shape), bool)
    masks[:, 0, 0, 0] = True
    truth = layered(masks, (0, 1, 2), (1, 1, 1))
    more = replace(truth, layers=np.concatenate([truth.layers, truth.layers[:1]]))
    with pytest.raises(LabelError, match=r"values \[1\] on layer 3"):
        measure(more, truth)
    with pytest.raises(LabelError, match="does not know label 1"):
        measure(truth, more)
    empty = replace(truth, layers=np.concatenate([truth.layers, np.zeros_like(truth.layers[:1])]))
    assert measure(empty, empty).mean_dice == 1.0
    with pytest.raises(LabelError, match="said to lie on layer 2 of 2"):
        measure(truth, replace(truth, layers=truth.layers[:2]))
    numbers = LabelMap.of(masks[0].astype(np.uint8), GRID, LabelTable.numbered([1]))
    with pytest.raises(LabelError, match=r"value 1 .*several"):
        measure(truth, numbers)


def test_instance_ids_go_with_the_labels_onto_the_grid_of_the_other_map():
    array = np.zeros(GRID.shape, np.uint8)
    array[1:4, 1:6, 2:4] = 1
    ids = np.zeros((1, *GRID.shape), np.uint32)
    ids[0, 1:4, 1:3, 2:4], ids[0, 1:4, 3:6, 2:4] = 70000, 9
    table = LabelTable(labels=(Label(name="cell", value=1, kind="thing"),))
    whole = LabelMap(array[None], GRID, table, instances=ids)
    turned = Reindex((2, 0, 1), (True, False, True))
    box = GRID.cropped((0, 0, 1), (9, 8, 4))
    part = LabelMap(array[None, :, :, 1:5], box, table, Source(SPARSE), ids[..., 1:5])._reindexed(turned)
    slices = replace(part, source=Source(SPARSE, is_spacing_assumed=True))
    for pair in ((whole, part), (part, whole), (part, part), (whole, slices)):
        scores = measure(*pair, metrics=["instances"])
        assert scores.values["instance_tp"].tolist() == [[2.0]]
        assert scores.values["instance_pq"].tolist() == [[1.0]]
