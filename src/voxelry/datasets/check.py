"""Checks a dataset before training: every case is opened, and problems are listed, not raised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from voxelry.datasets.cases import Case
from voxelry.datasets.load import load_image, load_labels
from voxelry.datasets.manifest import Manifest
from voxelry.errors import NonFiniteError, VoxelryError


@dataclass(frozen=True)
class Problem:
    """One problem of a case.

    Attributes:
        case: its id.
        file: the file concerned.
        message: the problem, the value, the remedy.
        kind: an ``error`` keeps the case from being used, a ``note`` is worth a look.
    """

    case: str
    file: str
    message: str
    kind: Literal["error", "note"] = "error"


def check_manifest(manifest: Manifest, *, deep: bool = False) -> list[Problem]:
    """Open every case and list the problems.

    Checked: files are readable, channels and axes are the card's, image and labels share a grid (axes may be flipped or
    permuted), label values are known, labels are not empty (a note).

    Args:
        manifest: the dataset.
        deep: decode the images too, and look for NaN and infinite voxels; without it only their headers are read.

    Returns:
        The problems in the order of the cases; empty when all is well.

    Examples:
        >>> from voxelry.phantom.acquisition import Acquisition
        >>> from voxelry.phantom.dataset import write_phantoms
        >>> coarse = Acquisition((20, 20, 20), (320, 240, 240), "LPS")
        >>> path = write_phantoms("phantoms", "torso-ct", 2, val=1, acquisition=coarse)
        >>> from voxelry.datasets import check_manifest, load_manifest
        >>> check_manifest(load_manifest(path))
        []
    """
    return [problem for case in manifest.cases for problem in check_case(case, manifest, deep=deep)]


def check_case(case: Case, manifest: Manifest, *, deep: bool = False) -> list[Problem]:
    """Check one case: the problems that `check_manifest` lists for it."""
    try:
        volume = load_image(case, manifest.card)
        if deep and not np.isfinite(volume.array).all():
            raise NonFiniteError(f"{case.images[0]}: NaN or infinite voxels", remedy="Repair the file, or leave the case out.")
    except VoxelryError as error:
        return [Problem(case.id, str(case.images[0]), str(error))]
    if not case.has_labels:
        needed = case.split in ("train", "val")
        return [Problem(case.id, str(case.images[0]), f"no labels, but it is in {case.split}")] if needed else []
    file = str(case.label_files[0])
    try:
        labels = load_labels(case, manifest.card, volume.geometry)
    except VoxelryError as error:
        return [Problem(case.id, file, str(error))]
    if labels is not None and not np.isin(labels.layers, [label.value for label in labels.table.labels]).any():
        return [Problem(case.id, file, "holds no labelled voxel", "note")]
    return []
