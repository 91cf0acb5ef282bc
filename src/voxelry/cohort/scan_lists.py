"""Lists of scans to segment: a dataset card, a table of cases (CSV), or a text file with a path on each line."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

from voxelry.base.files import no_such_file, read_text
from voxelry.base.urls import is_url
from voxelry.cohort.remote_files import place_of
from voxelry.cohort.scan_names import Scan
from voxelry.datasets.manifest import load_manifest
from voxelry.errors import ManifestError, nearest
from voxelry.formats.table import stem_of

LISTS = (".csv", ".tsv", ".txt", ".yaml", ".yml")
"""Endings of files that list scans."""


def listed_scans(file: Path, channels: int) -> list[Scan]:
    r"""The scans that a file lists; relative paths start from its folder (of a card: as in a manifest).

    Args:
        file: a file of `LISTS`.
        channels: number of channels of the model.

    Returns:
        In the order of the list.

    Raises:
        ManifestError: a card without cases, a table without a column of images, a row without a file, or no row at all.
        MissingFileError: a listed file is not there.

    Example:
        >>> from pathlib import Path
        >>> Path("a.nii.gz").touch()
        >>> _ = Path("scans.csv").write_text("id,image\npatient 1,a.nii.gz\n")
        >>> listed_scans(Path("scans.csv"), channels=1)[0].id
        'patient 1'
    """
    suffix = file.suffix.lower()
    if suffix in (".yaml", ".yml"):
        scans = [Scan(case.id, case.images) for case in load_manifest(file).cases]
    elif suffix == ".txt":
        lines = [line.strip() for line in read_text(file).splitlines()]
        scans = [_scan("", [line], file) for line in lines if line and not line.startswith("#")]
    else:
        scans = _of_table(file, "\t" if suffix == ".tsv" else ",", channels)
    if not scans:
        raise ManifestError(f"{file}: lists no scan", remedy="Write one scan a line.")
    return scans


def _of_table(file: Path, delimiter: str, channels: int) -> list[Scan]:
    rows = csv.DictReader(io.StringIO(read_text(file)), delimiter=delimiter)
    columns = [name.strip() for name in rows.fieldnames or ()]
    single = "image" if "image" in columns else "path" if "path" in columns else ""
    numbered = [f"image_{number}" for number in range(1, channels + 1)]
    wanted = [single] if single else numbered
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise ManifestError(
            f"{file}: no column '{'image' if channels == 1 else missing[0]}' (its columns: {', '.join(columns) or 'none'})",
            remedy=nearest("image", columns),
        )
    scans = []
    for number, row in enumerate(rows, start=2):
        cells = {str(name).strip(): (value or "").strip() for name, value in row.items() if isinstance(value, str | None)}
        images = [cells[name] for name in wanted]
        if not all(images):
            raise ManifestError(f"{file}, line {number}: no image", remedy="Name a file, or delete the line.")
        scans.append(_scan(cells.get("id", ""), images, file))
    return scans


def _scan(name: str, images: list[str], file: Path) -> Scan:
    """A scan of a list; images at URLs are not looked for before their turn.

    Raises:
        MissingFileError: a file is not there.
    """
    urls = tuple(image if is_url(image) else "" for image in images)
    paths = tuple(place_of(image) if is_url(image) else file.parent / image for image in images)
    for path, url in zip(paths, urls, strict=True):
        if not url and not os.path.lexists(path):
            raise no_such_file(path)
    return Scan(name or stem_of(paths[0]), paths, urls=urls if any(urls) else ())
