"""The table of transfer syntaxes: one row each, with its coding and its decoders in order of preference.

Detection, decoding, messages, benchmarks and docs/reference/transfer-syntaxes.md follow from `TRANSFER_SYNTAXES`. How to add one:
docs/how-to/add-a-transfer-syntax.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydicom import uid as uids

from voxelry.formats.dicom.elements import uid
from voxelry.formats.dicom.pixels.codestream import JPEG_2000, JPEG_BASELINE, JPEG_EXTENDED, JPEG_LOSSLESS, JPEG_LS
from voxelry.formats.dicom.pixels.decoders import CHARLS, LIBJPEG_TURBO, OPENJPEG, PYLIBJPEG_RLE, Decoder

NATIVE = "uncompressed"
"""The coding of pixels that are not compressed by themselves."""


@dataclass(frozen=True)
class TransferSyntax:
    """A row of the table.

    Attributes:
        uid: its UID.
        coding: coding of the pixels, as messages list them: `NATIVE`, ``JPEG-LS``...
        is_lossless: decoding gives back what was coded; None where the codestream decides.
        is_deflated: the whole data set is compressed.
        is_big_endian: numbers are written most significant byte first.
        kinds: the kinds of codestream that belong to it (`codestream`), checked before decoding; empty where the decoder checks.
        decoders: in order of preference; empty for native pixels.

    Example:
        >>> from voxelry.formats.dicom.pixels.transfer_syntaxes import TRANSFER_SYNTAXES
        >>> row = TRANSFER_SYNTAXES["1.2.840.10008.1.2.4.80"]
        >>> row.coding, row.is_lossless, [decoder.library for decoder in row.decoders]
        ('JPEG-LS', True, ['CharLS'])
    """

    uid: str
    coding: str = NATIVE
    is_lossless: bool | None = True
    is_deflated: bool = False
    is_big_endian: bool = False
    kinds: tuple[int, ...] = ()
    decoders: tuple[Decoder, ...] = ()

    @property
    def name(self) -> str:
        """As the standard calls it."""
        return syntax_name(self.uid)

    @property
    def is_native(self) -> bool:
        """The pixels are not compressed by themselves."""
        return not self.decoders


def _jpeg(syntax: str, *kinds: int, coding: str = "JPEG", lossless: bool = False) -> TransferSyntax:
    return TransferSyntax(syntax, coding, lossless, kinds=kinds, decoders=(LIBJPEG_TURBO,))


def _jpeg_ls(syntax: str, *, lossless: bool) -> TransferSyntax:
    return TransferSyntax(syntax, "JPEG-LS", lossless, kinds=(JPEG_LS,), decoders=(CHARLS,))


def _jpeg_2000(syntax: str, coding: str, *, lossless: bool | None) -> TransferSyntax:
    return TransferSyntax(syntax, coding, lossless, kinds=(JPEG_2000,), decoders=(OPENJPEG,))


_ROWS = (
    TransferSyntax(uids.ImplicitVRLittleEndian),
    TransferSyntax(uids.ExplicitVRLittleEndian),
    TransferSyntax(uids.ExplicitVRBigEndian, is_big_endian=True),
    TransferSyntax(uids.DeflatedExplicitVRLittleEndian, is_deflated=True),
    _jpeg(uids.JPEGBaseline8Bit, JPEG_BASELINE),
    _jpeg(uids.JPEGExtended12Bit, JPEG_BASELINE, JPEG_EXTENDED),
    _jpeg(uids.JPEGLossless, JPEG_LOSSLESS, coding="lossless JPEG", lossless=True),
    _jpeg(uids.JPEGLosslessSV1, JPEG_LOSSLESS, coding="lossless JPEG", lossless=True),
    _jpeg_ls(uids.JPEGLSLossless, lossless=True),
    _jpeg_ls(uids.JPEGLSNearLossless, lossless=False),
    _jpeg_2000(uids.JPEG2000Lossless, "JPEG 2000", lossless=True),
    _jpeg_2000(uids.JPEG2000, "JPEG 2000", lossless=None),
    _jpeg_2000(uids.HTJ2KLossless, "HTJ2K", lossless=True),
    _jpeg_2000(uids.HTJ2KLosslessRPCL, "HTJ2K", lossless=True),
    _jpeg_2000(uids.HTJ2K, "HTJ2K", lossless=None),
    TransferSyntax(uids.RLELossless, "RLE", decoders=(PYLIBJPEG_RLE,)),
)

TRANSFER_SYNTAXES: dict[str, TransferSyntax] = {str(row.uid): row for row in _ROWS}
"""UID -> row."""


def syntax_name(syntax: str) -> str:
    """The name of a transfer syntax, whether or not it is in the table; the UID itself where pydicom knows no name.

    Args:
        syntax: its UID, well-formed or not.

    Example:
        >>> from voxelry.formats.dicom.pixels import syntax_name
        >>> syntax_name("1.2.840.10008.1.2.1")
        'Explicit VR Little Endian'
    """
    return str(uid(syntax).name)


def supported_codings() -> tuple[str, ...]:
    """The codings that can be decoded, each once, in the order of the table.

    Example:
        >>> from voxelry.formats.dicom.pixels import supported_codings
        >>> supported_codings()[:3]
        ('uncompressed', 'JPEG', 'lossless JPEG')
    """
    return tuple(dict.fromkeys(row.coding for row in TRANSFER_SYNTAXES.values()))
