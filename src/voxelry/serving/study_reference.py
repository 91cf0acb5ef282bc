"""StudyReference: a study or series of a DICOMweb archive in place of a scan, and its copy as a zip archive.

Only services whose base address the server was started with are asked, and none of their redirections is followed: no client
makes the server ask anything else.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from voxelry.base.files import atomic_path
from voxelry.base.schema import Frozen
from voxelry.errors import PacsError, UnsupportedFormatError, UsageError
from voxelry.pacs.archive_copy import copy_one
from voxelry.pacs.dicomweb import DicomWebPacs
from voxelry.pacs.pacs_address import PacsCaller, WebAddress, parse_address
from voxelry.pacs.pacs_records import SeriesRecord
from voxelry.serving.serve_limits import ServeLimits
from voxelry.serving.served_archives import ServedArchives

_UID = r"^[0-9.]{1,64}$"


class StudyReference(Frozen):
    """A study, or a series of it.

    Attributes:
        dicomweb: base address of the services.
        study: StudyInstanceUID.
        series: SeriesInstanceUID; None for all series.
    """

    dicomweb: str = Field(max_length=1000)
    study: str = Field(pattern=_UID)
    series: str | None = Field(default=None, pattern=_UID)


class StudyFetcher:
    """Fetches what references name.

    Args:
        archives: with the addresses that may be named.
        limits: what is taken at most.
    """

    def __init__(self, archives: ServedArchives, limits: ServeLimits) -> None:
        self._limits, self._caller = limits, PacsCaller(token=archives.token)
        places = [parse_address(address) for address in archives.web]
        self._places = {place.url: place for place in places if isinstance(place, WebAddress)}

    def check(self, reference: StudyReference) -> None:
        """Refuse a reference to any other services.

        Raises:
            UsageError: they are not among those that the server was started with.
        """
        if reference.dicomweb.rstrip("/") not in self._places:
            raise UsageError(
                "the server asks no DICOMweb services at that address", remedy="Start it with --dicomweb and that base address."
            )

    def fetch(self, reference: StudyReference, target: Path) -> None:
        """Write the instances of a reference into a zip archive.

        Args:
            reference: which.
            target: the archive, which appears when all is there.

        Raises:
            PacsError: the archive does not give them.
            UnsupportedFormatError: they are too many.
        """
        self.check(reference)
        pacs = DicomWebPacs(self._places[reference.dicomweb.rstrip("/")], self._caller)
        keys = {"StudyInstanceUID": reference.study, "SeriesInstanceUID": reference.series}
        records = pacs.find_series({name: value for name, value in keys.items() if value})
        records = [each for each in records if each.study == reference.study and reference.series in (None, each.series)]
        if not records:
            raise PacsError("the archive holds no such study or series", remedy="Check the UIDs.")
        with atomic_path(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            self._pack(pacs, records, archive, target.parent)

    def _pack(self, pacs: DicomWebPacs, records: Sequence[SeriesRecord], archive: zipfile.ZipFile, folder: Path) -> None:
        """Add the instances of some series to an archive, by way of a folder."""
        size = 0
        with tempfile.TemporaryDirectory(dir=folder) as place:
            for record in records:
                for file in copy_one(pacs, record, Path(place, record.series)):
                    size += file.stat().st_size
                    if size > self._limits.unpacked:
                        raise UnsupportedFormatError(
                            f"the study has more than the {self._limits.unpacked} bytes taken here", remedy="Name one series."
                        )
                    archive.write(file, f"{record.series}/{file.name}")
                    file.unlink()
