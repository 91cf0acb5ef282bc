"""Names of scans: channels joined, the number of a lone channel left out, scans of one file name told apart by their folders."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

from voxelry.datasets.nnunet_files import FIRST
from voxelry.formats.table import format_by_ending, stem_of

_CHANNEL = re.compile(r"(.+)_(\d{4})")
_PICTURE = (2,)
"""Axes of formats whose files may hold all colours."""


@dataclass(frozen=True)
class Scan:
    """One scan to segment.

    Attributes:
        id: the name of its results.
        images: one file or DICOM folder, or one for each channel.
        remark: why it is not called as its file; empty where it is.
        urls: the URL of each image, secrets and all, empty for one on this machine; none where all are. Of a scan at URLs or in a
            zip archive `images` are names of places (`remote_files.place_of`; the archive's path and the member's name), which
            `fetched_scan.FetchedScan` makes files.
        version: a digest of what servers say of the versions of images at URLs.
        series: which series of each image is meant (as for `voxelry.read`), empty for one that holds no other; none where no
            image holds several.
    """

    id: str
    images: tuple[Path, ...]
    remark: str = ""
    series: tuple[str, ...] = ()
    urls: tuple[str, ...] = field(default=(), repr=False)
    version: str = ""


@dataclass(frozen=True)
class LeftOut:
    """A file or folder among the inputs that is no scan to segment.

    Attributes:
        path: the file or folder.
        reason: why, in a few words.
    """

    path: Path
    reason: str


def named_scans(scans: Sequence[Scan], channels: int) -> list[Scan]:
    """Scans with the names that their results get.

    Args:
        scans: called as their files.
        channels: number of channels of the model.

    Returns:
        Of several channels, each complete set ``<id>_0000``, ``<id>_0001``... as scan ``<id>``; where one file holds all channels
        and is the only ``<id>_<number>`` of its folder, ``<id>_0000`` as ``<id>``; scans of one name in several folders by the
        names of these.
    """
    joined = scans if channels == 1 else _with_channels(scans, channels)
    folders = {scan.images[0].parent for scan in joined}
    stems = {folder: {stem_of(path) for path in folder.iterdir()} if folder.is_dir() else set() for folder in folders}
    return _apart([_without_number(scan, stems, channels) for scan in joined])


def _with_channels(scans: Sequence[Scan], channels: int) -> list[Scan]:
    """The scans, each complete set of channels merged into one."""
    sets: dict[tuple[Path, str], list[Scan]] = {}
    for scan in scans:
        match = _CHANNEL.fullmatch(scan.id)
        sets.setdefault((scan.images[0].parent, match[1] if match else scan.id), []).append(scan)
    whole_scans: list[Scan] = []
    for (_, name), members in sets.items():
        ordered = sorted(members, key=lambda scan: scan.id)
        if [scan.id for scan in ordered] == [f"{name}_{number:04d}" for number in range(channels)]:
            series = tuple(scan.series[0] if scan.series else "" for scan in ordered)
            whole_scans.append(Scan(name, tuple(scan.images[0] for scan in ordered), series=series if any(series) else ()))
        else:
            whole_scans += members
    return whole_scans


def _without_number(scan: Scan, stems: Mapping[Path, Set[str]], channels: int) -> Scan:
    """``x_0000`` as ``x``, where it holds all channels and no other file beside it is called ``x`` or ``x_`` and a number.

    Files numbered through, as ``case_0000``, ``case_0001``, keep their numbers: they are scans, not channels.
    """
    name, file = scan.id.removesuffix(FIRST), scan.images[0]
    row = format_by_ending(file)
    holds_all = channels == 1 or (row is not None and row.axes == _PICTURE)
    if name in ("", scan.id) or len(scan.images) > 1 or not holds_all:
        return scan
    numbered = re.compile(rf"{re.escape(name)}(_\d{{4}})?")
    if any(numbered.fullmatch(other) for other in stems[file.parent] if other != scan.id):
        return scan
    return replace(scan, id=name, remark=f"the number of the only channel ({FIRST}) is left out of the name")


def _apart(scans: Sequence[Scan]) -> list[Scan]:
    """The scans, those of one name called after their folders where these differ."""
    groups: dict[str, list[Scan]] = defaultdict(list)
    for scan in scans:
        groups[scan.id].append(scan)
    in_folder = Counter(scan.images[0].parent for scan in scans)
    names = {id(scan): name for group in groups.values() if len(group) > 1 for scan, name in _after_folders(group, in_folder)}
    taken = Counter([*names.values(), *(scan.id for scan in scans if id(scan) not in names)])
    return [_renamed(scan, names.get(id(scan)), taken) for scan in scans]


def _after_folders(group: Sequence[Scan], in_folder: Counter[Path]) -> list[tuple[Scan, str]]:
    """Scans of one name, each with a name from as many of its folders as tell them apart; nothing where none do."""
    folders = [Path(os.path.abspath(scan.images[0])).parent.parts[1:] for scan in group]  # noqa: PTH100 - keeps links' names
    for depth in range(1, max(map(len, folders)) + 1):
        labels = ["_".join(parts[-depth:]) for parts in folders]
        if len(set(labels)) == len(labels):
            alone = all(in_folder[scan.images[0].parent] == 1 for scan in group)
            return [(scan, label if alone else f"{label}_{scan.id}") for scan, label in zip(group, labels, strict=True)]
    return []


def _renamed(scan: Scan, name: str | None, taken: Counter[str]) -> Scan:
    if name is None:
        return scan
    name = name if taken[name] == 1 else f"{name}_{scan.id}"
    return replace(scan, id=name, remark="called after the folder, since files of several folders have one name")
