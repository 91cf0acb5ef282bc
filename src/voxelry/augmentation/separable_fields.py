"""Smooth fields as sums of products of one function per axis: bias fields and displacement fields come from small matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def sum_of_products(coefficients: NDArray[np.float32], factors: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """``sum_ijk coefficients[i, j, k] * f0[:, i] * f1[:, j] * f2[:, k]``, of as many axes as there are factors.

    Args:
        coefficients: ``(n0, n1, ...)``.
        factors: factors of each axis, ``(size, n)``.

    Returns:
        ``(*sizes)``, C-contiguous.
    """
    field = coefficients
    for factor in factors:  # each takes the first axis away and puts its own last
        field = np.tensordot(field, factor, axes=(0, 1))
    return np.ascontiguousarray(field)
