import doctest

import numpy as np
import pytest

from voxelry.core.plan import ChannelStatistics, Fingerprint
from voxelry.planning import channel_names
from voxelry.planning.channel_names import FIXED_SCALES, absolute_channels
from voxelry.planning.planner import make_plan
from voxelry.preparation.normalisation import normalise
from voxelry.recipes.settings import PlanSettings


def plan(names, modality="MR", content=1.0):
    statistics = tuple(ChannelStatistics(mean=10 * n, std=n + 1, p005=-n, p995=100 * n + 50) for n in range(len(names)))
    fingerprint = Fingerprint(
        cases=3, modality=modality, dimensions=3, channels=tuple(names), shapes=((32, 32, 32),) * 3, spacing=(1.0, 1.0, 1.0),
        orientations={"RAS": 3}, statistics=statistics, voxels=3 * 32**3, label_voxels={"x": 9}, content=content,
    )  # fmt: skip
    return make_plan(fingerprint, PlanSettings())


def nnunet(names):
    """nnU-Net's rule: only a channel called CT is clipped and scaled by the set."""
    return ["global" if name.lower() == "ct" else "image" for name in names]


@pytest.mark.parametrize(
    "names",
    [["CT"], ["T1"], ["CT", "PET"], ["PET", "CT"], ["T1", "T2", "FLAIR"], ["PET", "ct", "T1"], ["CT", "CT"], ["dose", "CT"]],
)
def test_each_channel_is_scaled_as_nnunet_scales_it(names):
    for modality in ("MR", "PT", "CT") if any(name.lower() == "ct" for name in names) else ("MR",):
        assert [scale.scheme for scale in plan(names, modality).normalisation] == nnunet(names)
    if "CT" in names:
        scale = plan(names).normalisation[names.index("CT")]
        n = names.index("CT")
        assert (scale.low, scale.high, scale.mean, scale.std) == (-n, 100 * n + 50, 10 * n, n + 1)


@pytest.mark.parametrize(
    ("names", "modality", "flags"),
    [
        (["image"], "CT", [True]), (["arterial", "venous"], "CT", [True, True]), (["arterial", "PET"], "CT", [True, False]),
        (["image"], "MR", [False]), (["CTA", "MRI"], "CT", [True, False]), (["nonorm", "x"], "CT", [False, True]),
        (["low", "X-ray"], "CT", [True, False]), ([" ct "], "OT", [True]),
    ],
)  # fmt: skip
def test_the_modality_decides_where_no_channel_is_called_ct(names, modality, flags):
    assert absolute_channels(names, modality) == flags


def test_other_channels_are_normalised_inside_small_content():
    scaled = plan(["PET", "CT"], content=0.5)
    assert [scale.scheme for scale in scaled.normalisation] == ["mask", "global"]
    text = " ".join(scaled.reasons)
    assert "Grey values (PET) have no absolute scale" in text
    assert "Grey values of CT (CT) are absolute, so they are clipped (to -1 .. 150)" in text


def test_names_with_a_scale_of_their_own():
    schemes = plan(["noNorm", "RGB_to_0_1", "rescale_to_0_1"]).normalisation
    grey = np.random.default_rng(0).uniform(0, 255, (3, 4, 4, 4)).astype(np.float32)
    scaled = grey.copy()
    normalise(scaled, schemes)
    np.testing.assert_array_equal(scaled[0], grey[0])
    np.testing.assert_allclose(scaled[1], grey[1] / 255, rtol=1e-6)
    assert abs(scaled[2].mean()) < 1e-5
    assert set(FIXED_SCALES) == {"nonorm", "rgb_to_0_1"}


def test_examples_run():
    assert doctest.testmod(channel_names).failed == 0
