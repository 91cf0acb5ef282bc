"""PNG and JPEG files as stored pictures. Pillow decodes; imagecodecs where Pillow reduces 16 bits a colour to 8 or gives up.

PNG of every depth and colour type; of several frames (APNG) none. JPEG of 8 bits, grey or RGB; of 12 bits, or lossless, too.
A camera's JPEG may hold further pictures behind the first (MPO): a viewer shows the first, and that is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from voxelry.errors import UnsupportedFormatError
from voxelry.formats.dicom.pixels.codestream import HUFFMAN_CODED, JPEG_LOSSLESS, Codestream, check_scan, read_codestream
from voxelry.formats.pictures.stored_picture import (
    DOTS_PER_UNIT,
    Pixels,
    StoredPicture,
    check_size,
    other_mode,
    several_pages,
    typed_errors,
)

_SAMPLES = {"1": 1, "L": 1, "I;16": 1, "P": 1, "LA": 2, "RGB": 3, "RGBA": 4}
_KINDS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGB with alpha"}
"""Colour types of PNG (specification, section 11.2.2)."""
_GREY, _PALETTE = 0, 3
_TEXTS = (b"eXIf", b"iTXt", b"zTXt", b"tEXt")


def open_png(file: Path) -> StoredPicture:
    """The header of a PNG.

    Raises:
        CorruptFileError: truncated or damaged.
        UnsupportedFormatError: several frames, or too large.
    """
    with typed_errors(file), Image.open(file, formats=("PNG",)) as image:
        check_size(file, image.height, image.width)
        if (pages := getattr(image, "n_frames", 1)) > 1:
            raise several_pages(file, pages)
        depth, kind = _depth_and_kind(file)
        if image.mode not in _SAMPLES or kind not in _KINDS:
            raise other_mode(file, image.mode)
        if _states_more_at_its_end(file):
            image.load()
        key = image.info.get("transparency") if kind != _PALETTE else None
        return StoredPicture(
            file,
            (image.height, image.width),
            1 if kind in (0, 4) else 3,
            f"{depth}-bit {_KINDS[kind]}",
            lambda: _png_pixels(file, depth, kind),
            _orientation(image),
            image.info.get("dpi"),
            remarks=() if key is None else (f"pixels of {key} are marked transparent: read as their value",),
        )


def open_jpeg(file: Path) -> StoredPicture:
    """The header of a JPEG.

    Raises:
        CorruptFileError: truncated or damaged.
        UnsupportedFormatError: neither grey nor RGB, or too large.
    """
    with file.open("rb") as stream:
        content = stream.read()
    stated = read_codestream(content)
    if stated is not None and stated.kind in HUFFMAN_CODED and (stated.precision > 8 or stated.kind == JPEG_LOSSLESS):
        return _deep_jpeg(file, stated)
    with typed_errors(file), Image.open(file, formats=("JPEG", "MPO")) as image:
        check_size(file, image.height, image.width)
        if image.mode not in ("L", "RGB"):
            raise other_mode(file, image.mode)
        more = getattr(image, "n_frames", 1) - 1
        return StoredPicture(
            file,
            (image.height, image.width),
            _SAMPLES[image.mode],
            f"8-bit {'grey' if image.mode == 'L' else 'RGB'}",
            lambda: Pixels(_decoded(file, "JPEG", "MPO"), 8),
            _orientation(image),
            _jpeg_dpi(image),
            lossy="JPEG",
            remarks=(f"{more} further pictures in the file left out: the first is the one that viewers show",) if more else (),
        )


def _orientation(image: Image.Image) -> int:
    """The orientation by EXIF or XMP, from what was read of the file."""
    return int(Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1))  # of a PNG, its own would decode the pixels


def _jpeg_dpi(image: Image.Image) -> tuple[float, float] | None:
    """Dots per inch by JFIF, else by EXIF; Pillow claims 72 where neither states any."""
    if image.info.get("jfif_unit") in (1, 2):
        across, down = image.info["dpi"]
        return float(across), float(down)
    exif: Mapping[int, Any] = image.getexif()
    scale = DOTS_PER_UNIT.get(exif.get(ExifTags.Base.ResolutionUnit, 0))
    resolution = exif.get(ExifTags.Base.XResolution), exif.get(ExifTags.Base.YResolution)
    if scale is None or None in resolution:
        return None
    return float(resolution[0]) * scale, float(resolution[1]) * scale  # type: ignore[arg-type]


def _decoded(file: Path, *formats: str) -> NDArray[Any]:
    """``(rows, columns, S)`` as Pillow decodes it, in native byte order."""
    with typed_errors(file), Image.open(file, formats=formats) as image:
        values = np.array(image)
    values = values.astype(np.uint8) if values.dtype == bool else values
    return values.reshape(*values.shape[:2], -1)


def _depth_and_kind(file: Path) -> tuple[int, int]:
    """Bits a sample and colour type, from the IHDR chunk (PNG specification, section 11.2.2)."""
    with file.open("rb") as stream:
        head = stream.read(26)
    return head[24], head[25]


def _states_more_at_its_end(file: Path) -> bool:
    """A PNG has EXIF or text behind its pixels."""
    with file.open("rb") as stream:
        position, behind = 8, False
        while True:
            stream.seek(position)
            head = stream.read(8)
            if len(head) < 8 or head[4:] == b"IEND":
                return False
            if behind and head[4:] in _TEXTS:
                return True
            behind = behind or head[4:] == b"IDAT"
            position += 12 + int.from_bytes(head[:4], "big")


def _png_pixels(file: Path, depth: int, kind: int) -> Pixels:
    """Numbers as stored: Pillow spreads 2 and 4 bits of grey over 0..255, and keeps 8 of 16 bits a colour."""
    if depth == 16 and kind != _GREY:
        return _deep_pixels(file, kind)
    values = _decoded(file, "PNG")
    if kind == _PALETTE:
        return Pixels(values, 8, palette=_palette(file))
    few = kind == _GREY and depth < 8
    if few and depth > 1:
        values = values // np.uint8(255 // (2**depth - 1))
    alpha = kind in (4, 6)
    return Pixels(values, depth, extras=int(alpha), alpha=alpha, spread=few)


def _deep_pixels(file: Path, kind: int) -> Pixels:
    """16 bits a colour; a colour that is marked transparent adds a sample, which is left out."""
    from imagecodecs import png_decode

    with typed_errors(file):
        values = png_decode(file.read_bytes())
    alpha = kind in (4, 6)
    samples = {2: 3, 4: 2, 6: 4}[kind]
    if values.ndim != 3 or values.shape[2] < samples or values.dtype != np.uint16:
        raise UnsupportedFormatError(f"{file}: decoded as {values.dtype} {values.shape}", remedy="Save it as RGB of 8 bits.")
    return Pixels(values[..., :samples], 16, extras=int(alpha), alpha=alpha)


def _palette(file: Path) -> NDArray[np.uint8]:
    """``(n, 3)`` colours, ``(n, 4)`` where the file states their opacity."""
    with typed_errors(file), Image.open(file, formats=("PNG",)) as image:
        image.load()
        colours = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
        opacity = image.info.get("transparency")
    if opacity is None:
        return colours
    alpha = np.full(len(colours), 255, np.uint8)
    if isinstance(opacity, int):
        alpha[opacity] = 0
    else:
        alpha[: len(opacity)] = np.frombuffer(opacity, np.uint8)[: len(alpha)]
    return np.column_stack([colours, alpha])


def _deep_jpeg(file: Path, stated: Codestream) -> StoredPicture:
    """A JPEG of 12 bits, or a lossless one of 2 to 16."""
    check_size(file, stated.rows, stated.columns)
    if stated.components not in (1, 3):
        raise other_mode(file, f"{stated.components} components of {stated.precision} bits")
    mode = f"{stated.precision}-bit {'grey' if stated.components == 1 else 'RGB'}"

    def decode() -> Pixels:
        from imagecodecs import jpeg_decode

        with typed_errors(file):
            content = file.read_bytes()
            check_scan(content)
            values = jpeg_decode(content).reshape(stated.rows, stated.columns, stated.components)
        return Pixels(values, stated.precision)

    return StoredPicture(file, (stated.rows, stated.columns), stated.components, mode, decode, lossy="JPEG")
