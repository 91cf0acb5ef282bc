from types import SimpleNamespace

import pytest
import torch

from helpers.plans import tiny_fingerprint
from voxelry.core.architectures import ARCHITECTURES
from voxelry.planning.draft import ENOUGH, WORTHWHILE, Drafter, gpu_of
from voxelry.recipes.settings import PlanSettings


def drafts(median, memory="8GB", spacing=(1.0, 1.0, 1.0), **changes):
    fingerprint = tiny_fingerprint(shapes=(median,) * 3, spacing=spacing, spacing_range=(spacing, spacing))
    settings = PlanSettings(memory=memory, **changes)
    return Drafter(fingerprint, settings, "RAS", gpu_of(settings, "cpu")).drafts()


@pytest.mark.parametrize("edge", [128, 160, 192, 224, 256, 320, 512])
def test_a_coarser_stage_sees_enough_and_is_worth_while(edge):
    by_name = drafts((edge,) * 3)
    assert by_name["3d"].coverage < ENOUGH or "3d_lowres" not in by_name
    if "3d_lowres" in by_name:
        low = by_name["3d_lowres"]
        assert ENOUGH <= low.coverage < ENOUGH * 1.5
        voxels = (by_name["3d"].spacing[0] / low.spacing[0]) ** 3
        assert voxels <= 1 / WORTHWHILE
        assert by_name["3d_cascade"].fit == by_name["3d"].fit


def test_long_edges_wait_until_the_short_ones_have_caught_up():
    low = drafts((512, 512, 100), spacing=(0.5, 0.5, 4.0))["3d_lowres"]
    assert low.spacing[2] == 4.0 or low.spacing[2] / low.spacing[0] < 2.07


def test_a_patch_that_the_user_names_decides_how_coarse():
    low = drafts((256,) * 3, patch_size=(32, 32, 32))["3d_lowres"]
    assert low.fit.patch == (32, 32, 32)
    assert low.coverage >= ENOUGH


def test_which_gpu_is_planned_for(monkeypatch):
    assert gpu_of(PlanSettings(), "cpu") is None
    assert gpu_of(PlanSettings(memory="11GB"), "cpu").memory == 11e9  # whatever the device
    assert gpu_of(PlanSettings(network="resenc", preset="L"), "cuda").memory <= ARCHITECTURES["resenc"].presets["L"].gpu.memory
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for own, planned in ((6.2e9, 6e9), (8.4e9, 8e9), (85e9, 8e9)):
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _, own=own: SimpleNamespace(total_memory=own))
        assert gpu_of(PlanSettings(), "cuda:0").memory == planned
    assert gpu_of(PlanSettings(network="resenc", preset="XL"), "cuda").memory == 40e9
    assert ARCHITECTURES["dynunet"].gpu.memory == 8e9
