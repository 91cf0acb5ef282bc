"""DICOM attributes of a phantom, module by module (PS3.3 A.3 CT, A.4 MR, A.26 Digital X-Ray).

Every data set is marked as synthetic, in its patient's name, its descriptions and its comments.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)
from pydicom.valuerep import format_number_as_ds

from voxelry.base.version import __version__
from voxelry.core.geometry import Geometry, flip_lps_ras
from voxelry.core.labels import Code
from voxelry.phantom.phantom import HU_RANGE, Kind, Phantom

SYNTHETIC = "SYNTHETIC PHANTOM"
_STUDY_DATE, _STUDY_TIME = "20000101", "120000"
_PARTS: dict[Kind, str] = {
    "torso-ct": "TORSO",
    "spine-mri": "SPINE",
    "chest-xray": "CHEST",
    "chest-xray-heart": "HEART",
    "dental-panoramic": "TEETH",
    "spine-discs": "DISCS",
}
_CLASSES: dict[Kind, str] = {
    "torso-ct": CTImageStorage,
    "spine-mri": MRImageStorage,
    "chest-xray": DigitalXRayImageStorageForPresentation,
    "chest-xray-heart": DigitalXRayImageStorageForPresentation,
    "dental-panoramic": DigitalXRayImageStorageForPresentation,
    "spine-discs": MRImageStorage,
}
_BODY_PART: dict[Kind, str] = {
    "torso-ct": "ABDOMEN",
    "spine-mri": "LSPINE",
    "chest-xray": "CHEST",
    "chest-xray-heart": "CHEST",
    "dental-panoramic": "JAW",
    "spine-discs": "LSPINE",
}
_CHEST = Code(value="816094009", meaning="Chest")
_JAWS = Code(value="661005", meaning="Jaw region")
_PROJECTION_PA = Code(value="399348003", meaning="postero-anterior")

# The echo time in ms, and the terms of Image Type, of each Dixon channel.
_DIXON = {
    "in-phase": (4.6, ["ORIGINAL", "PRIMARY", "OTHER", "IN_PHASE"]),
    "opposed-phase": (2.3, ["ORIGINAL", "PRIMARY", "OTHER", "OPP_PHASE"]),
    "water": (2.3, ["DERIVED", "PRIMARY", "OTHER", "WATER"]),
    "fat": (2.3, ["DERIVED", "PRIMARY", "OTHER", "FAT"]),
}


def uid(*parts: object) -> str:
    """A UID that is the same whenever its parts are the same."""
    return str(generate_uid(entropy_srcs=["voxelry.phantom", *map(str, parts)]))


def patient_id(phantom: Phantom) -> str:
    """The PatientID: the same for every acquisition of one patient."""
    return f"PHANTOM-{_PARTS[phantom.kind]}-{phantom.seed:06d}"


def common(phantom: Phantom, channel: int, channel_name: str) -> Dataset:
    """Attributes that every instance of a series shares: patient, study, series, frame of reference, equipment.

    Args:
        phantom: the examination.
        channel: index of the channel, from 0; it becomes the series number.
        channel_name: for the series description.

    Returns:
        A data set with file meta information, without instance, plane or pixels.
    """
    digest = hashlib.sha256(phantom.volume.array.tobytes()).hexdigest()
    data = Dataset()
    data.SOPClassUID = _CLASSES[phantom.kind]
    data.StudyDate, data.StudyTime, data.AccessionNumber = _STUDY_DATE, _STUDY_TIME, ""
    data.SeriesDate, data.SeriesTime = _STUDY_DATE, _STUDY_TIME
    data.ContentDate, data.ContentTime = _STUDY_DATE, _STUDY_TIME
    data.AcquisitionDate, data.AcquisitionTime = _STUDY_DATE, _STUDY_TIME
    data.Modality = phantom.volume.modality
    data.Manufacturer, data.ManufacturerModelName, data.SoftwareVersions = "voxelry", "phantom", __version__
    data.ReferringPhysicianName = ""
    data.StudyDescription = f"{SYNTHETIC} {_PARTS[phantom.kind]}"
    data.SeriesDescription = f"{SYNTHETIC} {channel_name}"
    data.PatientName = f"PHANTOM^{_PARTS[phantom.kind]}"
    data.PatientID = patient_id(phantom)
    data.PatientBirthDate, data.PatientSex = "", "O"
    data.PatientComments = data.ImageComments = f"{SYNTHETIC}: procedural anatomy, kind {phantom.kind}, seed {phantom.seed}"
    data.BodyPartExamined = _BODY_PART[phantom.kind]
    data.StudyInstanceUID = uid("study", phantom.kind, phantom.seed)
    data.SeriesInstanceUID = uid("series", phantom.kind, phantom.seed, channel, digest)
    data.StudyID, data.SeriesNumber, data.AcquisitionNumber = "1", channel + 1, 1
    return data


def identify(data: Dataset, number: int) -> None:
    """Give an instance its number, its UID and its file meta information, in place."""
    data.InstanceNumber = number
    data.SOPInstanceUID = uid("instance", data.SeriesInstanceUID, number)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = data.SOPClassUID, data.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID, meta.ImplementationVersionName = uid("implementation"), f"VOXELRY_{__version__}"[:16]
    data.file_meta = meta


def frame_of_reference(data: Dataset, phantom: Phantom) -> None:
    """One frame of reference per patient: acquisitions of one anatomy share world coordinates."""
    data.FrameOfReferenceUID = uid("frame of reference", phantom.kind, phantom.seed)
    data.PositionReferenceIndicator = ""
    data.PatientPosition = "HFS"


def plane(data: Dataset, geometry: Geometry, index: int) -> None:
    """The Image Plane module of a slice, in place; LPS+ mm.

    Args:
        data: the instance.
        geometry: axes in the order column index, row index, slice.
        index: the slice.
    """
    assert geometry.affine is not None
    axes = flip_lps_ras(geometry.affine[:3, :3].T)  # one axis a row
    lengths = np.linalg.norm(axes, axis=1)
    row, column = axes[0] / lengths[0], axes[1] / lengths[1]
    step = abs(float(np.cross(row, column) @ axes[2]))
    data.ImageOrientationPatient = [_ds(v) for v in (*row, *column)]
    data.ImagePositionPatient = [_ds(v) for v in flip_lps_ras(geometry.world((0, 0, index)))]
    data.PixelSpacing = [_ds(lengths[1]), _ds(lengths[0])]
    data.SliceThickness = data.SpacingBetweenSlices = _ds(step)


def _ds(value: float) -> str:
    """A decimal string of at most 16 characters."""
    return str(format_number_as_ds(float(value) + 0.0))


def pixels(data: Dataset, stored: NDArray[np.uint16], bits: int) -> None:
    """The Image Pixel module, in place.

    Args:
        data: the instance.
        stored: ``(rows, cols)``.
        bits: number of bits used.
    """
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = stored.shape
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, bits, bits - 1, 0
    data.PixelData = np.ascontiguousarray(stored, dtype="<u2").tobytes()


def ct(data: Dataset, phantom: Phantom) -> None:
    """The CT Image module, in place."""
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.KVP, data.ExposureTime, data.XRayTubeCurrent = "120", 500, 200
    data.ConvolutionKernel = "PHANTOM"
    data.GantryDetectorTilt = _ds(phantom.acquisition.tilt)
    data.RescaleIntercept, data.RescaleSlope, data.RescaleType = HU_RANGE[0], 1, "HU"
    data.WindowCenter, data.WindowWidth = "60", "400"


def mr(data: Dataset, channel: str) -> None:
    """The MR Image module, in place."""
    data.EchoTime, data.ImageType = _DIXON[channel][0], list(_DIXON[channel][1])
    data.ScanningSequence, data.SequenceVariant, data.ScanOptions = "GR", "SP", ""
    data.MRAcquisitionType, data.RepetitionTime, data.EchoTrainLength = "3D", "7", 2
    data.FlipAngle, data.MagneticFieldStrength = "10", "1.5"
    data.WindowCenter, data.WindowWidth = "600", "1200"


def dx(data: Dataset, phantom: Phantom) -> None:
    """The modules of a Digital X-Ray image, in place: series, anatomy, image, detector, positioning."""
    size = phantom.volume.geometry.pixel_size
    assert size is not None
    data.PresentationIntentType = "FOR PRESENTATION"
    data.ImageType = ["ORIGINAL", "PRIMARY", ""]
    data.ImagerPixelSpacing = data.PixelSpacing = [_ds(size[0]), _ds(size[1])]
    data.AnatomicRegionSequence = [_coded(_JAWS if phantom.volume.modality == "PX" else _CHEST)]
    data.ImageLaterality, data.PatientOrientation, data.ViewPosition = "U", ["L", "F"], "PA"
    data.ViewCodeSequence = [_coded(_PROJECTION_PA)]
    data.ViewCodeSequence[0].ViewModifierCodeSequence = []
    data.PixelIntensityRelationship, data.PixelIntensityRelationshipSign = "LOG", -1
    data.RescaleIntercept, data.RescaleSlope, data.RescaleType = 0, 1, "US"
    data.PresentationLUTShape, data.LossyImageCompression, data.BurnedInAnnotation = "IDENTITY", "00", "NO"
    data.WindowCenter, data.WindowWidth = "2048", "4096"
    data.DetectorType, data.DetectorConditionsNominalFlag = "DIRECT", "YES"
    data.AcquisitionContextSequence = []
    data.KVP, data.PositionerType = "120", "NONE"


def _coded(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme, code.meaning
    return item
