"""Which window of which case: drawn from a seed and the step's number alone, so that a resumed run draws the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxelry.augmentation.augmentation import AugmentationParams
from voxelry.augmentation.augmenter import Augmenter
from voxelry.core.labels import IGNORE_INDEX
from voxelry.core.patch import patch_margins
from voxelry.preparation.cache import Array, CachedCase


@dataclass(frozen=True)
class Sampler:
    """Draws batches of windows.

    Attributes:
        cases: prepared cases.
        patch: window in voxels.
        batch: windows a step.
        foreground: share of a batch whose windows are forced to hold a label: a class is drawn first, then a voxel of it. The
            last windows of a batch are forced; a batch of one is by this probability.
        seed: of everything drawn.
        augment: changes windows, None to leave them. More is read than a window where a move reaches further.
        regions: class indices that make up each region, where regions are learnt in place of labels and are drawn in their place.
        previous: labels of the first stage of a cascade, whose one-hot channels come after the image's own; 0 without one.
        boxed: leave the changes to the device that trains (`OnDevice`): windows come as stored, as large as their moves reach.
    """

    cases: Sequence[CachedCase]
    patch: tuple[int, ...]
    batch: int
    foreground: float
    seed: int
    augment: Augmenter | None = None
    regions: tuple[tuple[int, ...], ...] = ()
    previous: int = 0
    boxed: bool = False

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """The batch of a step: ``(B, C, *patch)`` float32 and ``(B, *patch)`` int64 class indices, unless `boxed`."""
        if self.boxed:
            return self._boxes(step)
        channels = self.cases[0].image.shape[0] + self.previous
        image_BC = torch.empty((self.batch, channels, *self.patch))
        classes_B = torch.empty((self.batch, *self.patch), dtype=torch.int64)
        for slot in range(self.batch):
            self._fill(step, slot, image_BC[slot], classes_B[slot])
        return image_BC, classes_B

    def draws(self, step: int) -> list[AugmentationParams]:
        """What happens to each window of a step."""
        assert self.augment is not None
        return [self.augment.draw(self._seed(step, slot)) for slot in range(self.batch)]

    def _seed(self, step: int, slot: int) -> int:
        return int(np.random.SeedSequence([self.seed, step, slot]).generate_state(1)[0])

    def _boxes(self, step: int) -> tuple[Tensor, Tensor]:
        """All that the moves of a step's windows need to be read, as stored, each from its own first voxel, all of one size."""
        assert self.augment is not None
        draws = self.draws(step)
        reached = [self.augment.reach(drawn) for drawn in draws]
        size = tuple(np.max([size for _, size in reached], axis=0).tolist())
        image_BC, classes_B = [], []
        for slot, (drawn, (first, _)) in enumerate(zip(draws, reached, strict=True)):
            case, start = self._place(step, slot)
            image_C, classes = self._box(case, start + first, size, drawn)
            image_BC.append(image_C)
            classes_B.append(classes)
        return torch.stack(image_BC), torch.stack(classes_B)

    def _box(
        self, case: CachedCase, start: NDArray[np.int64], size: tuple[int, ...], drawn: AugmentationParams
    ) -> tuple[Tensor, Tensor]:
        """A part of a case, in a cascade with what its first stage found as one more channel; halves on the way to a GPU."""
        assert self.augment is not None
        own = case.image.shape[0]
        image_C = torch.empty((own + bool(self.previous), *size), dtype=torch.float16 if self.boxed else torch.float32)
        classes = torch.empty(size, dtype=torch.int16)
        cut_into(image_C[:own], case.image, start, 0)
        cut_into(classes, case.classes, start, IGNORE_INDEX)
        if self.previous:
            image_C[own].copy_(torch.from_numpy(self.augment.add_cascade_noise(drawn, _found(case, start, size).numpy())))
        return image_C, classes

    def _fill(self, step: int, slot: int, image_C: Tensor, classes: Tensor) -> None:
        case, start = self._place(step, slot)
        if self.augment is not None:
            drawn = self.augment.draw(self._seed(step, slot))
            first, size = self.augment.reach(drawn)
            box_C, box = self._box(case, start + first, tuple(size.tolist()), drawn)
            self.augment.apply_into(image_C.numpy(), classes.numpy(), drawn, first, box_C.numpy(), box.numpy())
            return
        own = case.image.shape[0]
        cut_into(image_C[:own], case.image, start, 0)
        cut_into(classes, case.classes, start, IGNORE_INDEX)
        if self.previous:
            found = _found(case, start, self.patch)
            for label, channel in enumerate(image_C[own:], start=1):
                channel.copy_(found == label)

    def _place(self, step: int, slot: int) -> tuple[CachedCase, NDArray[np.int64]]:
        """The case of a window, and the window's first voxel."""
        random = np.random.default_rng([self.seed, step, slot])
        # every case comes once before any comes twice: a fresh order for each round through the cases
        turn, place = divmod(step * self.batch + slot, len(self.cases))
        order = np.random.default_rng([self.seed, turn]).permutation(len(self.cases))
        case = self.cases[order[place]]
        return case, self._start(case, random, self._is_forced(random, slot))

    def _is_forced(self, random: np.random.Generator, slot: int) -> bool:
        """Whether a window must hold a label; of a batch that is shared out exactly, as nnU-Net does it."""
        if self.batch == 1:
            return bool(random.random() < self.foreground)
        return slot >= round(self.batch * (1 - self.foreground))

    def _start(self, case: CachedCase, random: np.random.Generator, forced: bool) -> NDArray[np.int64]:
        """The window's first voxel, negative where the case is smaller than the window: it lies in the middle then."""
        patch = np.array(self.patch)
        room = np.array(case.classes.shape) - patch
        voxel = self._voxel(case, random, forced)
        if voxel is None:
            wanted = random.integers(np.minimum(0, room), np.maximum(0, room), endpoint=True)
        else:  # anywhere in the middle half of the window, so that not everything learnt lies at its centre
            wanted = voxel - random.integers(patch // 4, patch - patch // 4)
        before = [first for first, _ in patch_margins(case.classes.shape, self.patch)]
        start: NDArray[np.int64] = np.clip(wanted, 0, np.maximum(room, 0)) - before
        return start

    def _voxel(self, case: CachedCase, random: np.random.Generator, forced: bool) -> NDArray[np.int32] | None:
        """A voxel that the window must hold: of a class where that is forced, of what is known where some is ignored."""
        held = [index for index in sorted(case.class_locations) if len(case.class_locations[index])]
        labels = [index for index in held if index]
        if forced and labels:
            choices = [[index for index in region if index in labels] for region in self.regions] or [[one] for one in labels]
            choices = [choice for choice in choices if choice]
            chosen = choices[random.integers(len(choices))] if choices else labels
        elif 0 in case.class_locations and held:
            chosen = held
        else:
            return None
        shares = np.array([case.count(index) for index in chosen], dtype=np.float64)
        voxels = case.class_locations[chosen[random.choice(len(chosen), p=shares / shares.sum()) if len(chosen) > 1 else 0]]
        voxel: NDArray[np.int32] = voxels[random.integers(len(voxels))]
        return voxel


def _found(case: CachedCase, start: NDArray[np.int64], size: tuple[int, ...]) -> Tensor:
    """What a cascade's first stage found in a part of a case."""
    assert case.first_stage is not None
    found = torch.empty(size, dtype=torch.int16)
    cut_into(found, case.first_stage, start, 0)
    return found


def cut_into(out: Tensor, array: Array, start: NDArray[np.int64], fill: float) -> None:
    """A window of an array, filled where it reaches beyond; of a file only the window is read.

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
        part = array[(slice(None),) * lead + inside]
        out[(slice(None),) * lead + outside].copy_(torch.from_numpy(np.ascontiguousarray(part)))  # torch widens halves faster
