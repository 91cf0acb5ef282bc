"""JPEG 2000 by the OpenJPEG inside pylibjpeg-openjpeg, called so that several threads decode at once.

The package holds the interpreter's lock while it decodes; OpenJPEG's own C functions (openjpeg.h, which the extension exports on
Linux and macOS) called through ctypes do not. Only the functions and the first members of two structs are used that have been the
same since version 2.0. Where they are not exported, GDCM or the package is called as usual.
"""

from __future__ import annotations

import ctypes
from ctypes import CFUNCTYPE, POINTER, c_int, c_int32, c_int64, c_size_t, c_uint16, c_uint32, c_uint64, c_void_p
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.formats.dicom.pixels.codestream import Codestream

_PARAMETERS_BYTES = 2**16
"""More than opj_dparameters_t takes (two file names of 4096 and a few numbers)."""

_CODESTREAM = 0
_INPUT = 1
_END = c_size_t(-1).value

_Read = CFUNCTYPE(c_size_t, c_void_p, c_size_t, c_void_p)
_Skip = CFUNCTYPE(c_int64, c_int64, c_void_p)
_Seek = CFUNCTYPE(c_int, c_int64, c_void_p)


class _Component(ctypes.Structure):
    """opj_image_comp_t."""

    _names = ("dx", "dy", "w", "h", "x0", "y0", "prec", "bpp", "sgnd", "resno_decoded", "factor")
    _fields_ = (*((name, c_uint32) for name in _names), ("data", POINTER(c_int32)), ("alpha", c_uint16))


class _Image(ctypes.Structure):
    """opj_image_t."""

    _names = ("x0", "y0", "x1", "y1", "numcomps", "color_space")
    _fields_ = (*((name, c_uint32) for name in _names), ("comps", POINTER(_Component)), ("icc", c_void_p), ("icc_size", c_uint32))


def decode_jpeg_2000(data: bytes, said: Codestream) -> NDArray[Any] | None:
    """A grey JPEG 2000 frame.

    Args:
        data: its bytes; boxes before the codestream are passed over.
        said: what it says of itself.

    Returns:
        ``(rows, columns)`` int16 or uint16; None where the C functions cannot be called here, or for more than 16 bits.

    Raises:
        RuntimeError: it is damaged.
    """
    library = _library()
    if library is None or said.components != 1 or said.precision > 16:
        return None
    source = _Source(data[said.offset :])
    image = POINTER(_Image)()
    codec, stream = library.opj_create_decompress(_CODESTREAM), library.opj_stream_create(len(source.data), _INPUT)
    try:
        source.give_to(library, stream)
        parameters = ctypes.create_string_buffer(_PARAMETERS_BYTES)
        library.opj_set_default_decoder_parameters(parameters)
        done = (
            library.opj_setup_decoder(codec, parameters)
            and library.opj_read_header(stream, codec, ctypes.byref(image))
            and image.contents.numcomps == 1
            and library.opj_decode(codec, stream, image)
        )
        if not done:
            raise RuntimeError("OpenJPEG cannot decode it")
        return _pixels(image.contents.comps[0], said)
    finally:
        library.opj_stream_destroy(stream)
        library.opj_destroy_codec(codec)
        if image:
            library.opj_image_destroy(image)
        source.let_go()


class _Source:
    """Bytes in memory as OpenJPEG reads them.

    Args:
        data: the codestream.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._at = 0
        self._calls: tuple[Any, ...] = ()

    def give_to(self, library: Any, stream: Any) -> None:
        """Make it what a stream reads, until it is let go."""
        self._calls = read, skip, seek = _Read(self._read), _Skip(self._skip), _Seek(self._seek)
        library.opj_stream_set_read_function(stream, read)
        library.opj_stream_set_skip_function(stream, skip)
        library.opj_stream_set_seek_function(stream, seek)
        library.opj_stream_set_user_data_length(stream, len(self.data))

    def let_go(self) -> None:
        """Forget the functions, which hold on to this object, so that its bytes are freed at once."""
        self._calls = ()

    def _read(self, target: int, count: int, _: Any) -> int:
        found = self.data[self._at : self._at + count]
        if not found:
            return _END
        ctypes.memmove(target, found, len(found))
        self._at += len(found)
        return len(found)

    def _skip(self, count: int, _: Any) -> int:
        before = self._at
        self._at = min(max(0, before + count), len(self.data))
        return self._at - before

    def _seek(self, place: int, _: Any) -> int:
        self._at = min(max(0, place), len(self.data))
        return int(self._at == place)


def _pixels(component: _Component, said: Codestream) -> NDArray[Any]:
    if not component.data or (component.h, component.w) != (said.rows, said.columns):
        raise RuntimeError(f"OpenJPEG finds {component.h} x {component.w} pixels")
    values = np.ctypeslib.as_array(component.data, (said.rows, said.columns))
    return values.astype(np.int16 if component.sgnd else np.uint16)


@cache
def _library() -> Any:
    found = find_spec("_openjpeg")
    if found is None or found.origin is None:
        return None
    try:
        library = ctypes.CDLL(found.origin)
        for name, result, arguments in (
            ("opj_create_decompress", c_void_p, (c_int,)),
            ("opj_set_default_decoder_parameters", None, (c_void_p,)),
            ("opj_setup_decoder", c_int, (c_void_p, c_void_p)),
            ("opj_stream_create", c_void_p, (c_size_t, c_int)),
            ("opj_stream_set_read_function", None, (c_void_p, _Read)),
            ("opj_stream_set_skip_function", None, (c_void_p, _Skip)),
            ("opj_stream_set_seek_function", None, (c_void_p, _Seek)),
            ("opj_stream_set_user_data_length", None, (c_void_p, c_uint64)),
            ("opj_read_header", c_int, (c_void_p, c_void_p, c_void_p)),
            ("opj_decode", c_int, (c_void_p, c_void_p, POINTER(_Image))),
            ("opj_stream_destroy", None, (c_void_p,)),
            ("opj_destroy_codec", None, (c_void_p,)),
            ("opj_image_destroy", None, (POINTER(_Image),)),
        ):
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError):
        return None
    return library
