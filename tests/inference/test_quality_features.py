import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.quality import SURE, organs, population
from voxelry.core.quality_model import MeasureSpread
from voxelry.inference.case_measures import measure_case
from voxelry.inference.quality_features import FEATURES, LARGEST_DISTANCE, distance, features_of

KNOWN = population()


def test_a_distance_is_in_standard_deviations():
    spread = MeasureSpread(mean=8.0, std=2.0, low=5.0, high=11.0)
    assert distance(14.0, spread, 10**9, "volume") == pytest.approx(3.0, rel=0.01)
    assert distance(14.0, spread, 4, "volume") == pytest.approx(3.0 / math.sqrt(2), rel=0.01)  # few cases say little
    assert distance(-1e9, spread, 10**9, "volume") == -LARGEST_DISTANCE


@given(st.floats(-1e6, 1e6), st.sampled_from(["fragments", "border"]))
def test_fewer_fragments_than_usual_are_no_doubt(value, kind):
    apart = distance(value, MeasureSpread(mean=0.1, std=0.1, low=0.0, high=0.3), 50, kind)
    assert 0 <= apart <= LARGEST_DISTANCE
    assert (apart == 0) == (value <= 0.1)


def test_features_of_an_ordinary_case_are_small_and_named():
    rows = features_of(measure_case(*organs(50)), KNOWN, SURE, {"cone": 0.9, "box": None})
    assert set(rows["cone"]) == set(FEATURES)
    assert set(rows["box"]) == set(FEATURES) - {"disagreement"}
    assert all(rows["cone"][name] < math.log1p(2) for name in ("volume", "shape", "fragments", "border", "grey", "grid"))


@given(st.floats(0.02, 0.98), st.floats(0.02, 0.98))
def test_doubt_grows_as_confidence_and_agreement_fall(first, second):
    low, high = sorted((first, second))
    measures = measure_case(*organs(50))
    unsure, sure = (features_of(measures, KNOWN, {"cone": share}, {"cone": share})["cone"] for share in (low, high))
    for name in ("confidence", "disagreement"):
        assert unsure[name] >= sure[name]
        assert math.isfinite(unsure[name])


def test_what_is_unlike_training_raises_its_own_feature():
    volume, labels = organs(50)
    usual = features_of(measure_case(volume, labels), KNOWN, SURE, {})["cone"]
    labels.layers[0, :, :, :8] = 2
    torn = features_of(measure_case(volume, labels), KNOWN, SURE, {})["cone"]
    assert {name for name in torn if torn[name] > usual[name] + 0.5} >= {"volume", "shape", "fragments", "border"}
    assert torn["grid"] == usual["grid"]
    assert torn["confidence"] == usual["confidence"]
