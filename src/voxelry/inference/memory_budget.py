"""How a scan is segmented within a memory budget: what each part costs, and what is chosen so that it fits."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from voxelry.base.malloc import installed_memory
from voxelry.errors import BudgetError
from voxelry.inference.half import has_halves
from voxelry.inference.patches import Layout
from voxelry.inference.predict_options import PredictOptions

SPARE = 96 << 20
"""What Python, torch and its threads take beside what is counted here."""

SLICE_BYTES, DEVICE_SLICE_BYTES = 48 << 20, 192 << 20
"""Slices of logits on their way into the ring: copies of `engine.SLICED` float32, and what is gathered to restore."""

HOST_SHARE, DEVICE_SHARE = 0.75, 0.9
SLAB = 16
DEVICE_BATCH = 8


@dataclass(frozen=True)
class Load:
    """What a scan brings with it, in bytes, and what a window costs.

    Attributes:
        layouts: the windows, of each team in an ensemble of several plans.
        classes: K.
        image: what is held at a time of the prepared scan.
        labels: everything on the scan's own grid: labels, confidence, clean-up.
        plane: one new slice of labels and confidence.
        window: the network's peak on one window.
        resident: what the process holds already.
    """

    layouts: tuple[Layout, ...]
    classes: int
    image: int
    labels: int
    plane: int
    window: int
    resident: int

    def ring(self, half: bool) -> int:
        """Bytes of the rings: sums, weights, winners."""
        voxels = sum((one.held + 1) * one.shape[1] * one.shape[2] for one in self.layouts)
        return voxels * (self.classes * (2 if half else 4) + 8)

    def batch(self, windows: int, on_device: bool = False) -> int:
        """Bytes of a batch in the network, and on its way into the ring."""
        return self.window * windows + (DEVICE_SLICE_BYTES if on_device else SLICE_BYTES)

    def host(self, slab: int) -> int:
        """Bytes of the host's memory, whatever is chosen."""
        return self.resident + SPARE + self.image + self.labels + self.plane * slab


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        half: keep sums as half floats.
        batch: windows at a time.
        slab: new slices at a time.
        ring_on_device: whether the ring lies in the GPU's memory.
        needed: bytes of the host's memory.
    """

    half: bool
    batch: int
    slab: int
    ring_on_device: bool
    needed: int


def choose(load: Load, options: PredictOptions, device: torch.device, ring_on_device: bool = True) -> Choice:
    """Slab depth, batch and type of the sums, before anything starts.

    Float32 sums are preferred to halves, but more windows at a time (on a GPU) to both.

    Args:
        load: the scan.
        options: the budgets.
        device: where the network is.
        ring_on_device: False once a GPU has refused to hold the ring.

    Returns:
        The first choice that fits.

    Raises:
        BudgetError: none does; it says which budget would.
    """
    limit = options.memory or int(HOST_SHARE * installed_memory())
    room = None if device.type == "cpu" else device_room(options, device)
    every = list(_candidates(load, options, room, ring_on_device))
    fitting = [one for one in every if one.needed <= limit]
    if fitting:
        return fitting[0]
    if not every:
        raise BudgetError(
            f"{_size(room or 0)} of the device's memory cannot hold one window ({_size(load.batch(1, True))})",
            remedy=f"Give --device-memory {_size(load.batch(1, True))} where the device has it, or use --device cpu.",
            needed=load.batch(1, True),
        )
    least = min(every, key=lambda one: one.needed)
    parts = {
        "already in use": load.resident, "prepared slices": load.image, "labels": load.labels,
        "ring": 0 if least.ring_on_device else load.ring(least.half), "window": load.batch(1) if room is None else 0,
    }  # fmt: skip
    raise BudgetError(
        f"a memory budget of {_size(limit)} is too small for {load.classes} classes: {_size(least.needed)} are needed "
        f"({', '.join(f'{name} {_size(size)}' for name, size in parts.items() if size)})",
        remedy=f"Give --memory {_size(least.needed)}, or a model with smaller windows.",
        needed=least.needed,
    )


def _candidates(load: Load, options: PredictOptions, room: int | None, ring_on_device: bool) -> Iterable[Choice]:
    """From the best to the smallest."""
    most = options.batch or (1 if room is None else DEVICE_BATCH)
    sizes = [most] if room is None or options.batch else [size for size in (8, 4, 2, 1) if size <= most]
    halves = [False, True] if has_halves() else [False]
    for slab in (SLAB, 1):
        for batch in dict.fromkeys((*sizes, 1)):
            for half in halves if room is None else [True, False]:
                ring, windows = load.ring(half), load.batch(batch, room is not None)
                if room is None:
                    yield Choice(half, batch, slab, False, load.host(slab) + ring + windows)
                elif ring_on_device and ring + windows <= room:
                    yield Choice(half, batch, slab, True, load.host(slab))
                elif windows <= room:
                    yield Choice(half, batch, slab, False, load.host(slab) + ring + SLICE_BYTES)


def device_room(options: PredictOptions, device: torch.device) -> int:
    """Bytes of a device's memory that may be asked for."""
    if options.device_memory is not None:
        return options.device_memory
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # kept from scans before
        return int(DEVICE_SHARE * (torch.cuda.mem_get_info(device)[0] + idle))
    return installed_memory() // 2


def resident_memory() -> int:
    """Bytes of memory that this process holds now, or 512 MiB where the system does not say."""
    try:
        return int(np.loadtxt("/proc/self/statm", dtype=np.int64)[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 512 << 20


def _size(count: int) -> str:
    """Bytes as text that `parse_memory` reads, rounded up."""
    return f"{math.ceil(count / 2**20)}MiB"
