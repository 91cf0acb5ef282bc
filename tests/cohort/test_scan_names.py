"""Names of scans. They are looked for as `predict` does; files hold nothing, as their names decide."""

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelry.cohort.inputs import find_scans
from voxelry.errors import UsageError


def touched(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def names(root, channels=1):
    """Id of each scan, by its first file."""
    return {scan.images[0].relative_to(root).as_posix(): scan.id for scan in find_scans([root], channels)}


@pytest.mark.parametrize(
    ("files", "ids"),
    [
        (["a_0000", "b_0000"], ["a", "b"]),
        (["case_001_0000", "case_002_0000"], ["case_001", "case_002"]),
        (["a_0000", "other"], ["a", "other"]),
        (["a_0000"], ["a"]),
        (["case_0000", "case_0001"], ["case_0000", "case_0001"]),  # numbered through
        (["case_0000", "case_0007"], ["case_0000", "case_0007"]),
        (["a_0000", "a_0001", "b_0000", "b_0001"], ["a_0000", "a_0001", "b_0000", "b_0001"]),  # channels that the model lacks
        (["a_0000", "a"], ["a_0000", "a"]),
        (["a_0001", "b_0001"], ["a_0001", "b_0001"]),
        (["a_00000", "b_000"], ["a_00000", "b_000"]),
        (["a_0000", "a_0000b"], ["a", "a_0000b"]),
        (["_0000"], ["_0000"]),
        (["a[1]_0000", "a1_0001"], ["a[1]", "a1_0001"]),
    ],
)
def test_the_number_of_the_only_channel_is_no_name(files, ids, tmp_path):
    touched(tmp_path, *(f"{name}.nii.gz" for name in files))
    found = {scan.images[0].name: scan for scan in find_scans([tmp_path])}
    assert [found[f"{name}.nii.gz"].id for name in files] == ids
    for name, id in zip(files, ids, strict=True):
        remark = found[f"{name}.nii.gz"].remark
        assert remark == ("" if id == name else "the number of the only channel (_0000) is left out of the name")
    # the same names when files are given one by one
    for name, id in zip(files, ids, strict=True):
        assert find_scans([tmp_path / f"{name}.nii.gz"])[0].id == id


def test_a_colour_picture_holds_all_channels(tmp_path):
    touched(tmp_path, "im_0000.png", "b.nii.gz", "c_0000.nii.gz")
    assert names(tmp_path, channels=3) == {"im_0000.png": "im", "b.nii.gz": "b", "c_0000.nii.gz": "c_0000"}


FOLDERS = {
    "a file a patient": (["p1/ct.nii", "p2/ct.nii"], ["p1", "p2"]),
    "of any ending": (["p1/ct.nii.gz", "p2/ct.mha", "p3/other.nii"], ["p1", "p2", "other"]),
    "two files a patient": (["p1/ct.nii", "p1/mr.nii", "p2/ct.nii", "p2/mr.nii"], ["p1_ct", "p1_mr", "p2_ct", "p2_mr"]),
    "a folder between": (["p1/scan/ct.nii", "p2/scan/ct.nii"], ["p1_scan", "p2_scan"]),
    "a date between": (["p1/2020/ct.nii", "p2/2021/ct.nii"], ["2020", "2021"]),
    "a folder and a name": (["p1/ct.nii", "p2/ct.nii", "p3/p1.nii"], ["p1_ct", "p2", "p1"]),
    "names that differ": (["p1/a.nii", "p2/b.nii"], ["a", "b"]),
    "with the number of a channel": (["p1/ct_0000.nii", "p2/ct_0000.nii"], ["p1", "p2"]),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_files_of_one_name_are_called_after_their_folders(name, tmp_path):
    files, ids = FOLDERS[name]
    touched(tmp_path, *files)
    assert names(tmp_path) == dict(zip(files, ids, strict=True))
    assert [scan.id for scan in find_scans([tmp_path / file for file in files])] == ids
    for scan in find_scans([tmp_path]):
        renamed = scan.id != scan.images[0].name.partition(".")[0]
        assert scan.remark == ("called after the folder, since files of several folders have one name" if renamed else "")


segment = st.sampled_from(["a", "b", "ct", "a_b", "x_0000"])


@given(st.lists(st.tuples(segment, segment, segment), min_size=1, max_size=6, unique=True))
def test_every_scan_has_a_name_of_its_own_or_all_are_refused(paths):
    with TemporaryDirectory() as folder:
        root = touched(Path(folder), *("/".join(path) + ".nii" for path in paths))
        with suppress(UsageError):  # two scans are called alike, whatever is done
            found = names(root)
            assert len(set(found.values())) == len(found) == len(paths)


def test_masks_beside_scans_are_passed_over_and_said(tmp_path, caplog):
    touched(tmp_path, "x.nii.gz", "x_seg.nii.gz", "y.nii.gz", "y-mask.nii.gz", "z_label.nii.gz", "p/ct.nii", "p/seg.nii")
    assert set(names(tmp_path)) == {"x.nii.gz", "y.nii.gz", "z_label.nii.gz"}
    assert "passed over as masks by their names: x_seg.nii.gz, y-mask.nii.gz" in caplog.text
    assert set(names(tmp_path / "p")) == {"ct.nii"}
    assert [scan.id for scan in find_scans([tmp_path / "x_seg.nii.gz"])] == ["x_seg"]  # asked for by name
