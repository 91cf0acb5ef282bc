from dataclasses import replace

import numpy as np
import pytest

from helpers.plans import tiny_model, tiny_plan
from helpers.quality import ORGANS, SURE, organs, population, quality_model
from voxelry.core.quality_model import QualityModel
from voxelry.inference.predictor import Prediction
from voxelry.inference.quality import OLD_MODEL, UNCALIBRATED, assess

KNOWN = population()
MODEL = replace(tiny_model(tiny_plan(), ORGANS), quality=quality_model(KNOWN))


def judged(change=lambda volume, labels: None, model=MODEL, confidence=SURE, seed=40):
    volume, labels = organs(seed)
    change(volume, labels)
    return assess(volume, Prediction(labels, confidence), model)


def test_an_ordinary_case_has_about_the_mean_dice_of_validation():
    quality = judged()
    assert quality.dice == pytest.approx(0.85, abs=0.04)
    assert quality.label_dice["cone"] == pytest.approx(0.9, abs=0.06)
    assert (quality.flags, quality.review, quality.reason) == ((), False, "")
    assert quality.doubt == pytest.approx(1 - quality.dice)


def test_each_flag_takes_a_tenth_of_the_trust():
    noise = np.random.default_rng(0).normal(0, 200, (1, 32, 28, 40)).astype(np.float32)
    volume, labels = organs(40)
    quality = assess(replace(volume, pixels=volume.array + noise), Prediction(labels, SURE), MODEL)
    assert quality.flags
    assert quality.doubt == pytest.approx(1 - quality.dice * 0.9 ** len(quality.flags))


def test_each_unit_of_a_feature_costs_what_its_weight_says():
    sure, unsure = judged(confidence={"cone": 0.9, "box": 0.9}), judged(confidence={"cone": 0.5, "box": 0.9})
    assert sure.label_dice["cone"] - unsure.label_dice["cone"] == pytest.approx(0.05 * np.log(9), rel=1e-3)
    assert sure.label_dice["box"] == unsure.label_dice["box"]


def test_a_missing_organ_counts_with_a_dice_of_0():
    def remove(volume, labels):
        labels.layers[labels.layers == 7] = 0

    quality = judged(remove)
    assert quality.label_dice["box"] == 0
    assert quality.dice < 0.5
    assert quality.review


def test_a_blank_prediction_is_the_most_doubtful():
    def blank(volume, labels):
        labels.layers[:] = 0

    assert judged(blank, confidence={}).doubt == 1


def test_older_models_say_why_there_is_no_dice():
    quality = judged(model=tiny_model(tiny_plan(), ORGANS))
    assert (quality.dice, quality.reason, quality.flags, quality.doubt) == (None, OLD_MODEL, (), 0)


def test_without_calibration_there_are_flags_alone():
    def remove(volume, labels):
        labels.layers[labels.layers == 7] = 0

    model = replace(MODEL, quality=QualityModel(population=KNOWN))
    quality = judged(remove, model)
    assert (quality.dice, quality.reason, quality.review, quality.doubt) == (None, UNCALIBRATED, True, 1)
    assert any("box is missing" in flag for flag in quality.flags)
    assert judged(model=model).doubt == 0


def test_plain_values_are_json():
    import json

    plain = json.loads(json.dumps(judged().as_dict(), allow_nan=False))
    assert {"dice", "doubt", "review", "flags", "features", "label_dice", "reason"} == set(plain)
