"""The public verb `voxelry.report`: the page of a finished run, with the scans to look at; and the pages that verbs leave."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxelry.base.notebook_progress import shows_progress
from voxelry.base.output_folder import OutputFolder
from voxelry.base.progress import ProgressCallback, no_progress
from voxelry.errors import UsageError

if TYPE_CHECKING:
    from voxelry.cohort.comparison import Difference
    from voxelry.datasets.manifest import Manifest
    from voxelry.reports.run_record import RunRecord

__all__ = ["report"]

log = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]

LEFT = {"most": 6, "size": 100_000_000, "voxels": 300_000_000}
"""Of a page that a verb leaves by itself: cases that can be looked at, bytes of their data, and voxels of a scan at most."""


@shows_progress
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
    progress: ProgressCallback = no_progress,
) -> Path:
    """Write the page of a finished run: scores, curves, failures, doubtful cases, and a viewer of scans with their labels.

    Nothing in the page needs a network. The data of scans lie beside it, in the folder ``report_cases`` (of ``x.html`` in
    ``x_cases``), and are loaded by a click; with `embed` they are in the page itself, which is then one file. A run leaves a
    page of a few cases by itself.

    Args:
        run: a folder that `train`, `predict` or ``voxelry evaluate --out`` wrote, or a file of scores.
        other: the scores of another model (``evaluate --out``) on the same cases, to compare with `run`.
        data: the dataset card of the scans and references, or the folder of scans; None takes what the run names.
        root: folder that a card's relative paths start from.
        masks: a folder of predicted masks; None takes what the run names.
        out: the page to write; None is ``report.html`` in the run's folder, and of ``scores.csv`` ``scores.html`` beside it.
        cases: at most so many can be looked at: the worst, the median, the best, then the most doubtful.
        embed: bytes of scan data that may go into the page; cases beyond are left out of the viewer, which the page says.
        progress: called as ``progress(what, done, total)`` as cases are drawn.

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
        >>> _ = write_scores(measure(labels, labels, "case 1"), Path("scores"))
        >>> voxelry.report("scores").as_posix()
        'scores/report.html'
    """
    from voxelry.reports.finished_run import read_run, with_masks
    from voxelry.reports.run_comparison import read_comparison

    if cases < 0 or (embed is not None and embed < 0):
        raise UsageError(f"{cases} cases in {embed} bytes", remedy="Give numbers from 0.")
    folder = Path(run)
    record = read_run(folder) if other is None else read_comparison(folder, Path(other))
    if masks is not None:
        record = replace(record, cases=with_masks(record.cases, Path(masks)))
    page = _page_of(folder) if out is None else Path(out)
    sizes = {"most": cases, "size": embed, "inside": embed is not None, "progress": progress}
    return _write(record, page, [folder], sizes, data, root)


def leave_report(
    run: PathLike,
    *,
    manifest: Manifest | None = None,
    root: PathLike | None = None,
    summary: Mapping[str, Any] | None = None,
    progress: ProgressCallback = no_progress,
) -> Path | None:
    """Write the page of a run that has just ended where its results are, with a few cases to look at; a fault is a warning.

    Args:
        run: a folder that `train`, `predict` or ``voxelry evaluate --out`` wrote, or a file of scores.
        manifest: the dataset of the run; None takes what the run names.
        root: folder that a card's relative paths start from.
        summary: of the scores, where a file of scores holds none.
        progress: called as cases are drawn.

    Returns:
        The page, None where there is none.
    """
    from voxelry.reports.finished_run import read_run

    place = Path(run)
    sizes = {**LEFT, "progress": progress}
    return _left(place, lambda: _write(read_run(place, summary), _page_of(place), [place], sizes, manifest, root))


def _page_of(run: Path) -> Path:
    """Where the page of a run is: in its folder, or beside its file of scores."""
    from voxelry.reports.run_report import PAGE

    return run.with_suffix(Path(PAGE).suffix) if run.is_file() else run / PAGE


def leave_comparison(
    sides: Sequence[Path], page: Path, differences: Sequence[Difference], settings: Mapping[str, Any]
) -> Path | None:
    """Write the page of a comparison, as `leave_report` does.

    Args:
        sides: the scores of A and of B.
        page: the page.
        differences: of the two.
        settings: of the comparison, as plain values.
    """
    from voxelry.reports.run_comparison import read_comparison

    return _left(page, lambda: _write(read_comparison(sides[0], sides[1], differences, settings), page, sides, LEFT))


def check_page(page: Path, inputs: Sequence[Path]) -> None:
    """Refuse, before anything is computed, a page that `report` did not write of these inputs.

    Raises:
        UsageError: it is so.
    """
    OutputFolder(page.parent, "report").check(page, inputs)


def _left(what: Path, write: Callable[[], Path]) -> Path | None:
    """What is written; no fault of a page costs what a run has made."""
    try:
        return write()
    except Exception as error:  # noqa: BLE001 (a fault of a library too)
        log.warning("%s: no page was written (%s). `voxelry report` tries again.", what, error)
        return None


def _write(
    record: RunRecord,
    page: Path,
    inputs: Sequence[Path],
    sizes: Mapping[str, Any],
    data: Manifest | PathLike | None = None,
    root: PathLike | None = None,
) -> Path:
    """Write the page of a record, with what of its cases can be found.

    Args:
        record: what a run left behind.
        page: the page.
        inputs: that it is made from.
        sizes: of the viewer, as of `Viewing`.
        data: the dataset of the scans and references, its card, or the folder of scans; None takes what the run names.
        root: folder that a card's relative paths start from.
    """
    from voxelry.datasets.manifest import Manifest
    from voxelry.reports.run_cases import RunCases
    from voxelry.reports.run_report import Viewing, data_folder, write_report

    manifest = data if isinstance(data, Manifest) else _manifest(data or record.data, root)
    cases = RunCases(record, manifest, Path(data) if isinstance(data, str | os.PathLike) and manifest is None else None)
    record = cases.with_images()
    viewable = [case for case in record.cases if case.mask or case.other or case.images]
    viewing = Viewing(cases.read, viewable, **sizes)
    written = [page] if viewing.inside or not viewable else [page, data_folder(page)]
    with OutputFolder(page.parent, "report").writing(written, inputs):
        return write_report(record, page, _title(record, manifest), viewing if viewable and viewing.most else None)


def _title(record: RunRecord, manifest: Manifest | None) -> str:
    name = record.folder.resolve().name if manifest is None else manifest.card.title or manifest.card.name
    return f"voxelry {record.kind}: {name}"


def _manifest(data: PathLike | None, root: PathLike | None) -> Manifest | None:
    """The dataset that is named, where it is one."""
    from voxelry.cohort.pairs import is_manifest
    from voxelry.datasets.manifest import load_manifest

    return load_manifest(data, root) if data is not None and is_manifest(Path(data)) else None
