"""Predictor: a model loaded once, used for many scans."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxelry.geometry import Geometry
from voxelry.model import Model
from voxelry.networks.build import choose_device, compute_dtype
from voxelry.networks.weights import network_of
from voxelry.predict.window import window_logits
from voxelry.prepare.fingerprint import CANONICAL
from voxelry.prepare.preparation import prepare, reordering
from voxelry.volume import LabelMap, Volume

SPACING_FACTOR = 1.5
"""How far outside the training set's range a spacing may lie before a prediction says so."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """Labels on the scan's own grid, and how far to trust them.

    Attributes:
        labels: the label map.
        confidence: label name -> mean probability (0..1) of that label over the voxels it won, None where it won none.
        flags: sentences about anything unusual: a label at the scan's border, a spacing never seen in training.
    """

    labels: LabelMap
    confidence: dict[str, float | None]
    flags: tuple[str, ...] = ()


class Predictor:
    """Segments scans with one model.

    Args:
        model: the model.
        device: ``auto``, ``cpu``, ``cuda``...
        mixed_precision: ``auto`` or ``off``.
    """

    def __init__(self, model: Model, device: str = "auto", mixed_precision: str = "auto") -> None:
        self.model = model
        self.device = choose_device(device)
        self.dtype = compute_dtype(self.device, mixed_precision)
        self.network = network_of(model, self.device)
        self.twins = torch.tensor(model.labels.mirror_classes())

    def predict(self, volume: Volume) -> Prediction:
        """Segment one scan.

        Args:
            volume: an image with the model's channels, in any orientation and spacing.

        Returns:
            Labels on `volume`'s own grid.

        Raises:
            ModelError: the image has other channels or another number of axes than the model.
        """
        plan, table = self.model.plan, self.model.labels
        preparation = prepare(volume, plan)
        logits_K = window_logits(self.network, preparation.image(volume), plan, self.device, self.dtype, self.twins)
        classes = preparation.restore(logits_K)
        labels = LabelMap.of(table.from_classes(classes), volume.geometry, table, volume.source)
        flags = (*_unlike_training(volume.geometry, self.model), *_at_border(classes, table.names))
        return Prediction(labels, _confidence(logits_K, table.names), flags)


def _confidence(logits_K: Tensor, names: tuple[str, ...]) -> dict[str, float | None]:
    best, winner = logits_K.max(0)
    probability = (best - logits_K.logsumexp(0)).exp().flatten().double().numpy()
    winners = winner.flatten().numpy()
    count = np.bincount(winners, minlength=len(names) + 1)
    total = np.bincount(winners, weights=probability, minlength=len(names) + 1)
    return {name: float(total[i] / count[i]) if count[i] else None for i, name in enumerate(names, start=1)}


def _unlike_training(geometry: Geometry, model: Model) -> list[str]:
    seen, spacing = model.card.fingerprint.spacing_range, geometry.reindexed(reordering(geometry, CANONICAL)).spacing
    if seen is None or spacing is None:
        return []
    outside = [
        f"{now:.3g} mm (trained on {low:.3g} to {high:.3g})"
        for now, low, high in zip(spacing, *seen, strict=True)
        if not low / SPACING_FACTOR <= now <= high * SPACING_FACTOR
    ]
    return [f"spacing unlike the training set: {', '.join(outside)}"] if outside else []


def _at_border(classes: NDArray[np.int16], names: tuple[str, ...]) -> list[str]:
    faces = [np.take(classes, end, axis).ravel() for axis in range(classes.ndim) for end in (0, -1) if classes.shape[axis] > 1]
    touching = sorted({int(index) for index in np.unique(np.concatenate(faces)) if index > 0}) if faces else []
    return [f"{names[index - 1]} reaches the border of the scan" for index in touching]
