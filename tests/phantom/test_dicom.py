from dataclasses import replace
from functools import lru_cache

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from voxelry.errors import ExportError
from voxelry.phantom.dataset import PICTURES
from voxelry.phantom.dicom import write_dicom
from voxelry.phantom.phantom import ACQUISITIONS, make_phantom

SMALL = {
    "torso-ct": {"spacing": (8.0, 7.0, 20.0)},
    "spine-mri": {"spacing": (6.0, 5.0, 20.0)},
    "chest-xray": {"spacing": (6.0, 4.0, 12.0)},
    "chest-xray-heart": {"spacing": (6.0, 4.0, 12.0)},
    "dental-panoramic": {"spacing": (2.0, 1.5, 1.0)},
    "spine-discs": {"spacing": (6.0, 5.0, 20.0)},
}


@lru_cache
def small(kind, **change):
    return make_phantom(kind, 7, replace(ACQUISITIONS[kind], **SMALL[kind] | change))


def read_folder(folder):
    return sorted((pydicom.dcmread(file) for file in folder.iterdir()), key=lambda data: data.InstanceNumber)


def itk_series(folder):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return np.diag([-1, -1, 1, 1]) @ affine, sitk.GetArrayFromImage(image).transpose(2, 1, 0)


@pytest.mark.parametrize("rotation", [(0.0, 0.0, 0.0), (7.0, -4.0, 11.0)])
@pytest.mark.parametrize("kind", ["torso-ct", "spine-mri"])
def test_itk_reads_the_same_grid_and_values(kind, rotation, tmp_path):
    found = small(kind, rotation=rotation)
    for channel, folder in enumerate(write_dicom(found, tmp_path / "case")):
        affine, values = itk_series(folder)
        np.testing.assert_allclose(affine, found.volume.geometry.affine, atol=1e-4)
        np.testing.assert_array_equal(values, found.volume.array[channel])


def test_values_are_exact_after_rescale_and_positions_are_the_grids(tmp_path):
    found = small("torso-ct", tilt=14.0)
    (folder,) = write_dicom(found, tmp_path / "case")
    slices = read_folder(folder)
    assert len({data.SOPInstanceUID for data in slices}) == len(slices) == found.volume.geometry.shape[2]
    for index, data in enumerate(slices):
        hu = data.pixel_array * float(data.RescaleSlope) + float(data.RescaleIntercept)
        np.testing.assert_array_equal(hu.T, found.volume.array[0, :, :, index])
        position = found.volume.geometry.world((0, 0, index)) * (-1, -1, 1)
        np.testing.assert_allclose(np.array(data.ImagePositionPatient, float), position, atol=1e-6)
        assert float(data.GantryDetectorTilt) == 14
        assert float(data.SliceThickness) == pytest.approx(20 * np.cos(np.radians(14)))
        assert [float(size) for size in data.PixelSpacing] == pytest.approx([7, 8])
    normal = np.cross(*np.reshape(np.array(slices[0].ImageOrientationPatient, float), (2, 3)))
    step = np.subtract(slices[1].ImagePositionPatient, slices[0].ImagePositionPatient).astype(float)
    assert np.degrees(np.arccos(step @ normal / np.linalg.norm(step))) == pytest.approx(14, abs=1e-3)


@pytest.mark.parametrize("kind", list(SMALL))
def test_every_file_says_it_is_synthetic_and_names_one_patient(kind, tmp_path):
    found = small(kind)
    write_dicom(found, tmp_path / "case.dcm")
    files = [tmp_path / "case.dcm"] if kind in PICTURES else list((tmp_path / "case.dcm").rglob("*.dcm"))
    headers = [pydicom.dcmread(file) for file in files]
    assert {str(data.PatientName).split("^")[0] for data in headers} == {"PHANTOM"}
    assert len({(data.PatientID, data.StudyInstanceUID) for data in headers}) == 1
    for data in headers:
        assert "SYNTHETIC PHANTOM" in data.SeriesDescription
        assert "SYNTHETIC PHANTOM" in data.ImageComments
        assert data.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
        assert data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID


def test_the_same_phantom_gives_the_same_files(tmp_path):
    for name in ("one", "two"):
        write_dicom(small("torso-ct"), tmp_path / name)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_acquisitions_of_a_patient_share_the_world_and_nothing_below(tmp_path):
    plain, turned = small("torso-ct"), small("torso-ct", rotation=(7.0, -4.0, 11.0))
    one, two = (read_folder(write_dicom(found, tmp_path / str(i))[0])[0] for i, found in enumerate((plain, turned)))
    assert one.FrameOfReferenceUID == two.FrameOfReferenceUID
    assert one.StudyInstanceUID == two.StudyInstanceUID
    assert one.SeriesInstanceUID != two.SeriesInstanceUID
    assert one.SOPInstanceUID != two.SOPInstanceUID


def test_a_chest_x_ray_is_one_file_with_its_pixel_size(tmp_path):
    found = small("chest-xray")
    (file,) = write_dicom(found, tmp_path / "chest.dcm")
    data = pydicom.dcmread(file)
    np.testing.assert_array_equal(data.pixel_array, found.volume.array[0])
    assert [float(size) for size in data.ImagerPixelSpacing] == [4, 6]
    assert data.PhotometricInterpretation == "MONOCHROME2"
    assert list(data.PatientOrientation) == ["L", "F"]


def test_a_folder_with_other_files_is_not_replaced(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ExportError, match=r"notes\.txt"):
        write_dicom(small("torso-ct"), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_a_series_replaces_a_series(tmp_path):
    write_dicom(small("torso-ct"), tmp_path / "case")
    write_dicom(small("spine-mri"), tmp_path / "case")
    assert sorted(file.name for file in (tmp_path / "case").iterdir()) == ["fat", "in-phase", "opposed-phase", "water"]


def test_a_file_in_the_way_of_a_folder_and_the_other_way_round(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="is a file, where"):
        write_dicom(small("torso-ct"), tmp_path / "file")
    with pytest.raises(ExportError, match="is a folder, where"):
        write_dicom(small("chest-xray"), tmp_path)


@pytest.mark.parametrize("kind", list(SMALL))
def test_an_independent_validator_finds_no_error(kind, tmp_path, dciodvfy):
    for path in write_dicom(small(kind), tmp_path / "case.dcm"):
        assert dciodvfy(path if path.is_file() else path / "IM0001.dcm") == []
