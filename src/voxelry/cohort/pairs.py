"""Pairing references with predictions by case id."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from voxelry.cohort.inputs import case_id
from voxelry.core.volume import LabelMap
from voxelry.datasets.cases import Case
from voxelry.datasets.load import load_case
from voxelry.datasets.manifest import Manifest, load_manifest
from voxelry.errors import MissingFileError, UsageError
from voxelry.formats.reader import read_labels

log = logging.getLogger(__name__)

Loader = Callable[[], LabelMap]
Pairs = list[tuple[str, Loader, Loader]]

_MANIFESTS = (".yaml", ".yml", ".json")
_MASKS = (".nii.gz", ".nii", ".seg.dcm", ".dcm", ".png", ".tif", ".tiff")


def is_manifest(path: Path) -> bool:
    """Whether a path is a manifest's file, by its ending."""
    return path.is_file() and path.suffix.lower() in _MANIFESTS


def find_pairs(reference: Path | Manifest, prediction: Path, root: Path | None = None) -> Pairs:
    """Pair what is to be compared.

    Args:
        reference: a mask, a folder of masks, or a manifest (whose labels then say what the values mean and what is ignored),
            loaded or not.
        prediction: a mask, or a folder of masks named by case id.
        root: where a manifest's paths start.

    Returns:
        Case id and two functions that read the maps, sorted by id. With a folder of predictions, references without a
        prediction are an error; with a manifest, the cases that were predicted are compared, and a warning is logged where
        others of their splits were not.

    Raises:
        MissingFileError: nothing there, or a reference without a prediction.
        UsageError: a folder against a file, or no case in common.
    """
    for path in (reference, prediction):
        if isinstance(path, Path) and not path.exists():
            raise MissingFileError(f"{path}: no such file or folder", remedy="Check the path.")
    if isinstance(reference, Manifest):
        return _with_manifest(reference, prediction)
    if is_manifest(reference):
        return _with_manifest(load_manifest(reference, root), prediction)
    if reference.is_dir() != prediction.is_dir():
        raise UsageError(
            f"{reference} and {prediction}: one is a folder, the other a file", remedy="Give two files or two folders."
        )
    if reference.is_file():
        return [(case_id(reference), partial(read_labels, reference), partial(read_labels, prediction))]
    references, predictions = masks_in(reference), masks_in(prediction)
    missing = sorted(set(references) - set(predictions))
    if missing:
        raise MissingFileError(
            f"{prediction}: no prediction for {len(missing)} of {len(references)} references ({_some(missing)})",
            remedy="Files are paired by name without ending.",
        )
    return [
        (name, partial(read_labels, references[name]), partial(read_labels, predictions[name])) for name in sorted(references)
    ]


def _with_manifest(manifest: Manifest, prediction: Path) -> Pairs:
    found = masks_in(prediction) if prediction.is_dir() else {case_id(prediction): prediction}
    cases = [case for case in manifest.cases if case.has_labels and case.id in found]
    if not cases:
        raise UsageError(
            f"{prediction}: no mask is named as a labelled case of {manifest.path}", remedy="Masks are named <case id>.nii.gz."
        )
    _say_what_is_missing(manifest, cases)
    return [(case.id, partial(_reference, case, manifest), partial(read_labels, found[case.id])) for case in cases]


def _reference(case: Case, manifest: Manifest) -> LabelMap:
    """The case's reference on its image's grid."""
    labels = load_case(case, manifest)[1]
    assert labels is not None
    return labels


def _say_what_is_missing(manifest: Manifest, cases: list[Case]) -> None:
    """Warn of labelled cases that nobody predicted, in the splits of those that somebody did."""
    splits = {case.split for case in cases}
    here = {case.id for case in cases}
    missing = [case.id for case in manifest.cases if case.has_labels and case.split in splits and case.id not in here]
    if missing:
        log.warning("%d labelled cases have no prediction and are not scored: %s", len(missing), _some(missing))


def masks_in(folder: Path) -> dict[str, Path]:
    """Case id -> mask, for the masks that lie in a folder. A DICOM file beside another mask of the case is passed over.

    Raises:
        MissingFileError: there are none.
        UsageError: two masks of one case.
    """
    masks: dict[str, Path] = {}
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and file.name.lower().endswith(_MASKS)]
    for file in sorted(files, key=_is_dicom):
        if not file.name.startswith(".") and not (_is_dicom(file) and case_id(file) in masks):
            if case_id(file) in masks:
                raise UsageError(
                    f"{folder}: two masks of case '{case_id(file)}': {masks[case_id(file)].name} and {file.name}",
                    remedy="Keep one of them.",
                )
            masks[case_id(file)] = file
    if not masks:
        raise MissingFileError(f"{folder}: holds no mask", remedy=f"Files ending in {', '.join(_MASKS)} are looked for.")
    return masks


def _is_dicom(file: Path) -> bool:
    return file.name.lower().endswith(".dcm")


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
