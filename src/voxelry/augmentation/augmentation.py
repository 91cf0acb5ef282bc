"""Base classes of augmentations: settings, drawing, applying on the CPU, applying on a GPU.

An augmentation is a class in a module of its own and a row of `voxelry.augmentation.registry`. Its settings are keys of a
recipe's `augment` section; its class docstring and the descriptions of its settings become its documentation.

* `SpatialAugmentation` moves voxels. What all of them contribute (a matrix, a displacement field, mirrored axes) is applied in
  one pass over image and classes, because interpolating twice would be slow and blur twice.
* `IntensityAugmentation` changes the grey values of one channel: in place on the CPU, and for a batch of channels in torch.

Drawing is separate from applying: everything random about a patch is recorded in `AugmentationParams`, and one seed gives one
record on every device. Importing an augmentation loads neither torch nor compiled kernels; applying it does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from voxelry.augmentation.patch_geometry import PatchGeometry
from voxelry.base.schema import Frozen

if TYPE_CHECKING:
    from torch import Tensor

Settings = TypeVar("Settings", bound=Frozen)
Params = TypeVar("Params", bound=tuple[Any, ...])
"""A NamedTuple of the drawn parameters of one augmentation of one channel or patch."""

Matrix = tuple[tuple[float, ...], ...]
"""``(axes, axes + 1)``: an affine map from voxels of the patch to voxels of the source, counted from the patch's first voxel."""


@dataclass(frozen=True)
class DrawContext(Generic[Settings]):
    """The inputs that the parameters of an augmentation are drawn from.

    Attributes:
        settings: settings of the augmentation.
        geometry: geometry of the patch.
        random: the generator of this patch.
    """

    settings: Settings
    geometry: PatchGeometry
    random: np.random.Generator

    def key(self) -> int:
        """32 random bits, for randomness that is generated while applying: it follows from the key alone on every device."""
        return int(self.random.integers(2**32))


@dataclass(frozen=True)
class Change:
    """One augmentation that is applied to a patch.

    Attributes:
        kind: the augmentation's name.
        channel: channel that it changes; None where it changes the whole patch.
        params: the augmentation's own NamedTuple.
    """

    kind: str
    channel: int | None
    params: Any


@dataclass(frozen=True)
class AugmentationParams:
    """The record of all changes to one patch, in the order in which they are applied.

    Attributes:
        changes: in that order.

    Example:
        >>> from voxelry.augmentation.augmentation import Change
        >>> from voxelry.augmentation.noise import NoiseParams
        >>> AugmentationParams((Change("noise", 0, NoiseParams(sigma=0.05, key=7)),)).changes[0].params.sigma
        0.05
    """

    changes: tuple[Change, ...] = ()


class Augmentation(ABC, Generic[Settings, Params]):
    """One kind of random change to training patches.

    Attributes:
        name: name of this kind in records and in the recipe, where ``<name>_p`` is its probability.
        settings: the recipe's keys of this kind, each with a default and a description. No other kind has a key of that name.
    """

    name: ClassVar[str]
    settings: ClassVar[type[Frozen]]

    @abstractmethod
    def draw(self, context: DrawContext[Settings]) -> Iterable[Change]:
        """Draw whether and how a patch is changed."""


class SpatialAugmentation(Augmentation[Settings, Params]):
    """An augmentation that moves voxels, by any of a matrix, a displacement field, and mirrored axes.

    Example:
        >>> from voxelry.augmentation.flip import Flip, FlipParams
        >>> isinstance(Flip(), SpatialAugmentation), Flip().mirrored(FlipParams(axes=(0, 2)))
        (True, (0, 2))
    """

    def matrix(self, params: Params) -> Matrix | None:  # noqa: ARG002
        """The affine map from the patch to its source; None without one."""
        return None

    def margin(self, params: Params, geometry: PatchGeometry) -> NDArray[np.float64] | None:  # noqa: ARG002
        """``(axes,)``: largest displacement along each axis in voxels; None without a displacement field."""
        return None

    def displacement(self, params: Params, geometry: PatchGeometry) -> NDArray[np.float32] | None:  # noqa: ARG002
        """``(axes, *patch)`` float32: the displacement of each voxel in voxels, before the matrix; None without one."""
        return None

    def mirrored(self, params: Params) -> tuple[int, ...]:  # noqa: ARG002
        """The axes that are mirrored."""
        return ()


class IntensityAugmentation(Augmentation[Settings, Params]):
    """An augmentation that changes the grey values of single channels.

    Example:
        >>> import numpy as np
        >>> from voxelry.augmentation.brightness import Brightness, BrightnessParams
        >>> image = np.ones((2, 3), dtype=np.float32)
        >>> Brightness().apply(image, BrightnessParams(factor=1.5))
        >>> float(image.min()), float(image.max())
        (1.5, 1.5)
    """

    def draw(self, context: DrawContext[Settings]) -> Iterable[Change]:
        """Draw once for the patch whether it is changed, then the parameters of its channels."""
        if context.random.random() >= getattr(context.settings, f"{self.name}_p"):
            return []
        return [Change(self.name, channel, params) for channel, params in self.draw_channels(context)]

    def draw_channels(self, context: DrawContext[Settings]) -> Iterator[tuple[int, Params]]:
        """Parameters of each channel that is changed; unless overridden, of every channel on its own."""
        for channel in range(context.geometry.channels):
            yield channel, self.draw_params(context)

    @abstractmethod
    def draw_params(self, context: DrawContext[Settings]) -> Params:
        """Draw the parameters of one channel."""

    @abstractmethod
    def apply(self, image: NDArray[np.float32], params: Params) -> None:
        """Change one channel on the CPU.

        Args:
            image: ``(*patch)`` float32, C-contiguous, normalised grey values; changed in place.
            params: the drawn parameters.
        """

    @abstractmethod
    def apply_batch(self, rows_R: Tensor, params: Sequence[Params]) -> Tensor:
        """Change channels of several patches on their device, without reading anything back from it.

        Args:
            rows_R: ``(R, *patch)`` float32.
            params: params of each row.

        Returns:
            ``(R, *patch)`` float32: what `apply` makes of each row, up to rounding.
        """

    def ignored(self, params: Params, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:  # noqa: ARG002
        """``shape`` bool: voxels whose labels the loss ignores, because nothing of them is left to see; None for none."""
        return None
