"""Which window of which case: drawn from a seed and the step's number alone, so that a resumed run draws the same."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxelry.labels import IGNORE_INDEX
from voxelry.prepare.augment import Augmenter
from voxelry.prepare.cache import CachedCase


@dataclass(frozen=True)
class Sampler:
    """Draws batches of windows.

    Attributes:
        cases: prepared cases.
        patch: window in voxels.
        batch: windows a step.
        foreground: share of a batch centred on a labelled voxel (class drawn first, then a voxel of it).
        seed: of everything drawn.
        augment: changes windows, None to leave them.
    """

    cases: Sequence[CachedCase]
    patch: tuple[int, ...]
    batch: int
    foreground: float
    seed: int
    augment: Augmenter | None = None

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """The batch of a step: ``(B, C, *patch)`` float32 and ``(B, *patch)`` int64 class indices."""
        windows = [self._window(step, slot) for slot in range(self.batch)]
        return torch.stack([image for image, _ in windows]), torch.stack([classes for _, classes in windows])

    def _window(self, step: int, slot: int) -> tuple[Tensor, Tensor]:
        seed = np.random.SeedSequence([self.seed, step, slot])
        random = np.random.default_rng(seed)
        # every case comes once before any comes twice: a fresh order for each round through the cases
        turn, place = divmod(step * self.batch + slot, len(self.cases))
        order = np.random.default_rng([self.seed, turn]).permutation(len(self.cases))
        case = self.cases[order[place]]
        forced = slot >= round(self.batch * (1 - self.foreground))
        start = self._start(case, random, forced)
        image = cut(case.image, start, self.patch, 0).astype(np.float32)
        classes = cut(case.classes[None], start, self.patch, IGNORE_INDEX)[0]
        if self.augment is None:
            return torch.from_numpy(image), torch.from_numpy(classes.astype(np.int64))
        return self.augment(image, classes, int(seed.generate_state(1)[0]))

    def _start(self, case: CachedCase, random: np.random.Generator, forced: bool) -> NDArray[np.int64]:
        """The window's first voxel, negative where the case is smaller than the window (it is centred then)."""
        shape, patch = np.array(case.classes.shape), np.array(self.patch)
        if forced and case.places:
            voxels = case.places[sorted(case.places)[random.integers(len(case.places))]]
            wanted = voxels[random.integers(len(voxels))] - random.integers(patch // 4, patch - patch // 4)
        else:
            wanted = random.integers(np.minimum(0, shape - patch), np.maximum(0, shape - patch), endpoint=True)
        room = shape - patch
        start: NDArray[np.int64] = np.where(room < 0, room // 2, np.clip(wanted, 0, np.maximum(room, 0)))
        return start


def cut(array_C: NDArray[Any], start: NDArray[np.int64], patch: tuple[int, ...], fill: float) -> NDArray[Any]:
    """A window of an array, filled where it reaches beyond.

    Args:
        array_C: ``(C, *shape)``.
        start: first voxel along each axis, may be negative.
        patch: window in voxels.
        fill: value beyond the array.

    Returns:
        ``(C, *patch)``, a copy.
    """
    result = np.full((len(array_C), *patch), fill, dtype=array_C.dtype)
    inside, outside = [slice(None)], [slice(None)]
    for begin, size, n in zip(start.tolist(), patch, array_C.shape[1:], strict=True):
        first, last = max(begin, 0), min(begin + size, n)
        inside.append(slice(first, last))
        outside.append(slice(first - begin, last - begin))
    result[tuple(outside)] = array_C[tuple(inside)]
    return result


def prefetched(sampler: Sampler, first: int, last: int, depth: int = 4) -> Generator[tuple[Tensor, Tensor]]:
    """Batches of the steps `first`..`last` (excluded), made ahead by one thread.

    An error in the thread is raised here, at the step that it belongs to.
    """
    ready: queue.Queue[tuple[Tensor, Tensor] | Exception] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def work() -> None:
        for step in range(first, last):
            try:
                item: tuple[Tensor, Tensor] | Exception = sampler(step)
            except Exception as error:  # noqa: BLE001 - handed over and raised where the batch is asked for
                item = error
            while not stop.is_set():
                try:
                    ready.put(item, timeout=0.2)
                    break
                except queue.Full:
                    continue
            if stop.is_set() or isinstance(item, Exception):
                return

    worker = threading.Thread(target=work, name="voxelry-sampler", daemon=True)
    worker.start()
    try:
        for _ in range(first, last):
            item = ready.get()
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        stop.set()
        worker.join()
