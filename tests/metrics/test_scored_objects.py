"""COCO's average precision against pycocotools on the same masks; FROC curves with weights against those of copied cases."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import UsageError
from voxelry.metrics.families import measure
from voxelry.metrics.froc import froc
from voxelry.metrics.predicted_map import PredictedMap
from voxelry.metrics.scored_objects import RankedObjects
from voxelry.metrics.scores import Scores

# pycocotools has not followed numpy 2 in how arrays are copied
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")

TABLE = LabelTable(labels=(Label(value=1, name="cell", kind="thing"), Label(value=2, name="dot", kind="thing")))


def discs(rng, count, size=64):
    """Ids of discs, the later on top; those of odd ids are cells, of even ids dots."""
    ids = np.zeros((size, size), np.uint32)
    rows, columns = np.mgrid[:size, :size]
    for number in range(1, count + 1):
        centre, radius = rng.uniform(0, size, 2), rng.uniform(2, 7)
        ids[(rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2] = number
    return ids


def moved(rng, ids):
    """Other ids for objects that are shifted, cut, lost, or spurious."""
    result = np.zeros_like(ids)
    for number in np.unique(ids)[1:].tolist():
        if rng.random() < 0.85:
            shift = rng.integers(-2, 3, 2)
            result[np.roll(ids == number, shift, (0, 1))] = number
    spurious = discs(rng, 3)
    result[spurious > 0] = spurious[spurious > 0] + 100
    return result


def picture(ids):
    layers = np.where(ids == 0, 0, np.where(ids % 2 == 1, 1, 2)).astype(np.uint8)[None]
    return LabelMap(layers, Geometry(ids.shape), TABLE, instances=ids[None])


def case(seed, ties=True):
    rng = np.random.default_rng(seed)
    truth = discs(rng, int(rng.integers(0, 12)))
    guess = moved(rng, truth)
    numbers = np.unique(guess)[1:].tolist()
    chosen = rng.choice([0.2, 0.4, 0.5, 0.7, 0.9], len(numbers)) if ties else rng.random(len(numbers))
    scores = dict(zip(numbers, chosen.tolist(), strict=True))
    return truth, guess, scores


def measured(cases, families=("coco", "froc")):
    return Scores.merge(
        [
            measure(picture(truth), PredictedMap(picture(guess), scores), str(n), families)
            for n, (truth, guess, scores) in enumerate(cases)
        ]
    )


def annotations(n, ids, scores=None):
    """COCO rows in the order of the objects' first pixels."""
    numbers, first = np.unique(ids, return_index=True)
    for number in numbers[np.argsort(first)].tolist():
        if number:
            mask = np.asfortranarray((ids == number).astype(np.uint8))
            row = {"image_id": n, "category_id": 2 - number % 2, "segmentation": rle.encode(mask), "iscrowd": 0}
            area = int(mask.sum())
            yield row | ({"score": scores[number]} if scores else {"area": area, "bbox": [0, 0, 1, 1]})


def pycocotools_ap(cases):
    """``(labels,)`` AP at 0.5, and AP over 0.5 to 0.95, of all cases."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        rows = [row for n, (ids, _, _) in enumerate(cases) for row in annotations(n, ids)]
        truth.dataset = {
            "images": [{"id": n, "height": 64, "width": 64} for n in range(len(cases))],
            "categories": [{"id": 1, "name": "cell"}, {"id": 2, "name": "dot"}],
            "annotations": [row | {"id": k} for k, row in enumerate(rows, start=1)],
        }
        truth.createIndex()
        guesses = truth.loadRes([row for n, (_, ids, scores) in enumerate(cases) for row in annotations(n, ids, scores)])
        run = COCOeval(truth, guesses, "segm")
        run.params.maxDets = [1000]
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][:, :, :, 0, 0]
    precision = np.where(precision < 0, np.nan, precision)
    return precision[0].mean(axis=0), precision.mean(axis=(0, 1))


@pytest.mark.parametrize("seed", range(4))
def test_coco_ap_is_that_of_pycocotools(seed):
    cases = [case(10 * seed + n) for n in range(5)]
    scores = measured(cases)
    ap50, ap = pycocotools_ap(cases)
    for name, expected in (("coco_ap50", ap50), ("coco_ap50_95", ap)):
        pooled = scores.pooled[name]
        np.testing.assert_allclose([pooled["cell"], pooled["dot"], pooled["all labels"]], [*expected, np.nanmean(expected)])
    for n, single in enumerate(cases):
        if not single[2]:
            continue  # pycocotools loads no empty list
        np.testing.assert_allclose(scores.values["coco_ap50"][n], pycocotools_ap([single])[0])
        np.testing.assert_allclose(scores.values["coco_ap50_95"][n], pycocotools_ap([single])[1])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=4, unique=True), st.data())
def test_a_weight_is_so_many_copies_of_a_case(seeds, data):
    weights = [data.draw(st.integers(0, 3)) for _ in seeds]
    scores = measured([case(seed, ties=False) for seed in seeds])
    for column in scores.details["scored"].T:
        copies = [objects for objects, weight in zip(column, weights, strict=True) for _ in range(weight)]
        ranked, repeated = RankedObjects(list(column)), RankedObjects(copies)
        ones = np.ones(len(copies))
        np.testing.assert_allclose(ranked.coco_ap(np.array(weights, float)), repeated.coco_ap(ones))
        np.testing.assert_allclose(ranked.froc(np.array(weights, float)), repeated.froc(ones))
        if copies:
            curve = froc([objects.detections for objects in copies])
            np.testing.assert_allclose(repeated.froc(ones).mean(), curve.mean_sensitivity)


def test_scores_that_are_missing_are_said():
    truth, guess, scores = case(1)
    with pytest.raises(UsageError, match=r"score of each object, and there is none.*json"):
        measure(picture(truth), picture(guess), metrics=["froc"])
    lost = {number: score for number, score in scores.items() if number != max(scores)}
    with pytest.raises(UsageError, match=rf"1 of {len(scores)} objects have no score: object {max(scores)}"):
        measure(picture(truth), PredictedMap(picture(guess), lost), metrics=["coco"])
    semantic = LabelMap(picture(guess).layers, Geometry(guess.shape), TABLE)
    with pytest.raises(UsageError, match="have no id"):
        measure(picture(truth), PredictedMap(semantic, scores), metrics=["coco"])


def test_without_objects():
    empty = np.zeros((64, 64), np.uint32)
    truth, guess, scores = case(2)
    values = [
        measure(picture(one), PredictedMap(picture(other), scores), metrics=["coco", "froc"])
        for one, other in ((empty, empty), (truth, empty), (empty, guess))
    ]
    assert [np.isnan(v.values["coco_ap50"]).all() for v in values] == [True, False, True]
    assert np.nanmax(values[1].values["coco_ap50"]) == np.nanmax(values[1].values["froc"]) == 0
    assert values[0].pooled["coco_ap50"]["all labels"] is None
    for reference in (truth, empty):  # nothing was predicted, so nothing lacks a score
        unscored = measure(picture(reference), picture(empty), metrics=["coco", "froc"])
        scored = measure(picture(reference), PredictedMap(picture(empty), {}), metrics=["coco", "froc"])
        np.testing.assert_array_equal(unscored.values["coco_ap50"], scored.values["coco_ap50"])
