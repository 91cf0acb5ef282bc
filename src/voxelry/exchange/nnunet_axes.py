"""Order of axes: nnU-Net's network sees a scan as its reader read it, transposed; our network sees it as it is stored.

A convolution does not mind the order of its axes. So whatever has an entry for each axis (patch size, spacing, strides, kernels,
the weights themselves) is brought to our order once, when a model is imported, and nothing is transposed at inference. nnU-Net's
readers give volumes as ``(z, y, x)``, the reverse of the order of storage, and pictures as ``(1, rows, columns)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from voxelry.errors import ModelError

Item = TypeVar("Item")

READERS: dict[str, str | None] = {
    "SimpleITKIO": None,
    "NibabelIO": None,
    "SimpleITKIOWithReorient": "RAS",
    "NibabelIOWithReorient": "RAS",
    "NaturalImage2DIO": None,
}
"""Readers of nnU-Net, and the orientation they bring scans to."""

PICTURE_READER = "NaturalImage2DIO"


@dataclass(frozen=True)
class AxisOrder:
    """Which axis of ours each axis of nnU-Net's network is.

    Attributes:
        dimensions: axes of a scan, 2 or 3.
        ours: our axis of each axis of the network, in the network's order.
        slice_axis: our axis that a network of slices does not see.

    Example:
        >>> order = AxisOrder.of("SimpleITKIO", (0, 1, 2), 3)
        >>> order.ours, order.per_axis((40, 56, 48), 1)
        ((2, 1, 0), (48, 56, 40))
    """

    dimensions: int
    ours: tuple[int, ...]
    slice_axis: int | None = None

    @classmethod
    def of(cls, reader: str, forward: Sequence[int], axes: int) -> AxisOrder:
        """The order of a plan.

        Args:
            reader: the plan's `image_reader_writer`.
            forward: the plan's `transpose_forward`.
            axes: axes of the network, 2 or 3.

        Raises:
            ModelError: a reader that is not known, or pictures that are read as volumes.
        """
        if reader not in READERS:
            raise ModelError(
                f"image_reader_writer '{reader}' is not known, so the order of the axes is not either",
                remedy=f"Readers that are known: {', '.join(READERS)}.",
            )
        if reader == PICTURE_READER:
            if axes != 2 or forward[0] != 0:
                raise ModelError(
                    f"pictures for a network of {axes} axes, transposed by {list(forward)}",
                    remedy="Plan with the 2d configuration.",
                )
            return cls(2, (forward[1] - 1, forward[2] - 1))
        stored = tuple(2 - axis for axis in forward)
        return cls(3, stored) if axes == 3 else cls(3, stored[1:], stored[0])

    @property
    def _places(self) -> list[int]:
        """The network's axis of each of ours, in our order, without that across the slices."""
        return sorted(range(len(self.ours)), key=lambda axis: self.ours[axis])

    def per_axis(self, values: Sequence[Item], across: Item) -> tuple[Item, ...]:
        """Values of the network's axes in our order.

        Args:
            values: one for each axis of the network.
            across: the value of the axis across the slices.
        """
        result = [across] * self.dimensions
        for axis, value in zip(self.ours, values, strict=True):
            result[axis] = value
        return tuple(result)

    def of_network(self, values: Sequence[Item]) -> tuple[Item, ...]:
        """Values of our axes in the network's order; that across the slices is left out."""
        return tuple(values[axis] for axis in self.ours)

    def weights(self, tensor: Tensor) -> Tensor:
        """Weights of nnU-Net's network with the axes of their kernels in our order; those without a kernel as they are."""
        lead = tensor.ndim - len(self.ours)
        return tensor if lead != 2 else tensor.permute(0, 1, *(2 + axis for axis in self._places)).contiguous()

    def weights_back(self, tensor: Tensor) -> Tensor:
        """The opposite of `weights`."""
        lead = tensor.ndim - len(self.ours)
        back = [self._places.index(axis) for axis in range(len(self.ours))]
        return tensor if lead != 2 else tensor.permute(0, 1, *(2 + axis for axis in back)).contiguous()
