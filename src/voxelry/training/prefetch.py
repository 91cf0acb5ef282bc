"""Prefetching of batches: threads make them ahead of a GPU, and the time that training waits for them is measured."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import count

import torch
from torch import Tensor

from voxelry.base.threads import THREADS

Batch = tuple[Tensor, Tensor]
"""``(B, C, *patch)`` float and ``(B, *patch)`` integer class indices, with an instance head ``(B, 3, *patch)`` targets."""

BATCHES_AHEAD = 2
"""Batches that each thread is ahead."""


class BatchLoader:
    """Loads the batches of a run by their numbers.

    Args:
        sampler: makes the batch of a number.
        device: device that trains.
        layout: memory format of the images.
        augment: augments a batch on the device, by its number; None leaves it as the sampler made it.
    """

    def __init__(
        self,
        sampler: Callable[[int], Batch],
        device: torch.device,
        layout: torch.memory_format,
        augment: Callable[[Tensor, Tensor, int], Batch] | None = None,
    ) -> None:
        self.sampler, self.device, self.layout, self.augment = sampler, device, layout, augment
        self.waited = 0.0

    def batches(self, first: int) -> Generator[Batch]:
        """The batches from number `first` on, on the device; closing the generator ends its threads.

        An error in a thread is raised here, at the batch that it belongs to. `waited` grows by the seconds in which the network
        was idle.
        """
        with closing(self._prefetched(first) if self.device.type == "cuda" else self._in_turn(first)) as host_batches:
            for number in count(first):
                began = time.monotonic()
                image_BC, classes_B = next(host_batches)
                self.waited += time.monotonic() - began
                image_BC = image_BC.to(self.device, non_blocking=True)
                classes_B = classes_B.to(self.device, non_blocking=True)
                if self.augment is not None:
                    image_BC, classes_B = self.augment(image_BC, classes_B, number)
                yield image_BC.to(memory_format=self.layout), classes_B

    def _in_turn(self, first: int) -> Generator[Batch]:
        """Without threads, where data and network would compete for the same cores."""
        return (self.sampler(number) for number in count(first))

    def _prefetched(self, first: int) -> Generator[Batch]:
        pending: deque[Future[Batch]] = deque()
        with ThreadPoolExecutor(THREADS, thread_name_prefix="voxelry-prefetch") as pool:
            try:
                while True:
                    while len(pending) < THREADS * BATCHES_AHEAD:
                        pending.append(pool.submit(self._pinned, first))
                        first += 1
                    yield pending.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _pinned(self, number: int) -> Batch:
        """A batch in pinned memory, which the GPU copies from asynchronously."""
        image_BC, classes_B = self.sampler(number)
        return image_BC.pin_memory(), classes_B.pin_memory()
