"""Write a dataset of phantoms: images, reference labels, and the manifest that lists them."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from voxelry.base.files import write_json, write_yaml
from voxelry.errors import UsageError, nearest
from voxelry.phantom.acquisition import Acquisition
from voxelry.phantom.dicom import write_dicom
from voxelry.phantom.nifti import write_channels, write_nifti, write_png
from voxelry.phantom.phantom import CHANNELS, TABLES, Kind, Phantom, check_kind, make_phantom

PhantomFormat = Literal["dicom", "nifti", "png"]
MANIFEST = "manifest.yaml"
SPLITS_FILE = "splits.json"
PICTURES: tuple[Kind, ...] = ("chest-xray", "chest-xray-heart", "dental-panoramic")
"""The kinds that are pictures."""

SEEDS_PER_SET = 1000
"""Case i of the set with seed s has the phantom seed ``s * 1000 + i``: sets with different seeds share no patient."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _CardTexts:
    """The manifest's texts about a kind."""

    stem: str
    modality: str
    title: str
    description: str


_SEQUENCES: dict[Kind, list[dict[str, Any]]] = {
    "spine-mri": [
        {"name": row, "labels": [label.name for label in TABLES["spine-mri"].labels if label.name.startswith(start)]}
        for row, start in (("lumbar vertebrae", "vertebra_"), ("lumbar discs", "disc_"))
    ],
    "dental-panoramic": [
        {"name": f"{jaw} teeth", "labels": teeth, "optional": teeth}
        for jaw, right, left in (("upper", 1, 2), ("lower", 4, 3))
        for teeth in [[f"tooth_{n}" for n in (*range(10 * right + 8, 10 * right, -1), *range(10 * left + 1, 10 * left + 9))]]
    ],
}
"""Rows of labels of each kind."""

_INSTANCES: dict[Kind, str] = {
    "torso-ct": "components", "spine-mri": "labels", "dental-panoramic": "labels", "spine-discs": "components",
}  # fmt: skip
"""How the references of each kind with things tell objects apart."""

_CARDS: dict[Kind, _CardTexts] = {
    "torso-ct": _CardTexts(
        "torso", "CT", "Synthetic torso CT",
        "Procedural torsos in Hounsfield units: liver with lesions, spleen, kidneys, vertebrae.",
    ),
    "spine-mri": _CardTexts(
        "spine", "MR", "Synthetic lumbar spine MRI",
        "Procedural lumbar spines in four Dixon channels: vertebrae L1 to L5 and their discs.",
    ),
    "chest-xray": _CardTexts(
        "chest", "DX", "Synthetic chest X-ray",
        "Projections through procedural chests: the silhouettes of both lungs.",
    ),
    "chest-xray-heart": _CardTexts(
        "heart", "DX", "Synthetic chest X-ray with overlapping labels",
        "Projections through procedural chests: the silhouettes of both lungs, and on a second layer that of the heart.",
    ),
    "dental-panoramic": _CardTexts(
        "dental", "PX", "Synthetic panoramic X-ray of the jaws",
        "Procedural dental arches laid flat: each tooth an object, labelled by its FDI number.",
    ),
    "spine-discs": _CardTexts(
        "discs", "MR", "Synthetic spine MRI in the layout of IVDM3Seg",
        "Procedural lower spines in four Dixon channels: seven discs, from T11/T12 to L5/S1, by one value.",
    ),
}  # fmt: skip


def write_phantoms(
    folder: str | os.PathLike[str],
    kind: Kind,
    count: int,
    *,
    seed: int = 0,
    format: PhantomFormat = "dicom",
    val: int = 0,
    test: int = 0,
    acquisition: Acquisition | None = None,
) -> Path:
    """Write a dataset of phantoms.

    Images go to ``images/``, references to ``labels/``: a file a case, or, where labels overlap, a folder with one for each
    label. The manifest is written last, once the rest is complete.

    Args:
        folder: folder of the dataset; made if missing, files of the same names are replaced.
        kind: kind of phantom.
        count: cases in all, at most 1000.
        seed: seed of the dataset.
        format: ``dicom``, or ``nifti`` for volumes and ``png`` for X-rays.
        val: number of cases for validation, before those for test.
        test: number of cases for test, the last ones.
        acquisition: the kind's own where None.

    Returns:
        The path of ``manifest.yaml``.

    Raises:
        UsageError: an unknown kind or format, or counts that do not fit.

    Example:
        >>> from voxelry.phantom import coarse_acquisition, write_phantoms
        >>> coarse = coarse_acquisition("torso-ct")
        >>> manifest = write_phantoms("phantoms", "torso-ct", 2, format="nifti", test=1, acquisition=coarse)
        >>> manifest.name, sorted(path.name for path in manifest.parent.glob("images/*"))
        ('manifest.yaml', ['torso_000.nii.gz', 'torso_001.nii.gz'])
    """
    check_kind(kind)
    _check(kind, count, seed, format, val, test)
    root = Path(folder)
    (root / MANIFEST).unlink(missing_ok=True)
    cases = []
    for index in range(count):
        phantom = make_phantom(kind, seed * SEEDS_PER_SET + index, acquisition)
        name = f"{_CARDS[kind].stem}_{index:03d}"
        images, labels = _write_case(phantom, root, name, format)
        split = "train" if index < count - val - test else "val" if index < count - test else "test"
        cases.append({"id": name, "images": images, "labels": labels, "group": name, "split": split})
        _log.info("wrote phantom %s (%d of %d)", name, index + 1, count)
    write_yaml(root / MANIFEST, _card(kind) | {"cases": _by_pattern(cases, root) if TABLES[kind].layers > 1 else cases})
    return root / MANIFEST


def _by_pattern(cases: Sequence[Mapping[str, Any]], root: Path) -> dict[str, Any]:
    """The cases of a manifest with one mask file for each label, by file patterns; writes the file of their splits."""
    names = sorted({str(case["split"]) for case in cases})
    write_json(root / SPLITS_FILE, {name: [case["id"] for case in cases if case["split"] == name] for name in names})
    first = cases[0]
    return {
        "images": [image.replace(first["id"], "{id}") for image in first["images"]],
        "labels": {"per_label": f"{first['labels'].replace(first['id'], '{id}')}/{{label}}.png"},
        "split_file": SPLITS_FILE,
    }


def _check(kind: Kind, count: int, seed: int, format: str, val: int, test: int) -> None:
    if format not in get_args(PhantomFormat):
        raise UsageError(f"no phantom format {format!r}", remedy=nearest(format, get_args(PhantomFormat)))
    wrong = "nifti" if kind in PICTURES else "png"
    if format == wrong:
        right = "'dicom' or 'png'" if kind in PICTURES else "'dicom' or 'nifti'"
        raise UsageError(f"phantoms of kind {kind!r} cannot be written as {format!r}", remedy=f"Use {right}.")
    if not 1 <= count <= SEEDS_PER_SET:
        raise UsageError(f"{count} phantoms", remedy=f"Ask for 1 to {SEEDS_PER_SET}.")
    if seed < 0 or min(val, test) < 0 or val + test > count:
        raise UsageError(
            f"seed {seed}, {val} phantoms for validation and {test} for test out of {count}",
            remedy="Use numbers from 0 that fit in the count.",
        )


def _write_case(phantom: Phantom, root: Path, name: str, format: PhantomFormat) -> tuple[list[str], str]:
    """Write one case; returns the paths of its images and its reference, relative to `root`."""
    geometry = phantom.labels.geometry
    if len(phantom.labels.layers) > 1:
        labels = root / "labels" / name
        for label in phantom.labels.table.names:
            write_png(phantom.labels.mask(label).astype(np.uint8), geometry, labels / f"{label}.png")
    elif geometry.affine is None:
        labels = write_png(phantom.labels.array, geometry, root / "labels" / f"{name}.png")
    else:
        labels = write_nifti(phantom.labels.array, geometry, root / "labels" / f"{name}.nii.gz", "SYNTHETIC PHANTOM labels")
    if format == "nifti":
        images = write_channels(phantom, root / "images", name)
    elif format == "png":
        images = [write_png(phantom.volume.array[0], geometry, root / "images" / f"{name}.png")]
    else:
        images = write_dicom(phantom, root / "images" / (name if geometry.affine is not None else f"{name}.dcm"))
    return [image.relative_to(root).as_posix() for image in images], labels.relative_to(root).as_posix()


def _card(kind: Kind) -> dict[str, Any]:
    card = _CARDS[kind]
    table = TABLES[kind].model_dump(mode="json", exclude_defaults=True)
    return {
        "name": f"phantom-{kind}",
        "title": card.title,
        "description": f"{card.description} Synthetic: no patient was scanned.",
        "modality": card.modality,
        "dimensions": 2 if kind in PICTURES else 3,
        "licence": "CC0-1.0",
        "citation": [],
        "homepage": "generated by voxelry.phantom",
        "channels": list(CHANNELS[kind]),
        "labels": table["labels"],
        **({"instances": _INSTANCES[kind]} if kind in _INSTANCES else {}),
        "ignore": None,
        "sequences": _SEQUENCES.get(kind, []),
    }
