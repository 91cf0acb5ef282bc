"""Decoding one frame of DICOM pixels with the fastest decoder at hand, straight from its bytes.

Native frames are read into place. Encapsulated ones go to pydicom's decoder of their transfer syntax with the plugin of
`PREFERRED`: pyjpegls is twice as fast as GDCM, and its library and pylibjpeg's OpenJPEG decode on several threads (`charls`,
`jpeg2000`). JPEG Extended of 12 bits, which
pydicom hands to nobody, GDCM decodes when asked directly. Bits beyond BitsStored, where scanners leave overlays and garbage, are
cleared or sign-extended whatever decoder was used.
"""

from __future__ import annotations

from functools import cache
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from pydicom import uid as uids
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder

from voxelry.errors import CorruptFileError, ReadError, UnsupportedFormatError
from voxelry.formats.dicom.elements import PARSE_ERRORS, short_message, uid
from voxelry.formats.dicom.header import DicomHeader
from voxelry.formats.dicom.pixels.charls import decode_jpeg_ls
from voxelry.formats.dicom.pixels.codestream import Codestream, look_at
from voxelry.formats.dicom.pixels.fragments import PixelPlace, Span, read_exactly
from voxelry.formats.dicom.pixels.jpeg import BASELINE, EXTENDED, LOSSLESS, clean_jpeg
from voxelry.formats.dicom.pixels.jpeg2000 import decode_jpeg_2000
from voxelry.formats.dicom.pixels.panics import panics_as_errors

PREFERRED = {
    uids.JPEGLSLossless: "pyjpegls",
    uids.JPEGLSNearLossless: "pyjpegls",
    uids.RLELossless: "pylibjpeg",
    uids.JPEG2000Lossless: "pylibjpeg",
    uids.JPEG2000: "pylibjpeg",
}
"""pydicom's plugin for a transfer syntax, where it is installed."""

PACKAGES = {
    **dict.fromkeys((uids.JPEGLSLossless, uids.JPEGLSNearLossless), "pyjpegls"),
    **dict.fromkeys((uids.JPEG2000Lossless, uids.JPEG2000), "python-gdcm or pylibjpeg-openjpeg"),
    **dict.fromkeys((uids.HTJ2K, uids.HTJ2KLossless, uids.HTJ2KLosslessRPCL), "pylibjpeg-openjpeg"),
    **dict.fromkeys((uids.JPEGLossless, uids.JPEGLosslessSV1), "python-gdcm"),
    **dict.fromkeys((uids.JPEGBaseline8Bit, uids.JPEGExtended12Bit), "python-gdcm"),
}
"""The package that decodes a transfer syntax."""

WORD_BITS = (8, 16, 32, 64)
"""BitsAllocated that are read."""

_MARKERS = {
    uids.JPEGBaseline8Bit: (BASELINE,),
    uids.JPEGExtended12Bit: (BASELINE, EXTENDED),
    uids.JPEGLossless: (LOSSLESS,),
    uids.JPEGLosslessSV1: (LOSSLESS,),
    uids.JPEGLSLossless: (0xF7,),
    uids.JPEGLSNearLossless: (0xF7,),
    uids.JPEG2000Lossless: (0,),
    uids.JPEG2000: (0,),
}
"""The kinds of codestream that belong to a transfer syntax."""

_JPEG = (BASELINE, EXTENDED, LOSSLESS)

_FAST = {"pyjpegls": decode_jpeg_ls, "pylibjpeg": decode_jpeg_2000}
"""How the libraries inside two plugins are called without the interpreter's lock."""

_NATIVE = frozenset(
    (uids.ImplicitVRLittleEndian, uids.ExplicitVRLittleEndian, uids.ExplicitVRBigEndian, uids.DeflatedExplicitVRLittleEndian)
)


def is_native(header: DicomHeader) -> bool:
    """The pixels are not compressed."""
    return header.syntax in _NATIVE


def is_deflated(header: DicomHeader) -> bool:
    """The whole data set is compressed."""
    return bool(header.syntax == uids.DeflatedExplicitVRLittleEndian)


def check_codec(header: DicomHeader) -> None:
    """Refuse, from the header alone, pixels that no decoder here knows.

    Raises:
        UnsupportedFormatError: naming the transfer syntax and the package that decodes it.
    """
    syntax = uid(header.syntax)
    if header.bits_allocated not in WORD_BITS or not 0 < header.bits_stored <= header.bits_allocated:
        raise UnsupportedFormatError(
            f"{header.path}: pixels of {header.bits_stored} bits in {header.bits_allocated} cannot be decoded",
            remedy="Export the images with 8 or 16 bits allocated.",
        )
    if not is_native(header) and not _plugins(syntax):
        package = PACKAGES.get(syntax)
        raise UnsupportedFormatError(
            f"{header.path}: pixels in transfer syntax '{syntax.name}' ({syntax}) cannot be decoded here",
            remedy=f"Install {package}." if package else "Export the images uncompressed (Explicit VR Little Endian).",
        )


def frame_bytes(header: DicomHeader) -> int:
    """Bytes of one native frame."""
    rows, columns = header.stored_shape
    return rows * columns * header.samples * header.bits_allocated // 8


def decode_native(
    stream: IO[bytes], place: PixelPlace, header: DicomHeader, out: NDArray[np.uint16] | None = None
) -> NDArray[Any]:
    """An uncompressed frame.

    Args:
        stream: holds the file.
        place: of its pixels.
        header: of the frame.
        out: ``(rows, columns)``, contiguous: the bytes are read into it where they need no conversion.

    Returns:
        ``(rows, columns)`` stored values, a view of `out` where that was used; unused bits cleared or sign-extended.

    Raises:
        CorruptFileError: the file ends within the frame.
    """
    count = frame_bytes(header)
    offset = (header.frame - 1) * count
    if place.length < offset + count:
        raise _too_short(header, place.length, offset + count)
    syntax = uid(header.syntax)
    big = syntax == uids.ExplicitVRBigEndian
    word = _word(header, place)
    span = (place.offset + offset, count)
    if out is not None and word.itemsize == 2:
        stream.seek(span[0])
        if stream.readinto(out.data.cast("B")) < count:  # type: ignore[attr-defined]
            raise _too_short(header, header.size, span[0] + count)
        values: NDArray[Any] = out.view(word)
        if big:
            values.byteswap(inplace=True)
    else:
        data = read_exactly(stream, span, header.path)
        if big and word.itemsize == 1 and place.is_words:
            data = np.frombuffer(data, dtype=">u2").astype("<u2").tobytes()
        stored = np.frombuffer(data, dtype=word.newbyteorder(">" if big else "<"))
        values = stored.astype(word).reshape(header.stored_shape)
    if values.dtype.kind == "f":
        return values
    return clear_unused(values, header.bits_stored, header.high_bit)


def decode_encapsulated(stream: IO[bytes], fragments: list[Span], header: DicomHeader) -> NDArray[Any]:
    """A compressed frame.

    Args:
        stream: holds the file.
        fragments: of the frame, in order.
        header: of the frame.

    Returns:
        ``(rows, columns)`` stored values, signed where the header says so, unused bits sign-extended or cleared.

    Raises:
        ReadError: no decoder makes sense of it; naming the transfer syntax and each decoder's reason.
    """
    data = b"".join(read_exactly(stream, span, header.path) for span in fragments)
    syntax = uid(header.syntax)
    reasons: list[str] = []
    said = look_at(data)
    for plugin in _plugins(syntax):
        try:
            values = _decode_with(plugin, _checked(data, said, header), header, said)
        except PARSE_ERRORS as error:
            reasons.append(f"{plugin}: {short_message(error)}")
            continue
        if values.shape == header.stored_shape and values.dtype.kind in "iu":
            return _typed(values, header)
        reasons.append(f"{plugin} finds {values.shape}, the header says {header.stored_shape}")
    problem = short_message("; ".join(reasons))
    raise ReadError(
        f"{header.path}: pixels in transfer syntax '{syntax.name}' cannot be decoded ({problem})",
        remedy="The file is damaged, or coded in a way no decoder here knows: export it uncompressed.",
    )


def clear_unused(values: NDArray[Any], bits_stored: int, high_bit: int) -> NDArray[Any]:
    """Clear the bits above the highest used one (sign-extend them, if signed) and drop those below the lowest, in place.

    Args:
        values: integers of any shape, writable.
        bits_stored: how many bits are used.
        high_bit: the number of the highest used bit, from 0; anything impossible means ``bits_stored - 1``.

    Returns:
        `values`.
    """
    width = 8 * values.dtype.itemsize
    if bits_stored >= width:
        return values
    above = width - 1 - high_bit if bits_stored - 1 <= high_bit < width else width - bits_stored
    if above:
        values <<= above
    values >>= width - bits_stored
    return values


@cache
def _plugins(syntax: uids.UID) -> tuple[str, ...]:
    """Names of pydicom's plugins that decode it, the preferred one first."""
    try:
        found = get_decoder(syntax).available_plugins
    except NotImplementedError:
        return ()
    return tuple(sorted(found, key=lambda name: name != PREFERRED.get(syntax)))


def _checked(data: bytes, said: Codestream | None, header: DicomHeader) -> bytes:
    """A frame as a decoder may be given it; ValueError where it is not what the header says: decoders crash on some of these."""
    markers = _MARKERS.get(uid(header.syntax))
    if markers is None:
        return data
    if said is None:
        raise ValueError("no codestream of that kind begins there")
    if (said.rows, said.columns, said.components) != (*header.stored_shape, 1):
        raise ValueError(f"they say {said.rows} x {said.columns} x {said.components}, the header {header.stored_shape}")
    if said.marker not in markers:
        raise ValueError(f"they are another kind of JPEG, SOF {said.marker:#x}")
    if not 2 <= said.precision <= header.bits_allocated:
        raise ValueError(f"they say {said.precision} bits, the header {header.bits_allocated}")
    return clean_jpeg(data) if said.marker in _JPEG else data


@panics_as_errors()
def _decode_with(plugin: str, data: bytes, header: DicomHeader, said: Codestream | None) -> NDArray[Any]:
    syntax = uid(header.syntax)
    fast = _FAST.get(plugin)
    if fast is not None and said is not None:
        found = fast(data, said)
        if found is not None:
            return found
    if syntax == uids.JPEGExtended12Bit and header.bits_stored > 8:
        return _decode_12_bit_jpeg(data, header)
    rows, columns = header.stored_shape
    values, _ = get_decoder(syntax).as_array(
        encapsulate([data]),
        index=0,
        decoding_plugin=plugin,
        rows=rows,
        columns=columns,
        samples_per_pixel=1,
        photometric_interpretation="MONOCHROME2",
        bits_allocated=header.bits_allocated,
        bits_stored=header.bits_stored,
        pixel_representation=int(header.signed),
        number_of_frames=1,
        pixel_keyword="PixelData",
    )
    decoded: NDArray[Any] = values
    return decoded


def _decode_12_bit_jpeg(data: bytes, header: DicomHeader) -> NDArray[Any]:
    """JPEG process 4, through GDCM itself."""
    import gdcm  # type: ignore[import-untyped]

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(data)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    rows, columns = header.stored_shape
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(element)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, header.bits_stored, header.bits_stored - 1, int(header.signed)))
    gdcm.Trace.WarningOff()
    gdcm.Trace.ErrorOff()
    decoded = image.GetBuffer().encode("utf-8", "surrogateescape")
    if len(decoded) != 2 * rows * columns:
        raise ValueError(f"GDCM finds {len(decoded)} bytes")
    return np.frombuffer(decoded, dtype="<u2").reshape(rows, columns)


def _typed(values: NDArray[Any], header: DicomHeader) -> NDArray[Any]:
    """Decoded values in the stored type, whatever signedness the codestream stated."""
    kind = "i" if header.signed else "u"
    stored = np.ascontiguousarray(values).view(f"{kind}{values.dtype.itemsize}")
    if not stored.flags.writeable:
        stored = stored.copy()
    return clear_unused(stored, header.bits_stored, header.bits_stored - 1)


def _word(header: DicomHeader, place: PixelPlace) -> np.dtype[Any]:
    if place.keyword != "PixelData":
        return np.dtype(np.float32 if place.keyword == "FloatPixelData" else np.float64)
    return np.dtype(f"{'i' if header.signed else 'u'}{header.bits_allocated // 8}")


def _too_short(header: DicomHeader, found: int, wanted: int) -> CorruptFileError:
    rows, columns = header.stored_shape
    return CorruptFileError(
        f"{header.path}: {found} bytes are too few for frame {header.frame} of {rows} x {columns} pixels ({wanted} bytes)",
        remedy="The file is truncated: export or copy it again.",
    )
