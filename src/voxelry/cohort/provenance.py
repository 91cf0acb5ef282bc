"""Provenance of a mask: the algorithm or person that drew it, by its file or by the caller, kept on conversion."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydicom import Dataset

from voxelry.formats.detection import detect
from voxelry.formats.dicom.elements import items_of, quiet_pydicom, text_of
from voxelry.formats.dicom.objects.segment_descriptions import Algorithm
from voxelry.formats.dicom.objects.stored_object import read_object
from voxelry.formats.file_segments import LONGEST_TEXT, plain_text

MANUAL = "manual"
"""The algorithm's name that stands for a person."""

_UNKNOWN_VERSION = "unknown"
_KINDS = ("automatic", "semiautomatic", MANUAL)


def algorithm_of(mask: Path, stated: Any = None) -> Algorithm | None:
    """The algorithm that drew a mask.

    Args:
        mask: its file or folder.
        stated: an algorithm's name, ``manual``, an Algorithm, or None to look into the file.

    Returns:
        As stated; else what a SEG (SegmentAlgorithmType and SegmentAlgorithmName, PS3.3 section C.8.20.2) or an RTSTRUCT
        (ROIGenerationAlgorithm, C.8.8.5) says of its structures, semiautomatic where they differ; None where nothing is known.
    """
    if isinstance(stated, Algorithm):
        return stated
    if stated is not None:
        return Algorithm(kind="manual") if str(stated).lower() == MANUAL else _foreign(str(stated), "automatic")
    form = "" if mask.is_dir() else detect(mask).name
    if form not in ("dicom-seg", "rtstruct"):
        return None
    with quiet_pydicom():
        data = read_object(mask, tags=["SegmentSequence", "StructureSetROISequence"])
        authors = _of_segments(data) if form == "dicom-seg" else _of_structures(data)
    kinds = {kind for kind, _ in authors if kind in _KINDS}
    if not kinds:
        return None
    names = {name for _, name in authors if name}
    return _foreign(names.pop() if len(names) == 1 else "", kinds.pop() if len(kinds) == 1 else "semiautomatic")


def _of_segments(data: Dataset) -> list[tuple[str, str]]:
    """Kind and name of each segment's algorithm."""
    return [
        (text_of(item, "SegmentAlgorithmType").lower(), text_of(item, "SegmentAlgorithmName"))
        for item in items_of(data, "SegmentSequence")
    ]


def _of_structures(data: Dataset) -> list[tuple[str, str]]:
    """Kind of each structure's algorithm; a structure set holds no name."""
    return [(text_of(item, "ROIGenerationAlgorithm").lower(), "") for item in items_of(data, "StructureSetROISequence")]


def _foreign(name: str, kind: Any) -> Algorithm:
    """An algorithm of another program; its version is unknown."""
    return Algorithm(name=plain_text(name)[:LONGEST_TEXT] or "unknown", version=_UNKNOWN_VERSION, kind=kind)


def with_algorithm(options: Mapping[str, Any], mask: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """The options of a format, with the mask's algorithm where the format has that option and the algorithm is known.

    Args:
        options: as the caller gave them.
        mask: the file or folder that is converted.
        names: the options that the format has.
    """
    algorithm = algorithm_of(mask, options.get("algorithm")) if "algorithm" in names else None
    return {**options, "algorithm": algorithm} if algorithm is not None else dict(options)
