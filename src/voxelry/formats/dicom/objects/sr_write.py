"""Writer of DICOM SR: structured reports of measurements (TID 1500, PS3.16) as Enhanced SR, with highdicom.

Each label, and each lesion with a segment of its own, is one measurement group (TID 1411) that names its segment in a
DICOM SEG by number and tracking UID, the scan's series, the finding and its site, and holds volume, long and short axis in the
scan's slices, mean, standard deviation and extremes of the intensity. A label without a voxel has a volume of 0 and nothing else.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import highdicom.sr as hsr
from highdicom import UID
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as SrCode
from pydicom.uid import generate_uid

from voxelry.base.files import atomic_path
from voxelry.base.library_file import library_file
from voxelry.core.labels import ANATOMICAL_STRUCTURE, Label
from voxelry.core.measurement import Measurement
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import ExportError
from voxelry.formats.dicom.deflated import open_inflated
from voxelry.formats.dicom.elements import PARSE_ERRORS
from voxelry.formats.dicom.objects.derived_object import EQUIPMENT, series_number
from voxelry.formats.dicom.objects.references import SourceSeries
from voxelry.formats.dicom.objects.segment_descriptions import PRIVATE_SCHEME, Algorithm, concept, property_type
from voxelry.formats.dicom.objects.source_series import source_series
from voxelry.formats.file_segments import Segment, segments_of
from voxelry.metrics.measurements import measure_labels

_SERIES_OFFSET = 3000
_PLACES = 10
"""Significant digits of a number: as many as always fit a DS of 16 characters."""

_LATERAL = frozenset({"7771000", "24028007", "51440002"})
"""Left, right, bilateral: modifiers of the side; other modifiers name a part."""

_Quantity: TypeAlias = tuple[SrCode, SrCode]

_INTENSITIES = {
    "CT": (codes.DCM.AttenuationCoefficient, codes.UCUM.HounsfieldUnit),
    "MR": (codes.DCM.MRSignalIntensity, codes.UCUM.NoUnits),
}
_OTHER_INTENSITY = SrCode("INTENSITY", PRIVATE_SCHEME, "Image intensity")
_PET_UNITS = {
    "BQML": codes.UCUM.BecquerelsPerMilliliter,
    "CNTS": codes.UCUM.Counts,
    "CPS": codes.UCUM.CountsPerSecond,
    "PROPCNTS": codes.UCUM.ProportionalToCounts,
    "PROPCPS": codes.UCUM.ProportionalToCountsPerSecond,
    "PCNT": codes.UCUM.Percent,
}
"""PET's Units (PS3.3 section C.8.9.1.1.3) as UCUM codes of PS3.16 CID 84; uptake values are distinguished by their SUVType."""
_UPTAKE_UNITS = {
    ("GML", "BW"): codes.UCUM.StandardizedUptakeValueBodyWeight,
    ("GML", "LBM"): codes.UCUM.StandardizedUptakeValueLeanBodyMassJames,
    ("GML", "LBMJAMES128"): codes.UCUM.StandardizedUptakeValueLeanBodyMassJames128Multiplier,
    ("GML", "LBMJANMA"): codes.UCUM.StandardizedUptakeValueLeanBodyMassJanma,
    ("GML", "IBW"): codes.UCUM.StandardizedUptakeValueIdealBodyWeight,
    ("CM2ML", "BSA"): codes.UCUM.StandardizedUptakeValueBodySurfaceArea,
}


def write_dicom_sr(
    labels: LabelMap,
    source: Volume,
    path: str | os.PathLike[str],
    *,
    segmentation: str | os.PathLike[str],
    algorithm: Algorithm | None = None,
    series_description: str = "Measurements",
) -> Path:
    """Write measurements of labels as a TID 1500 report that refers to their DICOM SEG and the scan.

    Args:
        labels: on the scan's grid (axes may be flipped or permuted; they are re-indexed).
        source: the scan as read from DICOM ``(column, row, slice)``; intensities are measured on it.
        path: the file; replaced if it exists.
        segmentation: the DICOM SEG that `write_dicom_seg` wrote of these labels.
        algorithm: the algorithm that made the labels; None for voxelry of this version.
        series_description: the name that viewers list the series by, at most 64 characters.

    Returns:
        The path.

    Raises:
        ExportError: the source is not DICOM, not as read, or a projection; or the SEG is not of these labels and this scan.
        GridMismatchError: the labels lie on another grid.
        LabelError: values that the table does not know.

    Example:
        >>> import voxelry as vx
        >>> from voxelry.phantom import small_phantom
        >>> from voxelry.phantom.dicom import write_dicom
        >>> phantom = small_phantom()
        >>> scan = vx.read(write_dicom(phantom, "scan")[0])
        >>> from voxelry.formats.dicom.objects import write_dicom_seg, write_dicom_sr
        >>> seg = write_dicom_seg(phantom.labels, scan, "organs.seg.dcm")
        >>> write_dicom_sr(phantom.labels, scan, "sizes.sr.dcm", segmentation=seg).name
        'sizes.sr.dcm'
    """
    if source.geometry.ndim != 3:
        raise ExportError(
            f"{path}: a report of volumes needs a scan with slices, not a projection",
            remedy="Use `measure_labels` for its areas.",
        )
    algorithm = algorithm or Algorithm()
    groups, seg, series = measured_groups(labels, source, path, segmentation, algorithm)
    document = sr_document(measurement_report(groups, algorithm), [(seg, series)], path)
    document.SeriesDescription = series_description
    with atomic_path(path) as temporary, library_file(temporary) as file:
        document.save_as(file)
    return Path(path)


def measured_groups(
    labels: LabelMap,
    source: Volume,
    path: str | os.PathLike[str],
    segmentation: str | os.PathLike[str],
    algorithm: Algorithm,
    time_point: hsr.TimePointContext | None = None,
) -> tuple[list[hsr.VolumetricROIMeasurementsAndQualitativeEvaluations], Dataset, SourceSeries]:
    """The measurement groups of one scan, in the order of the segments; the header of its SEG; its series.

    Args:
        labels: as of `write_dicom_sr`.
        source: as of `write_dicom_sr`.
        path: the report, for messages.
        segmentation: as of `write_dicom_sr`.
        algorithm: the algorithm that made the labels.
        time_point: the date, in a report of several.

    Raises:
        ExportError, GridMismatchError, LabelError: as of `write_dicom_sr`.
    """
    aligned = labels.on_grid(source.geometry)
    series = source_series(source, path)
    seg = _segmentation(Path(segmentation), series)
    described: dict[str, list[Dataset]] = {}
    for item in seg.SegmentSequence:
        described.setdefault(str(item.SegmentLabel), []).append(item)
    rows = {(row.label.name, row.instance): row for row in measure_labels(aligned, source)}
    groups, quantity = [], _intensity(source.modality, series.headers[0])
    for segment in segments_of(aligned):
        row = rows[segment.label.name, segment.instance]
        items = described.get(segment.name, [])
        if len(items) > 1:
            numbers = ", ".join(str(item.SegmentNumber) for item in items)
            raise ExportError(
                f"{path}: {segmentation} has several segments '{segment.name}' ({numbers}), of which it is not known which was "
                "measured",
                remedy="Give the DICOM SEG written from these labels.",
            )
        if items:
            groups.append(_group(segment, row, items[0], seg, quantity, algorithm, time_point))
        elif row.voxels:
            raise ExportError(
                f"{path}: {segmentation} has no segment '{segment.name}'", remedy="Give the DICOM SEG written from these labels."
            )
    return groups, seg, series


def _segmentation(file: Path, series: SourceSeries) -> Dataset:
    """The header of the SEG; refuses one of another scan."""
    if not file.is_file():
        raise ExportError(f"{file}: no such DICOM SEG", remedy="Write the SEG first.")
    try:
        with open_inflated(file) as stream:
            seg = dcmread(stream, stop_before_pixels=True)
    except PARSE_ERRORS as error:
        raise ExportError(f"{file}: is not a DICOM file", remedy="Give a DICOM SEG.") from error
    if seg.get("Modality") != "SEG":
        raise ExportError(
            f"{file}: is no DICOM SEG but {seg.get('Modality') or 'of unknown modality'}", remedy="Give a DICOM SEG."
        )
    referenced = {str(item.SeriesInstanceUID) for item in seg.get("ReferencedSeriesSequence", [])}
    if str(series.headers[0].SeriesInstanceUID) not in referenced:
        raise ExportError(f"{file}: was made on another series than the scan", remedy="Give the SEG of this scan.")
    return seg


def _group(
    segment: Segment,
    row: Measurement,
    described: Dataset,
    seg: Dataset,
    quantity: _Quantity,
    algorithm: Algorithm,
    time_point: hsr.TimePointContext | None,
) -> hsr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    series = str(seg.ReferencedSeriesSequence[0].SeriesInstanceUID)
    return hsr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hsr.TrackingIdentifier(uid=UID(described.TrackingUID), identifier=str(described.TrackingID)),
        referenced_segment=hsr.ReferencedSegment(
            sop_class_uid=seg.SOPClassUID,
            sop_instance_uid=seg.SOPInstanceUID,
            segment_number=int(described.SegmentNumber),
            source_series=hsr.SourceSeriesForSegmentation(series),
        ),
        time_point_context=time_point,
        finding_category=concept(segment.label.category),
        finding_type=concept(property_type(segment.label)),
        finding_sites=_sites(segment.label),
        measurements=_measurements(row, quantity),
        algorithm_id=None if algorithm.kind == "manual" else hsr.AlgorithmIdentification(algorithm.name, algorithm.version),
    )


def _sites(label: Label) -> list[hsr.FindingSite] | None:
    """The site of an anatomical structure: the structure itself, with its side or a part of it."""
    if label.category.value != ANATOMICAL_STRUCTURE.value or label.modifier is None:
        return None
    modifier = concept(label.modifier)
    lateral = label.modifier.value in _LATERAL
    return [
        hsr.FindingSite(
            concept(property_type(label)),
            laterality=modifier if lateral else None,
            topographical_modifier=None if lateral else modifier,
        )
    ]


def _intensity(modality: str, header: Dataset) -> _Quantity:
    """The quantity of the voxels of a scan, and its unit; SUVs without a type are by body weight (PS3.3 section C.8.9.1)."""
    if modality in _INTENSITIES:
        return _INTENSITIES[modality]
    unit = str(header.get("Units") or "")
    kind = str(header.get("SUVType") or "") or ("BSA" if unit == "CM2ML" else "BW")
    if (unit, kind) in _UPTAKE_UNITS:
        return codes.DCM.StandardizedUptakeValue, _UPTAKE_UNITS[unit, kind]
    return _OTHER_INTENSITY, _PET_UNITS.get(unit, codes.UCUM.NoUnits)


def _measurements(row: Measurement, quantity: _Quantity) -> list[hsr.Measurement]:
    millimetre = codes.UCUM.Millimeter
    items = [hsr.Measurement(codes.SCT.Volume, _rounded(row.volume_mm3 or 0.0), codes.UCUM.CubicMillimeter)]
    if row.axes is not None:
        items.append(hsr.Measurement(codes.SCT.LongAxis, _rounded(row.axes.long_mm), millimetre))
        items.append(hsr.Measurement(codes.SCT.ShortAxis, _rounded(row.axes.short_mm), millimetre))
    if row.intensity is not None:
        name, unit = quantity
        derived = (
            (codes.SCT.Mean, row.intensity.mean),
            (codes.SCT.StandardDeviation, row.intensity.sd),
            (codes.SCT.Minimum, row.intensity.minimum),
            (codes.SCT.Maximum, row.intensity.maximum),
        )
        items += [hsr.Measurement(name, _rounded(value), unit, derivation=how) for how, value in derived]
    return items


def _rounded(value: float) -> float:
    return float(f"{value:.{_PLACES}g}")


def measurement_report(
    groups: Sequence[hsr.VolumetricROIMeasurementsAndQualitativeEvaluations], algorithm: Algorithm
) -> hsr.MeasurementReport:
    """Measurement groups as the content of a TID 1500 report."""
    device = hsr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=hsr.DeviceObserverIdentifyingAttributes(
            uid=generate_uid(entropy_srcs=[algorithm.name, algorithm.version]),
            name=algorithm.name,
            manufacturer_name="voxelry",
            model_name="voxelry",
        ),
    )
    return hsr.MeasurementReport(
        observation_context=hsr.ObservationContext(observer_device_context=device),
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )


def sr_document(
    report: hsr.MeasurementReport, scans: Sequence[tuple[Dataset, SourceSeries]], path: str | os.PathLike[str]
) -> hsr.EnhancedSR:
    """The report as an Enhanced SR; highdicom's errors become an `ExportError` that does not show values of the headers.

    Args:
        report: the content.
        scans: SEG and series of each scan that it is about; the report belongs to the study of the first.
        path: the file, for messages.
    """
    try:
        with warnings.catch_warnings():
            # Copied patient and study attributes may break their rules; the warnings would print their values.
            warnings.filterwarnings("ignore", category=UserWarning, module=r"(pydicom|highdicom)\.")
            return hsr.EnhancedSR(
                evidence=[item for seg, series in scans for item in (seg, *_instances(series))],
                content=report[0],
                series_instance_uid=UID(),
                series_number=series_number(scans[0][1].headers[0], _SERIES_OFFSET),
                sop_instance_uid=UID(),
                instance_number=1,
                **EQUIPMENT,
                is_complete=True,
                specific_character_set="ISO_IR 192",
            )
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise ExportError(
            f"{path}: the headers of the source series do not allow a report ({type(error).__name__} in highdicom)",
            remedy="Repair the series.",
        ) from error


def _instances(series: SourceSeries) -> list[Dataset]:
    """The attributes of each instance of the scan that a list of evidence needs."""
    evidence = []
    for reference in series.instances:
        item = Dataset()
        item.SOPClassUID, item.SOPInstanceUID = reference.sop_class, reference.sop_instance
        item.StudyInstanceUID = series.headers[0].StudyInstanceUID
        item.SeriesInstanceUID = series.headers[0].SeriesInstanceUID
        evidence.append(item)
    return evidence
