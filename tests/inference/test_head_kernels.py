"""The distance of the instance head on its way out of a ring buffer, against NumPy."""

import numpy as np
import pytest

from inference.test_engine import CPU
from voxelry.inference.linear_interpolation import Interp1d
from voxelry.inference.ring_buffer import HostRingBuffer
from voxelry.inference.ring_buffer_torch import DeviceRingBuffer

SHAPE = (4, 5, 6)
RINGS = {
    "loops": lambda logits: HostRingBuffer(2, SHAPE, None, False, logits, distance=True),
    "slices": lambda logits: DeviceRingBuffer(2, SHAPE, None, False, logits, CPU, distance=True),
}


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("logits", [True, False])
def test_the_distance_is_added_as_it_is(ring, logits):
    values = np.random.default_rng(3).normal(0, 2, (3, *SHAPE)).astype(np.float32)
    buffer, sums = RINGS[ring](logits), np.ones(SHAPE, np.float32)
    buffer.fill(0, values)
    buffer.add_distance(tuple(Interp1d.of(size, size) for size in SHAPE), 0, SHAPE[0], 0.25, sums)
    assert np.allclose(sums, 1 + values[2] / 4, atol=1e-6)
