import numpy as np
import pydicom
import pytest
import SimpleITK

from helpers.ct_series import x_ray
from helpers.sources import SECRET_ID, SOURCES, TABLE, TILTED, headers, labels, volume
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Window
from voxelry.errors import ExportError, GridMismatchError
from voxelry.formats.dicom.objects.secondary_capture import write_secondary_capture
from voxelry.formats.reader import read_labels

RED = LabelTable(labels=(Label(value=1, name="organ", color=(255, 0, 0)),))


def pictures(folder):
    """``(slices, rows, columns, 3)`` decoded by pydicom, in the order of instance numbers."""
    stored = sorted((pydicom.dcmread(file) for file in folder.iterdir()), key=lambda one: one.InstanceNumber)
    return stored, np.stack([one.pixel_array for one in stored])


def coloured(frames):
    return np.ptp(frames.astype(int), axis=-1) > 0


@pytest.mark.parametrize("kind", [*SOURCES, TILTED])
def test_colour_is_where_a_label_is_and_nowhere_else(tmp_path, dciodvfy, kind):
    source = volume(kind, tmp_path)
    made = labels(source.geometry)
    folder = write_secondary_capture(made, source, tmp_path / "case.sc")
    stored, frames = pictures(folder)
    assert all(dciodvfy(file) == [] for file in list(folder.iterdir())[:2])
    np.testing.assert_array_equal(coloured(frames), made.layers.any(axis=0).T)
    assert len({one.SOPInstanceUID for one in stored}) == len(stored) == source.geometry.shape[2]
    assert len({one.SeriesInstanceUID for one in stored}) == 1
    first = headers(source)[0]
    for k, one in enumerate(stored):
        assert (one.StudyInstanceUID, one.PatientID) == (first.StudyInstanceUID, SECRET_ID)
        assert one.FrameOfReferenceUID == first.FrameOfReferenceUID
        shown = one.SourceImageSequence[0]
        uid, frame = source.source.instances[k]
        assert shown.ReferencedSOPInstanceUID == uid
        assert shown.get("ReferencedFrameNumber") == (frame if kind == "enhanced" else None)
        assert "Laterality" in one


@pytest.mark.parametrize("kind", ["sagittal", "oblique"])
def test_pictures_stand_in_the_planes_of_their_slices(tmp_path, kind):
    """Without the label, grey is the scan's, voxel for voxel; with positions by pydicom, the source's."""
    source = volume(kind, tmp_path)
    folder = write_secondary_capture(labels(source.geometry), source, tmp_path / "case.sc")
    by_instance = {one.SOPInstanceUID: one for one in headers(source)}
    for one in pictures(folder)[0]:
        slice_ = by_instance[one.SourceImageSequence[0].ReferencedSOPInstanceUID]
        np.testing.assert_allclose(np.array(one.ImagePositionPatient, float), np.array(slice_.ImagePositionPatient, float))
        np.testing.assert_allclose(
            np.array(one.ImageOrientationPatient, float), np.array(slice_.ImageOrientationPatient, float), atol=1e-9
        )
        np.testing.assert_allclose(np.array(one.PixelSpacing, float), np.array(slice_.PixelSpacing, float))


def test_grey_is_the_window_and_insides_are_tinted(tmp_path):
    source = volume("axial", tmp_path)
    array = np.zeros(source.geometry.shape, np.uint8)
    array[4:9, 4:9, 2] = 1
    _, frames = pictures(write_secondary_capture(LabelMap.of(array, source.geometry, RED), source, tmp_path / "a.sc"))
    grey = np.rint(np.clip((source.array[0] + 160) / 400, 0, 1) * 255).astype(np.uint8)
    np.testing.assert_array_equal(frames[0, ..., 0], grey[:, :, 0].T)
    assert frames[2, 4, 4].tolist() == [255, 0, 0]
    value = float(np.clip((source.array[0, 6, 6, 2] + 160) / 400, 0, 1) * 255)
    expected = np.rint([value + 0.35 * (255 - value), 0.65 * value, 0.65 * value])
    np.testing.assert_array_equal(frames[2, 6, 6], expected)
    stated = type(source)(
        source.array, source.geometry, modality="CT", source=source.source, windows=(Window(center=-430.0, width=1000.0),)
    )
    _, frames = pictures(write_secondary_capture(LabelMap.of(array, source.geometry, RED), stated, tmp_path / "b.sc"))
    wide = np.rint(np.clip((source.array[0].astype(float) + 930) / 1000, 0, 1) * 255)
    np.testing.assert_allclose(frames[0, ..., 1], wide[:, :, 0].T, atol=1)


def test_grey_values_of_any_size_are_drawn_alike(tmp_path):
    source = volume("axial", tmp_path)
    empty = LabelMap.of(np.zeros(source.geometry.shape, np.uint8), source.geometry, RED)
    drawn = []
    for scale in (1, 1e-9, 0):
        scaled = type(source)(source.array * np.float32(scale), source.geometry, modality="MR", source=source.source)
        drawn.append(pictures(write_secondary_capture(empty, scaled, tmp_path / f"{scale}.sc"))[1].astype(int))
    np.testing.assert_allclose(drawn[1], drawn[0], atol=1)
    assert drawn[0].std() > 10
    assert not drawn[2].any()


def test_a_projection(tmp_path, dciodvfy):
    source = x_ray(tmp_path)
    array = np.zeros(source.geometry.shape, np.uint8)
    array[2:5, 1:7] = 1
    folder = write_secondary_capture(LabelMap.of(array, source.geometry, RED), source, tmp_path / "x.sc")
    (file,) = folder.iterdir()
    assert dciodvfy(file) == []
    np.testing.assert_array_equal(coloured(pictures(folder)[1])[0], array != 0)


def test_refusals(tmp_path):
    source = volume("axial", tmp_path)
    made = labels(source.geometry)
    (tmp_path / "mine.sc").mkdir()
    (tmp_path / "mine.sc" / "thesis.txt").touch()
    with pytest.raises(ExportError, match="other files"):
        write_secondary_capture(made, source, tmp_path / "mine.sc")
    elsewhere = Geometry.from_spacing(made.geometry.shape, (1, 1, 1))
    with pytest.raises(GridMismatchError):
        write_secondary_capture(LabelMap(made.layers, elsewhere, TABLE), source, tmp_path / "x.sc")
    assert not (tmp_path / "x.sc").exists()


@pytest.mark.parametrize("kind", ["axial", "sagittal", "coronal", "oblique", "anisotropic"])
def test_the_overlay_lands_where_the_organ_is(tmp_path, kind):
    """From the scanner's files to a screenshot, by others' hands: ITK finds the organ and writes the mask, pydicom looks.

    Every coloured pixel of every picture lies on a warm pixel of the slice that the picture says it shows, and none is missed.
    """
    source = volume(kind, tmp_path)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / f"source-{kind}")))
    SimpleITK.WriteImage(reader.Execute() > -100, str(tmp_path / "organ.nii.gz"))
    organ = read_labels(tmp_path / "organ.nii.gz", RED)
    stored, frames = pictures(write_secondary_capture(organ, source, tmp_path / "case.sc"))
    scan = {header.SOPInstanceUID: header for header in map(pydicom.dcmread, source.source.files)}
    for one, frame in zip(stored, frames, strict=True):
        shown = scan[one.SourceImageSequence[0].ReferencedSOPInstanceUID].pixel_array
        np.testing.assert_array_equal(coloured(frame), shown > -100)
        assert one.InstanceNumber == 1 + source.source.instances.index((one.SourceImageSequence[0].ReferencedSOPInstanceUID, 1))
