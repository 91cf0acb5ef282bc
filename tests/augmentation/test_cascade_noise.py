import numpy as np

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
