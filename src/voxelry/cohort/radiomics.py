"""IBSI radiomics of every label and object by MIRP (Zwanenburg et al. 2024, Journal of Open Source Software 9:6413).

MIRP follows the reference manual of the Image Biomarker Standardisation Initiative (arXiv:1612.07003). Its features get their tag
in the manual as an ending, so that `morph_sphericity_QCFX` is the same in any program; features without a tag keep their names.
"""

from __future__ import annotations

import csv
import io
import logging
import math
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.base.extras import extra
from voxelry.core.geometry import Geometry
from voxelry.core.objects import ObjectBox, objects_of
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import GeometryError
from voxelry.formats.grids.nifti_write import write_nifti_image
from voxelry.metrics.measurements import check_grid

_MODALITIES = {"CT": "ct", "MR": "mr", "PT": "pet"}
_MARGIN = 12.0
"""Millimetres around an object: local intensity peaks are means within 6.2 mm of a voxel."""

_FAMILIES = ("morph_", "loc_", "ivh_", "stat_", "ih_", "cm_", "rlm_", "szm_", "dzm_", "ngt_", "ngl_")
_DEFAULTS = {"base_discretisation_method": "fixed_bin_number", "base_discretisation_n_bins": 32}


def radiomics_rows(labels: LabelMap, volume: Volume, **settings: Any) -> list[dict[str, Any]]:
    """Radiomic features of every label, and every instance of things, that has a voxel.

    Args:
        labels: of a volume, on any number of layers.
        volume: the image, on the same grid; its first channel counts.
        settings: of ``mirp.extract_features``, such as ``base_discretisation_method="fixed_bin_size"``,
            ``base_discretisation_bin_width=25``, ``resegmentation_intensity_range=[-1000, 400]``, ``new_spacing=1.0``,
            ``filter_kernels``; by default 32 bins of equal width, no resampling, no filter.

    Returns:
        Rows in the order of the table and of the ids: ``label``, ``label_value``, ``instance``, and features by name and tag.

    Raises:
        MissingExtraError: MIRP is not installed.
        GridMismatchError: labels and image lie on different grids.
        GeometryError: pictures, or a sheared grid (gantry tilt).
        LabelError: values that the table does not know, or ids that fit no label.
    """
    check_grid(labels, volume)
    geometry = labels.geometry
    if geometry.ndim != 3 or geometry.spacing is None or not geometry.is_orthogonal:
        raise GeometryError(
            f"{labels.source.name}: radiomics are measured on volumes with right angles",
            remedy="Resample the scan and its mask first.",
        )
    mirp = extra("mirp", "radiomics")
    return [_row(mirp, labels, item, volume, settings) for item in objects_of(labels, labels.source.name) if item.voxels]


def _row(mirp: Any, labels: LabelMap, item: ObjectBox, volume: Volume, settings: dict[str, Any]) -> dict[str, Any]:
    image, mask, spacing = _cut(labels, item, volume)
    grid = Geometry.from_spacing(mask.shape, spacing)
    modality = _MODALITIES.get(volume.modality)
    chosen = {**_DEFAULTS, **settings, **({"image_modality": modality} if modality else {})}
    with tempfile.TemporaryDirectory(prefix="voxelry-") as folder, _quiet():
        paths = [Path(folder) / name for name in ("image.nii.gz", "mask.nii.gz")]
        write_nifti_image(Volume(image[None], grid), paths[0])
        write_nifti_image(Volume(mask.astype(np.uint8)[None], grid), paths[1])
        [table] = mirp.extract_features(image=str(paths[0]), mask=str(paths[1]), **chosen)
    values = {name: table[name].iloc[0] for name in table.columns if _is_feature(name)}
    row: dict[str, Any] = {"label": item.label.name, "label_value": item.label.value, "instance": item.instance}
    return row | {tagged(name): None if math.isnan(value) else float(value) for name, value in values.items()}


def _cut(labels: LabelMap, item: ObjectBox, volume: Volume) -> tuple[NDArray[Any], NDArray[np.bool_], tuple[float, ...]]:
    """The image and the mask around an object, and the spacing."""
    spacing = labels.geometry.spacing
    assert item.box is not None
    assert spacing is not None
    margins = [math.ceil(_MARGIN / step) for step in spacing]
    around = tuple(slice(max(0, side.start - margin), side.stop + margin) for side, margin in zip(item.box, margins, strict=True))
    mask = np.zeros(volume.array[0][around].shape, np.bool_)
    inner = tuple(slice(side.start - outer.start, side.stop - outer.start) for side, outer in zip(item.box, around, strict=True))
    mask[inner] = item.mask(labels)
    return volume.array[0][around], mask, spacing


@contextmanager
def _quiet() -> Iterator[None]:
    """MIRP tells its progress by the root logger, and sets that up to print; ITK cannot be imported where warnings are errors."""
    before = logging.root.manager.disable
    handlers = list(logging.root.handlers)
    logging.disable(max(before, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        for handler in [handler for handler in logging.root.handlers if handler not in handlers]:
            logging.root.removeHandler(handler)


def _is_feature(name: str) -> bool:
    return any(family in name for family in _FAMILIES) and not name.startswith("image_")


def tagged(feature: str) -> str:
    """A feature's name with its tag at the end.

    Example:
        >>> tagged("morph_sphericity"), tagged("cm_joint_max_d1_3d_v_mrg"), tagged("ivh_v25")
        ('morph_sphericity_QCFX', 'cm_joint_max_d1_3d_v_mrg_GYBY', 'ivh_v25')
    """
    tags, name = _tags(), feature
    while name and name not in tags:
        name = name.rpartition("_")[0]
    return f"{feature}_{tags[name]}" if name else feature


@cache
def _tags() -> dict[str, str]:
    """Feature -> its tag in the reference manual."""
    text = files("voxelry.cohort").joinpath("ibsi_tags.csv").read_text(encoding="utf-8")
    return {row["feature"]: row["tag"] for row in csv.DictReader(io.StringIO(text))}
