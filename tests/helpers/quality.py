"""Scans of two organs, a tapering one above a box, and what a model would know of twenty of them."""

import numpy as np

from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.quality_model import DiceRegression, MeasureSpread, Population, QualityModel
from voxelry.core.volume import LabelMap, Volume
from voxelry.inference.case_measures import measure_case
from voxelry.inference.quality_features import features_of
from voxelry.training.quality_calibration import population_of

ORGANS = LabelTable(labels=(Label(value=2, name="cone"), Label(value=7, name="box")))
SHAPE = (32, 28, 40)
SURE = {"cone": 0.97, "box": 0.96}


def organs(seed: int, shape=SHAPE) -> tuple[Volume, LabelMap]:
    """A cone that tapers towards the head, and a box below it, of slightly different sizes and places, bright in noise."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*map(np.arange, shape), indexing="ij")
    layers = np.zeros(shape, np.uint8)
    middle, low, radius = 14 + rng.integers(-1, 2), 20 + rng.integers(-1, 2), 9 + rng.uniform(-0.7, 0.7)
    height = (z - low) / 14
    layers[(x - middle) ** 2 + (y - 13) ** 2 < (radius * np.clip(1 - height, 0, 1)) ** 2 * (height >= 0)] = 2
    layers[8 : 20 + rng.integers(-1, 2), 6:20, 6 : 14 + rng.integers(-1, 2)] = 7
    grey = 100 + 80 * (layers > 0) + rng.normal(0, 10, shape)
    geometry = Geometry.from_spacing(shape, (1.0, 1.2, 1.5))
    return Volume(grey[None].astype(np.float32), geometry, modality="MR"), LabelMap.of(layers, geometry, ORGANS)


def population(cases: int = 20) -> Population:
    return population_of([measure_case(*organs(seed)) for seed in range(cases)], ORGANS)


def quality_model(known: Population) -> QualityModel:
    """A calibration by hand: each unit of each feature costs a twentieth of Dice."""
    rows = [features_of(measure_case(*organs(seed)), known, SURE, {}) for seed in range(20, 26)]
    names = tuple(rows[0]["cone"])
    values = {name: [row[label][name] for row in rows for label in row] for name in names}
    typical = tuple(MeasureSpread(mean=float(np.mean(v)), std=float(np.std(v)), low=min(v), high=max(v)) for v in values.values())
    regression = DiceRegression(
        features=names, typical=typical, weights=(0.05,) * len(names), label_dice={"cone": 0.9, "box": 0.8},
        cases=6, corrupted=0, error=0.02, rank_correlation=0.5, review_below=0.75,
    )  # fmt: skip
    return QualityModel(population=known, regression=regression)
