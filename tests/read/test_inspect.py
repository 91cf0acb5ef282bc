"""Looking before reading."""

from __future__ import annotations

from dataclasses import astuple

import nibabel
import numpy as np
import pytest
from PIL import Image

from voxelry.errors import MissingFileError, VoxelryError
from voxelry.read.inspect import inspect
from voxelry.read.reader import read


def rows(path):
    return {row.path.rpartition("/")[2]: row for row in inspect(path)}


def test_a_mixed_tree(tmp_path, folder, plain, save_slice, make_slice):
    folder(plain, where="tree/ct")
    nibabel.Nifti1Image(np.zeros((2, 3, 4, 5), np.int16), np.diag([1, 2, 3, 1])).to_filename(tmp_path / "tree" / "scan.nii.gz")
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "tree" / "p.png")
    (tmp_path / "tree" / "notes.txt").write_text("text")
    seg = make_slice(np.zeros((6, 8), np.uint8), Modality="SEG", SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4")
    save_slice(seg, tmp_path / "tree" / "ct" / "seg.dcm")
    found = rows(tmp_path / "tree")
    assert set(found) == {"ct", "scan.nii.gz", "p.png", "notes.txt", "seg.dcm"}
    series = found["ct"]
    assert (series.format, series.modality, series.shape, series.n_files) == ("dicom", "CT", (1, 8, 6, 5), 5)
    assert series.readable
    assert series.spacing == pytest.approx((0.9, 0.7, 2.5))
    assert series.orientation == "LPS"
    assert found["scan.nii.gz"].shape == (5, 2, 3, 4)
    assert found["p.png"].shape == (1, 4, 5)
    assert not found["notes.txt"].readable
    assert "no image format" in found["notes.txt"].reason
    assert "not an image" in found["seg.dcm"].reason


def test_nothing_names_the_patient(folder, plain):
    text = str([astuple(row) for row in inspect(folder(plain))])
    assert "Nobody" not in text
    assert "SECRET42" not in text


def test_pixels_are_not_decoded(folder, plain):
    place = folder(plain)
    file = place / "IM002.dcm"
    file.write_bytes(file.read_bytes()[:-2])
    assert inspect(place)[0].readable


def test_refused_series_says_why(folder, plain):
    row = inspect(folder(plain[:2] + plain[3:]))[0]
    assert not row.readable
    assert "missing" in row.reason


def test_two_series_in_one_folder(folder, plain, make_series, ramp):
    other = make_series(ramp, SeriesInstanceUID="1.2.3")
    found = inspect(folder(plain + other))
    assert len(found) == 2
    assert not any(row.readable for row in found)
    assert all("5 other images" in row.reason for row in found)


def test_copies_in_several_folders_are_told_apart(tmp_path, folder, plain):
    folder(plain, where="tree/a")
    folder(plain, where="tree/b")
    assert [row.readable for row in inspect(tmp_path / "tree")] == [True, True]


def test_one_file(tmp_path):
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "p.png")
    assert len(inspect(tmp_path / "p.png")) == 1


def test_nothing_there(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(MissingFileError):
            inspect(path)


@pytest.mark.realdata
def test_readable_means_that_read_works_and_the_reverse(realdata):
    for row in inspect(realdata / "dicom"):
        try:
            volume = read(row.path)
        except VoxelryError:
            assert not row.readable
        else:
            assert row.readable or row.n_files > 1
            if row.format == "dicom":
                assert volume.shape == row.shape
