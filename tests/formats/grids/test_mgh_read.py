"""MGH and MGZ, against nibabel."""

from __future__ import annotations

import gzip
import struct

import nibabel
import numpy as np
import pytest

from voxelry.errors import CorruptFileError, UnsupportedFormatError
from voxelry.formats.grids.mgh_read import open_mgh
from voxelry.formats.reader import read, read_all, read_labels

VALUES = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
AFFINE = np.array([[-1, 0, 0, 60], [0, 0, 2, -70], [0, -1.5, 0, 80], [0, 0, 0, 1.0]])


@pytest.mark.parametrize("ending", ["mgh", "mgz"])
def test_voxels_and_grid(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    nibabel.MGHImage(VALUES, AFFINE).to_filename(path)
    other = path.rename(tmp_path / "a.nii")
    found = read(other)
    np.testing.assert_array_equal(found.array[0], VALUES)
    np.testing.assert_allclose(found.geometry.affine, AFFINE, atol=1e-4)
    assert (found.source.kind, found.source.remarks) == ("mgh", ())
    np.testing.assert_array_equal(read_labels(other).array, VALUES)


def test_frames(tmp_path):
    nibabel.MGHImage(np.stack([VALUES, VALUES + 100], -1), AFFINE).to_filename(tmp_path / "a.mgh")
    first, second = read_all(tmp_path / "a.mgh")
    np.testing.assert_array_equal(second.array - first.array, 100)


def test_no_orientation_is_freesurfers_default(tmp_path):
    image = nibabel.MGHImage(VALUES, AFFINE)
    image.header["goodRASFlag"] = 0
    raw = bytearray(image.to_bytes())
    raw[28:30] = struct.pack(">h", 0)
    (tmp_path / "a.mgh").write_bytes(raw)
    found = read(tmp_path / "a.mgh")
    lia = np.array([[-1, 0, 0, 1], [0, 0, 1, -2], [0, -1, 0, 1.5], [0, 0, 0, 1]])  # MRI_CORONAL of FreeSurfer's mri.h
    np.testing.assert_allclose(found.geometry.affine, lia)
    assert found.geometry.orientation == "LIA"
    assert "no orientation stored" in found.source.remarks[0]


def test_bad_files(tmp_path):
    path = tmp_path / "a.mgh"
    nibabel.MGHImage(VALUES, AFFINE).to_filename(path)
    raw = bytearray(path.read_bytes())
    path.write_bytes(raw[:300])
    with pytest.raises(CorruptFileError, match=r"a\.mgh: the header promises"):
        read(path)
    packed = gzip.compress(bytes(raw))
    path.write_bytes(packed[:-12])
    with pytest.raises(CorruptFileError, match="gzip"):
        _ = read(path).array
    for offset, value, message in ((30, -1.0, "spacings"), (42, 0.0, "spans no volume"), (78, np.nan, "finite")):
        bad = bytearray(raw)
        bad[offset : offset + 12] = struct.pack(">3f", *[value] * 3)
        path.write_bytes(bad)
        with pytest.raises(CorruptFileError, match=message):
            read(path)
    path.write_bytes(b"no such thing" * 40)
    with pytest.raises(UnsupportedFormatError, match="not an MGH image"):
        open_mgh(path)


@pytest.mark.realdata
def test_a_real_file(realdata):
    path = realdata / "dicom/dev/nibabel_odd_nifti/nibabel/tests/data/test.mgz"
    image = nibabel.load(path)
    found = read(path)
    np.testing.assert_array_equal(found.array, np.moveaxis(np.asarray(image.dataobj), -1, 0))
    np.testing.assert_allclose(found.geometry.affine, image.affine, atol=1e-4)
