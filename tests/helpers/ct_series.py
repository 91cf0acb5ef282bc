"""Small, valid DICOM series for the export tests, made with pydicom alone."""

from dataclasses import replace

import numpy as np
from pydicom.config import IGNORE, settings
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from voxelry.core.geometry import Geometry, flip_lps_ras
from voxelry.core.volume import Source, Volume

COLUMNS, ROWS, SLICES = 8, 7, 5
SECRET = "Geheim^Gertrud"

AXIAL = ((1, 0, 0), (0, 1, 0))
SAGITTAL = ((0, 1, 0), (0, 0, -1))
CORONAL = ((1, 0, 0), (0, 0, -1))
_C, _S = np.cos(np.radians(37)), np.sin(np.radians(37))
OBLIQUE = ((_C, _S, 0), (-_S * 0.6, _C * 0.6, 0.8))
ORIENTATIONS = {"axial": AXIAL, "sagittal": SAGITTAL, "coronal": CORONAL, "oblique": OBLIQUE}


def _plain(kind, study, series, number):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = kind
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    header.SpecificCharacterSet = "ISO_IR 100"
    header.SOPClassUID, header.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    header.StudyInstanceUID, header.SeriesInstanceUID = study, series
    header.PatientName, header.PatientID = SECRET, "4711"
    header.PatientBirthDate, header.PatientSex = "19010203", "F"
    header.StudyDate, header.StudyTime, header.StudyID, header.AccessionNumber = "20200102", "030405", "1", "A1"
    header.ReferringPhysicianName = "Müller^Max"
    header.SeriesNumber, header.InstanceNumber = 3, number
    header.Rows, header.Columns = ROWS, COLUMNS
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 1
    header.PixelData = np.full((ROWS, COLUMNS), number, dtype="<i2").tobytes()
    return header


def ct_series(folder, orientation=AXIAL, *, slices=SLICES, shear=0.0, descending=False, change=lambda header, k: None):
    """A CT series as the reader returns it: files named in shuffled order, listed in slice order."""
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    row, column = (np.array(axis, dtype=float) for axis in orientation)
    step = (np.cross(row, column) + shear * column) * (-2.5 if descending else 2.5)
    origin = np.array([-31.25, 40.5, -512.125])
    order = np.random.default_rng(0).permutation(slices)
    files, instances = [], []
    for k in range(slices):
        header = _plain(CTImageStorage, study, series, int(order[k]) + 1)
        header.Modality, header.FrameOfReferenceUID, header.PositionReferenceIndicator = "CT", frame, ""
        header.ImagePositionPatient = [f"{value:.10g}" for value in origin + k * step]
        header.ImageOrientationPatient = [f"{value:.10g}" for value in (*row, *column)]
        header.PixelSpacing, header.SliceThickness = [0.9, 0.7], "2.5"
        header.RescaleSlope, header.RescaleIntercept = 1, -1024
        change(header, k)
        file = folder / f"{order[k]:02d}.dcm"
        header.save_as(file, enforce_file_format=True)
        files.append(str(file))
        instances.append((str(header.SOPInstanceUID), 1))
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([row * 0.7, column * 0.9, step])
    affine[:3, 3] = origin
    geometry = Geometry((COLUMNS, ROWS, slices), flip_lps_ras(affine))
    source = Source("dicom", tuple(files), str(series), tuple(instances))
    return Volume(np.zeros((1, *geometry.shape), np.int16), geometry, modality="CT", source=source)


def x_ray(folder, change=lambda header: None):
    """A projection, without a position in the patient."""
    header = _plain(DigitalXRayImageStorageForPresentation, generate_uid(), generate_uid(), 1)
    header.Modality, header.ImagerPixelSpacing = "DX", [0.2, 0.2]
    change(header)
    file = folder / "x.dcm"
    header.save_as(file, enforce_file_format=True)
    source = Source("dicom", (str(file),), str(header.SeriesInstanceUID), ((str(header.SOPInstanceUID), 1),))
    grid = Geometry((ROWS, COLUMNS), None, (0.2, 0.2))
    return Volume(np.zeros((1, ROWS, COLUMNS), np.uint16), grid, modality="DX", source=source)


def raw_element(keyword, value, vr=None):
    """An element with any bytes, to be set in a header; pydicom would refuse or repair them."""
    tag = Tag(keyword)
    value += b" " * (len(value) % 2)
    return RawDataElement(tag, vr or dictionary_VR(tag), len(value), value, 0, False, True)


def odd_series(folder, elements, *, first=True, **how):
    """As `ct_series` with bytes in elements that are not what they should be, without pydicom's warnings.

    Args:
        folder: where the files go.
        elements: keyword -> bytes, or bytes and a value representation.
        first: the first slice has them too.
        how: as `ct_series`.
    """
    change = how.pop("change", lambda header, k: None)

    def changed(header, k):
        change(header, k)
        for keyword, value in elements.items():
            if k or first:
                header[Tag(keyword)] = raw_element(keyword, *([value] if isinstance(value, bytes) else value))

    strict, settings.reading_validation_mode = settings.reading_validation_mode, IGNORE
    try:
        return ct_series(folder, change=changed, **how)
    finally:
        settings.reading_validation_mode = strict


def with_source(volume, **changes):
    return replace(volume, source=replace(volume.source, **changes))
