"""Small NIfTI data sets for the tests of this folder."""

from pathlib import Path

import nibabel as nib
import numpy as np

from voxelry.datasets.card import Card
from voxelry.datasets.cases import Case
from voxelry.datasets.manifest import Manifest

SHAPE = (5, 6, 4)
AFFINE = np.array([[1.0, 0, 0, -10], [0, 2, 0, 5], [0, 0, 3, 1], [0, 0, 0, 1]])


def save(path: Path, array, affine=AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, SHAPE).astype(np.float32)


def blob() -> np.ndarray:
    """Labels 1 and 3, no symmetry under any flip."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[0, 1:3, 0:2] = 1
    labels[2:4, 4, 3] = 3
    return labels


def card(**more) -> Card:
    labels = [{"value": 1, "name": "liver"}, {"value": 3, "name": "spleen"}]
    return Card.model_validate({"name": "set", "modality": "CT", "labels": labels} | more)


def manifest(folder: Path, *cases: Case, **more) -> Manifest:
    return Manifest(card(**more), cases, folder, folder / "set.yaml")
