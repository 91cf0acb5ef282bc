"""Augments whole batches on the GPU that trains, in torch, by the same records as the CPU.

Nothing is read back from the device. Rows are channels of patches ``(R, *patch)``; all that one kind changes are changed at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from voxelry.augmentation.augmentation import AugmentationParams
from voxelry.augmentation.augmenter import Augmenter
from voxelry.augmentation.colour import Colour
from voxelry.augmentation.patch_move import PatchMove
from voxelry.augmentation.tensors import sample_linearly, to_device
from voxelry.core.labels import IGNORE_INDEX


def augment_batch(
    image_BC: Tensor, classes_B: Tensor, records: Sequence[AugmentationParams], augmenter: Augmenter
) -> tuple[Tensor, Tensor]:
    """Patches with their changes.

    Args:
        image_BC: ``(B, C, *box)`` on the device, any float type: each patch's box (`Augmenter.reach`), all of one size; with more
            channels as `Augmenter.apply` takes them.
        classes_B: ``(B, *box)`` integer class indices, or packed.
        records: record of each patch.
        augmenter: augmenter that drew them.

    Returns:
        ``(B, C, *patch)`` float32, in a cascade with a channel for each label, 0 or 1, and ``(B, *patch)`` int64 class indices,
        or ``(B, 3, *patch)``.
    """
    boxes = zip(image_BC, classes_B, records, strict=True)
    patches = [_moved(image_C, box_classes, augmenter.move(params), augmenter) for image_C, box_classes, params in boxes]
    image = torch.stack([patch for patch, _ in patches])
    classes = torch.stack([patch_classes for _, patch_classes in patches])
    contents = {channel: image[:, channel] != 0 for channel in augmenter.masked_channels}
    rows, channels = image.flatten(0, 1), image.shape[1]
    for kind, augmentation in augmenter.intensity.items():
        changes = [
            (number * channels + change.channel, change.params)
            for number, params in enumerate(records)
            for change in params.changes
            if change.kind == kind and change.channel is not None
        ]
        if changes:
            index = to_device([row for row, _ in changes], torch.int64, image.device)
            changed = augmentation.apply_batch(rows.index_select(0, index), [params for _, params in changes])
            rows.index_copy_(0, index, changed)
    for patch, params in zip(image, records, strict=True):
        for change in params.changes:
            if change.kind == Colour.name:
                patch[: augmenter.geometry.channels] = Colour().apply_patch(patch[: augmenter.geometry.channels], change.params)
    _ignore(classes[:, 0] if augmenter.has_head else classes, records, augmenter)
    for channel, content in contents.items():  # which were 0 outside their content, and stay so
        image[:, channel] *= content
    return image, classes


def _ignore(classes_B: Tensor, records: Sequence[AugmentationParams], augmenter: Augmenter) -> None:
    """Have the loss ignore what augmentations hid, in place."""
    for classes, params in zip(classes_B, records, strict=True):
        for change in params.changes:
            augmentation = augmenter.intensity.get(change.kind)
            ignored = None if augmentation is None else augmentation.ignored(change.params, augmenter.geometry.patch)
            if ignored is not None:
                classes.masked_fill_(to_device(ignored, torch.bool, classes.device), IGNORE_INDEX)


def _moved(image_C: Tensor, classes: Tensor, move: PatchMove, augmenter: Augmenter) -> tuple[Tensor, Tensor]:
    """One patch, moved, mirrored, left and right labels swapped and its first stage one-hot."""
    geometry, channels = augmenter.geometry, augmenter.geometry.channels + augmenter.has_head
    image_C = image_C.float()
    label_maps = [classes, image_C[channels]] if augmenter.is_cascade else [classes]
    shifted = torch.stack([label_map.float() - IGNORE_INDEX for label_map in label_maps])  # so that 0 beyond the box is ignored
    if move.interpolates:
        positions = _positions(move, image_C.device)
        image_C = sample_linearly(image_C[:channels], positions)
        shifted = sample_linearly(shifted, (positions + 0.5).floor())
    else:
        patch = (slice(None), *(slice(0, edge) for edge in geometry.patch))
        image_C, shifted = image_C[:channels][patch], shifted[patch]
    if move.flips:
        axes = [axis + 1 for axis in move.flips]
        image_C, shifted = image_C.flip(axes), shifted.flip(axes)
    table = to_device(augmenter.class_table(move.flips), torch.int64, image_C.device)
    indices = table[shifted.round().long()]
    targets = indices[0]
    if augmenter.has_head:
        image_C, distance = image_C[:-1], image_C[-1]
        is_known, count = targets != IGNORE_INDEX, len(augmenter.table) + 1
        classes = torch.where(is_known, targets % count, IGNORE_INDEX)
        targets = torch.stack([classes, targets // count * is_known, distance.round().long()])
    if augmenter.is_cascade:
        labels = torch.arange(1, len(augmenter.table) + 1, device=image_C.device).view(-1, *(1,) * len(geometry.patch))
        image_C = torch.cat([image_C, (indices[1] == labels).float()])
    return image_C, targets


def _positions(move: PatchMove, device: torch.device) -> Tensor:
    """Source position of each voxel of the patch within the box, ``(axes, *patch)``."""
    patch, axes = move.geometry.patch, len(move.geometry.patch)
    first, _ = move.reach()
    matrix = move.matrix
    offset = matrix[:, -1] - first
    lines = [
        torch.arange(edge, device=device, dtype=torch.float32).view(*(-1 if other == axis else 1 for other in range(axes)))
        for axis, edge in enumerate(patch)
    ]
    voxels = [line.expand(patch) for line in lines]
    displacement = move.displacement()
    if displacement is not None:
        fields = [to_device(field, torch.float32, device) for field in displacement]
        voxels = [voxel + field for voxel, field in zip(voxels, fields, strict=True)]
    rows = []
    for axis in range(axes):
        row = voxels[0] * float(matrix[axis, 0])
        for other in range(1, axes):
            row = row + voxels[other] * float(matrix[axis, other])
        rows.append(row + float(offset[axis]))
    return torch.stack(rows)
