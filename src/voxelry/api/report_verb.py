"""The public verb `voxelry.report`: the page of a finished run, with the scans to look at."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from voxelry.base.output_folder import OutputFolder
from voxelry.errors import UsageError

if TYPE_CHECKING:
    from voxelry.core.volume import LabelMap, Volume
    from voxelry.datasets.manifest import Manifest
    from voxelry.reports.run_record import RunCase, RunRecord

__all__ = ["report"]

PathLike = str | os.PathLike[str]


def report(
    run: PathLike,
    other: PathLike | None = None,
    *,
    data: PathLike | None = None,
    root: PathLike | None = None,
    masks: PathLike | None = None,
    out: PathLike | None = None,
    cases: int = 20,
    embed: int | None = None,
) -> Path:
    """Write the page of a finished run: scores, curves, failures, doubtful cases, and a viewer of scans with their labels.

    Nothing in the page needs a network. The data of scans lie beside it, in the folder ``report_cases``, and are loaded by a
    click; with `embed` they are in the page itself, which is then one file.

    Args:
        run: a folder that `train`, `predict` or ``voxelry evaluate --out`` wrote.
        other: the scores of another model (``evaluate --out``) on the same cases, to compare with `run`.
        data: the dataset card of the scans and references, or the folder of scans; None takes what the run names.
        root: folder that a card's relative paths start from.
        masks: a folder of predicted masks; None takes what the run names.
        out: the page to write; None is ``report.html`` in the run's folder.
        cases: at most so many can be looked at: the worst, the median, the best, then the most doubtful.
        embed: bytes of scan data that may go into the page; cases beyond are left out of the viewer, which the page says.

    Returns:
        The page.

    Raises:
        MissingFileError: no run is there.
        UsageError: fewer than 0 cases or bytes, or a page that `report` did not write.
        ReadError: files of the run are damaged.

    Example:
        >>> from pathlib import Path
        >>> import voxelry
        >>> from voxelry.cohort import write_scores
        >>> from voxelry.metrics.families import measure
        >>> from voxelry.phantom import small_phantom
        >>> labels = small_phantom().labels
        >>> write_scores(measure(labels, labels, "case 1"), Path("scores"))
        >>> voxelry.report("scores").as_posix()
        'scores/report.html'
    """
    from voxelry.reports.run_record import read_run, with_masks
    from voxelry.reports.run_report import DATA_FOLDER, PAGE, Viewing, write_report

    if cases < 0 or (embed is not None and embed < 0):
        raise UsageError(f"{cases} cases in {embed} bytes", remedy="Give numbers from 0.")
    folder = Path(run)
    page = folder / PAGE if out is None else Path(out)
    record = read_run(folder, None if other is None else Path(other))
    if masks is not None:
        record = replace(record, cases=with_masks(record.cases, Path(masks)))
    manifest = _manifest(data or record.data, root)
    record = _with_images(record, manifest, data)
    viewing = Viewing(_reader(manifest, record), [case for case in record.cases if case.mask or case.images], cases, embed)
    written = [page] if embed is not None or not viewing.cases else [page, page.parent / DATA_FOLDER]
    with OutputFolder(page.parent, "report").writing(written, [folder]):
        return write_report(record, page, _title(record, manifest), viewing if viewing.cases and cases else None)


def _title(record: RunRecord, manifest: Manifest | None) -> str:
    name = record.folder.resolve().name if manifest is None else manifest.card.title or manifest.card.name
    return f"voxelry {record.kind}: {name}"


def _manifest(data: PathLike | None, root: PathLike | None) -> Manifest | None:
    """The dataset that is named, where it is one."""
    from voxelry.cohort.pairs import is_manifest
    from voxelry.datasets.manifest import load_manifest

    return load_manifest(data, root) if data is not None and is_manifest(Path(data)) else None


def _with_images(record: RunRecord, manifest: Manifest | None, data: PathLike | None) -> RunRecord:
    """The cases with the files of their scans, by the card or the folder of scans."""
    from voxelry.cohort.inputs import find_scans

    if manifest is not None:
        images = {case.id: tuple(map(Path, case.images)) for case in manifest.cases}
    elif data is not None:
        images = {scan.id: tuple(map(Path, scan.images)) for scan in find_scans([data])}
    else:
        return record
    return replace(record, cases=tuple(replace(case, images=images.get(case.id, case.images)) for case in record.cases))


def _reader(manifest: Manifest | None, record: RunRecord) -> Callable[[RunCase], tuple[Volume, LabelMap | None, LabelMap | None]]:
    """Reads the image, the prediction and the reference of a case; labels without an image are shown on black."""
    from voxelry.cohort.pairs import masks_in

    known = {case.id: case for case in manifest.cases} if manifest is not None else {}
    folder = record.data if manifest is None else None
    references = {} if folder is None else {id: files[0] for id, files in masks_in(folder).items()} if folder.is_dir() else {}

    def read_case(case: RunCase) -> tuple[Volume, LabelMap | None, LabelMap | None]:
        import numpy as np

        from voxelry.core.volume import Volume
        from voxelry.datasets.channels import read_channels
        from voxelry.datasets.load import load_image, load_labels
        from voxelry.formats.reader import read_labels

        own = known.get(case.id)
        prediction = None if case.mask is None else _read_mask(case.mask, manifest)
        if own is not None and manifest is not None:
            volume = load_image(own, manifest.card)
            volume = replace(volume, modality=volume.modality or manifest.card.modality)
            return volume, prediction, load_labels(own, manifest.card, volume.geometry) if own.has_labels else None
        reference = read_labels(references[case.id]) if case.id in references else None
        if case.images:
            return read_channels(case.images), prediction, reference
        shown = prediction or reference
        assert shown is not None
        return Volume(partial(np.zeros, (1, *shown.geometry.shape), np.uint8), shown.geometry), prediction, reference

    return read_case


def _read_mask(mask: Path, manifest: Manifest | None) -> LabelMap:
    from voxelry.cohort.predicted_files import read_objects
    from voxelry.formats.reader import read_labels

    return read_objects(mask, partial(read_labels, mask), None if manifest is None else manifest.card.table)
