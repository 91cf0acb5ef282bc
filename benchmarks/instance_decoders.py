"""Star-convex distances (Schmidt et al. 2018) for comparison: the same network and minutes, another output and decoder.

A pixel learns whether it lies deep in an object (its relative distance) and how far it is from the object's outline along rays.
Pixels that are likely objects suggest polygons; the likeliest are kept, and those that overlap a kept one by half are dropped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numba
import numpy as np
import torch
from skimage.draw import polygon
from torch import Tensor, nn

from voxelry.augmentation.augmenter import Augmenter
from voxelry.base.device import choose_device
from voxelry.core.labels import IGNORE_INDEX, LabelTable
from voxelry.core.plan import Plan
from voxelry.core.volume import Volume
from voxelry.datasets.load import load_case
from voxelry.datasets.manifest import Manifest
from voxelry.networks.build import build_body
from voxelry.networks.network_spec import NetworkSpec
from voxelry.networks.wrapper import NetworkWrapper
from voxelry.preparation.cache import CachedCase
from voxelry.preparation.instance_ids import object_ids
from voxelry.preparation.instance_targets import FULL, instance_targets
from voxelry.preparation.preparation import prepare
from voxelry.recipes.recipe import Config
from voxelry.training.average import WeightAverage
from voxelry.training.optimiser import learning_rate, make_optimiser
from voxelry.training.options import RunOptions
from voxelry.training.sampler import Sampler
from voxelry.training.setup import dataset_fingerprint, labelled_cases, make_plans

RAYS = 32
LIKELY = 0.4
"""Smallest relative distance of a pixel that suggests an object."""
OVERLAP = 0.5
MOST_OBJECTS = 2000


def train_stars(config: Config, data: Manifest, seconds: float) -> Callable[[Volume], Any]:
    """Train for some seconds, preparation counted; returns what gives the ids of the objects of a picture."""
    began = time.monotonic()
    cases = labelled_cases(data, "train")
    (plan,) = make_plans(RunOptions(config, data), dataset_fingerprint(data, cases, lambda *_: None)).values()
    assert plan.instances is not None
    prepared = [_prepared(*load_case(case, data), plan) for case in cases]
    device = choose_device(config.device)
    semantic = plan.model_copy(update={"instances": None})
    table = LabelTable.numbered(range(1, MOST_OBJECTS))  # the sampler's classes are ids, so that objects stay apart
    augment = Augmenter(semantic, config.augment.chosen(data.card.modality, 2, "cpu"), table)
    sampler = Sampler(prepared, plan.patch_size, plan.batch_size, config.oversample_foreground, config.seed, augment)
    torch.manual_seed(config.seed)
    spec = NetworkSpec.of(plan, len(plan.channels), 1 + RAYS)
    network = NetworkWrapper(build_body(replace(spec, coarser_heads=0)), 0).to(device)
    optimiser, average = make_optimiser(network, config.optimiser), WeightAverage(network, config.optimiser.ema)
    step, spent = 0, time.monotonic() - began
    while spent < seconds:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(config.optimiser, step, config.optimiser.warm_up, spent / seconds)
        image_BC, ids_B = sampler(step)
        targets = [_targets(ids.numpy(), plan) for ids in ids_B]
        distance, rays = (torch.from_numpy(np.stack(parts)).to(device) for parts in zip(*targets, strict=True))
        loss = _loss(network(image_BC.to(device))[0], distance, rays, ids_B.to(device) != IGNORE_INDEX)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), config.optimiser.clip)
        optimiser.step()
        step += 1
        average.update(step)
        spent = time.monotonic() - began
    network.eval()
    average._swap()
    print(f"stars: {step} steps", flush=True)
    return lambda image: _predicted(network, image, plan, device)


def _prepared(image: Volume, labels: Any, plan: Plan) -> CachedCase:
    """A case whose class indices are ids."""
    preparation = prepare(image, plan)
    ids = preparation.box(object_ids(labels, plan.instances.labels if plan.instances else ()))
    assert preparation.shape == ids.shape
    inside = np.argwhere(ids > 0).astype(np.int32)
    locations = {1: inside} if len(inside) else {}
    return CachedCase(image.source.name, preparation.image(image).astype(np.float16), ids.astype(np.int16), locations)


def _targets(ids: Any, plan: Plan) -> tuple[Any, Any]:
    """Relative distance within objects, and the distances along the rays."""
    assert plan.instances is not None
    known = np.maximum(ids, 0).astype(np.int32)
    distance = np.maximum(np.asarray(instance_targets(known, (1, 1), plan.instances).distance), 0) / np.float32(FULL)
    return distance.astype(np.float32), star_distances(known, RAYS)


@numba.njit(cache=True)
def star_distances(ids: Any, rays: int) -> Any:
    """``(rays, *shape)`` float32: pixels along each ray until the object is left."""
    out = np.zeros((rays, *ids.shape), np.float32)
    for y in range(ids.shape[0]):
        for x in range(ids.shape[1]):
            own = ids[y, x]
            if own == 0:
                continue
            for ray in range(rays):
                angle = 2 * np.pi * ray / rays
                dy, dx = np.sin(angle), np.cos(angle)
                length = 0.0
                while True:
                    length += 1.0
                    i, j = round(y + length * dy), round(x + length * dx)
                    if not (0 <= i < ids.shape[0] and 0 <= j < ids.shape[1]) or ids[i, j] != own:
                        break
                out[ray, y, x] = length - 0.5
    return out


def _loss(logits: Tensor, distance: Tensor, rays: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy of the relative distance, and the error of rays relative to their length, weighed by the distance."""
    entropy = nn.functional.binary_cross_entropy_with_logits(logits[:, 0], distance, reduction="none")
    error = (nn.functional.softplus(logits[:, 1:]) - rays).abs().mean(1) * distance
    return (entropy * known).mean() + 0.2 * (error * known).sum() / (distance * known).sum().clamp(min=1)


@torch.inference_mode()
def _predicted(network: nn.Module, image: Volume, plan: Plan, device: torch.device) -> Any:
    """Ids of the objects of a picture, whole at once."""
    prepared = prepare(image, plan, whole=True).image(image)
    divisor = plan.network.divisor
    pads = [(0, -n % d) for n, d in zip(prepared.shape[1:], divisor, strict=True)]
    padded = np.pad(prepared, [(0, 0), *pads], mode="reflect")
    output = network(torch.from_numpy(padded)[None].to(device))[0][0].float().cpu()
    rows, columns = prepared.shape[1:]
    likely = output[0, :rows, :columns].sigmoid().numpy()
    rays = nn.functional.softplus(output[1:, :rows, :columns]).numpy()
    return polygons_to_ids(likely, rays)


def polygons_to_ids(likely: Any, rays: Any) -> Any:
    """The likeliest polygons, each without the pixels of those before it; one that is half taken is dropped."""
    ids = np.zeros(likely.shape, np.uint32)
    voxels = np.argwhere(likely >= LIKELY)
    order = np.argsort(-likely[tuple(voxels.T)], kind="stable")
    angles = 2 * np.pi * np.arange(len(rays)) / len(rays)
    number = 0
    for y, x in voxels[order]:
        if ids[y, x]:
            continue
        lengths = rays[:, y, x]
        inside = polygon(y + lengths * np.sin(angles), x + lengths * np.cos(angles), ids.shape)
        taken = ids[inside]
        if not len(taken) or (taken > 0).mean() > OVERLAP:
            continue
        number += 1
        ids[inside[0][taken == 0], inside[1][taken == 0]] = number
    return ids
