"""Presentation contexts: the kinds of instances and their encodings that a connection by DIMSE agrees on at its start."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pydicom.uid import ImplicitVRLittleEndian

from voxelry.formats.dicom.pixels.transfer_syntaxes import TRANSFER_SYNTAXES

MOST_CONTEXTS = 128
"""Of one association (PS3.8: odd numbers of one byte)."""
NEWER_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.7",)
"""Storage classes that pynetdicom does not list yet: Label Map Segmentation."""

IMAGE_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.1": "Computed Radiography",
    "1.2.840.10008.5.1.4.1.1.1.1": "Digital X-Ray, for presentation",
    "1.2.840.10008.5.1.4.1.1.1.1.1": "Digital X-Ray, for processing",
    "1.2.840.10008.5.1.4.1.1.1.2": "Digital Mammography, for presentation",
    "1.2.840.10008.5.1.4.1.1.1.2.1": "Digital Mammography, for processing",
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.2.1": "Enhanced CT",
    "1.2.840.10008.5.1.4.1.1.2.2": "Legacy Converted Enhanced CT",
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.4.1": "Enhanced MR",
    "1.2.840.10008.5.1.4.1.1.4.4": "Legacy Converted Enhanced MR",
    "1.2.840.10008.5.1.4.1.1.12.1": "X-Ray Angiography",
    "1.2.840.10008.5.1.4.1.1.12.2": "X-Ray Radiofluoroscopy",
    "1.2.840.10008.5.1.4.1.1.128": "Positron Emission Tomography",
    "1.2.840.10008.5.1.4.1.1.130": "Enhanced PET",
    "1.2.840.10008.5.1.4.1.1.128.1": "Legacy Converted Enhanced PET",
}
"""Storage classes of images, which can be segmented."""

READABLE = tuple(TRANSFER_SYNTAXES)
"""Encodings that are read."""


def context_of(sop_class: str, syntaxes: Sequence[str]) -> Any:
    """A context that offers one class in some encodings, of which the other side takes one."""
    from pynetdicom.presentation import build_context

    return build_context(sop_class, list(syntaxes))


def sending_contexts(pairs: Iterable[tuple[str, str]]) -> list[Any]:
    """Contexts by which instances are sent as they are encoded; without compression also in the encoding of all archives.

    Args:
        pairs: SOP class and transfer syntax of each instance; at most half of `MOST_CONTEXTS` are taken.
    """
    offered: dict[tuple[str, str], None] = {}
    for sop_class, syntax in pairs:
        offered[sop_class, syntax] = None
        if is_convertible(syntax):
            offered[sop_class, str(ImplicitVRLittleEndian)] = None
    return [context_of(sop_class, [syntax]) for sop_class, syntax in offered]


def is_convertible(syntax: str) -> bool:
    """An encoding from which pydicom writes another without decoding pixels."""
    row = TRANSFER_SYNTAXES.get(syntax)
    return row is not None and row.is_native and not row.is_deflated and not row.is_big_endian


def getting_contexts(classes: Sequence[str]) -> list[Any]:
    """Contexts for what C-GET sends: each encoding that is read on its own, so that an archive need not change any.

    Args:
        classes: SOP classes; empty for all that there are.
    """
    if not classes:
        from pynetdicom.presentation import StoragePresentationContexts

        names = [str(each.abstract_syntax) for each in StoragePresentationContexts]
        return [context_of(name, READABLE) for name in [*NEWER_CLASSES, *names][: MOST_CONTEXTS - 1]]
    share = (MOST_CONTEXTS - 1) // len(classes)
    alone = READABLE[: max(0, share - 1)]
    rest = READABLE[len(alone) :]
    contexts = [context_of(sop_class, [syntax]) for sop_class in classes for syntax in alone]
    return contexts + [context_of(sop_class, rest) for sop_class in classes if rest]
