"""Finds the scans in a list of inputs: files, DICOM series, folders of images, zip archives, URLs, and lists of scans."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from voxelry.base.distinct_names import folded
from voxelry.base.files import no_such_file
from voxelry.base.urls import is_url
from voxelry.cohort.folder_search import FolderSearch, InputSurvey, is_archive, scan_of_file
from voxelry.cohort.input_mirror import InputMirror, check_archive
from voxelry.cohort.scan_lists import LISTS, listed_scans
from voxelry.cohort.scan_names import Scan, named_scans
from voxelry.cohort.scratch_folder import scratch_folder
from voxelry.errors import MissingFileError, UsageError, VoxelryError


def find_scans(inputs: Sequence[str | os.PathLike[str]], channels: int = 1, series: str | None = None) -> list[Scan]:
    """The scans in some paths; see `survey_inputs`."""
    return survey_inputs(inputs, channels, series).scans


def survey_inputs(inputs: Sequence[str | os.PathLike[str]], channels: int = 1, series: str | None = None) -> InputSurvey:
    """The scans in some paths, and what is left out.

    A file is a scan. A folder of DICOM slices holds one scan a series, or one of the `series` that is chosen; segmentations,
    reports, secondary captures and localizers are left out. A folder of other images, or of single X-rays in DICOM, holds one
    scan a file. In a folder without scans, subfolders are searched, as in a tree of patients, studies and series that an archive
    exports; in others they are not. A DICOMDIR stands for its folder. Hidden files, masks, what voxelry wrote there, and files
    that neither are images nor have the ending of one are left out. A link called an image that leads nowhere is a scan that
    fails: it is not lost without a word.

    A zip archive stands for a folder of what it holds, called as the archive; archives in a tree are opened, those in archives
    are not. A URL (``s3://bucket/scans``, ``https://host/scan.nii.gz``) stands for the file, or the folder, that lies there.
    The scans of both are fetched one by one when their turn comes (`voxelry.cohort.fetched_scan`).

    A path that is not there and holds ``*``, ``?`` or ``[`` is a pattern (``**`` for folders). A dataset card (YAML), a table of
    cases (CSV with the columns ``image`` or ``image_1``..., and ``id`` if it has one) and a text file of paths, a line each,
    stand for the scans that they list.

    If the model has several channels, files (or series' folders) ``<id>_0000``, ``<id>_0001``... up to the last channel are those
    of scan ``<id>``, and every other one is a scan that holds all channels. Where a model has one channel, a lone ``<id>_0000``
    is scan ``<id>``. Scans of one name in several folders are called after these. Files that are masks by their names beside
    images (`voxelry.datasets.mask_names`) are left out with a warning.

    Args:
        inputs: files, folders, patterns, and lists of scans.
        channels: number of channels of the model.
        series: the caller's choice of a series, as for `voxelry.read`.

    Returns:
        Scans in the order of the inputs, by name within a folder, and what was left out.

    Raises:
        MissingFileError: a path is not there, a pattern fits nothing, or a folder holds no image.
        UsageError: two scans have the same id.
        ManifestError, ConfigError: a list of scans that cannot be used.
    """
    survey = InputSurvey()
    listed: list[Scan] = []
    alone: list[Scan] = []
    with scratch_folder() as scratch:
        mirror = InputMirror(scratch)
        search = FolderSearch(survey, mirror, series)
        try:
            for text in inputs:
                for path in [mirror.add_url(os.fspath(text))] if is_url(text) else _matching(text):
                    if not mirror.holds(path) and path.suffix.lower() in LISTS and not path.is_dir():
                        listed += listed_scans(path, channels)
                    else:
                        alone += _scans_at(path, mirror, search)
            named = named_scans(alone, channels)
        except VoxelryError as error:
            raise mirror.error(error)  # noqa: B904 - the same error
        survey.scans.extend((*map(mirror.resolved, named), *listed))
        survey.left_out[:] = map(mirror.left_out, survey.left_out)
    _check_ids(survey.scans)
    return survey


def _scans_at(path: Path, mirror: InputMirror, search: FolderSearch) -> list[Scan]:
    """The scans of a path that is no list of scans.

    Raises:
        ReadError: it holds none, or is an archive that cannot be opened.
    """
    check_archive(path)
    if path.is_dir():
        return search.scans_in(path)
    if search.series is None and _is_directory_file(path) and not mirror.holds(path):
        return search.scans_in(path.parent)
    if is_archive(path) and not mirror.holds(path):
        return [Scan(path.stem, (path,))] if search.series is not None else search.scans_in(mirror.add_archive(path))
    return [scan_of_file(path)]


def _matching(text: str | os.PathLike[str]) -> list[Path]:
    """The path, or those that fit a pattern.

    Raises:
        MissingFileError: there are none.
    """
    path = Path(text)
    if path.exists():
        return [path]
    if any(mark in os.fspath(text) for mark in "*?["):
        fitting = sorted(Path(name) for name in glob.glob(os.fspath(text), recursive=True))  # noqa: PTH207 - absolute patterns too
        if fitting:
            return fitting
        raise MissingFileError(f"{text}: no file or folder fits this pattern", remedy="Check the folder that it starts from.")
    raise no_such_file(path)


def _check_ids(scans: Sequence[Scan]) -> None:
    first: dict[str, Scan] = {}
    for scan in scans:
        other = first.setdefault(folded(scan.id), scan)
        if other is not scan:
            names = f"'{scan.id}'" if scan.id == other.id else f"'{other.id}' and '{scan.id}', which some disks take for one name"
            raise UsageError(
                f"two scans are called {names}: {other.images[0]} and {scan.images[0]}",
                remedy="Rename one, or segment them separately.",
            )


def _is_directory_file(file: Path) -> bool:
    """It is called as the table of contents of a DICOM medium must be."""
    return file.name.upper() == "DICOMDIR"
