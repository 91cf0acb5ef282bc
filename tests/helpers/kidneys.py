"""A tiny data set of kidneys, and runs on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from voxelry.datasets.card import Card
from voxelry.datasets.cases import Case
from voxelry.datasets.manifest import Manifest
from voxelry.recipes.recipe import Config
from voxelry.training.options import RunOptions
from voxelry.training.result import TrainResult
from voxelry.training.run import train_model

LABELS = [
    {"value": 2, "name": "left", "mirror": "right"},
    {"value": 6, "name": "right", "mirror": "left"},
]
SETTINGS = {
    "manifest": "tiny.yaml",
    "device": "cpu",
    "mixed_precision": "off",
    "seed": 3,
    "steps": 60,
    "optimiser": {"learning_rate": 0.01},
}
PLAN = {"patch_size": (16, 16, 12), "features": (4, 8, 8), "batch_size": 2}
RAS = nibabel.Nifti1Image(np.zeros((16, 16, 12)), np.diag([1.0, 1.0, 1.5, 1.0]))
STORED = (("RAS", "train"), ("LPS", "train"), ("PIR", "train"), ("SLA", "val"))


def save(array: np.ndarray, codes: str, path: Path) -> Path:
    """A RAS array stored along other axes."""
    change = ornt_transform(io_orientation(RAS.affine), axcodes2ornt(codes))
    stored = nibabel.orientations.apply_orientation(array, change)
    nibabel.save(nibabel.Nifti1Image(stored, RAS.affine @ inv_ornt_aff(change, array.shape)), path)
    return path


def kidneys(folder: Path) -> Manifest:
    """Four scans stored along four orders of axes: the right kidney lies at larger x; nothing else tells them apart."""
    cases = []
    for number, (codes, split) in enumerate(STORED):
        rng = np.random.default_rng(number)
        y, z = int(rng.integers(2, 7)), int(rng.integers(1, 5))
        labels = np.zeros((16, 16, 12), np.uint8)
        labels[1:6, y : y + 6, z : z + 5] = 2
        labels[10:15, y : y + 6, z : z + 5] = 6
        image = (300 + 400 * (labels > 0) + rng.normal(0, 40, labels.shape)).astype(np.int16)
        case = f"case{number}"
        files = save(image, codes, folder / f"{case}.nii.gz"), save(labels, codes, folder / f"{case}_seg.nii.gz")
        cases.append(Case(case, (files[0],), labels=files[1], group=case, split=split))
    card = Card.model_validate({"name": "tiny", "modality": "MR", "labels": LABELS, "licence": "CC0-1.0"})
    return Manifest(card, tuple(cases), folder, folder / "tiny.yaml")


def config(**changes: Any) -> Config:
    return Config.model_validate(SETTINGS | {"plan": PLAN} | changes)


def run(
    manifest: Manifest, folder: Path, settings: Config, *, on_step: Any = lambda _: None, **asked: Any
) -> tuple[TrainResult, list[tuple[str, int, int | None]]]:
    """Train, and record the progress calls."""
    stages: list[tuple[str, int, int | None]] = []

    def progress(what: str, done: int, total: int | None) -> None:
        if what != "training":
            stages.append((what, done, total))

    options = RunOptions(settings, manifest, progress=progress, on_step=on_step, **asked)
    return train_model(options, folder), stages
