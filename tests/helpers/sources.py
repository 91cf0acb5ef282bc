"""The kinds of scans that every export is proven on, and labels with everything that goes wrong.

Each source is a DICOM series written with pydicom alone. Its Volume is put together here as `voxelry.read` gives it, so that
exports are proven apart from the reader (`test_sources` holds the two against each other). The labels have a body with a hole
through it and a cavity in it, a lone voxel, a label without a voxel and, on a second layer, one that overlaps; nothing about
them is symmetric, so that a flip or a swap of axes shows.
"""

from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

from voxelry.core.geometry import Geometry, flip_lps_ras
from voxelry.core.labels import Code, Label, LabelTable
from voxelry.core.volume import LabelMap, Source, Volume

SECRET_NAME, SECRET_ID = "Geheim^Gertrud", "4711-81"
SHAPE = (20, 16, 9)
"""Columns, rows, slices."""

_H = float(np.sqrt(0.5))
_PLANES = {
    "axial": ((1, 0, 0), (0, 1, 0)),
    "sagittal": ((0, 1, 0), (0, 0, -1)),
    "coronal": ((1, 0, 0), (0, 0, -1)),
    "oblique": ((_H, _H, 0), (-0.5, 0.5, _H)),
}
_SPACING = {"anisotropic": (0.4, 0.55, 7.5)}
"""Millimetres between columns, rows, slices."""

SOURCES = ("axial", "sagittal", "coronal", "oblique", "anisotropic", "enhanced", "single")
TILTED = "tilted"
"""Slices that lie askew (gantry tilt): a source of its own, since not every format can say it."""

_LIVER = Code(value="10200004", meaning="Liver")
_LUNG, _LEFT = Code(value="39607008", meaning="Lung"), Code(value="7771000", meaning="Left")
_MORPHOLOGY = Code(value="49755003", meaning="Morphologically Abnormal Structure")
_LESION = Code(value="52988006", meaning="Lesion")
FLAT_TABLE = LabelTable(
    labels=(
        Label(value=3, name="liver", type=_LIVER, color=(221, 130, 101)),
        Label(value=1, name="lone voxel"),
        Label(value=7, name="lung left", type=_LUNG, modifier=_LEFT, color=(172, 138, 115)),
        Label(value=300, name="Körper (empty)"),
    )
)
"""One layer; values out of order and with gaps, a name beyond ASCII, a label that no voxel has."""

TABLE = LabelTable(
    labels=(*FLAT_TABLE.labels, Label(value=2, name="lesion", category=_MORPHOLOGY, type=_LESION, color=(255, 220, 0), layer=1))
)
"""The same with a label that overlaps others, on a second layer."""


def volume(kind: str, folder: Path) -> Volume:
    """A source series, its files in the folder ``source-KIND``, as `voxelry.read` returns it.

    Args:
        kind: one of `SOURCES`, or `TILTED`.
        folder: where the files go.
    """
    place = folder / f"source-{kind}"
    place.mkdir()
    shape = (*SHAPE[:2], 1) if kind == "single" else SHAPE
    affine = _affine(kind)
    if kind == "enhanced":
        return _enhanced(place, affine)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    order = np.random.default_rng(0).permutation(shape[2])
    files, instances = [], []
    for k in range(shape[2]):
        header = _patient(CTImageStorage, study, series, frame, int(order[k]) + 1)
        _place(header, affine, k)
        header.PixelSpacing, header.SliceThickness = _spacing(affine)[1::-1], _spacing(affine)[2]
        header.PixelData = np.ascontiguousarray(voxels(shape)[:, :, k].T).tobytes()
        files.append(str(place / f"{order[k]:02d}.dcm"))
        instances.append((str(header.SOPInstanceUID), 1))
        header.save_as(files[-1], enforce_file_format=True)
    return _made(files, instances, str(series), affine)


def voxels(shape: tuple[int, ...]) -> np.ndarray:
    """``(columns, rows, slices)`` int16 Hounsfield units: a warm block in air, brightest in one corner."""
    array = np.full(shape, -900, np.int16)
    array[2:-3, 2:-2] = 40
    array += np.arange(shape[0], dtype=np.int16)[:, None, None]
    return array


def flat_labels(geometry: Geometry) -> LabelMap:
    """Labels of `FLAT_TABLE` on one layer."""
    return LabelMap(labels(geometry).layers[:1], geometry, FLAT_TABLE)


def labels(geometry: Geometry) -> LabelMap:
    """Labels of `TABLE` on two layers; a grid of one slice holds the cut through its middle."""
    array = np.zeros((2, *SHAPE), np.uint16)
    array[0, 2:13, 3:12, 1:7] = 3
    array[0, 5:8, 5:9, :] = 0
    array[0, 10, 6:8, 3:5] = 0
    array[0, 2, 3, :] = 0
    array[0, 17, 13, 4] = 1
    array[0, 14:18, 2:6, 4:8] = 7
    array[0, 16, 4, 4] = 0
    array[0, 17, 5, 4:] = 0
    array[0, 18, 6, 4] = 7
    array[1, 4:16, 4:7, 2:6] = 2
    if geometry.ndim == 2:
        return LabelMap(np.ascontiguousarray(array[:, :, :, 4].transpose(0, 2, 1)), geometry, TABLE)
    return LabelMap(array if geometry.shape[2] > 1 else array[..., 4:5].copy(), geometry, TABLE)


def _affine(kind: str) -> np.ndarray:
    """``(4, 4)`` voxel -> LPS mm of the first pixel of each slice."""
    across, down = (np.array(axis, float) for axis in _PLANES.get(kind, _PLANES["axial"]))
    spacing = _SPACING.get(kind, (0.7, 0.9, 2.5))
    step = np.cross(across, down) + (0.3 * down if kind == TILTED else 0)
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([across, down, step]) * spacing
    affine[:3, 3] = -31.25, 40.5, -512.125
    return affine


def _spacing(affine: np.ndarray) -> list[str]:
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    thickness = affine[:3, 2] @ normal / np.linalg.norm(normal)
    return [f"{value:.10g}" for value in (*np.linalg.norm(affine[:3, :2], axis=0), thickness)]


def _patient(kind: str, study: str, series: str, frame: str, number: int) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    header.SpecificCharacterSet = "ISO_IR 192"
    header.SOPClassUID, header.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    header.StudyInstanceUID, header.SeriesInstanceUID, header.FrameOfReferenceUID = study, series, frame
    header.PatientName, header.PatientID, header.PatientBirthDate, header.PatientSex = SECRET_NAME, SECRET_ID, "19010203", "F"
    header.StudyDate, header.StudyTime, header.StudyID, header.AccessionNumber = "20200102", "030405", "1", "A1"
    header.ReferringPhysicianName, header.Manufacturer, header.Modality = "Müller^Max", "phantom", "CT"
    header.Laterality, header.PatientPosition, header.KVP, header.AcquisitionNumber = "", "HFS", "120", 1
    header.PositionReferenceIndicator, header.SeriesNumber, header.InstanceNumber = "", 3, number
    header.ImageType, header.ContentDate, header.ContentTime = ["ORIGINAL", "PRIMARY", "AXIAL"], "20200102", "030405"
    header.Rows, header.Columns = SHAPE[1], SHAPE[0]
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 1
    header.RescaleSlope, header.RescaleIntercept = 1, 0
    return header


def _place(header: Dataset, affine: np.ndarray, k: int) -> None:
    across, down = (affine[:3, axis] / np.linalg.norm(affine[:3, axis]) for axis in (0, 1))
    header.ImagePositionPatient = [f"{value:.10g}" for value in affine[:3, 3] + k * affine[:3, 2]]
    header.ImageOrientationPatient = [f"{value:.10g}" for value in (*across, *down)]


def _enhanced(place: Path, affine: np.ndarray) -> Volume:
    """An enhanced CT, its frames in shuffled order."""
    header = _patient(EnhancedCTImageStorage, generate_uid(), generate_uid(), generate_uid(), 1)
    order = [int(k) for k in np.random.default_rng(1).permutation(SHAPE[2])]
    header.NumberOfFrames = SHAPE[2]
    del header.RescaleSlope, header.RescaleIntercept
    shared, frames = Dataset(), []
    plane, measures, rescale = Dataset(), Dataset(), Dataset()
    _place(plane, affine, 0)
    del plane.ImagePositionPatient
    measures.PixelSpacing, measures.SliceThickness = _spacing(affine)[1::-1], _spacing(affine)[2]
    rescale.RescaleIntercept, rescale.RescaleSlope, rescale.RescaleType = 0, 1, "HU"
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [plane], [measures]
    shared.PixelValueTransformationSequence = [rescale]
    for k in order:
        frame, position, content = Dataset(), Dataset(), Dataset()
        _place(position, affine, k)
        del position.ImageOrientationPatient
        content.StackID, content.InStackPositionNumber = "1", k + 1
        frame.PlanePositionSequence, frame.FrameContentSequence = [position], [content]
        frames.append(frame)
    header.SharedFunctionalGroupsSequence, header.PerFrameFunctionalGroupsSequence = [shared], frames
    header.PixelData = np.ascontiguousarray(voxels(SHAPE).transpose(2, 1, 0)[order]).tobytes()
    file = place / "enhanced.dcm"
    header.save_as(file, enforce_file_format=True)
    instances = [(str(header.SOPInstanceUID), order.index(k) + 1) for k in range(SHAPE[2])]
    return _made([str(file)], instances, str(header.SeriesInstanceUID), affine)


def _made(files: list[str], instances: list[tuple[str, int]], series: str, affine: np.ndarray) -> Volume:
    origin, shape = Source("dicom", tuple(files), series, tuple(instances)), (*SHAPE[:2], len(instances))
    return Volume(voxels(shape)[None], Geometry(shape, flip_lps_ras(affine)), modality="CT", source=origin)


def headers(source: Volume) -> list[Dataset]:
    """The headers of a source's files."""
    return [dcmread(file, stop_before_pixels=True) for file in source.source.files]
