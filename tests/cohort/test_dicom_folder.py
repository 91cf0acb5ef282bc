"""Trees as an archive exports them: which scans they hold, and that the reader reads each of these."""

from pathlib import Path

import numpy as np
import pytest
from pydicom.fileset import FileSet
from pydicom.uid import (
    ComprehensiveSRStorage,
    DigitalXRayImageStorageForPresentation,
    EncapsulatedPDFStorage,
    MRImageStorage,
    SecondaryCaptureImageStorage,
)

from helpers.dicom_files import dataset, save, series
from voxelry.cohort.inputs import find_scans, survey_inputs
from voxelry.datasets.channels import read_channels
from voxelry.errors import MissingFileError

UID = "1.2.826.0.1.3680043.8.498."
NO_POSITION = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "PixelSpacing": None, "SliceThickness": None}
PIXELS = np.zeros((6, 8), np.int16)
CORONAL, SAGITTAL = [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1]


def stack(folder: Path, number: int, value: int = 0, prefix: str = "IM", **elements: object) -> Path:
    """A series of three slices with one value."""
    values = np.full((3, 6, 8), value, np.int16)
    slices = series(values, SeriesInstanceUID=f"{UID}{number}", **{"SeriesNumber": number} | elements)
    for index, data in enumerate(slices):
        save(data, folder / f"{prefix}{number}{index}")
    return folder


def report(file: Path) -> None:
    data = dataset(PIXELS, SOPClassUID=ComprehensiveSRStorage, Modality="SR", SeriesInstanceUID=f"{UID}9", **NO_POSITION)
    del data.PixelData, data.Rows, data.Columns
    save(data, file)


def capture(file: Path) -> None:
    save(
        dataset(PIXELS, SOPClassUID=SecondaryCaptureImageStorage, Modality="OT", SeriesInstanceUID=f"{UID}8", **NO_POSITION), file
    )


def localizer(file: Path, uid: str = f"{UID}7") -> None:
    save(dataset(PIXELS, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], SeriesInstanceUID=uid), file)


def reasons(folder: Path) -> dict[str, str]:
    survey = survey_inputs([folder])
    return {each.path.relative_to(folder).as_posix(): each.reason for each in survey.left_out}


def values(folder: Path) -> dict[str, int]:
    """Each scan by its id, with the value of its voxels as the reader reads them."""
    volumes = {scan.id: read_channels(scan.images, series=scan.series) for scan in find_scans([folder])}
    assert all(volume.shape == (1, 8, 6, 3) for volume in volumes.values())
    return {id: int(volume.array[0, 0, 0, 0]) for id, volume in volumes.items()}


def test_a_tree_of_patients_studies_and_series(tmp_path: Path) -> None:
    for patient in (1, 2):
        study = tmp_path / f"PAT{patient}" / "STU1"
        stack(study / "SER1", 1, value=patient)
        stack(study / "SER2", 2, value=10 + patient)
        localizer(study / "SER3" / "IM1")
        report(study / "SER4" / "IM1")
        capture(study / "SER5" / "IM1")
    assert values(tmp_path) == {"PAT1_STU1_SER1": 1, "PAT1_STU1_SER2": 11, "PAT2_STU1_SER1": 2, "PAT2_STU1_SER2": 12}
    left_out = reasons(tmp_path)
    for patient in (1, 2):
        study = f"PAT{patient}/STU1"
        assert left_out[f"{study}/SER3/IM1"] == "a localizer, by its ImageType"
        assert left_out[f"{study}/SER4/IM1"] == "DICOM without an image to segment: Comprehensive SR Storage"
        assert left_out[f"{study}/SER5/IM1"] == "a secondary capture, without a position in the patient"


def test_several_series_in_one_folder_are_a_scan_each(tmp_path: Path) -> None:
    folder = tmp_path / "DICOM"
    stack(folder, 4, value=4)
    stack(folder, 12, value=12)
    localizer(folder / "scout")
    localizer(folder / "scout_within", uid=f"{UID}4")
    report(folder / "report")
    assert values(folder) == {"DICOM_4": 4, "DICOM_12": 12}
    assert {*reasons(folder)} == {"scout", "scout_within", "report"}
    assert [scan.remark for scan in find_scans([folder])] == [
        "one of 2 series in its folder, series number 12",
        "one of 2 series in its folder, series number 4",
    ]


def test_the_only_series_keeps_the_name_of_its_folder(tmp_path: Path) -> None:
    folder = stack(tmp_path / "case", 3, value=3)
    [alone] = find_scans([folder])
    assert (alone.id, alone.images, alone.series) == ("case", (folder,), ())
    localizer(folder / "scout")
    assert values(folder) == {"case": 3}
    stack(folder / "older", 5)
    assert values(folder) == {"case": 3}
    assert reasons(folder)["older"] == "a folder beside images, whose inside is not searched"


def test_series_without_a_number_or_with_the_same_are_told_apart(tmp_path: Path) -> None:
    for number, value in ((1, 1), (2, 2)):
        stack(tmp_path / "a", number, value=value, SeriesNumber=7)
        stack(tmp_path / "b", number, value=value, SeriesNumber="")
    assert values(tmp_path / "a") == {"a_7-1": 1, "a_7-2": 2}
    assert values(tmp_path / "b") == {"b_series-1": 1, "b_series-2": 2}


def test_a_chosen_series_leaves_a_folder_whole(tmp_path: Path) -> None:
    folder = stack(stack(tmp_path / "case", 1), 2)
    [scan] = find_scans([folder], series="number=2")
    assert (scan.id, scan.series) == ("case", ())


def test_slices_without_a_series_are_left_to_the_reader(tmp_path: Path) -> None:
    folder = stack(tmp_path / "case", 1, value=1)
    for file in folder.iterdir():
        file.unlink()
    for index, data in enumerate(series(np.full((3, 6, 8), 5, np.int16), SeriesInstanceUID=None)):
        save(data, folder / f"IM{index}")
    assert values(folder) == {"case": 5}


@pytest.mark.parametrize("is_scout", [True, False])
def test_a_series_called_localizer_is_left_out_where_its_planes_cross(tmp_path: Path, is_scout: bool) -> None:
    stack(tmp_path, 1, value=1)
    for index, orientation in enumerate([CORONAL, SAGITTAL if is_scout else CORONAL]):
        place = [0, 2.5 * index, 0]
        elements = {"SOPClassUID": MRImageStorage, "Modality": "MR", "SeriesDescription": "3-plane loc", "SeriesNumber": 2}
        elements |= {"ImageOrientationPatient": orientation, "ImagePositionPatient": place}
        data = dataset(PIXELS, SeriesInstanceUID=f"{UID}2", **elements)
        save(data, tmp_path / f"scout{index}")
    assert len(find_scans([tmp_path])) == (1 if is_scout else 2)
    assert sorted(reasons(tmp_path)) == (["scout0", "scout1"] if is_scout else [])


def test_radiographs_beside_a_report_and_a_series(tmp_path: Path) -> None:
    elements = {"SOPClassUID": DigitalXRayImageStorageForPresentation, "Modality": "DX"} | NO_POSITION
    save(dataset(PIXELS, **elements), tmp_path / "front.dcm")
    report(tmp_path / "report.dcm")
    folder = stack(tmp_path, 3)
    scans = find_scans([folder])
    assert [(scan.id, scan.images[0].name) for scan in scans] == [("front", "front.dcm"), (folder.name, folder.name)]
    assert [*reasons(folder)] == ["report.dcm"]


def test_a_medium_with_its_directory_file(tmp_path: Path) -> None:
    medium = FileSet()
    for number in (1, 2):
        for index, data in enumerate(series(np.full((3, 6, 8), number, np.int16), SeriesInstanceUID=f"{UID}{number}")):
            data.StudyInstanceUID, data.StudyDate, data.StudyTime = f"{UID}50", "20200101", "10"
            data.StudyID, data.SeriesNumber, data.AccessionNumber = "1", number, ""
            medium.add(save(data, tmp_path / f"loose{number}{index}"))
    medium.write(tmp_path / "cd")
    medium._stage["t"].cleanup()  # pydicom leaves its temporary folder to the collector, which warns
    assert sorted(values(tmp_path / "cd").values()) == [1, 2]
    assert reasons(tmp_path / "cd") == {"DICOMDIR": "a DICOMDIR, which lists the files of a medium"}
    assert find_scans([tmp_path / "cd" / "DICOMDIR"]) == find_scans([tmp_path / "cd"])


def test_what_cannot_be_read_is_not_lost(tmp_path: Path) -> None:
    """A cut file is a slice of the only series, which then fails to be read; beside several series it is a scan that fails."""
    folder = stack(tmp_path / "case", 1)
    cut = folder / "cut"
    cut.write_bytes((folder / "IM10").read_bytes()[:250])
    assert [scan.id for scan in find_scans([folder])] == ["case"]
    stack(folder, 2)
    assert {scan.id for scan in find_scans([folder])} == {"case_1", "case_2", "cut"}


def test_a_folder_of_documents_holds_no_scan(tmp_path: Path) -> None:
    report(tmp_path / "only" / "a")
    data = dataset(PIXELS, SOPClassUID=EncapsulatedPDFStorage, Modality="DOC", **NO_POSITION)
    del data.PixelData, data.Rows, data.Columns
    save(data, tmp_path / "only" / "b")
    with pytest.raises(MissingFileError, match=r"holds no image to segment \(1 left out: .*SR Storage; 1 left out: .*PDF"):
        find_scans([tmp_path / "only"])


def test_the_plan_says_what_is_left_out_and_why(tmp_path: Path) -> None:
    stack(tmp_path, 1)
    for name in "abcd":
        report(tmp_path / name)
    localizer(tmp_path / "scout")
    assert survey_inputs([tmp_path]).reasons() == [
        "4 left out (DICOM without an image to segment: Comprehensive SR Storage): a, b, c and 1 more",
        "1 left out (a localizer, by its ImageType): scout",
    ]
