"""Which scans a list of paths holds."""

import gzip
import os
import shutil

import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from voxelry.cohort.folder_search import case_id
from voxelry.cohort.inputs import find_scans
from voxelry.cohort.scan_names import Scan
from voxelry.errors import MissingFileError, UsageError
from voxelry.phantom.dicom import write_dicom
from voxelry.phantom.nifti import write_nifti
from voxelry.phantom.phantom import make_phantom

ENDINGS = (
    ".nii.gz", ".nii", ".dcm", ".dicom", ".ima", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".nrrd", ".nhdr", ".mha", ".mhd",
    ".mgz", ".mgh", ".hdr", ".img",
)  # fmt: skip


def nifti(path):
    from voxelry.core.geometry import Geometry

    return write_nifti(np.zeros((2, 2, 2), np.int16), Geometry.from_spacing((2, 2, 2), (1, 1, 1)), path)


def png(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(path)
    return path


def xray(path):
    from helpers import tiny

    coarse = tiny.replace(tiny.ACQUISITIONS["chest-xray"], spacing=(48.0, 48.0, 48.0))
    return write_dicom(make_phantom("chest-xray", 0, coarse), path)[0]


def ids(scans):
    return [scan.id for scan in scans]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x.nii.gz", "x"),
        ("x.nii", "x"),
        ("x.NII.GZ", "x"),
        ("sub-01_T1w.v2.nii.gz", "sub-01_T1w.v2"),
        ("a.b.png", "a.b"),
        ("a.JPEG", "a"),
        ("a.tiff", "a"),
        ("IM0001", "IM0001"),
        ("1.2.840.113", "1.2.840.113"),
        ("x.gz", "x.gz"),
        ("case_0000.nii.gz", "case_0000"),
        ("a.rtstruct.dcm", "a"),
        ("a.seg.dcm", "a"),
        ("a.seg.nrrd", "a"),
        ("a.b.nrrd", "a.b"),
        ("a.nhdr", "a"),
        ("a.mha", "a"),
        ("a.mhd", "a"),
        ("a.mgz", "a"),
        ("a.mgh", "a"),
        ("a.hdr", "a"),
        ("a.img", "a"),
        ("a.img.gz", "a"),
        ("a.dcm", "a"),
        ("a.DICOM", "a"),
        ("a.jpg", "a"),
        ("a.tif", "a"),
    ],
)
def test_case_ids(name, expected, tmp_path):
    assert case_id(name) == case_id(tmp_path / name) == case_id(str(tmp_path / name)) == expected


@given(st.text("ab.-_ 0", min_size=1).filter(lambda text: not text.endswith(".") and text.strip(". ")), st.sampled_from(ENDINGS))
def test_a_case_id_is_the_name_without_its_ending(stem, ending):
    assert case_id(stem + ending) == stem


def test_the_case_id_of_a_folder_is_its_name_wherever_one_stands(tmp_path, monkeypatch):
    (tmp_path / "case 7" / "inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "case 7")
    assert case_id(".") == "case 7"
    assert case_id("inner/..") == "case 7"
    assert case_id("inner/") == "inner"


def test_a_link_keeps_its_own_name(tmp_path):
    nifti(tmp_path / "store" / "sha256-abc.nii.gz")
    (tmp_path / "case.nii.gz").symlink_to(tmp_path / "store" / "sha256-abc.nii.gz")
    assert ids(find_scans([tmp_path / "case.nii.gz"])) == ["case"]


def test_a_flat_folder_holds_a_scan_a_file(tmp_path):
    files = [nifti(tmp_path / "b.1.nii.gz"), nifti(tmp_path / "a.nii"), png(tmp_path / "c.png")]
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "README").write_text("")
    nifti(tmp_path / ".hidden.nii.gz")
    nifti(tmp_path / "old" / "d.nii.gz")
    found = find_scans([tmp_path])
    assert found == [Scan("a", (files[1],)), Scan("b.1", (files[0],)), Scan("c", (files[2],))]


def test_masks_beside_scans_are_no_scans_and_two_files_are_one(tmp_path):
    scan = nifti(tmp_path / "a.nii.gz")
    for name in ("a.seg.nrrd", "a.seg.dcm", "a.rtstruct.dcm", "b.sr.dcm"):
        (tmp_path / name).write_bytes(b"a mask")
    nibabel.AnalyzeImage(np.zeros((2, 2, 2), np.int16), np.eye(4)).to_filename(tmp_path / "c.img")
    assert find_scans([tmp_path]) == [Scan("a", (scan,)), Scan("c", (tmp_path / "c.hdr",))]
    assert find_scans([tmp_path / "c.img"]) == [Scan("c", (tmp_path / "c.img",))]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("content", [b"", b"only words, " * 50, gzip.compress(os.urandom(5000))[:200], b"\x1f\x8b\x08"])
def test_what_claims_to_be_an_image_is_a_scan_so_that_it_fails_in_sight(tmp_path, ending, content):
    nifti(tmp_path / "good.nii.gz")
    (tmp_path / f"bad{ending}").write_bytes(content)
    assert ids(find_scans([tmp_path])) == ["bad", "good"]


def test_a_folder_of_one_series_is_one_scan(torso):
    folder = torso / "images" / "torso_000"
    assert find_scans([folder]) == [Scan("torso_000", (folder,))]


def test_a_folder_of_series_holds_a_scan_each(torso):
    assert ids(find_scans([torso / "images"])) == [f"torso_00{n}" for n in range(4)]
    both = find_scans([torso / "images" / "torso_002", str(torso / "images" / "torso_001")])
    assert ids(both) == ["torso_002", "torso_001"]


def test_a_damaged_file_beside_a_series_does_not_vanish(torso, tmp_path):
    shutil.copytree(torso / "images" / "torso_000", tmp_path / "series")
    (tmp_path / "series" / "IM9999.dcm").write_bytes(b"")
    (tmp_path / "series" / "readme.txt").write_text("words")
    assert ids(find_scans([tmp_path / "series"])) == ["IM9999", "series"]


def test_a_series_whose_first_file_cannot_be_read_is_still_a_series(torso, tmp_path):
    shutil.copytree(torso / "images" / "torso_000", tmp_path / "series")
    first = tmp_path / "series" / "IM0001.dcm"
    first.write_bytes(first.read_bytes()[:400])
    assert find_scans([tmp_path / "series"]) == [Scan("series", (tmp_path / "series",))]


def test_a_flat_folder_of_radiographs_holds_a_scan_a_file(tmp_path):
    xray(tmp_path / "b.dcm")
    shutil.copy(tmp_path / "b.dcm", tmp_path / "a")
    broken = tmp_path / "0.dcm"
    broken.write_bytes((tmp_path / "b.dcm").read_bytes()[:300])
    assert ids(find_scans([tmp_path])) == ["0", "a", "b"]
    data = pydicom.dcmread(tmp_path / "b.dcm")
    assert data.Modality == "DX"


def test_subfolders_without_images_are_passed_over_and_said(tmp_path, caplog):
    nifti(tmp_path / "case" / "deep" / "x.nii.gz")
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "a.txt").write_text("words")
    assert ids(find_scans([tmp_path])) == ["x"]
    assert "reports" in caplog.text


def test_nothing_there_and_nothing_in_it(tmp_path):
    with pytest.raises(MissingFileError, match=r"nowhere.*Check"):
        find_scans([tmp_path / "nowhere"])
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    with pytest.raises(MissingFileError, match=r"empty: holds no image.*NIfTI"):
        find_scans([tmp_path / "empty"])


def test_two_scans_of_one_name_in_one_folder_are_refused(tmp_path):
    one, other = nifti(tmp_path / "a" / "x.nii.gz"), nifti(tmp_path / "a" / "x.nii")
    with pytest.raises(UsageError, match="two scans are called 'x'"):
        find_scans([one, one])
    with pytest.raises(UsageError) as caught:
        find_scans([one, other])
    assert all(str(path) in str(caught.value) for path in (one, other))
    assert "Rename" in str(caught.value)


@pytest.mark.parametrize("as_files", [False, True])
def test_channel_files_are_joined_in_their_order(tmp_path, as_files):
    files = {name: nifti(tmp_path / f"{name}.nii.gz") for name in ("b_0001", "b_0000", "a_0000", "a_0001", "both")}
    found = find_scans(sorted(files.values()) if as_files else [tmp_path], channels=2)
    assert found == [
        Scan("a", (files["a_0000"], files["a_0001"])),
        Scan("b", (files["b_0000"], files["b_0001"])),
        Scan("both", (files["both"],)),
    ]
    assert ids(find_scans([tmp_path])) == ["a_0000", "a_0001", "b_0000", "b_0001", "both"]


@pytest.mark.parametrize(
    "names",
    [
        ["x_0000"],
        ["x_0000", "x_0002"],
        ["x_0001", "x_0002"],
        ["x_0000", "x_0001", "x_0002"],
        ["x_2019", "x_2020"],
        ["x", "x_0000"],
    ],
)
def test_a_set_that_is_not_whole_is_not_joined(tmp_path, names):
    for name in names:
        nifti(tmp_path / f"{name}.nii.gz")
    assert ids(find_scans([tmp_path], channels=2)) == sorted(names)


def test_channels_of_two_folders_are_not_mixed(tmp_path):
    files = [nifti(tmp_path / folder / f"x_000{n}.nii.gz") for n, folder in enumerate("ab")]
    assert ids(find_scans(files, channels=2)) == ["x_0000", "x_0001"]


def test_a_folder_for_each_channel(torso, tmp_path):
    for number in range(2):
        shutil.copytree(torso / "images" / "torso_000", tmp_path / f"case_{number:04d}")
    assert find_scans([tmp_path], channels=2) == [Scan("case", (tmp_path / "case_0000", tmp_path / "case_0001"))]
