"""Samples training patches, oversampling the foreground; patches depend on seed and batch number alone.

So a resumed run draws the same patches as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxelry.augmentation.augmentation import AugmentationParams
from voxelry.augmentation.augmenter import Augmenter
from voxelry.augmentation.packed_targets import PLANES, packed
from voxelry.core.labels import IGNORE_INDEX
from voxelry.core.patch import patch_margins
from voxelry.preparation.cache import Array, CachedCase


@dataclass(frozen=True)
class Sampler:
    """Draws batches of patches.

    Attributes:
        cases: prepared cases.
        patch: patch size in voxels.
        batch: patches per batch.
        foreground: share of a batch whose patches must contain a label: a class is drawn first, then a voxel of it. These are the
            last patches of a batch; in a batch of one it is the probability.
        seed: seed of every draw.
        augment: augments patches, None leaves them. More than a patch is read where a move reaches further.
        regions: class indices that make up each region, where regions are learnt in place of labels and are drawn in their place.
        previous: labels of a cascade's first stage, whose one-hot channels follow the image's own; 0 without one.
        head_classes: class indices of labels, background included, where an instance head is trained, whose targets come with
            them; 0 without one.
        on_device: leave augmentation to the device that trains (`DeviceAugmentation`): boxes come as stored, as large as the
            moves of their patches reach.
    """

    cases: Sequence[CachedCase]
    patch: tuple[int, ...]
    batch: int
    foreground: float
    seed: int
    augment: Augmenter | None = None
    regions: tuple[tuple[int, ...], ...] = ()
    previous: int = 0
    head_classes: int = 0
    on_device: bool = False

    def __call__(self, number: int) -> tuple[Tensor, Tensor]:
        """The batch of a number, unless `on_device`.

        Returns:
            ``(B, C, *patch)`` float32 and ``(B, *patch)`` int64 class indices; with an instance head ``(B, 3, *patch)`` int16:
            class indices, parts, stored distances.
        """
        if self.on_device:
            return self._boxes(number)
        channels = self.cases[0].image.shape[0] + self.previous
        image_BC = torch.empty((self.batch, channels, *self.patch))
        targets_B = torch.empty((self.batch, *self.patch), dtype=torch.int64)
        if self.head_classes:
            targets_B = torch.empty((self.batch, PLANES, *self.patch), dtype=torch.int16)
        for slot in range(self.batch):
            self._fill(number, slot, image_BC[slot], targets_B[slot])
        return image_BC, targets_B

    def draws(self, number: int) -> list[AugmentationParams]:
        """The augmentation parameters of each patch of a batch."""
        assert self.augment is not None
        return [self.augment.draw(self._seed(number, slot)) for slot in range(self.batch)]

    def _seed(self, number: int, slot: int) -> int:
        return int(np.random.SeedSequence([self.seed, number, slot]).generate_state(1)[0])

    def _boxes(self, number: int) -> tuple[Tensor, Tensor]:
        """The boxes that the moves of a batch's patches need, as stored, each from its own first voxel, all of one size."""
        assert self.augment is not None
        draws = self.draws(number)
        reached = [self.augment.reach(params) for params in draws]
        size = tuple(np.max([size for _, size in reached], axis=0).tolist())
        image_BC, classes_B = [], []
        for slot, (params, (first, _)) in enumerate(zip(draws, reached, strict=True)):
            case, start = self._location(number, slot)
            image_C, classes = self._box(case, start + first, size, params)
            image_BC.append(image_C)
            classes_B.append(classes)
        return torch.stack(image_BC), torch.stack(classes_B)

    def _box(
        self, case: CachedCase, start: NDArray[np.int64], size: tuple[int, ...], params: AugmentationParams
    ) -> tuple[Tensor, Tensor]:
        """A box of a case as `Augmenter.apply` takes it; half floats on the way to a GPU."""
        assert self.augment is not None
        own, more = case.image.shape[0], bool(self.head_classes) + bool(self.previous)
        image_C = torch.empty((own + more, *size), dtype=torch.float16 if self.on_device else torch.float32)
        classes = torch.empty(size, dtype=torch.int16)
        cut_into(image_C[:own], case.image, start, 0)
        cut_into(classes, case.classes, start, IGNORE_INDEX)
        if self.head_classes:
            parts, image_C[own] = _cut_targets(case, start, size)
            classes = torch.from_numpy(packed(classes.numpy(), parts.numpy(), self.head_classes))
        if self.previous:
            image_C[-1].copy_(
                torch.from_numpy(self.augment.add_cascade_noise(params, _first_stage_classes(case, start, size).numpy()))
            )
        return image_C, classes

    def _fill(self, number: int, slot: int, image_C: Tensor, targets: Tensor) -> None:
        case, start = self._location(number, slot)
        if self.augment is not None:
            params = self.augment.draw(self._seed(number, slot))
            first, size = self.augment.reach(params)
            box_C, box = self._box(case, start + first, tuple(size.tolist()), params)
            self.augment.apply_into(image_C.numpy(), targets.numpy(), params, first, box_C.numpy(), box.numpy())
            return
        own = case.image.shape[0]
        cut_into(image_C[:own], case.image, start, 0)
        cut_into(targets[0] if self.head_classes else targets, case.classes, start, IGNORE_INDEX)
        if self.head_classes:
            targets[1], targets[2] = _cut_targets(case, start, self.patch)
        if self.previous:
            first_stage = _first_stage_classes(case, start, self.patch)
            for label, channel in enumerate(image_C[own:], start=1):
                channel.copy_(first_stage == label)

    def _location(self, number: int, slot: int) -> tuple[CachedCase, NDArray[np.int64]]:
        """The case of a patch, and the patch's first voxel."""
        random = np.random.default_rng([self.seed, number, slot])
        # every case comes once before any comes twice: a new order for each round through the cases
        turn, position = divmod(number * self.batch + slot, len(self.cases))
        order = np.random.default_rng([self.seed, turn]).permutation(len(self.cases))
        case = self.cases[order[position]]
        return case, self._start(case, random, self._is_forced(random, slot))

    def _is_forced(self, random: np.random.Generator, slot: int) -> bool:
        """Whether a patch must contain a label; the share of a batch is kept exactly, as in nnU-Net."""
        if self.batch == 1:
            return bool(random.random() < self.foreground)
        return slot >= round(self.batch * (1 - self.foreground))

    def _start(self, case: CachedCase, random: np.random.Generator, forced: bool) -> NDArray[np.int64]:
        """The patch's first voxel; negative where the case is smaller than the patch and is centred in it."""
        patch = np.array(self.patch)
        room = np.array(case.classes.shape) - patch
        voxel = self._voxel(case, random, forced)
        if voxel is None:
            start = random.integers(np.minimum(0, room), np.maximum(0, room), endpoint=True)
        else:  # anywhere in the middle half of the patch, so that labels are not always seen at its centre
            start = voxel - random.integers(patch // 4, patch - patch // 4)
        before = [low for low, _ in patch_margins(case.classes.shape, self.patch)]
        first: NDArray[np.int64] = np.clip(start, 0, np.maximum(room, 0)) - before
        return first

    def _voxel(self, case: CachedCase, random: np.random.Generator, forced: bool) -> NDArray[np.int32] | None:
        """A voxel that the patch must contain: of a label where that is forced, of any class where some voxels are ignored."""
        present = [index for index in sorted(case.class_locations) if len(case.class_locations[index])]
        labels = [index for index in present if index]
        if forced and labels:
            choices = [[index for index in region if index in labels] for region in self.regions] or [[index] for index in labels]
            choices = [choice for choice in choices if choice]
            chosen = choices[random.integers(len(choices))] if choices else labels
        elif 0 in case.class_locations and present:
            chosen = present
        else:
            return None
        shares = np.array([case.count(index) for index in chosen], dtype=np.float64)
        voxels = case.class_locations[chosen[random.choice(len(chosen), p=shares / shares.sum()) if len(chosen) > 1 else 0]]
        voxel: NDArray[np.int32] = voxels[random.integers(len(voxels))]
        return voxel


def _first_stage_classes(case: CachedCase, start: NDArray[np.int64], size: tuple[int, ...]) -> Tensor:
    """The class indices of a cascade's first stage in a box of a case."""
    assert case.first_stage is not None
    classes = torch.empty(size, dtype=torch.int16)
    cut_into(classes, case.first_stage, start, 0)
    return classes


def _cut_targets(case: CachedCase, start: NDArray[np.int64], size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The parts and distances of a box of a case, 0 beyond it and where a case has no labels."""
    parts, distance = torch.zeros((2, *size), dtype=torch.int8)
    if case.targets is not None:
        cut_into(parts, case.targets.parts, start, 0)
        cut_into(distance, case.targets.distance, start, 0)
    return parts, distance


def cut_into(out: Tensor, array: Array, start: NDArray[np.int64], fill: float) -> None:
    """Copy a box of an array, with a fill value beyond the array; of a mapped file only the box is read.

    Args:
        out: ``(..., *patch)``, of any type that holds the values.
        array: ``(..., *shape)``.
        start: first voxel along each spatial axis, may be negative.
        fill: value beyond the array.
    """
    lead = array.ndim - len(start)
    shape, patch = array.shape[lead:], out.shape[lead:]
    begin = [max(first, 0) for first in start.tolist()]
    end = [min(first + size, n) for first, size, n in zip(start.tolist(), patch, shape, strict=True)]
    if any(last - first != size for first, last, size in zip(begin, end, patch, strict=True)):
        out.fill_(fill)
    if all(first < last for first, last in zip(begin, end, strict=True)):
        inside = tuple(slice(first, last) for first, last in zip(begin, end, strict=True))
        outside = tuple(slice(a - first, b - first) for a, b, first in zip(begin, end, start.tolist(), strict=True))
        box = array[(slice(None),) * lead + inside]
        out[(slice(None),) * lead + outside].copy_(torch.from_numpy(np.ascontiguousarray(box)))  # torch widens halves faster
