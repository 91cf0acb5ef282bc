"""Scans that a card, a table or a text file lists."""

import re
from pathlib import Path

import pytest

from voxelry.cohort.inputs import find_scans, survey_inputs
from voxelry.cohort.scan_lists import listed_scans
from voxelry.cohort.scan_names import LeftOut, Scan
from voxelry.errors import ConfigError, ManifestError, MissingFileError, UsageError
from voxelry.phantom.acquisition import Acquisition
from voxelry.phantom.dataset import write_phantoms


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name in ("b/x.nii.gz", "b/y.nii.gz", "a/x.nii.gz", "a/notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text", "channels", "expected"),
    [
        ("s.csv", "id,image\np1,b/x.nii.gz\n,b/y.nii.gz\n", 1, [("p1", ["b/x.nii.gz"]), ("y", ["b/y.nii.gz"])]),
        ("s.tsv", "path\tage\nb/x.nii.gz\t7\n", 1, [("x", ["b/x.nii.gz"])]),
        ("s.csv", "\ufeffimage_1,image_2\nb/x.nii.gz,b/y.nii.gz\n", 2, [("x", ["b/x.nii.gz", "b/y.nii.gz"])]),
        ("s.txt", "# mine\n\nb/x.nii.gz\n  b/y.nii.gz  \n", 1, [("x", ["b/x.nii.gz"]), ("y", ["b/y.nii.gz"])]),
    ],
)
def test_the_scans_of_a_list(images: Path, name: str, text: str, channels: int, expected: list[tuple[str, list[str]]]) -> None:
    (images / name).write_text(text, encoding="utf-8")
    scans = [Scan(id, tuple(images / file for file in files)) for id, files in expected]
    assert listed_scans(images / name, channels) == scans
    assert find_scans([images / name], channels) == scans


def test_the_cases_of_a_card_are_scans(tmp_path: Path) -> None:
    coarse = Acquisition((40, 40, 40), (320, 240, 240), "LPS")
    card = write_phantoms(tmp_path / "data", "torso-ct", 2, format="nifti", acquisition=coarse)
    assert [scan.id for scan in find_scans([card])] == ["torso_000", "torso_001"]


@pytest.mark.parametrize(
    ("name", "text", "error", "message"),
    [
        ("s.csv", "id,imag\n1,b/x.nii.gz\n", ManifestError, r"no column 'image' \(its columns: id, imag\)"),
        ("s.csv", "", ManifestError, "its columns: none"),
        ("s.csv", "id,image\n", ManifestError, "lists no scan"),
        ("s.csv", "id,image\n1,\n", ManifestError, "line 2: no image"),
        ("s.csv", "id,image\n1,b/z.nii.gz\n", MissingFileError, "z.nii.gz"),
        ("s.txt", "\n# nothing\n", ManifestError, "lists no scan"),
        ("s.yaml", "a: [", ConfigError, "s.yaml"),
        ("s.csv", "id,image\n1,b/x.nii.gz\n1,b/y.nii.gz\n", UsageError, "two scans are called '1'"),
    ],
)
def test_a_list_that_cannot_be_used(images: Path, name: str, text: str, error: type[Exception], message: str) -> None:
    (images / name).write_text(text, encoding="utf-8")
    with pytest.raises(error, match=message):
        find_scans([images / name])


def test_patterns(images: Path) -> None:
    assert [scan.id for scan in find_scans([images / "*" / "x.nii.gz"])] == ["a", "b"]
    assert [scan.id for scan in find_scans([f"{images}/**/[y]*.gz"])] == ["y"]
    with pytest.raises(MissingFileError, match=re.escape("z*: no file or folder fits")):
        find_scans([images / "z*"])


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(images: Path) -> None:
    (images / "x[1].nii.gz").touch()
    assert [scan.id for scan in find_scans([images / "x[1].nii.gz"])] == ["x[1]"]


def test_what_is_left_out_is_told_with_its_reason(images: Path) -> None:
    (images / "a" / "x_seg.nii.gz").touch()
    (images / "a" / "inner").mkdir()
    (images / "c").mkdir()
    survey = survey_inputs([images])
    assert [scan.id for scan in survey.scans] == ["a_x", "b_x", "y"]
    assert survey.left_out == [
        LeftOut(images / "a" / "inner", "a folder beside images, whose inside is not searched"),
        LeftOut(images / "a" / "notes.md", "not an image"),
        LeftOut(images / "a" / "x_seg.nii.gz", "a mask, by its name"),
        LeftOut(images / "c", "holds no image"),
    ]
