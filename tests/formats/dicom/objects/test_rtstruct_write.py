import logging
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from skimage.measure import points_in_poly

from helpers.ct_series import x_ray
from helpers.sources import SECRET_ID, SECRET_NAME, SOURCES, TABLE, TILTED, headers, labels, volume
from voxelry.core.geometry import Geometry, Reindex
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import ExportError, GridMismatchError, LabelError
from voxelry.formats.dicom.objects.rtstruct_write import decimal_string, write_rtstruct
from voxelry.formats.dicom.objects.segment_descriptions import Algorithm
from voxelry.formats.reader import read, read_labels

EMPTY = "Körper (empty)"


def filled(path, source):
    """Masks by ROI name: pixel centres within each contour, in the plane of the image (or frame) that it names.

    By the source's headers and scikit-image alone; nothing of ours is used.
    """
    planes = {}
    for header in headers(source):
        frames = header.get("PerFrameFunctionalGroupsSequence") or [None]
        for number, frame in enumerate(frames, start=1):
            shared = header.SharedFunctionalGroupsSequence[0] if frame else None
            position = frame.PlanePositionSequence[0] if frame else header
            orientation = shared.PlaneOrientationSequence[0] if frame else header
            spacing = shared.PixelMeasuresSequence[0] if frame else header
            planes[header.SOPInstanceUID, number if frame else None] = (
                np.array(position.ImagePositionPatient, float),
                np.array(orientation.ImageOrientationPatient, float).reshape(2, 3)
                * np.array([[spacing.PixelSpacing[1]], [spacing.PixelSpacing[0]]], float),
            )
    slices = {(uid, frame): k for k, (uid, frame) in enumerate(source.source.instances)}
    columns, rows, _ = source.geometry.shape
    centres = np.stack(np.meshgrid(np.arange(columns), np.arange(rows), indexing="ij"), -1).reshape(-1, 2)
    stored = pydicom.dcmread(path)
    names = {roi.ROINumber: roi.ROIName for roi in stored.StructureSetROISequence}
    found = {}
    for drawn in stored.ROIContourSequence:
        mask = found.setdefault(names[drawn.ReferencedROINumber], np.zeros(source.geometry.shape, bool))
        for contour in drawn.get("ContourSequence", []):
            image = contour.ContourImageSequence[0]
            key = image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber")
            origin, steps = planes[key]
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            assert len(points) == contour.NumberOfContourPoints
            off = (points - origin) @ np.cross(*steps) / np.linalg.norm(np.cross(*steps))
            assert np.abs(off).max() < 1e-5
            plane = (points - origin) @ np.linalg.pinv(steps)
            mask[:, :, slices[key[0], key[1] or 1]] |= points_in_poly(centres, plane).reshape(columns, rows)
    return found


@pytest.mark.parametrize("kind", [*SOURCES, TILTED])
def test_masks_come_back_from_the_contours(tmp_path, dciodvfy, kind):
    source = volume(kind, tmp_path)
    made = labels(source.geometry)
    path = write_rtstruct(made, source, tmp_path / "out.rtstruct.dcm")
    assert dciodvfy(path) == []
    found = filled(path, source)
    assert list(found) == list(TABLE.names)
    for name in TABLE.names:
        np.testing.assert_array_equal(found[name], made.mask(name), err_msg=name)


@pytest.mark.parametrize("kind", ["axial", "oblique", "anisotropic", "enhanced", "single"])
def test_plastimatch_reads_the_same_voxels(tmp_path, plastimatch, kind):
    """It cannot read sagittal, coronal and tilted series: it looks for slices along z. There `filled` and our reader stand."""
    source = volume(kind, tmp_path)
    made = labels(source.geometry)
    path = write_rtstruct(made, source, tmp_path / "out.rtstruct.dcm")
    grid = tmp_path / "grid.nii.gz"
    nib.save(nib.Nifti1Image(source.array[0], source.geometry.affine), grid)
    where = ["--fixed", grid] if kind in ("enhanced", "single") else ["--referenced-ct", tmp_path / f"source-{kind}"]
    plastimatch("convert", "--input", path, *where, "--output-prefix", tmp_path / "pm", "--prefix-format", "nii.gz")
    for name in TABLE.names:
        if name == EMPTY:
            assert not (tmp_path / "pm" / f"{name}.nii.gz").exists()
            continue
        image = nib.load(tmp_path / "pm" / f"{name}.nii.gz")
        array = np.asanyarray(image.dataobj).reshape(image.shape[:3])
        found = LabelMap.of(array, Geometry(array.shape, image.affine), LabelTable.numbered([1])).on_grid(source.geometry)
        np.testing.assert_array_equal(found.array != 0, made.mask(name), err_msg=name)


@pytest.mark.parametrize("kind", [*SOURCES, TILTED])
def test_our_reader_reads_the_same_voxels(tmp_path, kind):
    source = volume(kind, tmp_path)
    made = labels(source.geometry)
    path = write_rtstruct(made, source, tmp_path / "out.rtstruct.dcm")
    found = read_labels(path, TABLE, reference=source).on_grid(source.geometry)
    for name in TABLE.names:
        np.testing.assert_array_equal(found.mask(name), made.mask(name), err_msg=name)


def test_the_set_says_what_and_whose_it_is(tmp_path):
    source = volume("axial", tmp_path)
    path = write_rtstruct(labels(source.geometry), source, tmp_path / "o.dcm", algorithm=Algorithm("net", "2"))
    stored, header = pydicom.dcmread(path), headers(source)[0]
    assert (str(stored.PatientName), stored.PatientID) == (SECRET_NAME, SECRET_ID)
    assert stored.StudyInstanceUID == header.StudyInstanceUID
    assert stored.SeriesInstanceUID != header.SeriesInstanceUID
    frame = stored.ReferencedFrameOfReferenceSequence[0]
    assert frame.FrameOfReferenceUID == stored.FrameOfReferenceUID == header.FrameOfReferenceUID
    series = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == header.SeriesInstanceUID
    named = [item.ReferencedSOPInstanceUID for item in series.ContourImageSequence]
    assert sorted(named) == sorted(uid for uid, _ in source.source.instances)
    for number, label in enumerate(TABLE.labels, start=1):
        roi, drawn = stored.StructureSetROISequence[number - 1], stored.ROIContourSequence[number - 1]
        seen = stored.RTROIObservationsSequence[number - 1]
        assert roi.ROINumber == drawn.ReferencedROINumber == seen.ReferencedROINumber == number
        assert (roi.ROIName, roi.ROIGenerationAlgorithm) == (label.name, "AUTOMATIC")
        assert roi.ROIGenerationDescription == "net 2"
        assert tuple(drawn.ROIDisplayColor) == label.rgb
        code = seen.RTROIIdentificationCodeSequence[0]
        assert label.type is None or code.CodeValue == label.type.value
        assert [item.CodeValue for item in code.get("SegmentedPropertyTypeModifierCodeSequence", [])] == (
            [label.modifier.value] if label.modifier else []
        )
    assert stored.RTROIObservationsSequence[0].RTROIInterpretedType == "ORGAN"
    assert not stored.RTROIObservationsSequence[4].RTROIInterpretedType
    voxel = float(np.prod([0.7, 0.9, 2.5])) / 1000
    assert float(stored.StructureSetROISequence[0].ROIVolume) == pytest.approx(512 * voxel)
    empty = stored.ROIContourSequence[TABLE.names.index(EMPTY)]
    assert "ContourSequence" not in empty


def test_instances_are_structures_of_their_own(tmp_path):
    source = volume("axial", tmp_path)
    array = np.zeros((1, *source.geometry.shape), np.uint8)
    array[0, 2:4, 2:4, 1], array[0, 8:12, 6:9, 2:5] = 1, 1
    ids = np.where(array > 0, 4, 0).astype(np.uint32)
    ids[0, 8:12, 6:9, 2:5] = 9
    table = LabelTable(labels=(Label(value=1, name="lesion", kind="thing"),))
    path = write_rtstruct(LabelMap(array, source.geometry, table, instances=ids), source, tmp_path / "o.dcm")
    found = filled(path, source)
    assert list(found) == ["lesion 4", "lesion 9"]
    np.testing.assert_array_equal(found["lesion 9"], ids[0] == 9)


def test_a_flipped_and_permuted_mask_is_put_back(tmp_path):
    source = volume("coronal", tmp_path)
    made, change = labels(source.geometry), Reindex((2, 0, 1), (True, False, True))
    turned = LabelMap(change.apply(made.layers), made.geometry.reindexed(change), TABLE)
    found = filled(write_rtstruct(turned, source, tmp_path / "o.dcm"), source)
    np.testing.assert_array_equal(found["liver"], made.mask("liver"))


def test_coordinates_fit_a_decimal_string():
    values = np.array([[-512.1234567, 1e-9, -1e-7], [99999.123456789, -123456.7890123, 1 / 3], [1e8 / 3, -1e9 / 7, -0.0]])
    texts = decimal_string(values).decode().strip().split("\\")
    assert max(map(len, texts)) <= 16
    assert "-0" not in texts
    np.testing.assert_allclose([float(text) for text in texts], values.ravel(), atol=5.1e-7, rtol=5e-10)
    assert len(decimal_string(values)) % 2 == 0


def test_a_smooth_contour_states_its_change_of_volume(tmp_path, caplog, dciodvfy):
    source = volume("axial", tmp_path)
    with caplog.at_level(logging.INFO):
        path = write_rtstruct(labels(source.geometry), source, tmp_path / "o.dcm", smooth=True)
    assert dciodvfy(path) == []
    found = filled(path, source)
    for roi in pydicom.dcmread(path).StructureSetROISequence:
        if roi.ROIName == EMPTY:
            assert "ROIDescription" not in roi
            continue
        voxels = labels(source.geometry).mask(roi.ROIName).sum()
        enclosed = float(roi.ROIVolume) / float(np.prod([0.7, 0.9, 2.5])) * 1000
        said = [float(word) for word in roi.ROIDescription.split() if word[0] in "+-"]
        counted = found[roi.ROIName].sum()
        assert said == pytest.approx([(enclosed / voxels - 1) * 100, (counted / voxels - 1) * 100], abs=0.006)
        assert roi.ROIDescription in caplog.text
    assert SECRET_ID not in caplog.text


def test_contours_of_more_than_64_kib(tmp_path):
    """With explicit VR such a value would be written as UN."""
    source = volume("axial", tmp_path)
    number = 70000 // len("-31.25\\40.5\\-512.125\\") + 1
    assert len(decimal_string(np.tile([-31.25, 40.5, -512.125], (number, 1)))) > 65535
    path = write_rtstruct(labels(source.geometry), source, tmp_path / "o.dcm")
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID.is_implicit_VR


def test_refusals(tmp_path):
    source = volume("axial", tmp_path)
    made = labels(source.geometry)
    out = tmp_path / "o.rtstruct.dcm"
    picture = x_ray(tmp_path)
    with pytest.raises(ExportError, match="projection"):
        write_rtstruct(LabelMap.of(np.zeros((7, 8), np.uint8), picture.geometry, TABLE), picture, out)
    with pytest.raises(ExportError, match="table is empty"):
        write_rtstruct(LabelMap(made.layers[:1], made.geometry, LabelTable(labels=())), source, out)
    with pytest.raises(GridMismatchError):
        write_rtstruct(LabelMap(made.layers, Geometry.from_spacing(made.geometry.shape, (1, 1, 1)), TABLE), source, out)
    with pytest.raises(LabelError, match="7"):
        write_rtstruct(LabelMap(made.layers[:1], made.geometry, LabelTable.numbered([3, 1])), source, out)
    with pytest.raises(ExportError, match="memory"):
        write_rtstruct(made, Volume(source.array, source.geometry), out)
    with pytest.raises(ExportError, match="backslash"):
        write_rtstruct(made, source, out, series_description="a\\b")
    gone = replace(source, source=replace(source.source, files=(str(tmp_path / "none"), *source.source.files[1:])))
    with pytest.raises(ExportError) as error:
        write_rtstruct(made, gone, out)
    assert SECRET_NAME not in str(error.value)
    assert not out.exists()


@pytest.mark.realdata
@pytest.mark.parametrize(("folder", "level"), [("slicer_cthead_ge8800/Testing", 250), ("torchio_ct_17slice/tests", 250)])
def test_noisy_structures_of_real_scans(tmp_path, realdata, plastimatch, dciodvfy, folder, level):
    """Thresholded bone: hundreds of specks and holes a slice, none of which may be lost or filled."""
    source = read(realdata / "dicom" / "dev" / folder)
    made = LabelMap.of((source.array[0] > level).astype(np.uint8), source.geometry, LabelTable.numbered([1]))
    path = write_rtstruct(made, source, tmp_path / "out.rtstruct.dcm")
    assert dciodvfy(path) == []
    series = Path(source.source.files[0]).parent
    plastimatch(
        "convert", "--input", path, "--referenced-ct", series, "--output-prefix", tmp_path / "pm", "--prefix-format", "nrrd"
    )
    found = read_labels(tmp_path / "pm" / "label_1.nrrd").on_grid(source.geometry)
    np.testing.assert_array_equal(found.array, made.array)
