"""Modality look-up table (LUT): stored values to grey values by a table instead of a rescale (DICOM PS3.3 section C.11.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from voxelry.errors import CorruptFileError
from voxelry.formats.dicom.deflated import open_inflated
from voxelry.formats.dicom.elements import PARSE_ERRORS, quiet_pydicom, short_message
from voxelry.formats.dicom.header import DicomHeader

_LARGEST = 2**16
_TAGS = ["PixelRepresentation", "ModalityLUTSequence"]


@dataclass(frozen=True, eq=False)
class ModalityLut:
    """A modality look-up table.

    Attributes:
        first: the stored value of the first entry.
        values: ``(entries,)`` uint16.
    """

    first: int
    values: NDArray[np.uint16]

    def apply(self, stored: NDArray[Any]) -> NDArray[np.uint16]:
        """Grey values; stored values beyond either end of the table get its first or last entry."""
        indices = np.clip(stored.astype(np.int32) - self.first, 0, len(self.values) - 1)
        return self.values[indices]


def read_modality_lut(header: DicomHeader) -> ModalityLut:
    """The modality look-up table of a file.

    Args:
        header: header of a file with a look-up table.

    Raises:
        CorruptFileError: descriptor and data of the table contradict each other.
    """
    try:
        with quiet_pydicom(), open_inflated(header.path) as stream:
            data = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=_TAGS, force=True)
            item = data.ModalityLUTSequence[0]
            entries, first, bits = (int(value) for value in item.LUTDescriptor)
            values = _entries(item["LUTData"].value, bits, entries or _LARGEST, little=data.original_encoding[1] is not False)
    except PARSE_ERRORS as error:
        raise CorruptFileError(
            f"{header.path}: the ModalityLUTSequence cannot be used ({short_message(error)})", remedy="Export the images again."
        ) from error
    if header.signed and first >= _LARGEST // 2:
        first -= _LARGEST
    return ModalityLut(first, values)


def _entries(value: Any, bits: int, count: int, *, little: bool) -> NDArray[np.uint16]:
    """LUTData as numbers: it is stored as a list, a single number, or bytes of 16-bit (or, if there are too few, 8-bit) words."""
    if isinstance(value, bytes):
        is_16_bit = len(value) >= 2 * count
        values = np.frombuffer(value, dtype=("<u2" if little else ">u2") if is_16_bit else np.uint8).astype(np.uint16)
    else:
        values = np.atleast_1d(np.asarray(value, dtype=np.int64)).astype(np.uint16)
    if not 8 <= bits <= 16 or len(values) < count:
        raise ValueError(f"the descriptor states {count} entries of {bits} bits, the data holds {len(values)}")
    return values[:count]
