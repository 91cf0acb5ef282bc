"""The resampled scan as a series of its own: values, place, identity."""

from dataclasses import replace

import numpy as np
import pytest
from pydicom import dcmread

import voxelry
from helpers.ct_series import ct_series, odd_series
from helpers.sources import TILTED, headers, volume
from voxelry.errors import ExportError
from voxelry.formats.dicom.objects.resampled_series import write_resampled


@pytest.fixture(scope="module")
def upright(tmp_path_factory):
    """A tilted series, read onto an upright grid."""
    folder = tmp_path_factory.mktemp("tilted")
    volume(TILTED, folder)
    return voxelry.read(folder / f"source-{TILTED}", repair="tilt")


def test_it_is_read_back_as_it_was(upright, tmp_path):
    found = voxelry.read(write_resampled(upright, tmp_path / "out.series"))
    assert found.geometry.same_grid(upright.geometry)
    assert found.array.dtype == upright.array.dtype
    np.testing.assert_array_equal(found.array, upright.array)


def test_fractions_are_kept_to_a_65535th(upright, tmp_path):
    floats = replace(upright, pixels=upright.array.astype(np.float32) * np.float32(0.37) + np.float32(0.2))
    found = voxelry.read(write_resampled(floats, tmp_path / "out.series"))
    step = np.ptp(floats.array) / 65535
    np.testing.assert_allclose(found.array, floats.array, atol=0.51 * step)
    flat = replace(upright, pixels=np.full(upright.shape, 2.5, np.float32))
    np.testing.assert_allclose(voxelry.read(write_resampled(flat, tmp_path / "flat.series")).array, 2.5, atol=1e-3)


def test_patient_and_frame_stay_and_uids_depend_on_what_is_written(upright, tmp_path):
    made = [dcmread(file) for file in sorted(write_resampled(upright, tmp_path / "a.series").iterdir())]
    again = [dcmread(file) for file in sorted(write_resampled(upright, tmp_path / "b.series").iterdir())]
    brighter = replace(upright, pixels=upright.array + np.int16(1))
    other = [dcmread(file) for file in sorted(write_resampled(brighter, tmp_path / "c.series").iterdir())]
    first = headers(upright)[0]
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID", "Modality"):
        assert made[0][keyword].value == first[keyword].value
    assert made[0].SeriesInstanceUID not in (first.SeriesInstanceUID, other[0].SeriesInstanceUID)
    assert [one.SOPInstanceUID for one in made] == [one.SOPInstanceUID for one in again]
    assert len({one.SOPInstanceUID for one in made + other}) == 2 * len(made)
    named = {item.ReferencedSOPInstanceUID for item in made[0].SourceImageSequence}
    assert named == {header.SOPInstanceUID for header in headers(upright)}


def _tilted(header, k):
    header.ImagePositionPatient = [-31.25, 40.5 + 0.9 * k, -512.125 + 2.5 * k]


@pytest.mark.parametrize("keyword", ["PatientBirthDate", "StudyDate", "StudyTime", "PatientSex", "SeriesNumber", "PatientID"])
@pytest.mark.parametrize("differ", [False, True])
def test_one_series_comes_of_odd_tags(tmp_path, keyword, differ):
    """An anonymiser's text, in all slices or in all but the first."""

    if differ and keyword in ("PatientBirthDate", "PatientID"):
        pytest.skip("two patients are two volumes")
    odd_series(tmp_path, {keyword: b"ANON"}, first=not differ, change=_tilted)
    scan = voxelry.read(tmp_path, repair="tilt")
    found = voxelry.read(write_resampled(scan, tmp_path / "out.series"))
    assert found.geometry.same_grid(scan.geometry)
    written = [dcmread(file) for file in sorted((tmp_path / "out.series").iterdir())]
    assert len({str(header.get(keyword)) for header in written}) == 1


def test_a_single_value_of_image_type_is_no_list_of_letters(tmp_path):
    def change(header, k):
        _tilted(header, k)
        header.ImageType = "ORIGINAL"

    ct_series(tmp_path, change=change)
    out = write_resampled(voxelry.read(tmp_path, repair="tilt"), tmp_path / "out.series")
    assert list(dcmread(out / "0001.dcm").ImageType) == ["DERIVED", "SECONDARY"]


def test_what_is_refused(upright, tmp_path):
    two = replace(upright, pixels=np.concatenate([upright.array] * 2), channels=2)
    with pytest.raises(ExportError, match="2 channels"):
        write_resampled(two, tmp_path / "out.series")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(ExportError, match="other files"):
        write_resampled(upright, tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"
