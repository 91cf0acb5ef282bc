"""The real SEG and RTSTRUCT files, read, written again in every form, and compared label by label."""

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, generate_uid

import voxelry
from helpers.written import FORMATS, dicom_object
from voxelry.errors import ExportError, GridMismatchError, MissingFileError, UnsupportedFormatError, UsageError, VoxelryError

pytestmark = pytest.mark.realdata

_DCMQI = "dicom/dev/dcmqi_seg/data/segmentations"
_HIGHDICOM = "dicom/dev/highdicom_testfiles/data/test_files"
_RTUTILS = "dicom/dev/rtutils_rtstruct/tests"

WITH_SOURCE = {
    f"{_DCMQI}/23x38x3/seg/label.seg": f"{_DCMQI}/23x38x3/image",
    f"{_DCMQI}/24x38x3/seg/label.seg": f"{_DCMQI}/24x38x3/image",
    f"{_DCMQI}/liver.dcm": f"{_DCMQI}/ct-3slice",
    f"{_DCMQI}/partial_overlaps.dcm": f"{_DCMQI}/ct-3slice",
    f"{_DCMQI}/sparse-labelmap-noppv.dcm": f"{_DCMQI}/24x38x3/image",
    f"{_DCMQI}/sparse-labelmap-ppv5.dcm": f"{_DCMQI}/24x38x3/image",
    f"{_HIGHDICOM}/seg_image_ct_binary_single_frame.dcm": f"{_HIGHDICOM}/ct_image.dcm",
    f"{_RTUTILS}/mock_data/rt.dcm": f"{_RTUTILS}/mock_data",
}
"""Objects and the series they were drawn on."""

WITHOUT_SOURCE = (
    "seg_image_cr_binary.dcm", "seg_image_ct_binary.dcm", "seg_image_ct_binary_overlap.dcm", "seg_image_ct_binary_fractional.dcm",
    "seg_image_ct_true_fractional.dcm",
)  # fmt: skip
TILED = "seg_image_sm_*.dcm"
NOT_ON_ITS_IMAGE = {
    "dicom/dev/dicompyler_rtstruct/tests/testdata/example_data/rtss.dcm": GridMismatchError,  # one slice of many is there
    f"{_RTUTILS}/empty/dummy_rt.dcm": GridMismatchError,
    f"{_RTUTILS}/mock_data/invalid_reference_rt.dcm": GridMismatchError,
    f"{_RTUTILS}/mock_data/non_existent_reference_rt.dcm": MissingFileError,
}
TARGETS = ("dicom-seg", "rtstruct", "seg-nrrd", "nifti", "nrrd", "metaimage")
ONE_LAYER = ("nifti", "nrrd", "metaimage")
NAMELESS = ("nrrd", "metaimage")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("file", WITH_SOURCE)
def test_an_object_written_again_holds_the_same_labels(realdata, tmp_path, file, target):
    mask, series = realdata / file, realdata / WITH_SOURCE[file]
    scan = voxelry.read(series)
    before = voxelry.read_labels(mask, **({"reference": scan} if dicom_object(mask) == "rtstruct" else {})).on_grid(scan.geometry)
    out = tmp_path / f"again{FORMATS[target].ending}"
    if len(before.layers) > 1 and target in ONE_LAYER:
        with pytest.raises(VoxelryError, match="overlap"):
            voxelry.convert(mask, out, reference=series)
        return
    done = voxelry.convert(mask, out, reference=series)
    after = voxelry.read_labels(done.path, **({"reference": scan} if target == "rtstruct" else {})).on_grid(scan.geometry)
    assert done.losses == ()
    if target in NAMELESS:
        np.testing.assert_array_equal(after.array, before.array)
        return
    assert set(after.table.names) == set(before.table.names)
    for label in before.table.labels:
        np.testing.assert_array_equal(after.mask(label.name), before.mask(label.name), label.name)
        now = after.table[label.name]
        if label.type is not None:
            assert (now.type.value, now.type.scheme) == (label.type.value, label.type.scheme)
            assert (now.modifier is None) == (label.modifier is None)
        if label.color is not None:
            assert np.abs(np.subtract(now.color, label.color)).max() <= 2


@pytest.mark.parametrize("name", WITHOUT_SOURCE)
def test_without_their_images_objects_become_what_needs_none(realdata, tmp_path, name):
    mask = realdata / _HIGHDICOM / name
    threshold = 0.5 if "fractional" in name else None
    before = voxelry.read_labels(mask, threshold=threshold)
    target = tmp_path / ("out.nrrd" if before.geometry.ndim == 2 else "out.seg.nrrd")
    after = voxelry.read_labels(voxelry.convert(mask, target, threshold=threshold).path)
    for label in before.table.labels:
        found = after.mask(label.name if label.name in after.table.names else label.value)
        np.testing.assert_array_equal(found, before.mask(label.name))
    for ending in (".seg.dcm", ".rtstruct.dcm"):
        with pytest.raises(UsageError, match="--reference"):
            voxelry.convert(mask, tmp_path / f"out{ending}", threshold=threshold)
    with pytest.raises(GridMismatchError):
        voxelry.convert(mask, tmp_path / "out.seg.dcm", reference=realdata / _DCMQI / "ct-3slice", threshold=threshold)
    assert [path.name for path in tmp_path.glob("[!.]*")] == [target.name]


@pytest.mark.parametrize("file", NOT_ON_ITS_IMAGE)
def test_structures_whose_images_are_absent_are_refused(realdata, tmp_path, file):
    with pytest.raises(NOT_ON_ITS_IMAGE[file]):
        voxelry.convert(realdata / file, tmp_path / "out.nii.gz")
    assert list(tmp_path.iterdir()) == []


def test_microscopy_is_refused(realdata, tmp_path):
    files = sorted((realdata / _HIGHDICOM).glob(TILED))
    assert files
    for file in files:
        with pytest.raises(UnsupportedFormatError, match="tiled"):
            voxelry.convert(file, tmp_path / "out.seg.nrrd")


def test_every_real_object_is_tried(realdata):
    found = {path.relative_to(realdata).as_posix() for path in (realdata / "dicom").rglob("*") if _is_object(path)}
    tried = {*WITH_SOURCE, *NOT_ON_ITS_IMAGE, *(f"{_HIGHDICOM}/{name}" for name in WITHOUT_SOURCE)}
    tried |= {path.relative_to(realdata).as_posix() for path in (realdata / _HIGHDICOM).glob(TILED)}
    assert found == tried


def _is_object(path) -> bool:
    return path.is_file() and path.suffix in (".dcm", ".seg") and bool(dicom_object(path))


# What a network made of a real scan: TotalSegmentator's own results on its DICOM example


@pytest.mark.slow
def test_a_real_result_lands_on_its_real_series(realdata, tmp_path):
    mask, stripped = (realdata / "ct_totalsegmentator" / name for name in ("example_seg_dicom.nii.gz", "example_ct_dicom"))
    with pytest.raises(ExportError, match=r"no SOPClassUID.*Write NIfTI"):
        voxelry.convert(mask, tmp_path / "out.seg.dcm", reference=stripped)
    series = _with_uids(stripped, tmp_path / "series")
    scan = voxelry.read(series)
    stored = voxelry.read_labels(mask)
    assert (stored.geometry.orientation, scan.geometry.orientation) == ("LAS", "LPS")
    before = stored.on_grid(scan.geometry)
    for name in ("dicom-seg", "rtstruct"):
        done = voxelry.convert(mask, tmp_path / f"out{FORMATS[name].ending}", reference=series)
        after = voxelry.read_labels(done.path, **({"reference": scan} if name == "rtstruct" else {})).on_grid(scan.geometry)
        assert len(done.labels) == 31
        for label in done.labels:
            np.testing.assert_array_equal(after.mask(label), before.mask(label))


def _with_uids(stripped, folder):
    """A copy of the series with the UIDs that its publisher emptied."""
    folder.mkdir()
    study, series = generate_uid(), generate_uid()
    for number, file in enumerate(sorted(stripped.iterdir())):
        data = dcmread(file)
        data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, data.file_meta.MediaStorageSOPInstanceUID
        data.StudyInstanceUID, data.SeriesInstanceUID = study, series
        data.save_as(folder / f"{number}.dcm")
    return folder


def test_a_real_folder_of_organs_becomes_one_segmentation(realdata, tmp_path):
    folder = realdata / "ct_totalsegmentator" / "example_seg_fast"
    done = voxelry.convert(folder, tmp_path / "organs.seg.nrrd")
    found = voxelry.read_labels(done.path)
    for file in folder.glob("*.nii.gz"):
        expected = voxelry.read_labels(file).on_grid(found.geometry).array > 0
        np.testing.assert_array_equal(found.mask(file.name.removesuffix(".nii.gz")), expected, file.name)
    assert found.table["kidney_left"].type.value == "64033007"
