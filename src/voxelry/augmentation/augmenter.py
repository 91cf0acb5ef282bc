"""Draws the random changes of training patches, finds the box of voxels to read for them, and applies them on the CPU.

A patch's changes depend on its own seed alone, and are recorded apart from applying them (`AugmentationParams`). Before a patch
is moved, more than the patch is read: as far as the move reaches. So nothing is lost at a patch's edge; only what lies beyond the
case itself is filled with 0 and ignored by the loss, as where an unmoved patch reaches beyond its case.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxelry.augmentation import spatial_kernels
from voxelry.augmentation.augment_settings import AugmentSettings
from voxelry.augmentation.augmentation import AugmentationParams, DrawContext, IntensityAugmentation, SpatialAugmentation
from voxelry.augmentation.cascade_noise import CascadeNoise
from voxelry.augmentation.colour import Colour
from voxelry.augmentation.flip import mirrored_axes
from voxelry.augmentation.packed_targets import PLANES, packed_table
from voxelry.augmentation.patch_geometry import PatchGeometry
from voxelry.augmentation.patch_move import PatchMove
from voxelry.core.label_combinations import LabelCombinations
from voxelry.core.labels import IGNORE_INDEX, LabelTable
from voxelry.core.plan import Plan


class Augmenter:
    """Draws and applies the augmentations of a recipe.

    Args:
        plan: patches, channels and axes.
        settings: probabilities and ranges; what they leave to the data is decided already (`AugmentSettings.chosen`).
        table: the labels.

    Raises:
        ConfigError: an axis to mirror that is not there.

    Example:
        >>> import numpy as np
        >>> from voxelry.augmentation import AugmentSettings
        >>> from voxelry.core.labels import LabelTable
        >>> from voxelry.core.plan import NetworkPlan, Normalisation, Plan
        >>> steps, kernels = ((1, 1), (2, 2), (2, 2)), ((3, 3),) * 3
        >>> network = NetworkPlan(features=(8, 8, 8), strides=steps, kernels=kernels, deep_supervision=1)
        >>> plan = Plan(
        ...     dimensions=2, channels=("image",), normalisation=(Normalisation(scheme="image"),), patch_size=(16, 16),
        ...     batch_size=1, network=network, orientation=None,
        ... )
        >>> augmenter = Augmenter(plan, AugmentSettings(set="nnunet", noise_p=1), LabelTable.numbered([1]))
        >>> params = augmenter.draw(seed=0)
        >>> first, size = augmenter.reach(params)
        >>> image, classes = augmenter.apply(params, first, np.zeros((1, *size)), np.zeros(size, dtype=np.int16))
        >>> tuple(image.shape), tuple(classes.shape)
        ((1, 16, 16), (16, 16))
    """

    def __init__(self, plan: Plan, settings: AugmentSettings, table: LabelTable) -> None:
        self.plan, self.settings, self.table = plan, settings, table
        self.augmentations = settings.augmentations
        self.spatial = {each.name: each for each in self.augmentations if isinstance(each, SpatialAugmentation)}
        self.intensity = {each.name: each for each in self.augmentations if isinstance(each, IntensityAugmentation)}
        self.geometry = PatchGeometry.of(plan, mirrored_axes(plan, settings.flip_axes, table))
        self.is_cascade = plan.configuration == "3d_cascade"
        self.has_head = plan.instances is not None and plan.instances.head_channels > 0
        self.masked_channels = tuple(channel for channel, scheme in enumerate(plan.normalisation) if scheme.scheme == "mask")
        combinations = LabelCombinations(table)
        self.same_classes = self._packed(np.arange(IGNORE_INDEX, combinations.count))
        self.mirrored_classes = self._packed(np.array([IGNORE_INDEX, *combinations.mirrored]))

    def draw(self, seed: int) -> AugmentationParams:
        """Draw everything random about the patch of a seed."""
        context = DrawContext(self.settings, self.geometry, np.random.default_rng(seed))
        return AugmentationParams(tuple(change for each in self.augmentations for change in each.draw(context)))

    def move(self, params: AugmentationParams) -> PatchMove:
        """The joint move of a patch."""
        return PatchMove.of(params, self.spatial, self.geometry)

    def reach(self, params: AugmentationParams) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The box of voxels to read for a patch: ``(first, size)`` along each axis, from the patch's first voxel."""
        return self.move(params).reach()

    def class_table(self, flips: Sequence[int]) -> NDArray[np.int64]:
        """New value of class index (with a head: packed value) -1, 0, 1... where axes are mirrored.

        Left and right are swapped along the side axis.
        """
        return self.mirrored_classes if self.plan.side_axis in flips else self.same_classes

    def _packed(self, table: NDArray[np.int64]) -> NDArray[np.int64]:
        """A table of class indices as one of packed values, where there is a head."""
        return packed_table(table) if self.has_head else table

    def add_cascade_noise(self, params: AugmentationParams, first_stage: NDArray[np.integer]) -> NDArray[np.int16]:
        """The labels of a cascade's first stage with errors like those in cases that it was not trained on.

        Args:
            params: parameters of the patch.
            first_stage: ``(*box)`` class indices.
        """
        classes = first_stage.astype(np.int16)
        for change in params.changes:
            if change.kind == CascadeNoise.name:
                classes = CascadeNoise().apply(classes, change.params, len(self.table), self.geometry.plane)
        return classes

    def apply(
        self, params: AugmentationParams, first: NDArray[np.int64], image_C: NDArray[np.floating], classes: NDArray[np.integer]
    ) -> tuple[Tensor, Tensor]:
        """A patch with its changes, on the CPU.

        Args:
            params: parameters of the patch.
            first: first of the box that was read, from the patch's first voxel (`reach`).
            image_C: ``(C, *box)`` normalised; with a head one more channel, the stored distances; in a cascade one more, the
                class indices of the first stage.
            classes: ``(*box)`` class indices; with a head packed (`voxelry.augmentation.packed_targets`).

        Returns:
            ``(C, *patch)`` float32, in a cascade with a channel for each label, 0 or 1, and ``(*patch)`` int64 class indices;
            with a head ``(3, *patch)``: class indices, parts, stored distances.
        """
        labels = len(self.table) if self.is_cascade else 0
        image = np.empty((self.geometry.channels + labels, *self.geometry.patch), dtype=np.float32)
        moved_classes = np.empty(((PLANES,) if self.has_head else ()) + self.geometry.patch, dtype=np.int64)
        self.apply_into(image, moved_classes, params, first, image_C, classes)
        return torch.from_numpy(image), torch.from_numpy(moved_classes)

    def apply_into(
        self,
        out_C: NDArray[np.float32],
        out_classes: NDArray[np.integer],
        params: AugmentationParams,
        first: NDArray[np.int64],
        image_C: NDArray[np.floating],
        classes: NDArray[np.integer],
    ) -> None:
        """`apply`, written to C-ordered arrays."""
        channels, labels, move = self.geometry.channels, len(self.table) if self.is_cascade else 0, self.move(params)
        if self.has_head:
            self._move_with_head(move, first, image_C, classes, out_C, out_classes)
            out_classes = out_classes[0]
        else:
            self._move(move, first, image_C[:channels], classes, out_C[:channels], out_classes)
        if self.is_cascade:
            stage = np.empty(self.geometry.patch, dtype=np.int64)
            self._move(move, first, image_C[:0], image_C[channels + self.has_head], out_C[:0], stage)
            np.equal(stage, np.arange(1, labels + 1).reshape(-1, *(1,) * stage.ndim), out=out_C[channels:], casting="unsafe")
        contents = {channel: out_C[channel] != 0 for channel in self.masked_channels}
        for change in params.changes:
            augmentation = self.intensity.get(change.kind)
            if change.kind == Colour.name:
                Colour().apply(out_C[:channels], change.params)
            if augmentation is not None:
                augmentation.apply(out_C[change.channel], change.params)
                ignored = augmentation.ignored(change.params, self.geometry.patch)
                if ignored is not None:
                    out_classes[ignored] = IGNORE_INDEX
        for channel, content in contents.items():  # which were 0 outside their content, and stay so
            out_C[channel] *= content

    def _move_with_head(
        self,
        move: PatchMove,
        first: NDArray[np.int64],
        image_C: NDArray[np.floating],
        codes: NDArray[np.integer],
        out_C: NDArray[np.float32],
        out_planes: NDArray[np.integer],
    ) -> None:
        """Move image, packed targets and distances."""
        channels, patch = self.geometry.channels, self.geometry.patch
        moved_C, moved_codes = np.empty((channels + 1, *patch), dtype=np.float32), np.empty(patch, dtype=np.int64)
        self._move(move, first, image_C[: channels + 1], codes, moved_C, moved_codes)
        out_C[:channels] = moved_C[:channels]
        is_known, count = moved_codes != IGNORE_INDEX, len(self.table) + 1
        out_planes[1] = moved_codes // count * is_known
        out_planes[0] = np.where(is_known, moved_codes % count, IGNORE_INDEX)
        out_planes[2] = np.rint(moved_C[channels])

    def _move(
        self,
        move: PatchMove,
        first: NDArray[np.int64],
        image_C: NDArray[np.floating],
        classes: NDArray[np.integer],
        out_C: NDArray[np.float32],
        out_classes: NDArray[np.integer],
    ) -> None:
        """Move, mirror and convert image and classes in one pass."""
        axes, plane = len(self.geometry.patch), self.geometry.plane
        in_plane = axes == 3 and len(plane) == 2 and move.margin is None
        across = tuple(axis for axis in range(axes) if axis not in plane)
        order = (*across, *plane) if in_plane else tuple(range(axes))
        image_C = np.ascontiguousarray(image_C, dtype=np.float32)
        out_strides, corner = _strides(out_C.shape, order, move.flips)
        strides, _ = _strides(image_C.shape, order, ())
        shape = _padded(image_C.shape, order)
        target = (out_C.reshape(-1), out_classes.reshape(-1), corner, corner, out_strides, _padded(out_C.shape, order)[1:])
        flat_classes = np.ascontiguousarray(classes, dtype=np.int16).reshape(-1)
        source = (image_C.reshape(-1), flat_classes, self.class_table(move.flips), strides, shape)
        if not move.interpolates:
            start = -_padded((0, *first.tolist()), order, 0)[1:]
            spatial_kernels.copy_patch(*source, start, *target)
            return
        matrix = np.eye(3, 4)
        from_box = move.matrix.copy()
        from_box[:, -1] -= first
        matrix[3 - axes :, 3 - axes :] = from_box[list(order)][:, [*order, axes]]
        displacement = move.displacement()
        if displacement is not None:
            field = np.zeros((3, *_padded(out_C.shape, order)[1:]), dtype=np.float32)
            field[3 - axes :] = displacement.reshape(axes, *field.shape[1:])
            spatial_kernels.warp_volume(*source, matrix, field, *target)
        elif axes == 2 or in_plane:
            spatial_kernels.move_planes(*source, matrix, *target)
        else:
            spatial_kernels.move_volume(*source, matrix, *target)


def _padded(shape: Sequence[int], order: Sequence[int], missing: int = 1) -> NDArray[np.int64]:
    """Channels and three sizes of a shape ``(C, *axes)``, its axes in an order."""
    return np.array([shape[0], *(missing,) * (3 - len(order)), *(shape[1 + axis] for axis in order)], dtype=np.int64)


def _strides(shape: Sequence[int], order: Sequence[int], flips: Sequence[int]) -> tuple[NDArray[np.int64], int]:
    """Elements between neighbours along channels and three axes of a C-ordered array, negative along mirrored axes.

    Returns:
        The strides, and the element of the corner that the first voxel then has.
    """
    strides = [int(np.prod(shape[position + 1 :], dtype=np.int64)) for position in range(len(shape))]
    corner = sum((shape[1 + axis] - 1) * strides[1 + axis] for axis in flips)
    signed = [strides[0], *(-stride if axis in flips else stride for axis, stride in enumerate(strides[1:]))]
    return _padded(signed, order, 0), corner
