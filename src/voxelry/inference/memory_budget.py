"""Memory split of a prediction: slab depth, batch and ring buffer type, chosen so that a scan stays within its budget."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from voxelry.base.malloc import installed_memory
from voxelry.base.memory import Footprint, format_memory
from voxelry.errors import BudgetError
from voxelry.inference.engine import reorder_bytes
from voxelry.inference.half import has_half_floats
from voxelry.inference.patches import PatchGrid
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.ring_buffer import ring_bytes

SPARE = 96 << 20
"""Bytes that Python, torch and its threads take besides the parts counted here."""

HOST_SHARE, DEVICE_SHARE = 0.75, 0.9
"""Shares of the host's installed and of a GPU's free memory that are used where no budget is given."""

SLABS = (16, 1)
"""New slices at a time, from the best to the least."""

DEVICE_BATCHES = (8, 4, 2, 1)
"""Patches at a time on a GPU, from the best to the least; a CPU takes one."""


@dataclass(frozen=True)
class ScanFootprint:
    """Memory that segmenting a scan takes, independent of the split.

    Attributes:
        grids: the patches, of each ensemble where several plans are averaged.
        classes: K.
        host: bytes of the host's memory, for every split.
        new_slice: bytes of the host's memory, for each new slice of labels at a time.
        patch: bytes of the network's device, for each patch at a time.
        distance: whether the distance of an instance head lies behind the classes in the ring buffers.
        layers: L.
    """

    grids: tuple[PatchGrid, ...]
    classes: int
    host: Footprint
    new_slice: Footprint
    patch: Footprint
    distance: bool = False
    layers: int = 1

    def ring(self, half: bool) -> Footprint:
        """Of the ring buffers: sums, weights, winners."""
        channels = self.classes + self.distance
        return Footprint({"ring buffer": sum(ring_bytes(channels, grid.ring_shape, half, self.layers) for grid in self.grids)})

    def batch(self, patches: int, on_device: bool = False) -> Footprint:
        """Of a batch in the network, and on its way into the ring buffer."""
        return self.patch * patches + reordering(on_device)


def reordering(on_device: bool) -> Footprint:
    """Of logits on their way from the network into the ring buffer."""
    return Footprint({"logits in streaming order": reorder_bytes(on_device)})


@dataclass(frozen=True)
class MemorySplit:
    """The split of a memory budget.

    Attributes:
        half: keep sums as half floats.
        batch: patches at a time.
        slab: new slices at a time.
        ring_on_device: whether the ring buffer lies in the GPU's memory.
        host: bytes of the host's memory, in all.
    """

    half: bool
    batch: int
    slab: int
    ring_on_device: bool
    host: Footprint


def split_memory(scan: ScanFootprint, options: PredictOptions, device: torch.device, ring_on_device: bool = True) -> MemorySplit:
    """Choose slab depth, batch and type of the sums, before anything is allocated.

    Float32 sums are preferred to half floats, but more patches at a time (on a GPU) to both.

    Args:
        scan: memory of the scan.
        options: the budgets.
        device: where the network is.
        ring_on_device: False once a GPU has refused to hold the ring buffer.

    Returns:
        The first of `candidates` that fits.

    Raises:
        BudgetError: none does; it names the smallest budget that suffices, and its parts.
    """
    limit = host_limit(options)
    device_limit = None if device.type == "cpu" else device_memory(options, device)
    splits = list(candidates(scan, options, device_limit, ring_on_device))
    fitting = next((split for split in splits if split.host.total <= limit), None)
    if fitting is not None:
        return fitting
    if not splits:
        patch = scan.batch(1, True)
        raise BudgetError(
            f"{format_memory(device_limit or 0)} of the device's memory cannot hold one patch: {patch}",
            remedy=f"Give --device-memory {format_memory(patch.total)} where the device has it, or use --device cpu.",
            needed=patch.total,
        )
    raise too_small(scan, limit, splits)


def host_limit(options: PredictOptions) -> int:
    """Bytes of the host's memory that the process may take."""
    return options.memory or int(HOST_SHARE * installed_memory())


def too_small(scan: ScanFootprint, limit: int, splits: Iterable[MemorySplit]) -> BudgetError:
    """The error for a scan of which no split stays within the host's budget; it names the smallest budget that suffices."""
    least = min((split.host for split in splits), key=lambda host: host.total)
    return BudgetError(
        f"a memory budget of {format_memory(limit)} is too small for {scan.classes} classes, which need {least}",
        remedy=f"Give --memory {format_memory(least.total)}, or a model with smaller patches.",
        needed=least.total,
    )


def candidates(
    scan: ScanFootprint, options: PredictOptions, device_limit: int | None, ring_on_device: bool
) -> Iterable[MemorySplit]:
    """Splits from the best to the smallest, of those that a device's memory holds.

    Args:
        scan: memory of the scan.
        options: a batch size that the user asks for.
        device_limit: bytes of the GPU's memory; None on a CPU.
        ring_on_device: whether the ring buffer may lie in the GPU's memory.
    """
    on_device = device_limit is not None
    sizes = [options.batch] if options.batch else list(DEVICE_BATCHES if on_device else (1,))
    precise_first = [False, True] if has_half_floats() else [False]
    for slab in SLABS:
        host = scan.host + scan.new_slice * slab
        for batch in dict.fromkeys((*sizes, 1)):
            for half in [True, False] if on_device else precise_first:
                ring, patches = scan.ring(half), scan.batch(batch, on_device)
                if device_limit is None:
                    yield MemorySplit(half, batch, slab, False, host + ring + patches)
                elif ring_on_device and (ring + patches).total <= device_limit:
                    yield MemorySplit(half, batch, slab, True, host)
                elif patches.total <= device_limit:
                    yield MemorySplit(half, batch, slab, False, host + ring + reordering(on_device=False))


def device_memory(options: PredictOptions, device: torch.device) -> int:
    """Bytes of a device's memory that may be used."""
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
