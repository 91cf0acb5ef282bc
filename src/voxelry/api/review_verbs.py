"""The public verb about the quality of a run's predictions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from voxelry.base.notebook_progress import shows_progress
from voxelry.base.progress import ProgressCallback, no_progress
from voxelry.errors import UsageError

if TYPE_CHECKING:
    from voxelry.cohort.review_list import ReviewCase

__all__ = ["qc"]

QC_FOLDER = "qc"


@shows_progress
def qc(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    progress: ProgressCallback = no_progress,
) -> list[ReviewCase]:
    """List the cases of a run in the order of doubt, and draw them on contact sheets.

    Args:
        folder: the folder that `predict` wrote into.
        out: folder for ``review.csv``, ``sheet_001.png``, ``sheet_002.png``...; by default ``qc`` in `folder`.
        progress: called as cases are drawn.

    Returns:
        The cases, the most doubtful first, those that failed among them.

    Raises:
        MissingFileError: no run was ever led there.
        CorruptFileError: its ledger is damaged.
        UsageError: no case has ended yet, or `out` is not an earlier result.

    Example:
        >>> from pathlib import Path
        >>> import voxelry
        >>> from voxelry.phantom.dataset import write_phantoms
        >>> _ = write_phantoms("data", "chest-xray", 2, format="png")
        >>> recipe = (
        ...     "{manifest: data/manifest.yaml, steps: 2, validations: 1, device: cpu, "
        ...     "plan: {patch_size: [32, 32], features: [4, 8], batch_size: 1}}"
        ... )
        >>> _ = Path("recipe.yaml").write_text(recipe)
        >>> _ = voxelry.train("recipe.yaml", "run")
        >>> _ = voxelry.predict("run/model", "data/images/chest_000.png", "masks", device="cpu")
        >>> [case.id for case in voxelry.qc("masks")]
        ['chest_000']
    """
    from voxelry.cohort.ledger import Ledger
    from voxelry.cohort.review_list import review_list
    from voxelry.reports.review_folder import write_review_folder

    with Ledger(Path(folder), read_only=True) as ledger:
        cases = review_list(ledger)
    if not cases:
        raise UsageError(f"{folder}: no case has ended yet", remedy="Run it again when `voxelry status` shows one that is done.")
    write_review_folder(cases, Path(folder) / QC_FOLDER if out is None else Path(out), progress)
    return cases
