"""JPEG-LS by the CharLS inside pyjpegls, called so that several threads decode at once.

pyjpegls holds the interpreter's lock while it decodes; CharLS's own C function (``JpegLsDecode`` of charls_jpegls_decoder.h,
which the extension exports on Linux and macOS) called through ctypes does not. Where it is not exported, pyjpegls is called as
usual.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.formats.dicom.pixels.codestream import Codestream

_MESSAGE = 256


def decode_jpeg_ls(data: bytes, stream: Codestream) -> NDArray[Any] | None:
    """A grey JPEG-LS frame.

    Args:
        data: the codestream.
        stream: what it says of itself.

    Returns:
        ``(rows, columns)`` uint8 or uint16; None where the C function cannot be called here.

    Raises:
        RuntimeError: it is damaged.
    """
    function = _function()
    if function is None or stream.components != 1 or not 2 <= stream.precision <= 16:
        return None
    values = np.empty((stream.rows, stream.columns), dtype=np.uint8 if stream.precision <= 8 else np.uint16)
    message = ctypes.create_string_buffer(_MESSAGE)
    if function(values.ctypes.data, values.nbytes, data, len(data), None, message):
        raise RuntimeError(message.value.decode("ascii", "replace") or "CharLS cannot decode it")
    return values


@cache
def _function() -> Any:
    found = find_spec("_CharLS")
    if found is None or found.origin is None or sys.byteorder != "little":
        return None
    try:
        function = ctypes.CDLL(found.origin).JpegLsDecode
    except (OSError, AttributeError):
        return None
    size, address = ctypes.c_size_t, ctypes.c_void_p
    function.argtypes = (address, size, ctypes.c_char_p, size, address, ctypes.c_char_p)
    function.restype = ctypes.c_int
    return function
