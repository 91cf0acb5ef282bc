"""The public verbs about runs over many scans."""

from __future__ import annotations

import os
from pathlib import Path

from voxelry.cohort.ledger import Ledger
from voxelry.cohort.run_export import export_ledger
from voxelry.cohort.run_status import RunStatus, status_of

__all__ = ["status"]


def status(folder: str | os.PathLike[str], *, export: str | os.PathLike[str] | None = None) -> RunStatus:
    """Tell how far the run in an output folder is, at any time, also while another process leads it.

    Args:
        folder: the folder that `predict` writes into.
        export: also write what is known of every case: a table (``.csv``, ``.parquet``), or the run manifest (``.json``).

    Returns:
        Counts of cases by state, those that are running or failed, the rate and the time left.

    Raises:
        MissingFileError: no run was ever led there.
        CorruptFileError: its ledger is damaged.
        UsageError: another ending of `export`, or a file there that is not an earlier export.

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
        >>> voxelry.status("masks", export="cases.csv").counts["done"]
        1
    """
    with Ledger(Path(folder), read_only=True) as ledger:
        if export is not None:
            export_ledger(ledger, Path(export))
        return status_of(ledger, Path(folder))
