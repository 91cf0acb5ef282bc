"""The grey value that most voxels of an image have, and their share: 1 for a blank scan."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_SAMPLES = 10_000


def dominant_value(channel: NDArray[Any]) -> tuple[float, float]:
    """The grey value of the middle voxel by size, and the share of voxels that have it.

    If more than half of the voxels are equal, theirs is the value (it is the median of all).

    Args:
        channel: ``(*spatial)`` numbers, finite, at least one.

    Returns:
        The value, and the share 0..1.

    Example:
        >>> import numpy as np
        >>> dominant_value(np.full((8, 8, 8), 7, np.int16))
        (7.0, 1.0)
    """
    flat = channel.reshape(-1)
    sample = flat[:: max(1, flat.size // _SAMPLES)]
    value = np.partition(sample, sample.size // 2)[sample.size // 2]
    equal = sum(int(np.count_nonzero(plane == value)) for plane in channel)
    return float(value), equal / channel.size
