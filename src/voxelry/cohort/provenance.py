"""Who drew a mask: what its file says, or what the caller says, so that a converted mask does not claim another maker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread

from voxelry.formats.dicom.elements import quiet_pydicom
from voxelry.formats.dicom.objects.segment_descriptions import LONGEST_TEXT, Algorithm, plain_text
from voxelry.formats.masks import dicom_kind

MANUAL = "manual"
"""The maker's name that stands for a person."""

_UNKNOWN_VERSION = "unknown"
_KINDS = ("automatic", "semiautomatic", MANUAL)


def maker(mask: Path, given: Any = None) -> Algorithm | None:
    """What made a mask.

    Args:
        mask: its file or folder.
        given: an algorithm's name, ``manual``, an Algorithm, or None to look into the file.

    Returns:
        As given; else what a SEG (SegmentAlgorithmType and SegmentAlgorithmName, PS3.3 section C.8.20.2) or an RTSTRUCT
        (ROIGenerationAlgorithm, C.8.8.5) says of its structures, semiautomatic where they differ; None where nothing is said.
    """
    if isinstance(given, Algorithm):
        return given
    if given is not None:
        return Algorithm(kind="manual") if str(given).lower() == MANUAL else _named(str(given), "automatic")
    kind = "" if mask.is_dir() else dicom_kind(mask)
    if kind not in ("seg", "rtstruct"):
        return None
    with quiet_pydicom():
        data = dcmread(mask, specific_tags=["SegmentSequence", "StructureSetROISequence"], stop_before_pixels=True)
        said = _of_segments(data) if kind == "seg" else _of_structures(data)
    kinds = {one for one, _ in said if one in _KINDS}
    if not kinds:
        return None
    names = {name for _, name in said if name}
    return _named(names.pop() if len(names) == 1 else "", kinds.pop() if len(kinds) == 1 else "semiautomatic")


def _of_segments(data: Dataset) -> list[tuple[str, str]]:
    return [
        (str(item.get("SegmentAlgorithmType", "")).lower(), str(item.get("SegmentAlgorithmName", "")))
        for item in data.get("SegmentSequence", [])
    ]


def _of_structures(data: Dataset) -> list[tuple[str, str]]:
    return [(str(item.get("ROIGenerationAlgorithm", "")).lower(), "") for item in data.get("StructureSetROISequence", [])]


def _named(name: str, kind: Any) -> Algorithm:
    """An algorithm of another program; its version is not known."""
    return Algorithm(name=plain_text(name)[:LONGEST_TEXT] or "unknown", version=_UNKNOWN_VERSION, kind=kind)


def with_maker(options: Mapping[str, Any], mask: Path, taken: tuple[str, ...]) -> dict[str, Any]:
    """The options of a format, its maker among them where the format takes one and something is known."""
    made = maker(mask, options.get("algorithm")) if "algorithm" in taken else None
    return {**options, "algorithm": made} if made is not None else dict(options)
