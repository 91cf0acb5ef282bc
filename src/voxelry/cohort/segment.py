"""Segmenting many scans, one in memory at a time; a bad scan is reported, and the others go on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from voxelry.cohort.inputs import Scan
from voxelry.errors import UsageError, VoxelryError, nearest
from voxelry.export.writer import FORMATS, write
from voxelry.read.reader import read_channels
from voxelry.volume import Volume

if TYPE_CHECKING:
    from voxelry.predict.predictor import Prediction, Predictor

log = logging.getLogger(__name__)

Watch = Callable[[Scan, Volume, "Prediction"], None]


@dataclass(frozen=True)
class Outcome:
    """What became of one scan.

    Attributes:
        id: the scan.
        files: the files written, by format.
        flags: what is unusual about the prediction.
        error: why it failed, empty where it did not.
    """

    id: str
    files: dict[str, Path]
    flags: tuple[str, ...] = ()
    error: str = ""


def segment_scans(
    predictor: Predictor,
    scans: Sequence[Scan],
    out: Path,
    formats: Sequence[str],
    done: Callable[[int, Outcome], None] = lambda *_: None,
    watch: Watch = lambda *_: None,
) -> list[Outcome]:
    """Segment scans and write their masks.

    Args:
        predictor: the loaded model.
        scans: what to segment.
        out: folder for ``<id><ending>``.
        formats: names of formats.
        done: called after each scan with its number from 1.
        watch: called with the scan and its prediction while both are in memory.

    Returns:
        One outcome a scan, in order. A scan that fails leaves no file.

    Raises:
        UsageError: a format is not known.
        OSError: `out` cannot be made.
    """
    for name in formats:
        if name not in FORMATS:
            raise UsageError(f"unknown format '{name}'", remedy=nearest(name, FORMATS))
    out.mkdir(parents=True, exist_ok=True)
    outcomes = []
    for number, scan in enumerate(scans, start=1):
        outcomes.append(_segment(predictor, scan, out, formats, watch))
        done(number, outcomes[-1])
    return outcomes


def _segment(predictor: Predictor, scan: Scan, out: Path, formats: Sequence[str], watch: Watch) -> Outcome:
    files: dict[str, Path] = {}
    try:
        volume = read_channels(scan.images)
        prediction = predictor.predict(volume)
        for name in formats:
            files[name] = write(prediction.labels, out / f"{scan.id}{FORMATS[name].ending}", format=name, source=volume)
        watch(scan, volume, prediction)
    except (VoxelryError, OSError) as error:
        log.info("%s: %s", scan.id, error)
        for file in files.values():
            file.unlink(missing_ok=True)
        return Outcome(scan.id, {}, error=str(error))
    return Outcome(scan.id, files, prediction.flags)
