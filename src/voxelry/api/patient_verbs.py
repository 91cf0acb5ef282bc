"""The public verb of patients over time, `voxelry.follow_up`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from voxelry.base.notebook_progress import shows_progress
from voxelry.base.progress import ProgressCallback, no_progress

if TYPE_CHECKING:
    from voxelry.cohort.patient_courses import PatientCourse
    from voxelry.cohort.registration import Transform

__all__ = ["follow_up"]

PathLike = str | os.PathLike[str]


@shows_progress
def follow_up(
    inputs: Sequence[PathLike] | PathLike,
    out: PathLike,
    *,
    masks: PathLike | None = None,
    lesions: Sequence[str] = (),
    pattern: str | None = None,
    transform: Transform = "affine",
    tolerance: float = 2.0,
    progress: ProgressCallback = no_progress,
) -> list[PatientCourse]:
    """Follow the lesions of patients over two or more dates.

    The scans of each patient are registered to the first one, lesions matched from date to date (kept, new, gone, split, merged),
    and measured. ``follow_up.csv``, ``.parquet`` and ``.json`` hold all patients; a folder for each holds its masks, in which a
    lesion has one number at all dates: DICOM SEG with equal tracking UIDs, and a DICOM SR of all dates, where the scans are
    DICOM, else NIfTI.

    Args:
        inputs: scans as for `predict`; or one CSV with the columns ``image``, ``mask`` and, if wanted, ``patient``, ``date``.
        out: folder for the results.
        masks: folder of masks named by case id, as `predict` writes them; None for a CSV.
        lesions: names of the labels whose objects are followed; empty for those of kind ``thing``, or the only label.
        pattern: how a case id tells patient and date, such as ``{patient}_{date}``; None reads them from DICOM headers where
            there are such.
        transform: ``rigid``, or ``affine`` after a rigid one.
        tolerance: mm by which a lesion may miss itself after registration.
        progress: called as ``progress(what, done, total)`` after each patient.

    Returns:
        A course for each patient; of one that cannot be followed up (a single date, a date twice, scans of different patients, an
        unreadable scan) it holds the reason, and the others continue.

    Raises:
        UsageError: no masks; patients or dates that are not known; an output that this did not write.
        MissingFileError: a file, or the mask of a scan, is not there.
        ManifestError: a CSV without its columns.

    Example:
        >>> import voxelry
        >>> from voxelry.phantom import coarse_acquisition, dated_phantoms
        >>> dated, _ = dated_phantoms(3, acquisition=coarse_acquisition("torso-ct"), fates=("vanish",))
        >>> for each, day in zip(dated, ("2026-01-05", "2026-04-07")):
        ...     scan = voxelry.write(each.phantom.volume, f"scans/anna_{day}.nii.gz")
        ...     mask = voxelry.write(each.phantom.labels, f"masks/anna_{day}.nii.gz")
        >>> [course] = voxelry.follow_up("scans", "out", masks="masks", transform="rigid")
        >>> [(change["change"], change["lesions_before"]) for change in course.summary["changes"]]
        [('gone', [1])]
    """
    from voxelry.cohort.patient_courses import follow_up_cohort

    paths = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    return follow_up_cohort(
        [Path(path) for path in paths],
        Path(out),
        None if masks is None else Path(masks),
        lesions,
        pattern,
        transform,
        tolerance,
        progress,
    )
