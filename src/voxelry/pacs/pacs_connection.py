"""A connection to an archive, of the kind that its address names."""

from __future__ import annotations

from voxelry.pacs.dicomweb import DicomWebPacs
from voxelry.pacs.dimse import DimsePacs
from voxelry.pacs.pacs_address import PacsCaller, WebAddress, parse_address
from voxelry.pacs.pacs_records import Pacs


def connect(address: str, caller: PacsCaller) -> Pacs:
    """A connection to an archive; nothing is sent yet.

    Args:
        address: ``https://host/dicom-web`` or ``dicom://AE_TITLE@host:port``.
        caller: who asks.

    Raises:
        UsageError: the address is none, or a PEM file cannot be used.
        MissingExtraError: the extra ``dicom`` is not installed.
    """
    place = parse_address(address)
    return DicomWebPacs(place, caller) if isinstance(place, WebAddress) else DimsePacs(place, caller)
