"""MRI bias field: smooth inhomogeneity, the exponential of a polynomial in the voxel's position."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from voxelry.augmentation.augmentation import DrawContext, IntensityAugmentation
from voxelry.augmentation.ranges import Probability
from voxelry.augmentation.separable_fields import sum_of_products
from voxelry.base.schema import Frozen

if TYPE_CHECKING:
    from torch import Tensor

DEGREE = 3
"""Of the polynomial."""


class BiasFieldSettings(Frozen):
    """Keys of the bias field."""

    bias_field_p: Probability = Field(default=0.0, description="probability of an MRI bias field (smooth inhomogeneity)")
    bias_field_strength: float = Field(
        default=0.5, ge=0, description="largest coefficient of the polynomial that is the field's logarithm"
    )


class BiasFieldParams(NamedTuple):
    """The polynomial that was drawn.

    Attributes:
        counts: number of Legendre polynomials along each axis.
        coefficients: coefficients of their products, in C order of `counts`; 0 where degrees add up to more than `DEGREE`.
    """

    counts: tuple[int, ...]
    coefficients: tuple[float, ...]


class BiasField(IntensityAugmentation[BiasFieldSettings, BiasFieldParams]):
    """MRI bias field: multiplies grey values by the exponential of a random polynomial of degree 3, as MONAI does.

    Air gives no signal, so the field multiplies the distance from the lowest grey value.
    """

    name = "bias_field"
    settings = BiasFieldSettings

    def draw_params(self, context: DrawContext[BiasFieldSettings]) -> BiasFieldParams:
        """Draw the coefficients."""
        counts = tuple(DEGREE + 1 if axis in context.geometry.plane else 1 for axis in range(len(context.geometry.patch)))
        strength = context.settings.bias_field_strength
        coefficients = context.random.uniform(-strength, strength, counts)
        coefficients[np.indices(counts).sum(axis=0) > DEGREE] = 0
        return BiasFieldParams(counts, tuple(coefficients.ravel().tolist()))

    def apply(self, image: NDArray[np.float32], params: BiasFieldParams) -> None:
        """Multiply by the field."""
        field = np.exp(sum_of_products(*field_factors(params, image.shape)))
        lowest = image.min()
        image -= lowest
        image *= field
        image += lowest

    def apply_batch(self, rows_R: Tensor, params: Sequence[BiasFieldParams]) -> Tensor:
        """Multiply each row by its field."""
        import torch

        from voxelry.augmentation.tensors import patch_axes, to_device

        lowest = rows_R.amin(patch_axes(rows_R), keepdim=True)
        fields = []
        for polynomial in params:
            coefficients, factors = field_factors(polynomial, tuple(rows_R.shape[1:]))
            field = to_device(coefficients, torch.float32, rows_R.device)
            for factor in factors:
                field = torch.tensordot(field, to_device(factor, torch.float32, rows_R.device), dims=([0], [1]))
            fields.append(field.exp())
        return (rows_R - lowest) * torch.stack(fields) + lowest


def field_factors(params: BiasFieldParams, patch: tuple[int, ...]) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
    """Coefficients and the polynomials along each axis, whose `sum_of_products` is the logarithm of the field.

    Args:
        params: the polynomial.
        patch: size in voxels.
    """
    coefficients = np.array(params.coefficients, dtype=np.float32).reshape(params.counts)
    return coefficients, [legendre(size, count) for size, count in zip(patch, params.counts, strict=True)]


@functools.lru_cache(maxsize=64)
def legendre(size: int, count: int) -> NDArray[np.float32]:
    """The first `count` Legendre polynomials from -1 to 1, ``(size, count)``."""
    positions = np.linspace(-1, 1, size) if size > 1 else np.zeros(1)
    return np.polynomial.legendre.legvander(positions, count - 1).astype(np.float32)
