"""Batches on their way to the device that trains: by threads ahead of a GPU, and how long each was waited for."""

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
"""``(B, C, *patch)`` float and ``(B, *patch)`` integer class indices."""

AHEAD = 2
"""Batches that each thread is ahead."""


class Feed:
    """The batches of a run, by their numbers.

    Args:
        sampler: makes the batch of a number.
        device: that trains.
        layout: memory format of the images.
        augment: changes a batch on the device by its number; None leaves it as the sampler made it.
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
        """The batches from number `first` on, on the device; close it to end its threads.

        An error in a thread is raised here, at the batch that it belongs to. `waited` grows by the seconds for which the network
        stood still.
        """
        with closing(self._ahead(first) if self.device.type == "cuda" else self._in_turn(first)) as made:
            for number in count(first):
                began = time.monotonic()
                image_BC, classes_B = next(made)
                self.waited += time.monotonic() - began
                image_BC = image_BC.to(self.device, non_blocking=True)
                classes_B = classes_B.to(self.device, non_blocking=True)
                if self.augment is not None:
                    image_BC, classes_B = self.augment(image_BC, classes_B, number)
                yield image_BC.to(memory_format=self.layout), classes_B

    def _in_turn(self, first: int) -> Generator[Batch]:
        """Where data and network would want the same cores."""
        return (self.sampler(number) for number in count(first))

    def _ahead(self, first: int) -> Generator[Batch]:
        coming: deque[Future[Batch]] = deque()
        with ThreadPoolExecutor(THREADS, thread_name_prefix="voxelry-feed") as pool:
            try:
                while True:
                    while len(coming) < THREADS * AHEAD:
                        coming.append(pool.submit(self._pinned, first))
                        first += 1
                    yield coming.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _pinned(self, number: int) -> Batch:
        """In memory that the GPU copies from by itself."""
        image_BC, classes_B = self.sampler(number)
        return image_BC.pin_memory(), classes_B.pin_memory()
