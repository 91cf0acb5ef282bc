"""Channels of the instance head on their way out of a ring buffer, against NumPy."""

import numpy as np
import pytest
from scipy.special import expit

from inference.test_engine import CPU
from voxelry.inference.linear_interpolation import Interp1d
from voxelry.inference.ring_buffer import HostRingBuffer
from voxelry.inference.ring_buffer_torch import DeviceRingBuffer

SHAPE = (4, 5, 6)
RINGS = {
    "loops": lambda logits: HostRingBuffer(2, SHAPE, None, False, logits, head=3),
    "slices": lambda logits: DeviceRingBuffer(2, SHAPE, None, False, logits, CPU, head=3),
}


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("logits", [True, False])
def test_a_core_is_weighed_against_the_border(ring, logits):
    random = np.random.default_rng(3)
    values = random.normal(0, 2, (5, *SHAPE)).astype(np.float32)
    if not logits:
        values[2:4] = expit(values[2:4])
        values[2:4, 0, 0, 0] = 0  # where no patch came
    buffer, sums = RINGS[ring](logits), np.ones((2, *SHAPE), np.float32)
    buffer.fill(0, values)
    buffer.add_head(tuple(Interp1d.of(size, size) for size in SHAPE), 0, SHAPE[0], 0.25, sums)
    _, _, border, core, distance = values.astype(np.float64)
    rather = expit(core - border) if logits else np.divide(core, core + border, out=np.zeros(SHAPE), where=core > 0)
    assert np.allclose(sums[0], 1 + rather / 4, atol=1e-6)
    assert np.allclose(sums[1], 1 + distance / 4, atol=1e-6)
