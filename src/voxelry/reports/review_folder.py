"""The folder that `voxelry qc` writes: the review list as CSV, and contact sheets of its cases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from voxelry.base.files import atomic_folder
from voxelry.base.output_folder import OutputFolder
from voxelry.base.progress import ProgressCallback, no_progress
from voxelry.cohort.review_list import ReviewCase, write_review_list
from voxelry.errors import VoxelryError
from voxelry.formats.reader import read, read_labels
from voxelry.reports.contact_sheet import ContactTile, planes_picture, write_contact_sheets

REVIEW_FILE = "review.csv"


def write_review_folder(cases: Sequence[ReviewCase], folder: Path, progress: ProgressCallback = no_progress) -> Path:
    """Write ``review.csv``, ``sheet_001.png``, ``sheet_002.png``..., one case in memory at a time.

    Args:
        cases: in their order.
        folder: where; replaced if an earlier call wrote it.
        progress: called as cases are drawn.

    Returns:
        The folder.

    Raises:
        UsageError: the folder exists, and was not written by this, or was changed since.
    """
    with OutputFolder(folder.parent, "qc").writing([folder]), atomic_folder(folder) as fresh:
        write_review_list(cases, fresh / REVIEW_FILE)
        write_contact_sheets(_tiles(cases, progress), fresh, len(cases))
    return folder


def _tiles(cases: Sequence[ReviewCase], progress: ProgressCallback) -> Iterator[ContactTile]:
    """A tile for each case; one whose scan or mask cannot be read says why in place of its planes."""
    for number, case in enumerate(cases, start=1):
        notes, picture = tuple(filter(None, (case.reason, *case.flags))), None
        if case.mask is not None:
            try:
                picture = planes_picture(read(case.images[0]), read_labels(case.mask))
            except (VoxelryError, OSError) as error:
                notes = (f"cannot be drawn: {error}", *notes)
        yield ContactTile(case.title, notes, picture, case.review)
        progress("drawing", number, len(cases))
