"""A scan of the training set's grey values, to run a model on where no real one is at hand."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom

from voxelry.core.geometry import Geometry
from voxelry.core.model import Model
from voxelry.core.plan import ChannelStatistics
from voxelry.core.volume import Volume

SIZE = 1.3
"""Edges of the scan, in patches: several patches overlap along every axis."""

LUMP = 8
"""Voxels across a lump of grey."""

NOISE = 0.05
"""Standard deviation of the noise between neighbours, as a share of the range of grey values."""


def make_sample_scan(model: Model, seed: int = 0) -> Volume:
    """A scan with lumps of every grey value that the model was trained on, a few patches large.

    It shows nothing that a body has; it serves to compare two ways of computing one network.

    Args:
        model: its plan gives channels, orientation and spacing, its card the grey values.
        seed: of the random numbers.

    Returns:
        ``(C, *spatial)`` float32 on an axis-aligned grid.

    Example:
        >>> from voxelry.core import Fingerprint, Label, LabelTable, Model, ModelCard, NetworkPlan, Normalisation, Plan
        >>> network = NetworkPlan(features=(4, 8, 8), strides=((1, 1), (2, 2), (2, 2)), kernels=((3, 3),) * 3)
        >>> norm = Normalisation(scheme="image")
        >>> plan = Plan(dimensions=2, channels=("X",), normalisation=(norm,), patch_size=(32, 32), batch_size=2, network=network)
        >>> fingerprint = Fingerprint(
        ...     cases=1, modality="CT", dimensions=2, channels=("CT",), shapes=((8, 8),) * 3, orientations={"picture": 1},
        ...     statistics=(), voxels=64, label_voxels={"liver": 9},
        ... )
        >>> labels = LabelTable(labels=(Label(value=1, name="liver"),))
        >>> make_sample_scan(Model(plan, ModelCard(name="liver", version="0", labels=labels, fingerprint=fingerprint), {})).shape
        (1, 42, 42)
    """
    plan, fingerprint = model.plan, model.card.fingerprint
    rng = np.random.default_rng(seed)
    stored = plan.spacing or fingerprint.spacing or (1.0,) * plan.dimensions
    usual = fingerprint.spacing or (1.0,) * plan.dimensions
    spacing = tuple(there if here is None else here for here, there in zip(stored, usual, strict=True))
    shape = tuple(max(16, math.ceil(SIZE * edge)) for edge in plan.patch_size)
    greys = fingerprint.statistics or (ChannelStatistics(mean=0, std=1, p005=-2, p995=2),) * len(plan.channels)
    array = np.stack([_lumps(shape, grey, rng) for grey in greys])
    geometry = Geometry(shape, None, (spacing[0], spacing[1])) if plan.dimensions == 2 else Geometry.from_spacing(shape, spacing)
    if plan.dimensions == 3 and plan.orientation is not None:
        geometry = _oriented(shape, spacing, plan.orientation)
    return Volume(array, geometry, len(array), modality=fingerprint.modality, channel_names=plan.channels)


def _oriented(shape: tuple[int, ...], spacing: tuple[float, ...], codes: str) -> Geometry:
    """A grid whose axes run as the plan's do."""
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, code in enumerate(codes):
        world = next(number for number, pair in enumerate(("RL", "AP", "SI")) if code in pair)
        affine[world, axis] = spacing[axis] * (1 if code in "RAS" else -1)
    return Geometry(shape, affine)


def _lumps(shape: tuple[int, ...], grey: ChannelStatistics, rng: np.random.Generator) -> NDArray[np.float32]:
    """``shape`` float32 between the channel's percentiles, and noise."""
    coarse = tuple(math.ceil(size / LUMP) + 1 for size in shape)
    smooth = zoom(rng.uniform(0, 1, coarse), LUMP, order=1)[tuple(slice(size) for size in shape)]
    share = smooth + rng.normal(0, NOISE, shape)
    lumps: NDArray[np.float32] = (grey.p005 + share * (grey.p995 - grey.p005)).astype(np.float32)
    return lumps
