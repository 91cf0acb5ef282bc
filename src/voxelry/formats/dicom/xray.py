"""Reads radiographs: single-frame CR, DX, MG, RF and XA as 2D pictures, by documented rules for polarity and pixel size.

Polarity. ``dense-bright`` gives dense tissue high values; ``stored`` leaves values as they are. Which stored values are dense
follows from, in this order:

1. in fluoroscopy and angiography (XA, RF), where dense tissue is displayed dark as often as bright: by
   PixelIntensityRelationshipSign, else PixelIntensityRelationship. LIN and LOG values grow with the intensity of the beam (PS3.3
   section C.8.7.1.1.2), so low ones are dense. Otherwise (DISP, or neither) it is unknown: values are left as stored, and a
   remark says so. Enhanced images state both, and ImagerPixelSpacing, in their functional groups;
2. for images FOR PROCESSING: PixelIntensityRelationshipSign; 1: low values are little radiation, so dense (DICOM PS3.3 section
   C.8.11.3.1.2). Such images are not for display, and their photometric interpretation is unreliable;
3. PhotometricInterpretation MONOCHROME1 or PresentationLUTShape INVERSE: low values are displayed bright, as dense tissue is. The
   two state one inversion, not two.

In an image for presentation the display takes precedence over a sign that contradicts it, with a remark: vendors copy the sign
from the detector's image, which they have inverted since.

Pixel size, by `ReadOptions.pixel_size`. ``calibrated`` takes the first of these that the file has; none of them is an error:

1. PixelSpacing, if calibrated: PixelSpacingCalibrationType is present, or it differs from ImagerPixelSpacing;
2. PixelSpacing alone, of unknown calibration.

``imager`` takes the first of these; none of them is an error:

1. ImagerPixelSpacing / EstimatedRadiographicMagnificationFactor: in the patient, by the geometry of the beam;
2. ImagerPixelSpacing: at the detector, larger than in the patient.

``auto`` takes calibrated PixelSpacing, then what ``imager`` takes, then PixelSpacing of unknown calibration, and else none.
``none`` gives the picture no physical size.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from voxelry.core.geometry import Geometry
from voxelry.core.volume import Source, Volume, Window
from voxelry.errors import SeriesError, UnsupportedFormatError
from voxelry.formats.dicom.elements import quiet_pydicom
from voxelry.formats.dicom.header import DicomHeader
from voxelry.formats.dicom.modality_lut import read_modality_lut
from voxelry.formats.dicom.pixels.decode import check_decodable, decode_frame, decode_padding
from voxelry.formats.dicom.pixels.grey_values import codestream_remarks, padding_of, rescale_of
from voxelry.formats.dicom.voi import rescaled_windows
from voxelry.formats.read_options import PLAIN, ReadOptions
from voxelry.formats.voxels import check_finite, rescaled

_SAME_SPACING = 1e-3
"""Relative difference below which PixelSpacing is a copy of ImagerPixelSpacing."""

_INT16_MAX = 2**15 - 1

PixelPair = tuple[float, float]


def read_projection(header: DicomHeader, options: ReadOptions = PLAIN, remarks: Sequence[str] = ()) -> Volume:
    """A radiograph; pixels are decoded when `Volume.array` is first used.

    Args:
        header: header of a single-frame grey file.
        options: polarity and pixel size.
        remarks: remarks for the Volume's source, before those on polarity and pixel size.

    Returns:
        A Volume ``(1, rows, columns)``, int16 where that holds every value, else uint16 or float32; pixel size in mm or None; the
        VOI windows in the units of its values.

    Raises:
        SeriesError: several frames, or colour.
        UnsupportedFormatError: the file has no pixel size of the requested kind.
        ReadError: pixels that cannot be decoded for a reason in the header.
    """
    if header.frames > 1:
        raise SeriesError(
            f"{header.path}: a radiograph has one grey frame; this has {header.frames}",
            remedy="Export the frame to read on its own.",
            files=(str(header.path),),
        )
    if header.samples != 1 or not header.photometric.startswith("MONOCHROME"):
        raise SeriesError(
            f"{header.path}: a radiograph has one grey frame; this is in colour ({header.photometric})",
            remedy="Export it as a PNG to read its colours.",
            files=(str(header.path),),
        )
    check_decodable(header)
    size, size_remark = pixel_size(header, options)
    invert = options.polarity == "dense-bright" and dense_end(header) == "low"
    source = Source(
        kind="dicom",
        files=(str(header.path),),
        series_uid=header.series,
        instances=((header.sop_instance, 1),),
        remarks=(*remarks, _polarity_remark(header, options), *_sign_remark(header), size_remark, *codestream_remarks([header])),
    )
    return Volume(
        partial(_decode, header, invert),
        Geometry((header.rows, header.columns), None, size),
        modality=header.modality,
        source=source,
        windows=_windows(header, invert),
        outside=None if header.padding[0] is None else partial(_outside, header),
    )


def dense_end(header: DicomHeader) -> Literal["low", "high", "unknown"]:
    """Which end of the stored values dense tissue has, by the rules of this module."""
    by_sign: dict[int | None, Literal["low", "high"]] = {1: "low", -1: "high"}
    if header.is_fluoroscopic:
        grows = 1 if header.intensity_relationship in ("LIN", "LOG") else None
        return by_sign.get(header.intensity_sign) or by_sign.get(grows) or "unknown"
    if header.is_for_processing and header.intensity_sign in by_sign:
        return by_sign[header.intensity_sign]
    return "low" if header.photometric == "MONOCHROME1" or header.lut_shape == "INVERSE" else "high"


def pixel_size(header: DicomHeader, options: ReadOptions = PLAIN) -> tuple[PixelPair | None, str]:
    """Row and column spacing in mm by the rules of this module, and a remark on the rule that applied.

    Args:
        header: header of the radiograph.
        options: its `pixel_size` is used.

    Raises:
        UnsupportedFormatError: the file has no pixel size of the requested kind.
    """
    policy = options.pixel_size
    if policy == "none":
        return None, "no physical size: as asked"
    calibrated, imager, uncalibrated = _calibrated(header), _at_imager(header), _uncalibrated(header)
    orders = {"auto": (calibrated, imager, uncalibrated), "calibrated": (calibrated, uncalibrated), "imager": (imager,)}
    for size_and_remark in orders[policy]:
        if size_and_remark is not None:
            return size_and_remark
    if policy == "auto":
        return None, "no physical size: the file states no pixel spacing"
    element = "ImagerPixelSpacing (0018,1164)" if policy == "imager" else "PixelSpacing (0028,0030)"
    raise UnsupportedFormatError(
        f"{header.path}: pixel size '{policy}' was requested, but the file has no {element}",
        remedy="Ask for 'auto', which takes what there is, or for 'none'.",
    )


def _calibrated(header: DicomHeader) -> tuple[PixelPair, str] | None:
    spacing, imager = _positive(header.pixel_spacing), _positive(header.imager_spacing)
    differs = spacing is not None and imager is not None and not np.allclose(spacing, imager, rtol=_SAME_SPACING, atol=0)
    if spacing is None or not (header.calibration or differs):
        return None
    how = f" ({header.calibration.lower()})" if header.calibration else ""
    return spacing, f"pixel size: calibrated PixelSpacing{how}"


def _at_imager(header: DicomHeader) -> tuple[PixelPair, str] | None:
    imager = _positive(header.imager_spacing)
    if imager is None:
        return None
    factor = header.magnification
    if factor is None or factor <= 0:
        return imager, "pixel size: ImagerPixelSpacing, at detector"
    return (imager[0] / factor, imager[1] / factor), f"pixel size: ImagerPixelSpacing / magnification {factor:g}"


def _uncalibrated(header: DicomHeader) -> tuple[PixelPair, str] | None:
    spacing = _positive(header.pixel_spacing)
    return None if spacing is None else (spacing, "pixel size: PixelSpacing, calibration unknown")


def _positive(values: tuple[float, ...] | None) -> PixelPair | None:
    return (values[0], values[1]) if values and min(values) > 0 else None


def _polarity_remark(header: DicomHeader, options: ReadOptions) -> str:
    """What was done about the polarity, and the elements that it depends on."""
    stored = header.photometric + (f", PresentationLUTShape {header.lut_shape}" if header.lut_shape else "")
    sign = f"PixelIntensityRelationshipSign {header.intensity_sign}"
    if header.is_fluoroscopic:
        relationship = f"PixelIntensityRelationship {header.intensity_relationship or 'not stated'}"
        stored = f"{header.modality or header.sop_class}, {relationship if header.intensity_sign not in (1, -1) else sign}"
    elif header.is_for_processing and header.intensity_sign in (1, -1):
        stored = f"for processing, {sign}"
    end = dense_end(header)
    if options.polarity == "stored":
        return f"polarity: as stored ({stored})"
    if end == "unknown":
        return f"polarity: unknown, values as stored ({stored})"
    return f"polarity: {'inverted to' if end == 'low' else 'stored as'} dense bright ({stored})"


def _sign_remark(header: DicomHeader) -> list[str]:
    """A remark where the detector's polarity contradicts that of the display."""
    if header.is_fluoroscopic or header.intensity_sign not in (1, -1):
        return []
    if (header.intensity_sign == 1) == (dense_end(header) == "low"):
        return []
    return [f"PixelIntensityRelationshipSign {header.intensity_sign} states that dense is displayed dark; not acted on"]


def _windows(header: DicomHeader, invert: bool) -> tuple[Window, ...]:
    """The VOI windows in units of the grey values, mirrored by inversion."""
    if not invert:
        return header.windows
    plain, mirrored = rescale_of(header, invert=False), rescale_of(header, invert=True)
    return rescaled_windows(header.windows, -1.0, plain[1] + mirrored[1])


def _decode(header: DicomHeader, invert: bool) -> NDArray[Any]:
    """``(1, rows, columns)``."""
    with quiet_pydicom():
        stored = decode_frame(header)
    outside = padding_of(stored, header)
    if header.has_lut:
        stored = read_modality_lut(header).apply(stored)
    check_finite(stored, str(header.path))
    slope, intercept = rescale_of(header, invert=invert)
    if invert and stored.dtype.kind == "f":
        raise UnsupportedFormatError(
            f"{header.path}: floating-point pixels have no range to invert", remedy="Ask for the polarity 'stored'."
        )
    values = _rescaled(stored, slope, intercept)
    if outside is not None and outside.any() and not outside.all():
        values[outside] = values[~outside].min()
    check_finite(values, str(header.path))
    return values[None]


def _rescaled(stored: NDArray[Any], slope: float, intercept: float) -> NDArray[Any]:
    """As `voxels.rescaled`, but uint16 where that holds every value and int16 does not."""
    if stored.dtype.kind in "iu" and stored.dtype.itemsize <= 2 and abs(slope) == 1 and float(intercept).is_integer():
        ends = sorted((int(stored.min()) * slope + intercept, int(stored.max()) * slope + intercept))
        if ends[0] >= 0 and _INT16_MAX < ends[1] <= 2 * _INT16_MAX + 1:
            return (stored.astype(np.int32) * int(slope) + int(intercept)).astype(np.uint16)
    return rescaled(stored, slope, intercept)


def _outside(header: DicomHeader) -> NDArray[np.bool_]:
    outside: NDArray[np.bool_] = decode_padding([header])[0]
    return outside
