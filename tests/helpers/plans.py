"""Small plans, tables and cards for the tests of preparation, networks, prediction and training."""

from typing import Any

import numpy as np
import torch

from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.model import Model, ModelCard
from voxelry.core.plan import ChannelStatistics, Fingerprint, NetworkPlan, Normalisation, Plan
from voxelry.core.volume import Volume
from voxelry.networks.build import build_network
from voxelry.networks.weights import weights_of

SIDED = LabelTable(
    labels=(
        Label(value=3, name="left kidney", mirror="right kidney"),
        Label(value=5, name="right kidney", mirror="left kidney"),
        Label(value=9, name="spine"),
    )
)
IDENTITY = Normalisation(scheme="global", low=-1e9, high=1e9, mean=0.0, std=1.0)


def tiny_network(dimensions: int, features: tuple[int, ...] = (4, 8, 8), **changes: Any) -> NetworkPlan:
    ones, twos = (1,) * dimensions, (2,) * dimensions
    parts: dict[str, Any] = {
        "features": features,
        "strides": (ones, *(twos,) * (len(features) - 1)),
        "kernels": ((3,) * dimensions,) * len(features),
        "deep_supervision": 1,
    }
    return NetworkPlan(**(parts | changes))


def tiny_plan(dimensions: int = 3, **changes: Any) -> Plan:
    parts: dict[str, Any] = {
        "dimensions": dimensions,
        "channels": ("T1",),
        "orientation": "RAS" if dimensions == 3 else None,
        "normalisation": (IDENTITY,) * len(changes.get("channels", ("T1",))),
        "patch_size": (8,) * dimensions,
        "batch_size": 2,
        "network": tiny_network(dimensions),
    }
    return Plan(**(parts | changes))


def tiny_fingerprint(dimensions: int = 3, **changes: Any) -> Fingerprint:
    parts: dict[str, Any] = {
        "cases": 4,
        "modality": "MR",
        "dimensions": dimensions,
        "channels": ("T1",),
        "shapes": ((30,) * dimensions, (40,) * dimensions, (50,) * dimensions),
        "spacing": (1.0,) * dimensions,
        "spacing_range": ((1.0,) * dimensions, (1.0,) * dimensions),
        "orientations": {"RAS" if dimensions == 3 else "picture": 4},
        "statistics": (ChannelStatistics(mean=40.0, std=20.0, p005=-100.0, p995=200.0),),
        "voxels": 4 * 40**dimensions,
        "label_voxels": {"left kidney": 10, "right kidney": 10, "spine": 10},
    }
    return Fingerprint(**(parts | changes))


def tiny_model(plan: Plan, table: LabelTable = SIDED, seed: int = 0, **changes: Any) -> Model:
    """A model with random weights."""
    torch.manual_seed(seed)
    card = ModelCard(name="tiny", version="0", labels=table, fingerprint=tiny_fingerprint(plan.dimensions, **changes))
    return Model(plan, card, weights_of(build_network(plan, len(table) + 1)))


def picture(array: np.ndarray, pixel_size: tuple[float, float] | None = None) -> Volume:
    return Volume(array, Geometry(array.shape[1:], None, pixel_size), channels=len(array))


def one_hot(classes: np.ndarray, count: int) -> torch.Tensor:
    """``(K, *shape)`` float32 logits whose argmax is `classes` (ignored voxels become background)."""
    return torch.stack([torch.from_numpy((np.maximum(classes, 0) == k).astype(np.float32)) for k in range(count)])
