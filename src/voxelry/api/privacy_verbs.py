"""The public verb of privacy, `voxelry.deidentify`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from voxelry.base.notebook_progress import shows_progress
from voxelry.base.progress import ProgressCallback, no_progress

if TYPE_CHECKING:
    from voxelry.cohort.deidentification import DeidentifiedFiles

__all__ = ["deidentify"]

PathLike = str | os.PathLike[str]


@shows_progress
def deidentify(
    inputs: Sequence[PathLike] | PathLike,
    out: PathLike,
    *,
    key: PathLike | None = None,
    options: Sequence[str] = (),
    accept: Sequence[str] = (),
    progress: ProgressCallback = no_progress,
) -> DeidentifiedFiles:
    """Write copies of DICOM files that do not name the patient, by the Basic Profile of PS3.15.

    Elements are treated as PS3.15 Annex E says, in sequences too; private ones are removed. UIDs are replaced by keyed hashes:
    with one key, references of segmentations, structure sets and reports hold across files and runs. Pixels are copied byte for
    byte. Objects whose headers say that pixels may show text or a face are held back and listed.

    Args:
        inputs: DICOM files, and folders of them.
        out: folder for the copies, new or of an earlier run with the same key and options, which then goes on.
        key: file with the secret; made, readable for its owner alone, where there is none. None: ``<out>.key``, beside `out`.
        options: of the profile: ``uids``, ``device``, ``institution``, ``characteristics`` (age, sex, size, weight),
            ``full-dates`` and ``safe-private`` keep, ``modified-dates`` moves each patient's dates by the same days,
            ``descriptors`` keeps known words of free text, ``structured-content`` the measurements of reports.
        accept: risks of the pixels that are accepted: ``burnt-in-text``, ``faces``.
        progress: called as ``progress(what, done, total)``.

    Returns:
        The copies, and what was held back, left out, or failed.

    Raises:
        UsageError: an unknown option, a folder that holds anything else, a key that others may read.
        MissingFileError: an input is not there.
        ConfigError: the key's file holds no key.

    Example:
        >>> import voxelry
        >>> from voxelry.phantom.dataset import write_phantoms
        >>> _ = write_phantoms("data", "torso-ct", 1, format="dicom")
        >>> files = voxelry.deidentify("data/images", "shared", options=["modified-dates"])
        >>> len(files.written) > 0, len(files.failed)
        (True, 0)
    """
    from voxelry.cohort.deidentification import deidentify_files

    paths = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    return deidentify_files(
        [Path(path) for path in paths], Path(out), None if key is None else Path(key), options, accept, progress
    )
