"""Batches of pictures as tensors: images ``[batch, 3, height, width]``, masks ``[batch, 1, height, width]`` uint8.

Grey values are those of files, as a model was trained on; its own preparation normalises them. A grey picture is repeated in
three channels. Mask values are the stored values of a label table, whose names `voxelry.id2label` gives.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from voxelry.core.geometry import Geometry
from voxelry.core.labels import LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import LabelError, UsageError
from voxelry.formats.voxels import check_finite
from voxelry.inference.predictor import Predictor

_COLOURS = 3
_MOST = 255


def segment_batch(predictor: Predictor, images: Tensor) -> Tensor:
    """Segment a batch of pictures.

    Args:
        predictor: a model of pictures with three channels, or with one, for which each picture must be grey.
        images: ``[batch, 3, height, width]`` float or uint8.

    Returns:
        ``[batch, 1, height, width]`` uint8 on the CPU: stored values of the model's table.

    Raises:
        UsageError: another shape or type; colours for a model of grey pictures.
        LabelError: labels above 255, or on several layers.
        ModelError: the model takes no such pictures.

    Example:
        >>> import torch
        >>> from pathlib import Path
        >>> import voxelry as vx
        >>> from voxelry.adapters import segment_batch
        >>> from voxelry.phantom import write_phantoms
        >>> _ = write_phantoms("data", "chest-xray", 2, format="png")
        >>> plan = "{patch_size: [32, 32], features: [4, 8], batch_size: 1}"
        >>> recipe = f"{{manifest: data/manifest.yaml, steps: 1, validations: 1, device: cpu, plan: {plan}}}"
        >>> _ = Path("recipe.yaml").write_text(recipe)
        >>> _ = vx.train("recipe.yaml", "run")
        >>> predictor = vx.load_model("run/model", device="cpu")
        >>> images = torch.randint(0, 256, (2, 1, 64, 48), dtype=torch.uint8).expand(-1, 3, -1, -1)
        >>> masks = segment_batch(predictor, images)
        >>> tuple(masks.shape), masks.dtype, set(masks.unique().tolist()) <= set(vx.id2label(predictor.model.labels))
        ((2, 1, 64, 48), torch.uint8, True)
    """
    _check_values(predictor.model.labels)
    volumes = volumes_of_batch(images)
    if len(predictor.model.plan.channels) == 1:
        volumes = [grey_picture(volume, f"picture {number} of the batch") for number, volume in enumerate(volumes)]
    masks = mask_batch([predictor.predict(volume).labels for volume in volumes])
    return masks.reshape(len(volumes), 1, *images.shape[2:])


def image_batch(volumes: Iterable[Volume]) -> Tensor:
    """Pictures as one tensor.

    Args:
        volumes: pictures of one size, grey or of three channels.

    Returns:
        ``[batch, 3, height, width]`` float32.

    Raises:
        UsageError: volumes, other channels, or several sizes.

    Example:
        >>> import numpy as np
        >>> from voxelry import Geometry, Volume
        >>> from voxelry.adapters import image_batch
        >>> grey = Volume(np.full((1, 4, 6), 7, np.uint8), Geometry((4, 6)))
        >>> tuple(image_batch([grey, grey]).shape)
        (2, 3, 4, 6)
    """
    pictures = list(volumes)
    sizes = {volume.geometry.shape for volume in pictures}
    for volume in pictures:
        if volume.geometry.ndim != 2 or volume.channels not in (1, _COLOURS):
            raise UsageError(
                f"{volume.source.name}: {volume.channels} channels of {volume.geometry.describe()}",
                remedy="A batch holds pictures of one channel or three.",
            )
    if len(sizes) > 1:
        raise UsageError(f"pictures of {len(sizes)} sizes: {sorted(sizes)[:4]}", remedy="Put those of one size into a batch.")
    rows = [np.broadcast_to(volume.array, (_COLOURS, *volume.geometry.shape)) for volume in pictures]
    return torch.from_numpy(np.array(rows, dtype=np.float32).reshape(len(rows), _COLOURS, *next(iter(sizes), (0, 0))))


def volumes_of_batch(images: Tensor, pixel_size: tuple[float, float] | None = None) -> list[Volume]:
    """The pictures of a batch.

    Args:
        images: ``[batch, 3, height, width]`` float or uint8, on any device.
        pixel_size: mm between rows, and between columns; None where it is not known.

    Returns:
        Volumes ``(3, height, width)``, uint8 or float32.

    Raises:
        UsageError: another shape or type.
        NonFiniteError: NaN or infinite values.

    Example:
        >>> import torch
        >>> from voxelry.adapters import volumes_of_batch
        >>> [volume] = volumes_of_batch(torch.zeros(1, 3, 4, 6), pixel_size=(0.2, 0.2))
        >>> volume.shape, volume.spacing
        ((3, 4, 6), (0.2, 0.2))
    """
    _check_batch(images, "images", _COLOURS, images.is_floating_point() or images.dtype == torch.uint8, "float or uint8")
    values = (images if images.dtype == torch.uint8 else images.float()).numpy(force=True)
    for number, value in enumerate(values):
        check_finite(value, f"picture {number} of the batch")
    return [Volume(value, Geometry(value.shape[1:], None, pixel_size), channels=_COLOURS) for value in values]


def mask_batch(labels: Iterable[LabelMap]) -> Tensor:
    """Label maps of pictures as one tensor.

    Args:
        labels: maps of one size, of one layer each.

    Returns:
        ``[batch, 1, height, width]`` uint8: stored values.

    Raises:
        UsageError: volumes, or several sizes.
        LabelError: values above 255, or several layers.

    Example:
        >>> import numpy as np
        >>> from voxelry import Geometry, LabelMap, LabelTable
        >>> from voxelry.adapters import mask_batch
        >>> labels = LabelMap.of(np.ones((4, 6), np.uint8), Geometry((4, 6)), LabelTable.from_id2label({1: "nucleus"}))
        >>> tuple(mask_batch([labels]).shape)
        (1, 1, 4, 6)
    """
    maps = list(labels)
    sizes = {mask.geometry.shape for mask in maps}
    for mask in maps:
        _check_values(mask.table)
        if mask.geometry.ndim != 2:
            raise UsageError(f"{mask.source.name}: {mask.geometry.describe()}", remedy="A batch holds masks of pictures.")
    if len(sizes) > 1:
        raise UsageError(f"masks of {len(sizes)} sizes: {sorted(sizes)[:4]}", remedy="Put those of one size into a batch.")
    rows = np.array([mask.array for mask in maps]).reshape(len(maps), 1, *next(iter(sizes), (0, 0)))
    if rows.size and not 0 <= rows.min() <= rows.max() <= _MOST:
        raise LabelError(f"mask values {rows.min()}..{rows.max()} do not fit uint8", remedy="Give labels values up to 255.")
    return torch.from_numpy(rows.astype(np.uint8))


def labels_of_batch(masks: Tensor, table: LabelTable, like: Sequence[Volume] = ()) -> list[LabelMap]:
    """The label maps of a batch.

    Args:
        masks: ``[batch, 1, height, width]`` uint8 stored values.
        table: their meaning.
        like: the pictures they belong to, whose grids and sources they take; empty for grids of unknown pixel size.

    Raises:
        UsageError: another shape or type, or pictures that do not fit.
        LabelError: values that the table does not know.

    Example:
        >>> import torch
        >>> from voxelry import LabelTable
        >>> from voxelry.adapters import labels_of_batch
        >>> masks = torch.ones(1, 1, 4, 6, dtype=torch.uint8)
        >>> labels_of_batch(masks, LabelTable.from_id2label({"1": "nucleus"}))[0].mask("nucleus").sum().item()
        24
    """
    _check_batch(masks, "masks", 1, masks.dtype == torch.uint8, "uint8")
    shape = tuple(masks.shape[2:])
    if like and [volume.geometry.shape for volume in like] != [shape] * len(masks):
        raise UsageError(
            f"{len(masks)} masks of {shape[0]} x {shape[1]} pixels for {len(like)} pictures of "
            f"{sorted({volume.geometry.shape for volume in like})[:4]}",
            remedy="Give the picture of each mask.",
        )
    values = masks.numpy(force=True)
    table.check_values(np.unique(values).tolist(), "masks")
    plain = [LabelMap(value, Geometry(shape), table) for value in values]
    if not like:
        return plain
    return [replace(mask, geometry=v.geometry, source=v.source) for mask, v in zip(plain, like, strict=True)]


def _check_batch(batch: Tensor, name: str, channels: int, is_type: bool, types: str) -> None:
    """Refuse a tensor of another shape or type.

    Raises:
        UsageError: it is so.
    """
    if batch.ndim != 4 or batch.shape[1] != channels or 0 in batch.shape[2:] or not is_type:
        raise UsageError(
            f"{name} of shape {list(batch.shape)} and type {str(batch.dtype).removeprefix('torch.')}",
            remedy=f"Give [batch, {channels}, height, width] as {types}.",
        )


def _check_values(table: LabelTable) -> None:
    """Refuse labels that a mask of bytes cannot hold.

    Raises:
        LabelError: it is so.
    """
    large: list[Any] = [label for label in table.labels if label.value > _MOST]
    if large:
        raise LabelError(
            f"label '{large[0].name}' has the value {large[0].value}, which does not fit uint8",
            remedy="Give labels values up to 255.",
        )


def grey_picture(volume: Volume, name: str) -> Volume:
    """A picture of three equal channels as one of one channel.

    Args:
        volume: the picture.
        name: what it is called in the message.

    Raises:
        UsageError: they differ.
    """
    if not (volume.array == volume.array[:1]).all():
        raise UsageError(
            f"{name} has colours, and the model takes one channel",
            remedy="Repeat grey values in all three.",
        )
    return replace(volume, pixels=volume.array[:1], channels=1)
