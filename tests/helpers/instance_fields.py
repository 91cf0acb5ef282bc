"""Scans that hold what an instance network would say of them, and the network that says it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from helpers.plans import tiny_model, tiny_plan
from voxelry.core.geometry import Geometry
from voxelry.core.instance_plan import InstancePlan
from voxelry.core.labels import Label, LabelTable
from voxelry.core.model import Model
from voxelry.core.volume import Volume

CELLS = LabelTable(
    labels=(Label(value=4, name="tissue"), Label(value=7, name="cell", kind="thing"), Label(value=2, name="germ", kind="thing"))
)


class Pointwise(nn.Module):
    """Returns its input as logits: each voxel's result depends on that voxel alone."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> list[Tensor]:
        """``(B, C, *patch)`` -> itself."""
        return [x * self.scale]


def ellipsoids(shape: Sequence[int], count: int, radius: tuple[float, float], seed: int = 0) -> NDArray[np.int32]:
    """Ellipsoids that touch and cover each other, as ids."""
    rng, ids = np.random.default_rng(seed), np.zeros(shape, np.int32)
    for number in range(1, count + 1):
        middle = [rng.uniform(0, size) for size in shape]
        radii = [rng.uniform(*radius) for _ in shape]
        box = tuple(slice(max(0, int(m - r)), max(0, int(m + r) + 2)) for m, r in zip(middle, radii, strict=True))
        grid = np.ogrid[tuple(slice(b.start, min(b.stop, size)) for b, size in zip(box, shape, strict=True))]
        inside = sum(((g - m) / r) ** 2 for g, m, r in zip(grid, middle, radii, strict=True)) <= 1
        ids[box][inside] = number
    return ids


def fields_of(ids: NDArray[np.int32], seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Core logits and distances, with noise, of objects."""
    rng = np.random.default_rng(seed)
    distance = np.zeros(ids.shape, np.float32)
    for number, box in enumerate(ndimage.find_objects(ids), start=1):
        if box is None:
            continue
        inside = np.pad(ids[box] == number, 1)
        depth = ndimage.distance_transform_edt(inside)[(slice(1, -1),) * ids.ndim]
        distance[box] += depth / depth.max()
    distance = np.where(ids > 0, distance, -0.5).astype(np.float32)
    core = 8 * (distance - 0.6) + rng.normal(size=ids.shape).astype(np.float32)
    return core.astype(np.float32), (distance + rng.normal(scale=0.05, size=ids.shape)).astype(np.float32)


def pointwise_scan(ids: NDArray[np.int32], spacing: Sequence[float] | None = None, seed: int = 0) -> Volume:
    """A scan whose channels are the logits of `CELLS`' classes and the channels of an instance head."""
    core, distance = fields_of(ids, seed)
    classes = np.where(ids > 0, 2 + ids % 2, (np.indices(ids.shape)[0] % 16 < 4).astype(int))
    logits = np.random.default_rng(seed).normal(size=(4, *ids.shape)) + 6 * (
        np.arange(4).reshape(-1, *(1,) * ids.ndim) == classes
    )
    array = np.concatenate([logits, np.zeros((1, *ids.shape)), core[None], distance[None]]).astype(np.float32)
    geometry = Geometry(ids.shape, None, None) if ids.ndim == 2 else Geometry.from_spacing(ids.shape, spacing or (1.0,) * 3)
    return Volume(array, geometry, channels=len(array))


def pointwise_model(dimensions: int = 3, instances: InstancePlan | None = None, **changes: Any) -> Model:
    """A model whose network is to be replaced by `Pointwise`; its things are cells and germs."""
    plan = instances or InstancePlan(labels=("cell", "germ"), diameter=8)
    names = tuple("abcdefg")
    return tiny_model(tiny_plan(dimensions, channels=names, instances=plan, **changes), CELLS)
