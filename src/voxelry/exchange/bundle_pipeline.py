"""Preparation, mirroring and restoring of scans in MONAI pipelines: exported bundles carry this module and run without voxelry.

A bundle holds it as ``scripts/bundle_pipeline.py``, beside ``scripts/interpolation.py``; it needs what MONAI's bundles need
(torch, monai, nibabel) and scipy. Each class states which of voxelry's rooms it does the same as; tests compare their labels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.transforms import MapTransform
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from voxelry.preparation.interpolation import resampling_operator

FACTS = "preparation"
"""Key of what `PrepareScand` did, ``(5, axes)`` int64: order, flips, start, extent, and the stored shape."""

IMAGE_ENDINGS = (".nii.gz", ".nii", ".png", ".jpg", ".jpeg", ".tif", ".tiff")
ROUNDING = 2 * float(np.finfo(np.float32).eps)
TIE = 1e-6


def find_cases(folder: str, channels: int) -> list[dict[str, Any]]:
    """The scans of a folder, as MONAI's datasets take them.

    Args:
        folder: with a file for each scan, or with ``<id>_0000``, ``<id>_0001``... for the channels of each.
        channels: of the model.
    """
    files = sorted(path for path in Path(folder).iterdir() if path.name.lower().endswith(IMAGE_ENDINGS))
    if channels == 1:
        return [{"image": str(path)} for path in files]
    cases: dict[str, list[str]] = {}
    for path in files:
        stem, _, ending = path.name.partition(".")
        name, _, number = stem.rpartition("_")
        key = f"{name}.{ending}" if number.isdigit() and len(number) == 4 else path.name
        cases.setdefault(key, []).append(str(path))
    return [{"image": paths if len(paths) > 1 else paths[0]} for paths in cases.values()]


class PrepareScand(MapTransform):  # type: ignore[misc]
    """Brings a scan to the network's grid (`voxelry.preparation`): reorder axes, crop to content, resample, normalise.

    Args:
        keys: of images ``(C, *spatial)`` with an affine.
        orientation: axis codes; None leaves axes as stored.
        spacing: mm along the oriented axes, None along one that stays; None altogether leaves the grid.
        long_side: pixels of a picture's longer edge, in place of a spacing.
        orders: spline order along each axis.
        smooth: blur before voxels become fewer.
        normalisation: of each channel ``scheme`` (global, image, mask), ``low``, ``high``, ``mean``, ``std``.
        mask_orders: order along each axis of the content mask, for the scheme ``mask``.
    """

    def __init__(
        self,
        keys: KeysCollection,
        orientation: str | None,
        spacing: Sequence[float | None] | None,
        long_side: int | None,
        orders: Sequence[int],
        smooth: bool,
        normalisation: Sequence[Mapping[str, Any]],
        mask_orders: Sequence[int],
    ) -> None:
        super().__init__(keys)
        self.orientation, self.spacing, self.long_side = orientation, spacing, long_side
        self.orders, self.smooth, self.normalisation, self.mask_orders = orders, smooth, normalisation, mask_orders

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The scan as the network sees it, and under `FACTS` what was done."""
        result = dict(data)
        for key in self.keys:
            image = result[key]
            affine = np.asarray(image.affine, dtype=np.float64)
            prepared, facts = self.prepared(np.asarray(image, dtype=np.float32), affine)
            result[key] = MetaTensor(torch.from_numpy(prepared), meta=image.meta)
            result[FACTS] = torch.from_numpy(facts)
        return result

    def prepared(self, image: NDArray[np.float32], affine: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """``(C, *spatial)`` on the network's grid, and what was done, ``(5, axes)``."""
        axes, stored = image.ndim - 1, image.shape[1:]
        order, flips = _reordering(affine, self.orientation, axes)
        image = np.flip(image.transpose(0, *(axis + 1 for axis in order)), tuple(axis + 1 for axis in range(axes) if flips[axis]))
        start, extent = _content_box(image)
        inside = self._inside(image) if any(each["scheme"] == "mask" for each in self.normalisation) else None
        box = (slice(None), *(slice(first, first + size) for first, size in zip(start, extent, strict=True)))
        now = np.linalg.norm(affine[:3, :3], axis=0)[list(order)] if axes == 3 else None
        shape = self._target(extent, now)
        resampled = np.stack([_resampled(channel, shape, self.orders, self.smooth) for channel in image[box]])
        if inside is not None:
            inside = _mask_resampled(inside[box[1:]], shape, self.mask_orders)
        for channel, scheme in zip(resampled, self.normalisation, strict=True):
            _normalise(channel, scheme, inside)
        return np.ascontiguousarray(resampled), np.array([order, flips, start, extent, stored], np.int64)

    def _target(self, extent: Sequence[int], now: NDArray[np.float64] | None) -> tuple[int, ...]:
        """Voxels along each axis at the plan's spacing, halves going up."""
        if self.long_side is not None:
            return tuple(max(1, math.floor(size * self.long_side / max(extent) + 0.5)) for size in extent)
        if self.spacing is None or now is None:
            return tuple(extent)
        return tuple(
            size if then is None else max(1, math.floor(size * here / then + 0.5))
            for size, here, then in zip(extent, now, self.spacing, strict=True)
        )

    @staticmethod
    def _inside(image: NDArray[np.float32]) -> NDArray[np.bool_]:
        filled: NDArray[np.bool_] = ndimage.binary_fill_holes((image != 0).any(axis=0))
        return filled


class MirroringInferer(SlidingWindowInferer):  # type: ignore[misc]
    """A sliding window whose patches are mirrored along every set of some axes, and their logits averaged.

    Args:
        axes: spatial axes.
        side_axis: the one from one side of the body to the other.
        twins: channel of the logits that each becomes when left and right are swapped.
        window: of `SlidingWindowInferer`.
    """

    def __init__(self, axes: Sequence[int], side_axis: int, twins: Sequence[int], **window: Any) -> None:
        super().__init__(**window)
        self.mirrors = [chosen for count in range(len(axes) + 1) for chosen in itertools.combinations(axes, count)]
        self.side_axis, self.twins = side_axis, list(twins)

    def __call__(self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        """Logits of the whole scan."""

        def averaged(patches: torch.Tensor, *more: Any, **named: Any) -> torch.Tensor:
            total = torch.zeros(())
            for mirror in self.mirrors:
                along = [axis + 2 for axis in mirror]
                logits = network(patches.flip(along), *more, **named)
                logits = logits[:, self.twins] if self.side_axis in mirror else logits
                total = total.to(logits) + logits.flip(along) / len(self.mirrors)
            return total

        return super().__call__(inputs, averaged, *args, **kwargs)


class RestoreLabelsd(MapTransform):  # type: ignore[misc]
    """Labels on the scan's own grid (`voxelry.inference`): restore logits linearly, decide, place, name, clean up.

    Args:
        keys: of logits ``(K, *spatial)`` on the network's grid.
        orders: 1, or 0 for the nearest, along each axis.
        values: stored value of each class, background first.
        regions: whether classes are regions, of which the last above 0 decides; a network may leave the background out.
        clean_up: rules of labels: ``value``, ``min_mm3``, ``keep_largest``, ``fill_holes``.
        head: channels of an instance head behind the classes, which are left out.
        image_key: of the image, whose grid the labels get.
    """

    def __init__(
        self,
        keys: KeysCollection,
        orders: Sequence[int],
        values: Sequence[int],
        regions: bool,
        clean_up: Sequence[Mapping[str, Any]],
        head: int = 0,
        image_key: str = "image",
    ) -> None:
        super().__init__(keys)
        self.orders, self.values, self.regions, self.clean_up = orders, values, regions, clean_up
        self.head, self.image_key = head, image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """``(1, *stored)`` uint8 or uint16 labels."""
        result = dict(data)
        source = result[self.image_key]
        for key in self.keys:
            facts = np.asarray(result[FACTS]).reshape(5, -1)
            labels = self.restored(np.asarray(result[key].detach().cpu(), dtype=np.float32), facts)
            size = abs(float(np.linalg.det(np.asarray(source.affine)[:3, :3]))) if labels.ndim == 3 else None
            for rule in self.clean_up:
                _remove_parts(labels, rule, size)
            for rule in sorted(self.clean_up, key=lambda rule: int(rule["value"])):
                _fill_holes(labels, rule)
            result[key] = MetaTensor(torch.from_numpy(labels[None]), meta=source.meta)
        return result

    def restored(self, logits: NDArray[np.float32], facts: NDArray[np.int64]) -> NDArray[Any]:
        """Stored values on the scan's grid.

        Args:
            logits: ``(K, *spatial)``.
            facts: of `PrepareScand`.
        """
        order, flips, start, extent, stored = (row.tolist() for row in facts)
        best, winner = np.zeros(extent, np.float32), np.zeros(extent, np.int64)
        logits = logits[: len(logits) - self.head]
        logits = logits[-(len(self.values) - 1) :] if self.regions else logits
        for number, channel in enumerate(logits, start=1 if self.regions else 0):
            value = _applied(channel, extent, self.orders, smooth=False)
            better = value > 0 if self.regions else (value > best if number else np.ones(extent, bool))
            best[better], winner[better] = value[better], number
        kind = np.uint8 if max(self.values) < 256 else np.uint16
        whole = np.zeros([stored[axis] for axis in order], kind)
        box = tuple(slice(first, first + size) for first, size in zip(start, extent, strict=True))
        whole[box] = np.array(self.values, kind)[winner]
        upright = np.flip(whole, tuple(axis for axis in range(whole.ndim) if flips[axis]))
        return np.ascontiguousarray(upright.transpose(np.argsort(order)))


class SaveLabelsd(MapTransform):  # type: ignore[misc]
    """Writes labels: ``<name of the image>.nii.gz`` with its affine, or ``.png`` of a picture.

    Args:
        keys: of labels ``(1, *spatial)``.
        output_dir: the folder; made if missing.
    """

    def __init__(self, keys: KeysCollection, output_dir: str) -> None:
        super().__init__(keys)
        self.folder = Path(output_dir)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write; the data stay as they are."""
        for key in self.keys:
            labels = data[key]
            source = labels.meta["filename_or_obj"]
            name = Path(str(source if isinstance(source, str) else source[0])).name
            ending = next((end for end in IMAGE_ENDINGS if name.lower().endswith(end)), "")
            stem, array = name.removesuffix(name[len(name) - len(ending) :]), np.asarray(labels)[0]
            self.folder.mkdir(parents=True, exist_ok=True)
            if array.ndim == 2:
                Image.fromarray(array).save(self.folder / f"{stem}.png")
                continue
            image = nib.Nifti1Image(array, np.asarray(labels.affine, dtype=np.float64))
            image.header.set_xyzt_units("mm")
            nib.save(image, self.folder / f"{stem}.nii.gz")
        return dict(data)


def _reordering(affine: NDArray[np.float64], codes: str | None, axes: int) -> tuple[list[int], list[int]]:
    """The stored axis of each new one, and whether it is reversed."""
    if codes is None or axes == 2:
        return list(range(axes)), [0] * axes
    change = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(codes))
    order = np.argsort(change[:, 0])
    return order.tolist(), [int(change[axis, 1] < 0) for axis in order]


def _content_box(image: NDArray[Any]) -> tuple[list[int], list[int]]:
    """First voxels and sizes of the smallest box outside which every channel is 0; the whole where there is none."""
    content, start, extent = (image != 0).any(axis=0), [], []
    for axis in range(content.ndim):
        lines = np.flatnonzero(content.any(axis=tuple(other for other in range(content.ndim) if other != axis)))
        start.append(int(lines[0]) if len(lines) else 0)
        extent.append(int(lines[-1] - lines[0]) + 1 if len(lines) else content.shape[axis])
    return start, extent


def _applied(value: NDArray[np.float32], shape: Sequence[int], orders: Sequence[int], smooth: bool) -> NDArray[np.float32]:
    """A channel on another number of voxels over the same space, axis by axis."""
    for axis, (size, target, order) in enumerate(zip(value.shape, shape, orders, strict=True)):
        if size != target:
            matrix = resampling_operator(size, target, order, smooth).matrix(size)
            value = np.moveaxis(np.tensordot(matrix, value, axes=(1, axis)), 0, axis)
    return value


def _resampled(channel: NDArray[np.float32], shape: Sequence[int], orders: Sequence[int], smooth: bool) -> NDArray[np.float32]:
    """Grey values by splines, within the channel's own range."""
    return np.clip(_applied(channel, shape, orders, smooth), channel.min(), channel.max())


def _mask_resampled(mask: NDArray[np.bool_], shape: Sequence[int], orders: Sequence[int]) -> NDArray[np.bool_]:
    return _applied(mask.astype(np.float32), shape, orders, smooth=False) > 0.5 + TIE / 2


def _normalise(channel: NDArray[np.float32], scheme: Mapping[str, Any], inside: NDArray[np.bool_] | None) -> None:
    """Scale a channel in place; one whose values are all equal becomes 0."""
    masked = scheme["scheme"] == "mask" and inside is not None
    if scheme["scheme"] == "global":
        np.clip(channel, scheme["low"], scheme["high"], out=channel)
        mean, std = scheme["mean"], scheme["std"]
    else:
        values = channel[inside] if masked else channel
        mean, std = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
        std = std if std > max(ROUNDING * abs(mean), float(np.finfo(np.float32).tiny)) else 0.0
    if std:
        channel -= mean
        channel /= std
    else:
        channel[...] = 0
    if masked:
        channel[~inside] = 0  # type: ignore[operator]  # masked says that there is one


def _remove_parts(labels: NDArray[Any], rule: Mapping[str, Any], size: float | None) -> None:
    """Remove small components of one label in place; they are connected through faces, edges and corners."""
    mask = labels == rule["value"]
    if not (rule["keep_largest"] or rule["min_mm3"]) or not mask.any():
        return
    parts, count = ndimage.label(mask, np.ones((3,) * labels.ndim))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    kept = np.ones(count, bool)
    if rule["min_mm3"]:
        kept = sizes * (size or 1.0) >= rule["min_mm3"] * (1 - TIE)
    if rule["keep_largest"]:
        kept &= np.arange(count) == sizes.argmax()
    labels[mask & ~np.concatenate([[True], kept])[parts]] = 0


def _fill_holes(labels: NDArray[Any], rule: Mapping[str, Any]) -> None:
    """Background that one label encloses becomes the label, in place."""
    if rule["fill_holes"]:
        filled = ndimage.binary_fill_holes(labels == rule["value"])
        labels[filled & (labels == 0)] = rule["value"]
