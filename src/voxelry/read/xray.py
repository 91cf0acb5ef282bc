"""Radiographs: single-frame CR, DX, MG and RF as 2D pictures whose polarity and pixel size are decided openly.

Polarity. Dense tissue is bright where a radiograph is displayed, and that is what the reader gives (``dense-bright``): stored
values are inverted where PhotometricInterpretation is MONOCHROME1 or PresentationLUTShape is INVERSE. The two state one
inversion, not two (DICOM PS3.3 section C.8.11.3.1.2 pairs them). ``stored`` leaves values as they are.

Pixel size, the first of these that the file has:

1. PixelSpacing, where it is calibrated: PixelSpacingCalibrationType says so, or it differs from ImagerPixelSpacing;
2. ImagerPixelSpacing / EstimatedRadiographicMagnificationFactor: in the patient, by the beam's geometry;
3. ImagerPixelSpacing: at the detector, larger than in the patient;
4. PixelSpacing alone, of unknown calibration;
5. none: the picture has no physical size.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from voxelry.errors import SeriesError, UsageError
from voxelry.geometry import Geometry
from voxelry.read.dicom_header import DicomHeader, quiet_pydicom
from voxelry.read.pixels import check_decodable, decode_frame
from voxelry.read.voxels import check_finite, rescaled
from voxelry.volume import Source, Volume

Polarity = Literal["dense-bright", "stored"]
POLARITIES = ("dense-bright", "stored")

_SAME_SPACING = 1e-3
"""Relative difference below which PixelSpacing merely repeats ImagerPixelSpacing."""


def read_projection(header: DicomHeader, *, polarity: Polarity = "dense-bright", remarks: Sequence[str] = ()) -> Volume:
    """A radiograph; pixels are decoded when `Volume.array` is first asked for.

    Args:
        header: of a single-frame grey file.
        polarity: ``dense-bright``: dense tissue has high values; ``stored``: values as stored.
        remarks: what to say of the source beside what is decided here.

    Returns:
        A Volume ``(1, rows, columns)``, int16 where that holds every value, else uint16 or float32; pixel size in mm or None.

    Raises:
        UsageError: an unknown polarity.
        SeriesError: several frames, or colour.
        ReadError: pixels that cannot be decoded for a reason the header shows.
    """
    if polarity not in POLARITIES:
        raise UsageError(f"polarity {polarity!r} is unknown", remedy=f"Known: {', '.join(POLARITIES)}.")
    if header.is_multiframe or header.samples != 1 or not header.photometric.startswith("MONOCHROME"):
        raise SeriesError(
            f"{header.path}: a radiograph has one grey frame; this has {header.frames}, {header.photometric}",
            remedy="Export the frame to read on its own.",
        )
    check_decodable(header)
    size, said = pixel_size(header)
    invert = polarity == "dense-bright" and is_dark_dense(header)
    source = Source(
        kind="dicom",
        files=(str(header.path),),
        series_uid=header.series,
        instances=((header.sop_instance, 1),),
        remarks=(*remarks, _polarity_remark(header, polarity), *_sign_remark(header), said),
    )
    geometry = Geometry((header.rows, header.columns), None, size)
    return Volume(partial(_decode, header, invert), geometry, modality=header.modality, source=source)


def is_dark_dense(header: DicomHeader) -> bool:
    """Stored values are inverse to the displayed ones."""
    return header.photometric == "MONOCHROME1" or header.lut_shape == "INVERSE"


def pixel_size(header: DicomHeader) -> tuple[tuple[float, float] | None, str]:
    """Row and column spacing in mm by the policy above, and the remark that says which rule gave it."""
    stated, imager = _positive(header.pixel_spacing), _positive(header.imager_spacing)
    if stated and (header.calibration or (imager and not np.allclose(stated, imager, rtol=_SAME_SPACING, atol=0))):
        how = f" ({header.calibration.lower()})" if header.calibration else ""
        return stated, f"pixel size: calibrated PixelSpacing{how}"
    if imager and header.magnification and header.magnification > 0:
        factor = header.magnification
        return (imager[0] / factor, imager[1] / factor), f"pixel size: ImagerPixelSpacing / magnification {factor:g}"
    if imager:
        return imager, "pixel size: ImagerPixelSpacing, at detector"
    if stated:
        return stated, "pixel size: PixelSpacing, calibration unknown"
    return None, "no physical size: the file states no pixel spacing"


def _positive(values: tuple[float, ...] | None) -> tuple[float, float] | None:
    return (values[0], values[1]) if values and min(values) > 0 else None


def _polarity_remark(header: DicomHeader, polarity: Polarity) -> str:
    stored = f"{header.photometric}" + (f", PresentationLUTShape {header.lut_shape}" if header.lut_shape else "")
    if polarity == "stored":
        return f"polarity: as stored ({stored})"
    return f"polarity: {'inverted to' if is_dark_dense(header) else 'stored as'} dense bright ({stored})"


def _sign_remark(header: DicomHeader) -> list[str]:
    """A remark where the detector's polarity contradicts the display's."""
    if header.intensity_sign not in (1, -1) or (header.intensity_sign == 1) == is_dark_dense(header):
        return []
    return [f"PixelIntensityRelationshipSign {header.intensity_sign} says that dense is displayed dark; not acted on"]


def _decode(header: DicomHeader, invert: bool) -> NDArray[Any]:
    """``(1, rows, columns)``."""
    with quiet_pydicom():
        stored = decode_frame(header, invert=invert)
    if stored.dtype == np.uint16 and header.slope == 1 and header.intercept == 0 and stored.max() > np.iinfo(np.int16).max:
        return stored[None]
    values = rescaled(stored, header.slope, header.intercept)
    check_finite(values, str(header.path))
    return values[None]
