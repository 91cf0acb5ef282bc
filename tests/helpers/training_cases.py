"""Prepared cases in memory: bright balls and boxes in noise, two labels."""

from pathlib import Path

import numpy as np
import torch

from helpers.plans import SIDED, tiny_plan
from voxelry.networks.build import build_network
from voxelry.preparation.cache import CachedCase
from voxelry.preparation.class_locations import class_locations
from voxelry.recipes.recipe import Config
from voxelry.training.loop import TrainingLoop
from voxelry.training.sampler import Sampler

NAMES = SIDED.names


def case(seed: int, shape: tuple[int, ...], name: str = "") -> CachedCase:
    rng = np.random.default_rng(seed)
    classes = np.zeros(shape, dtype=np.int16)
    for label in (1, 2, 3):
        corner = [int(rng.integers(0, max(1, edge - 5))) for edge in shape]
        classes[tuple(slice(begin, begin + 5) for begin in corner)] = label
    image = classes.astype(np.float32) + 0.2 * rng.normal(size=shape).astype(np.float32)
    return CachedCase(name or f"case {seed}", image[None].astype(np.float16), classes, class_locations(classes, 4))


def loop(folder: Path, dimensions: int = 3, **settings: object) -> TrainingLoop:
    """A loop over three cases with fresh weights."""
    parts = {name: settings.pop(name) for name in ("validate", "augment") if name in settings}
    plan = tiny_plan(dimensions, **({"patch_size": settings.pop("patch_size")} if "patch_size" in settings else {}))
    config = Config.model_validate({"manifest": "none", "device": "cpu", "mixed_precision": "off", "validations": 2} | settings)
    torch.manual_seed(config.seed)
    cases = [case(seed, (12, 11, 10)[:dimensions]) for seed in range(3)]
    training = Sampler(cases, plan.patch_size, plan.batch_size, config.oversample_foreground, config.seed)
    validation = Sampler(cases[:1], plan.patch_size, plan.batch_size, 1.0, config.seed + 1)
    return TrainingLoop(build_network(plan, 4), config, plan, SIDED, training, validation, folder, **parts)
