"""Touching objects are told apart after a short training, from the cache's targets to the network's cores."""

import cc3d
import numpy as np
import pytest
import torch

from helpers.plans import tiny_network, tiny_plan
from voxelry.augmentation.augment_settings import AugmentSettings
from voxelry.augmentation.augmenter import Augmenter
from voxelry.core.instance_plan import InstancePlan
from voxelry.core.labels import Label, LabelTable
from voxelry.networks.build import build_network
from voxelry.preparation.cache import CachedCase
from voxelry.preparation.class_locations import class_locations
from voxelry.preparation.instance_targets import FULL, instance_targets
from voxelry.recipes.recipe import Config
from voxelry.training.loop import TrainingLoop
from voxelry.training.sampler import Sampler

CELLS = LabelTable(labels=(Label(value=1, name="cell", kind="thing"),))
HEAD = InstancePlan(labels=("cell",), diameter=9, border=1.5, erosion=2)


def touching(seed, shape, radius):
    """Balls in a row, each touching the next."""
    rng = np.random.default_rng(seed)
    ids, grid = np.zeros(shape, np.int32), np.indices(shape)
    middle = [n // 2 for n in shape[1:]]
    for number, first in enumerate(range(radius, shape[0] - radius, 2 * radius), start=1):
        centre = [first, *(c + int(rng.integers(-2, 3)) for c in middle)]
        inside = sum((axis - c) ** 2 for axis, c in zip(grid, centre, strict=True)) <= (radius + 0.5) ** 2
        ids[inside & (ids == 0)] = number
    return ids


def cached(seed, shape, radius):
    ids = touching(seed, shape, radius)
    classes = (ids > 0).astype(np.int16)
    targets = instance_targets(ids, (1,) * len(shape), HEAD)
    locations = class_locations(classes, 2)
    shades = classes + np.maximum(targets.distance, 0) / FULL  # brighter in the middle, as cells are
    image = shades + 0.1 * np.random.default_rng(seed).normal(size=shape)
    return CachedCase(f"case {seed}", image[None].astype(np.float16), classes, locations, targets=targets), ids


@pytest.mark.parametrize(
    ("shape", "radius", "steps"), [((48, 32), 5, 100), pytest.param((40, 16, 16), 5, 200, marks=pytest.mark.slow)]
)
def test_touching_balls_are_told_apart(shape, radius, steps, tmp_path):
    axes = len(shape)
    network = tiny_network(axes, (8, 16, 16))
    plan = tiny_plan(axes, patch_size=shape, instances=HEAD, network=network, batch_size=4)
    cases, ids = zip(*(cached(seed, shape, radius) for seed in range(5)), strict=True)
    config = Config(
        manifest="none",
        device="cpu",
        mixed_precision="off",
        validations=1,
        steps=steps,
        optimiser={"learning_rate": 2e-2 if axes == 2 else 1e-2},
    )
    torch.manual_seed(0)
    augment = Augmenter(plan, AugmentSettings(set="light", rotation_p=0, scale_p=0, flip_axes="auto"), CELLS)
    training = Sampler(cases[:4], plan.patch_size, plan.batch_size, 1.0, 0, augment, head_classes=2)
    checks = Sampler(cases[4:], plan.patch_size, plan.batch_size, 1.0, 1, head_classes=2)
    loop = TrainingLoop(build_network(plan, 2), config, plan, CELLS, training, checks, tmp_path)
    state = loop.run(lambda _: None)
    assert state.history[-1].pseudo_dice > 0.9
    with torch.inference_mode():
        output = loop.network(torch.from_numpy(cases[4].image.astype(np.float32))[None])[0][0].numpy()
    cores = cc3d.connected_components(output[3] > 0, connectivity=4 if axes == 2 else 6)
    objects = ids[4].max()
    together = cc3d.connected_components(output[1] > output[0], connectivity=8 if axes == 2 else 26)
    assert together.max() < objects  # they do touch
    owners = [np.unique(ids[4][cores == core]) for core in range(1, cores.max() + 1) if (cores == core).sum() > 2]
    assert sorted(owner[-1] for owner in owners) == list(range(1, objects + 1))
    inside = ids[4] > 0
    assert np.corrcoef(output[4][inside], cases[4].targets.distance[inside])[0, 1] > 0.8
