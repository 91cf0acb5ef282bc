import numpy as np

from voxelry.augmentation import cascade_noise
from voxelry.augmentation.cascade_noise import CascadeNoise, CascadeNoiseParams


def noise(first_stage, key):
    return CascadeNoise().apply(first_stage, CascadeNoiseParams(key), 2, (0, 1, 2))


def test_a_first_stage_is_disturbed_now_and_then():
    first_stage = np.zeros((20, 20, 20), np.int16)
    first_stage[3:8, 3:8, 3:8], first_stage[10:16, 10:16, 10:16], first_stage[0, 0, 0] = 1, 2, 1
    before, disturbed, gone = first_stage.copy(), 0, 0
    for key in range(60):
        changed = noise(first_stage, key)
        assert np.array_equal(changed, noise(first_stage, key))
        assert set(np.unique(changed)) <= {0, 1, 2}
        disturbed += not np.array_equal(changed, first_stage)
        gone += not (changed == 1).any() or not (changed == 2).any()
    assert np.array_equal(first_stage, before)
    assert 15 < disturbed < 45  # 1 - (1 - 0.4 * 3/4) * (1 - 0.2 * 3/4) is 0.4
    assert gone


def test_a_component_that_covers_much_of_the_patch_is_never_removed(monkeypatch):
    monkeypatch.setattr(cascade_noise, "OPERATION", 0.0)
    monkeypatch.setattr(cascade_noise, "REMOVAL", 1.0)
    first_stage = np.zeros((20, 20, 20), np.int16)
    first_stage[:4], first_stage[10:13, 10:13, 10:13] = 1, 1  # a fifth of the patch, and a small one
    kept = [noise(first_stage, key) for key in range(20)]
    assert all((changed[:4] == 1).all() for changed in kept)
    assert {bool((changed[10:13] == 1).any()) for changed in kept} == {True, False}
