"""Agreement of passes against Dice counted by hand, for networks whose passes differ by a known amount."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.plans import SIDED, tiny_model, tiny_plan
from voxelry.core.geometry import Geometry
from voxelry.core.volume import Volume
from voxelry.inference.pass_agreement import EVERY, PassAgreement
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.predictor import Predictor


def thinned(values):
    return values[:, :, ::EVERY, ::EVERY]


def dice(first, other):
    return 2 * (first & other).sum() / (first.sum() + other.sum())


@given(st.integers(0, 99), st.integers(2, 4))
def test_dice_is_counted_over_patches_and_passes(seed, passes):
    torch.manual_seed(seed)
    agreement = PassAgreement(3, passes)
    patches = [torch.randn(passes, 3, 2, 6, 8) for _ in range(2)]
    for number in range(passes):
        for start, values in enumerate(patches):
            agreement.add((start, 0, 0), 0, values[number])
    winners = [[thinned(value).argmax(0).numpy() for value in patch] for patch in patches]
    for k in (1, 2):
        first = np.stack([patch[0] == k for patch in winners for _ in range(passes - 1)])
        other = np.stack([each == k for patch in winners for each in patch[1:]])
        assert agreement.dice[k] == pytest.approx(dice(first, other))
    assert agreement.dice[0] is None
    assert not agreement._first  # nothing is kept


def test_regions_decide_each_for_itself():
    torch.manual_seed(0)
    first, other = torch.randn(2, 3, 2, 6, 8)
    agreement = PassAgreement(3, 2, regions=True)
    agreement.add((0, 0, 0), 0, first)
    agreement.add((0, 0, 0), 0, other)
    inside = [(thinned(value) > 0).numpy() for value in (first, other)]
    assert agreement.dice[1:] == [pytest.approx(dice(inside[0][k], inside[1][k])) for k in (1, 2)]


def test_a_single_pass_has_nothing_to_agree_with():
    agreement = PassAgreement(3, 1)
    agreement.add((0, 0, 0), 0, torch.randn(3, 2, 6, 8))
    assert agreement.dice == []


def test_a_class_that_no_pass_gave_has_none():
    agreement = PassAgreement(3, 2)
    for _ in range(2):
        agreement.add((0, 0, 0), 0, torch.tensor([0.0, 1.0, -1.0]).view(3, 1, 1, 1).expand(3, 2, 4, 4))
    assert agreement.dice == [None, 1.0, None]


def test_a_predictor_says_how_far_its_members_agree():
    grey = np.random.default_rng(0).normal(size=(1, 12, 10, 9)).astype(np.float32)
    volume = Volume(grey, Geometry.from_spacing((12, 10, 9), (1.0,) * 3))
    options = PredictOptions(mixed_precision="off")
    models = [tiny_model(tiny_plan(), SIDED, seed=seed) for seed in (0, 1)]
    alone = Predictor(models[0], "cpu", options).predict(volume)
    same = Predictor([models[0]] * 2, "cpu", options).predict(volume)
    other = Predictor(models, "cpu", options).predict(volume)
    assert alone.agreement == {}
    assert {value for value in same.agreement.values() if value is not None} == {1.0}
    assert set(other.agreement) == set(SIDED.names)
    assert min(value for value in other.agreement.values() if value is not None) < 1
