"""The folder of a run while it trains: locked, and nothing in it is replaced that no run wrote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

from voxelry.base.output_folder import OutputFolder
from voxelry.core.plan import Configuration
from voxelry.errors import UsageError
from voxelry.networks.weights import PLAN_FILE
from voxelry.training.checkpoint import CHECKPOINT_FILE, LOSSES_FILE
from voxelry.training.folds import FOLDS_FILE
from voxelry.training.run_files import (
    CURVE_FILES,
    FINGERPRINT_FILE,
    HISTORY_FILE,
    MODEL_FOLDER,
    PREDICTIONS_FOLDER,
    RECIPE_FILE,
    ROWS_FILE,
    SPLIT_FILE,
    VALIDATION_FILE,
)

_STATE = (RECIPE_FILE, FINGERPRINT_FILE, PLAN_FILE, SPLIT_FILE, CHECKPOINT_FILE, HISTORY_FILE, LOSSES_FILE, PREDICTIONS_FOLDER)
"""What a run continues from: a resumed run adds to it."""
_RESULTS = (MODEL_FOLDER, VALIDATION_FILE, ROWS_FILE, *CURVE_FILES)
"""What a resumed run writes anew."""


def refuse_existing_run(folder: Path) -> None:
    """Refuse to train in a folder that already holds a run.

    Raises:
        UsageError: there is a checkpoint.
    """
    if (folder / CHECKPOINT_FILE).exists():
        raise UsageError(f"{folder}: holds a run already", remedy="Add --resume to continue it, or choose another --out.")


@contextmanager
def network_folder(folder: Path, *, resume: bool) -> Iterator[None]:
    """Keep other runs out of the folder of a network while it trains, and record what it leaves there.

    Args:
        folder: the folder.
        resume: it holds the run's state already.

    Raises:
        UsageError: another run is writing into it; it holds a run, and `resume` is not set; or something would be replaced that
            the run did not write.
    """
    outputs = OutputFolder(folder, "train")
    with outputs.locked():
        if not resume:
            refuse_existing_run(folder)
            if any(outputs.has(folder / configuration / PLAN_FILE) for configuration in get_args(Configuration)):
                raise UsageError(f"{folder}: holds a cross-validation already", remedy="Add --folds, or choose another --out.")
        with _recorded(outputs, (*_STATE, *_RESULTS), _RESULTS if resume else (*_STATE, *_RESULTS), is_run=resume):
            yield


@contextmanager
def cross_validation_beginning(folder: Path, names: Sequence[str]) -> Iterator[bool]:
    """Wait until no other process begins the same cross-validation, and record what its beginning leaves.

    Args:
        folder: the folder of the run.
        names: what the beginning writes.

    Yields:
        Whether the run has begun already.

    Raises:
        UsageError: something would be replaced that no run wrote.
    """
    outputs = OutputFolder(folder, "train")
    with outputs.locked(wait=True):
        earlier = outputs.is_blank and all((folder / name).is_file() for name in (RECIPE_FILE, FINGERPRINT_FILE, FOLDS_FILE))
        has_begun = outputs.has(folder / RECIPE_FILE) or earlier  # earlier versions left no record
        if has_begun:
            yield True
            return
        with _recorded(outputs, names, (*names, *_RESULTS), is_run=False):
            yield False


@contextmanager
def cross_validation_end(folder: Path, names: Sequence[str]) -> Iterator[None]:
    """Keep other runs out of the folder of a cross-validation while its results are written, and record them.

    Args:
        folder: the folder of the run.
        names: what is written, beside the model and its scores.

    Raises:
        UsageError: another run is writing into it, or something would be replaced that the run did not write.
    """
    outputs = OutputFolder(folder, "train")
    with outputs.locked(), _recorded(outputs, (*names, *_RESULTS), (*names, *_RESULTS), is_run=True):
        yield


@contextmanager
def _recorded(outputs: OutputFolder, names: Sequence[str], replaced: Sequence[str], *, is_run: bool) -> Iterator[None]:
    """Check what will be replaced; until the block ends, all names are the run's, whatever is in them.

    A run's folder without any record was written by an earlier version, and all of its names are the run's.
    """
    if not (is_run and outputs.is_blank):
        for name in replaced:
            outputs.check(outputs.folder / name)
    paths = [outputs.folder / name for name in names]
    outputs.claim(paths)
    try:
        yield
    finally:
        outputs.stamp(paths)
