"""Pairs references with predictions by case id."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import get_args

import numpy as np

from voxelry.base.files import no_such_file
from voxelry.base.listing import shown
from voxelry.cohort.folder_search import case_id
from voxelry.cohort.predicted_files import confidence_beside, read_objects, scores_beside
from voxelry.core.volume import LabelMap, Volume
from voxelry.datasets.cases import Case
from voxelry.datasets.load import load_case
from voxelry.datasets.manifest import Manifest, load_manifest
from voxelry.datasets.nnunet_files import FIRST
from voxelry.errors import GridMismatchError, MissingFileError, SelectionError, UsageError
from voxelry.formats.detection import detect, header_beside
from voxelry.formats.ids_beside import SUFFIX as IDS_SUFFIX
from voxelry.formats.ids_beside import is_ids_file
from voxelry.formats.pictures.coco_read import open_coco
from voxelry.formats.reader import read_labels
from voxelry.formats.table import all_formats, claims_labels, format_by_ending, label_formats
from voxelry.inference.predict_options import ConfidenceMode
from voxelry.metrics.predicted_map import PredictedMap

log = logging.getLogger(__name__)

Loader = Callable[[], LabelMap]
Pairs = list[tuple[str, Loader, Callable[[], PredictedMap]]]
Files = tuple[Path, ...]

_MANIFESTS = (".yaml", ".yml", ".json")


def is_manifest(path: Path) -> bool:
    """Whether a path is a manifest's file, by its ending, and not a mask's."""
    return path.is_file() and path.suffix.lower() in _MANIFESTS and not claims_labels(path)


def find_pairs(reference: Path | Manifest, prediction: Path, root: Path | None = None) -> Pairs:
    """Pair reference masks with predicted masks.

    Args:
        reference: a mask, a folder of masks, a COCO file of several pictures, or a manifest (whose labels then say what the
            values mean and what is ignored), loaded or not.
        prediction: a mask, a folder of masks named by case id, or a COCO file of several pictures.
        root: where a manifest's paths start.

    Returns:
        Case id and two functions that read the maps, sorted by id. With a folder of references, one without a prediction is an
        error; with a manifest, the cases that were predicted are compared, and a warning counts the others of their splits.
        A warning counts predictions without a reference too. Several files of one case (a mask in two formats) must agree.

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
    references, predictions = _cases_in(reference), _cases_in(prediction)
    if reference.is_file() and prediction.is_file() and (references is None or predictions is None):
        return [_pair(case_id(prediction if predictions is None else reference), (reference,), (prediction,))]
    if references is None or predictions is None:
        raise UsageError(
            f"{reference} and {prediction}: one is a folder, the other a file", remedy="Give two files or two folders."
        )
    predictions = _called_as(references, predictions)
    missing = sorted(set(references) - set(predictions))
    if missing:
        raise MissingFileError(
            f"{prediction}: no prediction for {len(missing)} of {len(references)} references ({shown(missing)})",
            remedy="Files are paired by name without ending.",
        )
    _warn_of_surplus(prediction, predictions, references)
    return [_pair(name, references[name], predictions[name]) for name in sorted(references)]


def _cases_in(path: Path) -> dict[str, Files] | None:
    """Case id -> files of a folder, or of a COCO file of several pictures; None for a mask of one case."""
    if path.is_dir():
        return masks_in(path)
    names = _pictures_in(path)
    return None if len(names) < 2 else {case_id(Path(name.name)): (path,) for name in names}


def _pictures_in(path: Path) -> list[PurePath]:
    """The names of the pictures of a COCO file; none for another file."""
    return [picture.path for picture in open_coco(path).pictures] if detect(path).name == "coco" else []


def _called_as(cases: Collection[str], masks: Mapping[str, Files]) -> dict[str, Files]:
    """Masks by the names of cases: with or without nnU-Net's number of the first channel, where no mask has the name itself."""
    called = {}
    for name, files in masks.items():
        other = name.removesuffix(FIRST) if name.endswith(FIRST) else f"{name}{FIRST}"
        called[other if name not in cases and other in cases and other not in masks else name] = files
    return called


def _pair(case: str, reference: Files, prediction: Files) -> tuple[str, Loader, Callable[[], PredictedMap]]:
    def read(mask: Path, other: Path) -> LabelMap:
        return read_objects(mask, partial(_mask, case, mask, other))

    return (
        case,
        partial(_agreed, case, reference, partial(read, other=prediction[0])),
        partial(_with_evidence, case, prediction, partial(read, other=reference[0]), case),
    )


def _with_evidence(case: str, files: Files, read: Callable[[Path], LabelMap], picture: str) -> PredictedMap:
    """A prediction with what lies beside its first file, or in it, of the picture of that name."""
    return PredictedMap(_agreed(case, files, read), scores_beside(files[0], picture), confidence_beside(files[0]))


def _agreed(case: str, files: Files, read: Callable[[Path], LabelMap]) -> LabelMap:
    """The mask of a case, which may lie in several files that say the same.

    Raises:
        UsageError: they do not.
    """
    labels = read(files[0])
    for file in files[1:]:
        if not _equal(labels, read(file)):
            raise UsageError(f"{files[0]} and {file.name} are two masks of case '{case}' that differ", remedy="Keep one of them.")
    return labels


def _equal(first: LabelMap, other: LabelMap) -> bool:
    try:
        return np.array_equal(first.layers, other.on_grid(first.geometry).layers)
    except GridMismatchError:
        return False


def _mask(case: str, path: Path, other: Path) -> LabelMap:
    """A mask; outlines without series or picture beside them are filled on the grid of the mask they are compared with."""
    if not _needs_image(path):
        return read_labels(path)
    try:
        return read_labels(path)
    except (MissingFileError, SelectionError) as error:
        if len(_pictures_in(path)) > 1:
            return read_labels(path, reference=case)
        try:
            grid = read_labels(other).geometry
        except (MissingFileError, SelectionError):
            raise error from None
        return read_labels(path, reference=Volume(partial(np.zeros, (1, *grid.shape), np.uint8), grid))


def _needs_image(path: Path) -> bool:
    """The mask has no grid of its own, but that of an image."""
    return "reference" in detect(path).label_options


def _with_manifest(manifest: Manifest, prediction: Path) -> Pairs:
    masks = masks_in(prediction) if prediction.is_dir() else _masks_in_file(prediction, manifest)
    masks = _called_as([case.id for case in manifest.cases], masks)
    cases = [case for case in manifest.cases if case.has_labels and case.id in masks]
    if not cases:
        raise UsageError(
            f"{prediction}: no mask is named as a labelled case of {manifest.path}",
            remedy="Masks are named <case id>.nii.gz, or with the ending of another format.",
        )
    _warn_of_missing(manifest, cases)
    _warn_of_surplus(prediction, masks, [case.id for case in cases])
    return [(case.id, partial(_reference, case, manifest), partial(_predicted, masks[case.id], case, manifest)) for case in cases]


def _masks_in_file(prediction: Path, manifest: Manifest) -> dict[str, Files]:
    """Case id -> the file: of all whose pictures a COCO file of several names, else of the case that it is named after."""
    pictures = {name.stem for name in _pictures_in(prediction)}
    if len(pictures) < 2:
        return {case_id(prediction): (prediction,)}
    images = {case.id: case.reference_image(manifest.card.reference) for case in manifest.cases}
    return {id: (prediction,) for id, image in images.items() if image.stem in pictures}


def _predicted(files: Files, case: Case, manifest: Manifest) -> PredictedMap:
    """A prediction; contours are filled on the case's image."""
    image = case.reference_image(manifest.card.reference)

    def read(mask: Path) -> LabelMap:
        reference = image if _needs_image(mask) else None
        return read_objects(mask, partial(read_labels, mask, reference=reference), manifest.card.table)

    return _with_evidence(case.id, files, read, image.name)


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
        log.warning("%d labelled cases have no prediction and are not scored: %s", len(missing), shown(missing))


def _warn_of_surplus(prediction: Path, predicted: Collection[str], scored: Collection[str]) -> None:
    """Warn of predictions that no reference goes with."""
    surplus = sorted(set(predicted) - set(scored))
    if surplus:
        log.warning("%s: %d predictions have no reference and are not scored: %s", prediction, len(surplus), shown(surplus))
    ids = [name for name in surplus if name.endswith(IDS_SUFFIX) and name.removesuffix(IDS_SUFFIX) in predicted]
    if ids:
        log.warning(
            "%s: ids in a file beside a mask count where voxelry wrote both (%s has no record of it); "
            "put the ids in place of the mask, with `segments_info` in <case id>.json",
            prediction, shown(ids),
        )  # fmt: skip


def masks_in(folder: Path) -> dict[str, Files]:
    """Case id -> its mask, for the masks of every format that lie in a folder; several files where formats count the same.

    A folder without masks may have a subfolder for each case with its only mask, whatever that is called.

    Where a case has several files, a Slicer segmentation counts before a plain file, which may be its scan, and both before
    DICOM, of which the first format of the table counts.

    Raises:
        MissingFileError: there are none.
    """
    masks = _masks_directly_in(folder) or _masks_of_subfolders(folder)
    if not masks:
        endings = ", ".join(dict.fromkeys(ending for row in label_formats() for ending in row.own_endings))
        raise MissingFileError(f"{folder}: holds no mask", remedy=f"Files ending in {endings} are looked for.")
    maps = {f"{case}.{kind}" for case in masks for kind in get_args(ConfidenceMode)}  # of predict --confidence
    return {case: _counting(candidates) for case, candidates in masks.items() if case not in maps}


def _masks_directly_in(folder: Path) -> dict[str, list[Path]]:
    masks: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        if (
            file.is_file()
            and not file.name.startswith(".")
            and claims_labels(file)
            and header_beside(file) == file
            and not is_ids_file(file)
        ):
            masks.setdefault(case_id(file), []).append(file)
    return masks


def _masks_of_subfolders(folder: Path) -> dict[str, list[Path]]:
    """The masks of a folder for each case, called after these folders; nothing where one of them holds several masks."""
    inner = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    masks = {path.name: _masks_directly_in(path) for path in inner}
    if any(len(by_name) > 1 for by_name in masks.values()):
        return {}
    return {name: files for name, by_name in masks.items() for files in by_name.values()}


def _counting(candidates: Sequence[Path]) -> Files:
    """The files that count of those of one case."""
    lowest = min(map(_rank, candidates))
    return tuple(file for file in candidates if _rank(file) == lowest)


def _rank(file: Path) -> int:
    """Which of several masks of a case counts: that of the lowest rank."""
    row = format_by_ending(file)
    assert row is not None
    if row.family != "dicom":
        return 0 if row.kind == "labels" else 1
    order = [name for name, other in all_formats().items() if other.family == "dicom" and other.reads_labels]
    return 2 + (order.index(row.name) if row.name in order else len(order))
