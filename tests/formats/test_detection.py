"""Formats are told by content."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from PIL import Image

from voxelry.errors import CorruptFileError, MissingFileError, UnsupportedFormatError
from voxelry.formats.detection import detect, head_of, header_beside, voxels_beside
from voxelry.formats.table import all_formats


@pytest.mark.parametrize("ending", ["png", "jpeg", "tiff"])
def test_pictures_under_a_wrong_name(tmp_path, ending):
    file = tmp_path / "picture.nii.gz"
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(file, format=ending)
    assert detect(file).name == ending
    assert detect(file).is_picture


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("version", [1, 2])
def test_nifti_under_a_wrong_name(tmp_path, version, compressed):
    import nibabel

    kind = nibabel.Nifti1Image if version == 1 else nibabel.Nifti2Image
    file = tmp_path / "scan.png"
    raw = kind(np.zeros((2, 3, 4), np.int16), np.eye(4)).to_bytes()
    file.write_bytes(gzip.compress(raw) if compressed else raw)
    assert detect(file).name == "nifti"
    assert not detect(file).is_picture


def test_dicom_with_and_without_preamble(tmp_path, plain, save_slice):
    file = save_slice(plain[0], tmp_path / "with")
    assert detect(file).name == "dicom"
    del plain[0].file_meta
    for name, implicit in (("implicit", True), ("explicit", False)):
        plain[0].save_as(tmp_path / name, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
        assert detect(tmp_path / name).name == "dicom"
    assert detect(tmp_path).name == "dicom"


def test_a_preamble_that_looks_like_tiff(tmp_path, plain, save_slice):
    file = save_slice(plain[0], tmp_path / "dual.dcm")
    raw = file.read_bytes()
    file.write_bytes(b"II*\x00" + raw[4:])
    assert detect(file).name == "dicom"


def test_dicom_deep_in_a_folder(tmp_path, plain, save_slice):
    (tmp_path / "a.txt").write_text("first, and no DICOM")
    save_slice(plain[0], tmp_path / "x" / "y" / "z")
    assert detect(tmp_path).name == "dicom"


def test_text_called_nii_gz(tmp_path):
    file = tmp_path / "scan.nii.gz"
    file.write_text("I am not a scan, only a text that claims to be one.")
    with pytest.raises(UnsupportedFormatError, match=r"scan.nii.gz: starts with b'I am',") as caught:
        detect(file)
    assert "NIfTI" in caught.value.remedy


@pytest.mark.parametrize(
    ("content", "name"),
    [(b"GIF89a", "GIF"), (b"\x89HDF", "HDF5"), (b"PK\x03\x04", "zip")],
)
def test_known_formats_are_named(tmp_path, content, name):
    file = tmp_path / "scan"
    file.write_bytes(content + bytes(400))
    with pytest.raises(UnsupportedFormatError, match=name):
        detect(file)


@pytest.mark.parametrize("kind", ["Nifti1Pair", "Nifti2Pair", "AnalyzeImage", "Spm99AnalyzeImage"])
def test_two_files_are_known_by_their_header(tmp_path, kind):
    import nibabel

    getattr(nibabel, kind)(np.zeros((2, 3, 4), np.int16), np.eye(4)).to_filename(tmp_path / "pair.img")
    expected = all_formats()["nifti" if kind.startswith("Nifti") else "analyze"]
    assert detect(tmp_path / "pair.hdr") is detect(tmp_path / "pair.img") is expected
    assert header_beside(tmp_path / "pair.img") == tmp_path / "pair.hdr"
    assert voxels_beside(tmp_path / "pair.hdr") == tmp_path / "pair.img"
    (tmp_path / "pair.hdr").unlink()
    with pytest.raises(UnsupportedFormatError, match=r"pair\.img"):
        detect(tmp_path / "pair.img")


def test_grids_under_a_wrong_name(tmp_path):
    import nibabel
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.zeros((2, 3, 4), np.int16))
    for ending, expected in (("mha", "metaimage"), ("nrrd", "nrrd")):
        sitk.WriteImage(image, str(tmp_path / f"a.{ending}"))
        assert detect((tmp_path / f"a.{ending}").rename(tmp_path / "a.png")).name == expected
    for ending in ("mgh", "mgz"):
        nibabel.MGHImage(np.zeros((2, 3, 4), np.int16), np.eye(4)).to_filename(tmp_path / f"a.{ending}")
        assert detect((tmp_path / f"a.{ending}").rename(tmp_path / "a.png")).name == "mgh"


def test_a_text_that_speaks_of_metaimage_is_none(tmp_path):
    (tmp_path / "a.txt").write_text("ObjectType is a key of MetaImage")
    with pytest.raises(UnsupportedFormatError):
        detect(tmp_path / "a.txt")


def test_gzip_around_something_else(tmp_path, plain, save_slice):
    file = save_slice(plain[0], tmp_path / "a.dcm")
    packed = tmp_path / "a.dcm.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    with pytest.raises(UnsupportedFormatError, match="dicom inside gzip"):
        detect(packed)


def test_gzip_with_a_header_longer_than_any(tmp_path):
    file = tmp_path / "a.nii.gz"
    file.write_bytes(b"\x1f\x8b\x08\x08" + bytes(6) + b"a" * 1_000_000)  # a name of a million letters
    with pytest.raises(CorruptFileError, match="gzip"):
        head_of(file)


def test_gzip_broken_within_the_header(tmp_path):
    file = tmp_path / "scan.nii.gz"
    file.write_bytes(gzip.compress(np.random.default_rng(0).bytes(4000))[:300])
    with pytest.raises(CorruptFileError, match="gzip"):
        detect(file)


def test_nothing_there(tmp_path):
    with pytest.raises(MissingFileError, match=r"none\.nii: no such file"):
        detect(tmp_path / "none.nii")
    (tmp_path / "folder").mkdir()
    with pytest.raises(MissingFileError, match="holds no file"):
        detect(tmp_path / "folder")
    (tmp_path / "empty.nii").touch()
    with pytest.raises(MissingFileError, match="empty"):
        detect(tmp_path / "empty.nii")


def test_folder_without_dicom(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(UnsupportedFormatError, match="none of the folder's 1 files"):
        detect(tmp_path)
