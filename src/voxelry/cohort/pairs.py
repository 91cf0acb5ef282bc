"""Pairs references with predictions by case id."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from voxelry.base.files import no_such_file
from voxelry.cohort.inputs import case_id
from voxelry.core.volume import LabelMap, Volume
from voxelry.datasets.cases import Case
from voxelry.datasets.load import load_case
from voxelry.datasets.manifest import Manifest, load_manifest
from voxelry.errors import MissingFileError, UsageError
from voxelry.formats.detection import detect, header_beside
from voxelry.formats.reader import read_labels
from voxelry.formats.table import all_formats, claims_labels, format_by_ending, label_formats

log = logging.getLogger(__name__)

Loader = Callable[[], LabelMap]
Pairs = list[tuple[str, Loader, Loader]]

_MANIFESTS = (".yaml", ".yml", ".json")


def is_manifest(path: Path) -> bool:
    """Whether a path is a manifest's file, by its ending."""
    return path.is_file() and path.suffix.lower() in _MANIFESTS


def find_pairs(reference: Path | Manifest, prediction: Path, root: Path | None = None) -> Pairs:
    """Pair reference masks with predicted masks.

    Args:
        reference: a mask, a folder of masks, or a manifest (whose labels then say what the values mean and what is ignored),
            loaded or not.
        prediction: a mask, or a folder of masks named by case id.
        root: where a manifest's paths start.

    Returns:
        Case id and two functions that read the maps, sorted by id. With a folder of predictions, references without a
        prediction are an error; with a manifest, the cases that were predicted are compared, and a warning is logged if others of
        their splits were not.

    Raises:
        MissingFileError: nothing there, or a reference without a prediction.
        UsageError: a folder against a file, or no case in common.
    """
    for path in (reference, prediction):
        if isinstance(path, Path) and not path.exists():
            raise no_such_file(path)
    if isinstance(reference, Manifest):
        return _with_manifest(reference, prediction)
    if is_manifest(reference):
        return _with_manifest(load_manifest(reference, root), prediction)
    if reference.is_dir() != prediction.is_dir():
        raise UsageError(
            f"{reference} and {prediction}: one is a folder, the other a file", remedy="Give two files or two folders."
        )
    if reference.is_file():
        return [_pair(case_id(reference), reference, prediction)]
    references, predictions = masks_in(reference), masks_in(prediction)
    missing = sorted(set(references) - set(predictions))
    if missing:
        raise MissingFileError(
            f"{prediction}: no prediction for {len(missing)} of {len(references)} references ({_some(missing)})",
            remedy="Files are paired by name without ending.",
        )
    return [_pair(name, references[name], predictions[name]) for name in sorted(references)]


def _pair(case: str, reference: Path, prediction: Path) -> tuple[str, Loader, Loader]:
    return case, partial(_mask, reference, prediction), partial(_mask, prediction, reference)


def _mask(path: Path, other: Path) -> LabelMap:
    """A mask; contours whose series does not lie beside them are filled on the grid of the mask they are compared with."""
    if not _needs_image(path):
        return read_labels(path)
    try:
        return read_labels(path)
    except MissingFileError:
        if _needs_image(other):
            raise
        grid = read_labels(other).geometry
        return read_labels(path, reference=Volume(partial(np.zeros, (1, *grid.shape), np.uint8), grid))


def _needs_image(path: Path) -> bool:
    """The mask has no grid of its own, but that of an image."""
    return "reference" in detect(path).label_options


def _with_manifest(manifest: Manifest, prediction: Path) -> Pairs:
    masks = masks_in(prediction) if prediction.is_dir() else {case_id(prediction): prediction}
    cases = [case for case in manifest.cases if case.has_labels and case.id in masks]
    if not cases:
        raise UsageError(
            f"{prediction}: no mask is named as a labelled case of {manifest.path}",
            remedy="Masks are named <case id>.nii.gz, or with the ending of another format.",
        )
    _warn_of_missing(manifest, cases)
    return [(case.id, partial(_reference, case, manifest), partial(_predicted, masks[case.id], case, manifest)) for case in cases]


def _predicted(mask: Path, case: Case, manifest: Manifest) -> LabelMap:
    """A prediction; contours are filled on the case's image."""
    if not _needs_image(mask):
        return read_labels(mask)
    return read_labels(mask, reference=case.reference_image(manifest.card.reference))


def _reference(case: Case, manifest: Manifest) -> LabelMap:
    """The case's reference on its image's grid."""
    labels = load_case(case, manifest)[1]
    assert labels is not None
    return labels


def _warn_of_missing(manifest: Manifest, cases: list[Case]) -> None:
    """Warn of labelled cases without a prediction, in the splits of the predicted cases."""
    splits = {case.split for case in cases}
    predicted = {case.id for case in cases}
    missing = [case.id for case in manifest.cases if case.has_labels and case.split in splits and case.id not in predicted]
    if missing:
        log.warning("%d labelled cases have no prediction and are not scored: %s", len(missing), _some(missing))


def masks_in(folder: Path) -> dict[str, Path]:
    """Case id -> mask, for the masks of every format that lie in a folder.

    Where a case has several files, a Slicer segmentation counts before a plain file, which may be its scan, and both before
    DICOM, of which the first format of the table counts.

    Raises:
        MissingFileError: there are none.
        UsageError: two masks of one case.
    """
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith(".")]
    masks: dict[str, list[Path]] = {}
    for file in files:
        if claims_labels(file) and header_beside(file) == file:
            masks.setdefault(case_id(file), []).append(file)
    if not masks:
        endings = ", ".join(dict.fromkeys(ending for row in label_formats() for ending in row.all_endings))
        raise MissingFileError(f"{folder}: holds no mask", remedy=f"Files ending in {endings} are looked for.")
    return {case: _chosen(candidates, case, folder) for case, candidates in masks.items()}


def _chosen(candidates: Sequence[Path], case: str, folder: Path) -> Path:
    """The mask that counts of those of one case."""
    ranks = sorted((_rank(file), file) for file in candidates)
    best = [file for rank, file in ranks if rank == ranks[0][0]]
    if len(best) > 1:
        raise UsageError(f"{folder}: two masks of case '{case}': {best[0].name} and {best[1].name}", remedy="Keep one of them.")
    return best[0]


def _rank(file: Path) -> int:
    """Which of several masks of a case counts: that of the lowest rank."""
    row = format_by_ending(file)
    assert row is not None
    if row.family != "dicom":
        return 0 if row.kind == "labels" else 1
    order = [name for name, other in all_formats().items() if other.family == "dicom" and other.reads_labels]
    return 2 + (order.index(row.name) if row.name in order else len(order))


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
