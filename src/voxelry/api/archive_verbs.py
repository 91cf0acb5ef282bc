"""The verbs that speak to DICOM archives: `voxelry.fetch` and `voxelry.send`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from voxelry.base.notebook_progress import shows_progress
from voxelry.base.progress import ProgressCallback, no_progress

if TYPE_CHECKING:
    from voxelry.pacs.archive_copy import FetchedSeries
    from voxelry.pacs.pacs_address import PacsCaller
    from voxelry.pacs.pacs_records import SentInstance

__all__ = ["fetch", "send"]

PathLike = str | os.PathLike[str]
_DEFAULT_AE_TITLE = "VOXELRY"


@shows_progress
def send(
    files: Sequence[PathLike] | PathLike,
    target: str,
    *,
    ae_title: str = _DEFAULT_AE_TITLE,
    token: str | None = None,
    certificate: PathLike | None = None,
    key: PathLike | None = None,
    authority: PathLike | None = None,
    progress: ProgressCallback = no_progress,
) -> list[SentInstance]:
    """Store DICOM files in an archive, by DICOMweb (STOW-RS) or DIMSE (C-STORE), and check the status of each.

    Args:
        files: DICOM files, and folders of them.
        target: the archive: ``https://host/dicom-web``, ``dicom://AE_TITLE@host:port``, or ``dicom-tls://...``.
        ae_title: our own AE title, for DIMSE.
        token: bearer token, for DICOMweb.
        certificate: PEM file by which we say who we are where TLS asks.
        key: its key; None where it lies in the same file.
        authority: PEM file of the authorities that vouch for the archive; None for those of the system.
        progress: called as ``progress(what, done, total)``.

    Returns:
        What became of each file: stored, stored with a warning, or refused, with the reason.

    Raises:
        PacsError: the archive cannot be reached, or takes nothing from this caller.
        MissingFileError: a file is not there.
        UsageError: the target is no address of an archive.
        MissingExtraError: the extra ``dicom`` is not installed.

    Example:
        >>> import voxelry
        >>> from voxelry.phantom.dataset import write_phantoms
        >>> _ = write_phantoms("data", "torso-ct", 1, format="dicom")
        >>> try:
        ...     sent = voxelry.send("data/images", "pacs.example:104")
        ... except voxelry.VoxelryError as error:
        ...     print(error.problem)
        'pacs.example:104' is no address of an archive
    """
    from voxelry.pacs.pacs_connection import connect
    from voxelry.pacs.sent_files import send_files

    pacs = connect(target, _caller(ae_title, token, certificate, key, authority))
    paths = [files] if isinstance(files, str | os.PathLike) else list(files)
    return send_files(pacs, [Path(path) for path in paths], progress)


@shows_progress
def fetch(
    source: str,
    out: PathLike | None = None,
    *,
    study: str | None = None,
    series: str | None = None,
    patient: str | None = None,
    accession: str | None = None,
    modality: str | None = None,
    date: str | None = None,
    ae_title: str = _DEFAULT_AE_TITLE,
    move_port: int | None = None,
    token: str | None = None,
    certificate: PathLike | None = None,
    key: PathLike | None = None,
    authority: PathLike | None = None,
    progress: ProgressCallback = no_progress,
) -> list[FetchedSeries]:
    """Find series in an archive and copy them, by DICOMweb (QIDO-RS, WADO-RS) or DIMSE (C-FIND, C-GET, C-MOVE).

    A series appears in the folder when all instances that the archive announced are there, each readable and with the UIDs asked
    for. One that fails is listed, and the others go on.

    Args:
        source: the archive: ``https://host/dicom-web``, ``dicom://AE_TITLE@host:port``, or ``dicom-tls://...``.
        out: folder for the copies, ``<study>/<series>/<instance>.dcm``; None only lists what there is.
        study: StudyInstanceUID.
        series: SeriesInstanceUID.
        patient: id of the patient.
        accession: accession number.
        modality: such as ``CT``.
        date: of the study, ``20260131``, or a range ``20260101-20260131``.
        ae_title: our own AE title, for DIMSE.
        move_port: port at which we take what C-MOVE sends; None retrieves by C-GET.
        token: bearer token, for DICOMweb.
        certificate: PEM file by which we say who we are where TLS asks.
        key: its key; None where it lies in the same file.
        authority: PEM file of the authorities that vouch for the archive; None for those of the system.
        progress: called as ``progress(what, done, total)``.

    Returns:
        Each series that fits: its record, its folder and files, or why it failed.

    Raises:
        PacsError: the archive cannot be reached, refuses the query, or holds nothing that fits.
        UsageError: the source is no address of an archive, or nothing says which series.
        MissingExtraError: the extra ``dicom`` is not installed.

    Example:
        >>> import voxelry
        >>> try:
        ...     voxelry.fetch("dicom://PACS@127.0.0.1:104", "scans")
        ... except voxelry.VoxelryError as error:
        ...     print(error.problem)
        nothing says which series to fetch
    """
    from voxelry.errors import PacsError, UsageError
    from voxelry.pacs.archive_copy import FetchedSeries, copy_series
    from voxelry.pacs.pacs_connection import connect

    asked = {
        "StudyInstanceUID": study,
        "SeriesInstanceUID": series,
        "PatientID": patient,
        "AccessionNumber": accession,
        "Modality": modality,
        "StudyDate": date,
    }
    keys = {name: value for name, value in asked.items() if value}
    if not keys.keys() - {"Modality"}:
        raise UsageError("nothing says which series to fetch", remedy="Give study, series, patient, accession or date.")
    pacs = connect(source, _caller(ae_title, token, certificate, key, authority, move_port))
    progress("querying", 0, None)
    records = pacs.find_series(keys)
    if not records:
        raise PacsError(
            "the archive holds no series that fits", remedy=f"It was asked for {', '.join(f'{k}={v}' for k, v in keys.items())}."
        )
    if out is None:
        return [FetchedSeries(record) for record in records]
    return copy_series(pacs, records, Path(out), progress)


def _caller(
    ae_title: str,
    token: str | None,
    certificate: PathLike | None,
    key: PathLike | None,
    authority: PathLike | None,
    move_port: int | None = None,
) -> PacsCaller:
    from voxelry.pacs.pacs_address import PacsCaller, check_ae_title

    own, secret, trusted = (None if file is None else Path(file) for file in (certificate, key, authority))
    return PacsCaller(check_ae_title(ae_title), token, own, secret, trusted, move_port)
