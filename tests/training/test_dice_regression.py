"""The regression on cases whose Dice follows from one feature: it must find which, rank by it, and shrink if little is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.quality import organs, population
from voxelry.inference.case_measures import measure_case
from voxelry.inference.quality_features import features_of
from voxelry.training.dice_regression import LEAST_CASES, CalibrationCase, fit_regression, spread_of

KNOWN = population(12)
MEASURES = [measure_case(*organs(seed)) for seed in range(20, 32)]


def case(number, confidence, dice, corrupted=False, patient=None):
    return CalibrationCase(
        patient or f"p{number}", MEASURES[number % len(MEASURES)], dict(confidence), {}, dict(dice), corrupted=corrupted
    )


def cases(rng, count=24, noise=0.01, **more):
    """Dice falls with the odds against the labels, whatever else differs between the cases."""
    given_cases = []
    for number in range(count):
        doubt = rng.uniform(-4, -0.5)
        confidence = 1 / (1 + np.exp(doubt))
        dice = 0.7 - 0.1 * doubt - 0.35 + rng.normal(0, noise, 2)
        given_cases.append(case(number, {"cone": confidence, "box": confidence}, zip(("cone", "box"), dice, strict=True), **more))
    return given_cases


def test_it_finds_the_feature_that_counts_and_its_weight():
    regression = fit_regression(cases(np.random.default_rng(0)), KNOWN)
    weights = dict(zip(regression.features, regression.weights, strict=True))
    assert weights["confidence"] == pytest.approx(0.1, abs=0.02)
    spread = dict(zip(regression.features, regression.typical, strict=True))
    assert max(weights[name] * spread[name].std for name in weights if name != "confidence") < 0.02
    assert regression.rank_correlation > 0.9
    assert regression.error < 0.04
    assert (regression.cases, regression.corrupted) == (24, 0)


def test_dice_that_follows_from_nothing_is_predicted_by_the_mean():
    rng = np.random.default_rng(1)
    pure = [case(n, {"cone": rng.uniform(0.6, 0.98)}, {"cone": 0.8 + rng.normal(0, 0.05)}) for n in range(24)]
    regression = fit_regression(pure, KNOWN)
    assert regression.error < 0.065
    assert regression.label_dice["cone"] == pytest.approx(0.8, abs=0.03)


@settings(max_examples=15)
@given(st.integers(0, 1000))
def test_weights_are_never_negative(seed):
    rng = np.random.default_rng(seed)
    upside = [case(n, {"cone": value}, {"cone": 1 - value}) for n, value in enumerate(rng.uniform(0.55, 0.98, 10))]
    assert min(fit_regression(upside, KNOWN).weights) >= 0


def test_corrupted_copies_are_learnt_from_but_do_not_move_the_mean():
    rng = np.random.default_rng(2)
    usual = [case(n, {"cone": 0.95 + rng.normal(0, 0.003)}, {"cone": 0.9 + rng.normal(0, 0.01)}) for n in range(12)]
    bad = [case(n, {"cone": 0.6}, {"cone": 0.3}, corrupted=True) for n in range(12)]
    alone, both = fit_regression(usual, KNOWN), fit_regression(usual + bad, KNOWN)
    assert alone.label_dice == both.label_dice
    assert (both.cases, both.corrupted) == (12, 12)
    weight = {
        name: dict(zip(each.features, each.weights, strict=True))["confidence"]
        for name, each in (("alone", alone), ("both", both))
    }
    assert weight["both"] > 0.1 > weight["alone"] - 0.1
    assert both.review_below == pytest.approx(0.9, abs=0.06)


def test_a_patient_is_predicted_by_others_alone():
    """Every case has a twin of the same patient and Dice, which follows from nothing: leaving single cases out would find it."""
    rng = np.random.default_rng(3)
    values = rng.uniform(0.3, 0.9, 8)
    twins = [case(n, {"cone": 0.9}, {"cone": values[n // 2]}, patient=f"p{n // 2}") for n in range(16)]
    regression = fit_regression(twins, KNOWN)
    assert regression.error > 0.8 * values.std()


def test_few_cases_calibrate_nothing():
    few = cases(np.random.default_rng(0), LEAST_CASES - 1)
    copies = cases(np.random.default_rng(1), 20, corrupted=True)
    assert fit_regression(few + copies, KNOWN) is None
    assert fit_regression(cases(np.random.default_rng(0), LEAST_CASES), KNOWN) is not None


def test_equal_cases_have_no_rank_correlation():
    equal = [case(0, {"cone": 0.9}, {"cone": 0.8}, patient=str(n)) for n in range(6)]
    assert fit_regression(equal, KNOWN).rank_correlation is None


def test_features_of_a_case_without_confidence_count_as_usual():
    unknown = [*cases(np.random.default_rng(0)), case(0, {}, {"cone": 0.7}, patient="other")]
    assert "confidence" not in features_of(unknown[-1].measures, KNOWN, {}, {})["cone"]
    assert fit_regression(unknown, KNOWN).cases == 25


def test_a_spread_keeps_six_digits():
    spread = spread_of([1 / 3, 2 / 3])
    assert (spread.mean, spread.low, spread.high) == (0.5, 0.333333, 0.666667)
