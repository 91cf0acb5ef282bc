"""From arrays of logits to labels on a finer grid, by voxelry and by nnU-Net, on synthetic logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import find_objects, gaussian_filter

from preparation import blobs

FINER = (1.5, 1.5625, 1.5625)
HEIGHT, WIDTH, NOISE = 10.0, 1.0, 0.3


def make_inputs(folder: Path, shape: tuple[int, ...], classes: int) -> None:
    """Write ``logits.npy``, ``(classes, *shape)`` half floats: hollow organs with soft borders, and noise."""
    labels = blobs(shape, classes - 1)
    boxes = find_objects(labels)
    noise = np.random.default_rng(0).normal(0, NOISE, shape).astype(np.float32)
    logits = np.lib.format.open_memmap(folder / "logits.npy", "w+", np.float16, (classes, *shape))
    for k in range(classes):
        values = np.roll(noise, 7 * k, axis=-1)
        box = tuple(slice(0, n) for n in shape)
        if k:
            box = tuple(slice(max(0, side.start - 5), side.stop + 5) for side in boxes[k - 1])
        values[box] += HEIGHT * gaussian_filter((labels[box] == k).astype(np.float32), WIDTH)
        logits[k] = values
    logits.flush()


def finer(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The scan's grid."""
    return tuple(round(n * factor) for n, factor in zip(shape, FINER, strict=True))


def voxelry(inputs: Path, classes: int) -> Callable[[], Any]:
    """Slab by slab."""
    from voxelry.inference.slice_writer import restore_logits

    logits = np.load(inputs / "logits.npy")[:classes]
    restore_logits(logits[:, :8, :40, :40], (12, 62, 62))
    return lambda: restore_logits(logits, finer(logits.shape[1:]))


def nnunet(inputs: Path, classes: int) -> Callable[[], Any]:
    """Its export without the file; half floats are what its predictor hands over."""
    import inference_contestants as contestants
    import torch
    from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape as export

    logits = torch.from_numpy(np.array(np.load(inputs / "logits.npy", mmap_mode="r")[:classes]))
    plan = contestants.plan_of((16, 16, 16), (8, 16, 16), FINER)
    predictor = contestants.nnunet_predictor(torch.nn.Identity(), plan, classes, "cpu")

    def run(some: Any = logits) -> Any:
        properties = contestants.nnunet_properties(finer(some.shape[1:]))
        parts = predictor.plans_manager, predictor.configuration_manager, predictor.label_manager, properties
        return export(some, *parts).astype(np.uint8)

    run(logits[:, :8, :40, :40])
    return run
