"""The table of formats: names, endings, look-ups, and what it costs to load."""

import subprocess
import sys

import pytest

from voxelry.errors import ExportError, UsageError
from voxelry.formats.file_format import imported
from voxelry.formats.table import (
    BUILT_IN,
    all_formats,
    claims_image,
    claims_labels,
    format_by_ending,
    format_named,
    format_to_write,
    stem_of,
    written_format,
)

FUNCTIONS = ("open_grid", "read_image", "read_all", "read_header", "read_labels", "write_labels", "write_image")


@pytest.mark.parametrize("row", BUILT_IN, ids=lambda row: row.name)
def test_every_function_of_a_row_can_be_imported(row):
    for field in FUNCTIONS:
        assert not getattr(row, field) or callable(imported(getattr(row, field)))
    assert not row.recognise or callable(imported(row.recognise))
    assert bool(row.recognise or row.sop_classes) == row.is_read
    assert row.ending == row.ending.lower()
    assert set(row.required_options) <= set(row.options)


def test_names_and_endings_are_told_apart():
    assert len({row.name for row in BUILT_IN}) == len(BUILT_IN)
    owners = {}
    for row in BUILT_IN:
        for ending in row.all_endings:
            owners.setdefault(ending, set()).add(row.family)
    assert {ending: families for ending, families in owners.items() if len(families) > 1} == {}


@pytest.mark.parametrize(
    ("name", "read_as", "stem"),
    [
        ("a.nii.gz", "nifti", "a"),
        ("A.B.NII", "nifti", "A.B"),
        ("a.dcm", "dicom", "a"),
        ("a.seg.dcm", "dicom-seg", "a"),
        ("a.rtstruct.dcm", "rtstruct", "a"),
        ("a.sr.dcm", "dicom-sr", "a"),
        ("a.nrrd", "nrrd", "a"),
        ("a.seg.nrrd", "seg-nrrd", "a"),
        ("a.nhdr", "nrrd", "a"),
        ("a.mhd", "metaimage", "a"),
        ("a.img", "analyze", "a"),
        ("a.IMG.GZ", "analyze", "a"),
        ("a.mgz", "mgh", "a"),
        ("a.jpeg", "jpeg", "a"),
        ("a.tif", "tiff", "a"),
        ("IM0001", None, "IM0001"),
        ("1.2.840.113", None, "1.2.840.113"),
        (".dcm", None, ".dcm"),
    ],
)
def test_an_ending_claims_a_format(name, read_as, stem):
    row = format_by_ending(name)
    assert (row and row.name, stem_of(name)) == (read_as, stem)


def test_what_may_be_a_scan_and_what_a_mask():
    both = ("a.nii.gz", "a.nrrd", "a.mha", "a.mgz", "a.hdr", "a.png", "a.tif", "a.dcm")
    assert [name for name in both if not (claims_image(name) and claims_labels(name))] == []
    assert (claims_image("a.jpg"), claims_labels("a.jpg")) == (True, False)
    for name in ("a.seg.nrrd", "a.seg.dcm", "a.rtstruct.dcm"):
        assert (claims_image(name), claims_labels(name)) == (False, True)
    for name in ("a.sr.dcm", "a.stl", "a.json", "a.txt", "IM1"):
        assert (claims_image(name), claims_labels(name)) == (False, False)


def test_look_ups_by_name():
    assert format_named("mgh").title == "MGH"
    assert format_to_write("a.dcm").name == "dicom-seg"
    with pytest.raises(UsageError, match=r"unknown format 'nift'. Did you mean 'nifti'"):
        format_named("nift")
    with pytest.raises(UsageError, match=r"format 'mgh' is read and not written"):
        written_format("mgh")
    with pytest.raises(ExportError, match=r"a\.mgz: its ending names no format we write"):
        format_to_write("a.mgz")


def test_the_table_is_light():
    code = (
        "import sys; from voxelry.formats.table import BUILT_IN;"
        "print([m for m in ('numpy', 'pydicom', 'nibabel', 'PIL', 'SimpleITK', 'highdicom', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_table_is_loaded_once():
    assert all_formats() is all_formats()
    assert list(all_formats())[: len(BUILT_IN)] == [row.name for row in BUILT_IN]
