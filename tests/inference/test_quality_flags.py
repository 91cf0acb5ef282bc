from dataclasses import replace

import numpy as np
import pytest

from helpers.quality import SURE, organs, population, quality_model
from voxelry.core.quality_model import MeasureSpread, Population
from voxelry.core.volume import LabelMap
from voxelry.inference.case_measures import CaseMeasures, measure_case
from voxelry.inference.quality_features import features_of
from voxelry.inference.quality_flags import flags_of, mirrored_axes

KNOWN = population()
MODEL = quality_model(KNOWN)


def flagged(volume, labels, confidence=SURE):
    measures = measure_case(volume, labels)
    features = features_of(measures, KNOWN, confidence, {})
    return flags_of(measures, features, KNOWN, MODEL.regression)


def flipped(labels, axis):
    return LabelMap.of(np.flip(labels.array, axis).copy(), labels.geometry, labels.table)


def test_ordinary_cases_have_no_flags():
    assert [flagged(*organs(seed)) for seed in range(20, 26)] == [((), False)] * 6


def test_a_missing_organ_is_serious():
    volume, labels = organs(30)
    labels.layers[labels.layers == 7] = 0
    flags, is_serious = flagged(volume, labels)
    assert "box is missing; 20 of 20 training cases have it" in flags
    assert is_serious


@pytest.mark.parametrize("seed", range(20, 30))
def test_a_scan_upside_down_is_told_from_one_that_is_not(seed):
    volume, labels = organs(seed)
    assert mirrored_axes(measure_case(volume, labels), KNOWN) == []
    assert mirrored_axes(measure_case(volume, flipped(labels, 2)), KNOWN) == ["S"]


def test_which_way_up_is_said_in_words():
    volume, labels = organs(21)
    flags, is_serious = flagged(volume, flipped(labels, 2))
    assert flags[0] == "the scan lies upside down against the 20 training cases: it may be stored so"
    assert is_serious


def test_a_symmetric_arrangement_has_no_direction():
    volume, labels = organs(21)
    assert mirrored_axes(measure_case(volume, flipped(labels, 1)), KNOWN) == []


def test_sizes_and_pieces_are_flagged_with_numbers():
    volume, labels = organs(31)
    labels.layers[0, 20:, 22:, 6:20] = 7
    flags, is_serious = flagged(volume, labels)
    assert any(flag.startswith("box: ") and " mm^3 (training cases " in flag for flag in flags)
    assert any("% (training cases 0.0% to 0.0%) of it lies on faces of the scan" in flag for flag in flags)
    assert any("of it lies apart from its largest component" in flag for flag in flags)
    assert is_serious


def test_noise_and_inverted_grey_values_are_flagged():
    volume, labels = organs(32)
    noise = np.random.default_rng(0).normal(0, 200, volume.array.shape).astype(np.float32)
    flags, _ = flagged(replace(volume, pixels=volume.array + noise), labels)
    assert any(flag.startswith("the scan is noisier than the training cases: ") for flag in flags)
    flags, _ = flagged(replace(volume, pixels=-volume.array), labels)
    assert any("cone: its mean grey value lies -" in flag for flag in flags)


def test_low_confidence_is_compared_with_validation_cases():
    flags, is_serious = flagged(*organs(33), confidence={"cone": 0.6, "box": 0.96})
    assert flags == ("cone: mean probability 0.600 (validation cases 0.960 to 0.970)",)
    assert not is_serious


def test_a_scan_whose_labels_have_no_direction_is_told_by_its_grey_values():
    slope = MeasureSpread(mean=0.4, std=0.05, low=0.3, high=0.5)
    known = Population(cases=50, labels={}, scan={"slope_row": slope, "slope_column": slope.model_copy(update={"mean": 0.02})})
    assert mirrored_axes(CaseMeasures({"slope_row": -0.38, "slope_column": -0.2}, {}), known) == ["row"]
    assert mirrored_axes(CaseMeasures({"slope_row": 0.42, "slope_column": 0.2}, {}), known) == []
