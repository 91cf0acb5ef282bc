"""The claim: one core augments at least 4 times as many patches per second as batchgeneratorsv2, and 3 times as many as MONAI.

    python benchmarks/augmentation.py [--quick] [--rounds N] [--only WORD] [--peers FOLDER] [--json FILE]

nnU-Net's recipe at its own probabilities and ranges, on one thread, patches of 96 x 128 x 128 voxels and of 512 x 512 pixels, of
one channel and four labels. batchgeneratorsv2 runs nnU-Net's own `get_training_transforms`, without deep supervision's smaller
labels and on nnU-Net's own larger initial patch; MONAI the nearest transforms that it has, with one affine for rotation and zoom;
voxelry also reads float16 from a memory map, which its peers are spared. Draws differ, so each is judged by many patches: `apart`
is the difference of their mean grey value, which all keep near that of the input. Each contestant runs in a process of its own,
in turn; a run is 32 patches.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness import Task, run_tasks, serve

VOLUME, PICTURE = (96, 128, 128), (512, 512)
PATCHES = 32
LIBRARIES = ("numpy", "numba", "torch", "monai", "batchgeneratorsv2", "nnunetv2")
TASKS = (
    Task("volumes", "volume.npz", "volume_voxelry", {"volume_batchgeneratorsv2": 4.0, "volume_monai": 3.0}, tolerance=0.1),
    Task("pictures", "picture.npz", "picture_voxelry", {"picture_batchgeneratorsv2": 4.0, "picture_monai": 3.0}, tolerance=0.1),
)

Change = Callable[[int], Any]
"""Makes a patch from its number and returns its grey values."""


def make_inputs(folder: Path, quick: bool) -> None:
    """A case 1.5 times as large as the patch: smooth blobs in noise, normalised; its labels."""
    from scipy.ndimage import gaussian_filter

    for name, patch in (("volume", VOLUME), ("picture", PICTURE)):
        patch = tuple(n // 4 for n in patch) if quick else patch
        shape = tuple(3 * n // 2 for n in patch)
        rng = np.random.default_rng(0)
        smooth = gaussian_filter(rng.normal(size=shape).astype(np.float32), 6)
        labels = np.digitize(smooth, np.quantile(smooth, (0.6, 0.7, 0.8, 0.9))).astype(np.int16)
        image = smooth / smooth.std() + 0.3 * rng.normal(size=shape).astype(np.float32)
        image = (image - image.mean()) / image.std()
        np.savez(folder / f"{name}.npz", image=image.astype(np.float16)[None], labels=labels, patch=np.array(patch))


def voxelry(inputs: dict[str, Any]) -> Change:
    """As the sampler does it: read what a move reaches from a memory map, then move and change it."""
    from voxelry.augmentation.augment_settings import AugmentSettings
    from voxelry.augmentation.augmenter import Augmenter
    from voxelry.core.labels import LabelTable
    from voxelry.core.plan import NetworkPlan, Normalisation, Plan
    from voxelry.preparation.cache import CachedCase
    from voxelry.training.sampler import Sampler

    patch = tuple(inputs["patch"].tolist())
    axes = len(patch)
    network = NetworkPlan(
        features=(8, 8, 8), strides=((1,) * axes, (2,) * axes, (2,) * axes), kernels=((3,) * axes,) * 3, deep_supervision=1
    )
    plan = Plan(
        dimensions=axes, channels=("image",), normalisation=(Normalisation(scheme="image"),), patch_size=patch, batch_size=1,
        network=network, orientation="RAS" if axes == 3 else None,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for name in ("image", "labels"):
            np.save(Path(folder) / f"{name}.npy", inputs[name])
        image, labels = (np.load(Path(folder) / f"{name}.npy", mmap_mode="r") for name in ("image", "labels"))
    case = CachedCase("case", image, labels, {})
    augment = Augmenter(plan, AugmentSettings(set="nnunet"), LabelTable.numbered(range(1, 5)))
    sampler = Sampler([case], patch, 1, 0.0, seed=0, augment=augment)
    return lambda number: sampler(number)[0]


def batchgeneratorsv2(inputs: dict[str, Any]) -> Change:
    """nnU-Net's training transforms on the patch that its loader would give them."""
    import torch
    from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    patch = inputs["patch"]
    angle = math.radians(30 if len(patch) == 3 else 180)
    turn = (-angle, angle)
    change = nnUNetTrainer.get_training_transforms(patch, turn, None, tuple(range(len(patch))), False)
    large = np.minimum(get_patch_size(patch, turn, turn, turn, (0.85, 1.25)), inputs["labels"].shape)
    begin = (np.array(inputs["labels"].shape) - large) // 2
    box = tuple(slice(a, a + n) for a, n in zip(begin.tolist(), large.tolist(), strict=True))
    image = torch.from_numpy(inputs["image"].astype(np.float32)[(slice(None), *box)].copy())
    labels = torch.from_numpy(inputs["labels"][box][None].copy())

    def run(number: int) -> Any:
        torch.manual_seed(number)
        np.random.seed(number)
        return change(image=image.clone(), segmentation=labels.clone())["image"]

    return run


def monai(inputs: dict[str, Any]) -> Change:
    """Its own transforms at the same probabilities; a rotation or a zoom is drawn as often as either is in the recipe."""
    import monai.transforms as mt
    import torch

    patch = tuple(inputs["patch"].tolist())
    axes = len(patch)
    angle = math.radians(30 if axes == 3 else 180)
    both = ("image", "labels")
    sigmas = dict(zip(("sigma_x", "sigma_y", "sigma_z"), ((0.5, 1.0),) * axes, strict=False))
    up = "trilinear" if axes == 3 else "bilinear"
    change = mt.Compose(
        [
            mt.RandAffined(
                both, prob=0.36, rotate_range=(angle,) * (3 if axes == 3 else 1), scale_range=((-0.3, 0.4),) * axes,
                mode=("bilinear", "nearest"), padding_mode="zeros", cache_grid=True, spatial_size=patch,
            ),
            mt.RandGaussianNoised("image", prob=0.1, std=0.1),
            mt.RandGaussianSmoothd("image", prob=0.2 * 0.5, **sigmas),
            mt.RandScaleIntensityd("image", prob=0.15, factors=0.25),
            mt.RandScaleIntensityFixedMeand("image", prob=0.15, factors=0.25, preserve_range=True),
            mt.RandSimulateLowResolutiond("image", prob=0.25 * 0.5, zoom_range=(0.5, 1.0), upsample_mode=up),
            mt.RandAdjustContrastd("image", prob=0.1, gamma=(0.7, 1.5), invert_image=True, retain_stats=True),
            mt.RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.5), retain_stats=True),
            *(mt.RandFlipd(both, prob=0.5, spatial_axis=axis) for axis in range(axes)),
        ]
    )  # fmt: skip
    begin = [(n - edge) // 2 for n, edge in zip(inputs["labels"].shape, patch, strict=True)]
    box = tuple(slice(a, a + n) for a, n in zip(begin, patch, strict=True))
    image = torch.from_numpy(inputs["image"].astype(np.float32)[(slice(None), *box)].copy())
    labels = torch.from_numpy(inputs["labels"][box][None].astype(np.float32))

    def run(number: int) -> Any:
        change.set_random_state(seed=number)
        return change({"image": image.clone(), "labels": labels.clone()})["image"]

    return run


def work(name: str, inputs: Path) -> None:
    """A contestant's process: one thread, 32 patches to warm up, then 32 patches a run."""
    import numba
    import torch

    torch.set_num_threads(1)
    numba.set_num_threads(1)
    change = globals()[name.split("_")[1]](dict(np.load(inputs)))
    for number in range(PATCHES):
        change(number)
    rounds = iter(range(1, 10**6))

    def run() -> dict[str, float]:
        first = next(rounds) * PATCHES
        return {"mean": float(np.mean([float(change(first + number).mean()) for number in range(PATCHES)]))}

    serve(run)


def apart(_: Task, ours: dict[str, float], theirs: dict[str, float]) -> float:
    """The difference of mean grey values."""
    return round(abs(ours["mean"] - theirs["mean"]), 3)


if __name__ == "__main__":
    sys.exit(run_tasks(__doc__, __file__, TASKS, make_inputs, work, apart, LIBRARIES))
