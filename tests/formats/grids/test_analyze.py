"""Two files an image: Analyze 7.5 and NIfTI pairs, against nibabel."""

from __future__ import annotations

import shutil

import nibabel
import numpy as np
import pytest

from voxelry.errors import CorruptFileError, MissingFileError
from voxelry.formats.grids.nifti_read import open_nifti
from voxelry.formats.read_options import ReadOptions
from voxelry.formats.reader import read, read_labels

VALUES = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
AFFINE = np.array([[0, -2, 0, 5], [1, 0, 0.2, 6], [0, 0, 3, 7], [0, 0, 0, 1.0]])


@pytest.mark.parametrize("named", ["a.hdr", "a.img"])
@pytest.mark.parametrize("big", [False, True])
def test_analyze_is_centred_and_radiological(tmp_path, named, big):
    header = nibabel.AnalyzeHeader(endianness=">" if big else "<")
    header.set_data_dtype(np.int16)
    image = nibabel.AnalyzeImage(VALUES, None, header)
    image.header["pixdim"][1:4] = 1, 2, 3
    image.to_filename(tmp_path / "a.img")
    found = read(tmp_path / named)
    np.testing.assert_array_equal(found.array[0], VALUES)
    np.testing.assert_allclose(found.geometry.affine, nibabel.load(tmp_path / "a.img").affine)
    assert found.source.kind == "analyze"
    assert found.source.remarks == ("no orientation stored: the grid is taken from pixdim",)
    assert [file.rpartition("/")[2] for file in found.source.files] == ["a.hdr", "a.img"]
    np.testing.assert_array_equal(read_labels(tmp_path / named).array, VALUES)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Pair, nibabel.Nifti2Pair])
@pytest.mark.parametrize("ending", [".img", ".img.gz"])
def test_nifti_pairs(tmp_path, kind, ending):
    kind(VALUES, AFFINE).to_filename(tmp_path / ("a" + ending))
    for named in ("a" + ending, "a" + ending.replace("img", "hdr")):
        found = read(tmp_path / named)
        np.testing.assert_array_equal(found.array[0], VALUES)
        np.testing.assert_allclose(found.geometry.affine, AFFINE, atol=1e-6)
        assert found.source.kind == "nifti"


def test_half_a_pair(tmp_path):
    nibabel.Nifti1Pair(VALUES, AFFINE).to_filename(tmp_path / "a.img")
    (tmp_path / "a.img").write_bytes((tmp_path / "a.img").read_bytes()[:-1])
    with pytest.raises(CorruptFileError, match=r"a\.hdr \(voxels in a\.img\): the header promises 48 bytes"):
        read(tmp_path / "a.hdr")
    (tmp_path / "a.img").unlink()
    with pytest.raises(MissingFileError, match=r"a\.hdr.*missing"):
        read(tmp_path / "a.hdr")


def test_the_preferred_transform_and_what_is_said(tmp_path):
    image = nibabel.Nifti1Image(VALUES, None)
    image.header.set_sform(np.diag([1, 2, 3, 1.0]), 1)
    image.header.set_qform(np.diag([1, 2, 4, 1.0]), 1)
    image.to_filename(tmp_path / "a.nii")
    for transform, spacing, other in (("sform", 3, "qform"), ("qform", 4, "sform")):
        found = open_nifti(tmp_path / "a.nii", ReadOptions(transform=transform)).volume()
        assert found.spacing == (1, 2, spacing)
        assert found.source.remarks == (f"{transform} used", f"the {other} places voxels up to 3 mm elsewhere and was not used")
    np.testing.assert_array_equal(read(tmp_path / "a.nii", transform="qform").spacing, (1, 2, 4))
    image.header.set_qform(None, 0)
    image.to_filename(tmp_path / "b.nii")
    assert open_nifti(tmp_path / "b.nii", ReadOptions(transform="qform")).volume().source.remarks == ("sform used",)


def test_intents_and_vectors(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((2, 3, 4, 1, 3), np.float32), AFFINE)
    image.header.set_intent("vector")
    image.to_filename(tmp_path / "a.nii")
    found = read(tmp_path / "a.nii")
    assert found.shape == (3, 2, 3, 4)
    assert "channels are components of one quantity (colour, vector), not time points" in found.source.remarks
    assert "intent: vector" in found.source.remarks


@pytest.mark.realdata
def test_real_headers_without_voxels(realdata, tmp_path):
    folder = realdata / "dicom/dev/nibabel_odd_nifti/nibabel/tests/data"
    for name in ("analyze.hdr", "nifti1.hdr", "nifti2.hdr"):
        shutil.copy(folder / name, tmp_path)
        with pytest.raises(MissingFileError, match=name):
            read(tmp_path / name)
