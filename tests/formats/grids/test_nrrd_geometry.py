"""The grid of an NRRD file without directions: against ITK where it reads such a file, else against equal directions."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from voxelry.core.geometry import flip_lps_ras
from voxelry.errors import CorruptFileError
from voxelry.formats.grids.grid_file import NO_ORIENTATION
from voxelry.formats.grids.nrrd_read import open_nrrd

SIZES = (4, 5, 6)
HEAD = "NRRD0005\ntype: short\ndimension: 3\nsizes: 4 5 6\nendian: little\nencoding: raw\n"
SPACES = ("left-posterior-superior", "right-anterior-superior", "RAS", "left-anterior-superior", "LAST")
numbers = st.floats(-200, 200).map(lambda value: round(value, 3))
sizes_mm = st.floats(0.1, 9).map(lambda value: round(value, 3))
centerings = st.sampled_from(["cell", "node", "none", "???"])


def write(folder, text, head=HEAD):
    path = Path(folder) / "a.nrrd"
    path.write_bytes((head + text + "\n").encode() + bytes(240))
    return path


def words(values):
    return " ".join(str(value) for value in values)


@given(st.tuples(*[sizes_mm] * 3), st.tuples(*[numbers] * 3), st.none() | st.tuples(*[centerings] * 3))
@settings(max_examples=40)
def test_axis_mins_are_as_itk_has_them(spacing, mins, centers):
    text = f"spacings: {words(spacing)}\naxis mins: {words(mins)}\n" + (f"centers: {words(centers)}\n" if centers else "")
    with tempfile.TemporaryDirectory() as folder:
        path = write(folder, text)
        image, found = sitk.ReadImage(str(path)), open_nrrd(path)
    lps = np.diag([*image.GetSpacing(), 1.0])
    lps[:3, 3] = image.GetOrigin()
    np.testing.assert_allclose(found.geometry.affine, flip_lps_ras(lps), atol=1e-6)
    assert found.remarks == (NO_ORIENTATION, "position from 'axis mins'")


@given(st.tuples(*[sizes_mm] * 3), st.tuples(*[numbers] * 3), st.sampled_from(SPACES), st.booleans())
@settings(max_examples=40)
def test_spacings_in_a_space_are_directions_along_its_axes(spacing, origin, space, has_origin):
    where = [*origin, 0] if space == "LAST" else origin
    common = f"space: {space}\n" + (f"space origin: ({','.join(map(str, where))})\n" if has_origin else "")
    rows = [[spacing[axis] * (axis == other) for other in range(len(where))] for axis in range(3)]
    directions = " ".join(f"({','.join(map(str, row))})" for row in rows)
    with tempfile.TemporaryDirectory() as folder:
        plain = open_nrrd(write(folder, common + f"spacings: {words(spacing)}\n"))
        directed = open_nrrd(write(folder, common + f"space directions: {directions}\n"))
    np.testing.assert_allclose(plain.geometry.affine, directed.geometry.affine, atol=1e-9)
    assert plain.remarks[0] == f"no 'space directions' stored: axes taken to run along those of '{space}'"
    assert has_origin == ("no position stored: 0, 0, 0 taken" not in plain.remarks)
    assert has_origin == ("no 'space origin' stored: 0, 0, 0 taken" not in directed.remarks)


SPACED, NODES = "spacings: 2 3 4\n", "centers: node node node\n"
DIRECTED = "space: LPS\nspace directions: (2,0,0) (0,3,0) (0,0,4)\n"
MIXED = [
    ("space dimension: 3\nspace origin: (1,2,3)\n" + SPACED, (2, 3, 4), (1, 2, 3), NO_ORIENTATION),
    ("space origin: (1,2,3)\naxis mins: 0 0.5 1\n" + SPACED, (2, 3, 4), (1, 2, 3), NO_ORIENTATION),
    ("space origin: (1,2,3)\naxis mins: 7 7 7\n" + SPACED, (2, 3, 4), (1, 2, 3), "'axis mins' contradict 'space origin'"),
    ("axis mins: 7 nan 7\n" + SPACED, (2, 3, 4), (0, 0, 0), "'axis mins' not used: they are not stored of every axis"),
    ("axis mins: 1 2 3\naxis maxs: 9 17 27\ncenters: cell cell cell\n", (2, 3, 4), (2, 3.5, 5), "spacing from 'axis mins'"),
    ("axis mins: 1 2 3\naxis maxs: 7 14 23\n" + NODES, (2, 3, 4), (1, 2, 3), "spacing from 'axis mins'"),
    ("axis mins: 1 2 3\naxis maxs: 99 14 23\n" + NODES + SPACED, (2, 3, 4), (1, 2, 3), "'axis maxs' contradict 'spacings'"),
    ('units: "cm" "cm" "mm"\naxis mins: 0 0 1\n' + NODES + SPACED, (20, 30, 4), (0, 0, 1), "units of the axes converted to mm"),
    ('space units: "cm" "cm" "cm"\nspace origin: (1,2,3)\n' + SPACED, (2, 3, 4), (10, 20, 30), "units cm converted"),
    ("axis mins: 1 2 3\n" + DIRECTED, (2, 3, 4), (0, 0, 0), "'axis mins' not used: 'space directions' count"),
    (
        "space origin: (1,2,3)\nspacings: 1 1 1\n" + DIRECTED,
        (2, 3, 4),
        (1, 2, 3),
        "'spacings' not used: 'space directions' count",
    ),
]


@pytest.mark.parametrize(("text", "spacing", "origin", "remark"), MIXED)
def test_what_is_stored_is_used_or_remarked_on(tmp_path, text, spacing, origin, remark):
    found = open_nrrd(write(tmp_path, text))
    lps = np.diag([*spacing, 1.0])
    lps[:3, 3] = origin
    np.testing.assert_allclose(found.geometry.affine, flip_lps_ras(lps))
    assert any(remark in line for line in found.remarks)


def test_directions_and_equal_spacings_are_no_contradiction(tmp_path):
    text = "space: LPS\nspace directions: (2,0,0) (0,3,0) (0,0,4)\nspace origin: (1,2,3)\nspacings: 2 3 4\n"
    assert open_nrrd(write(tmp_path, text)).remarks == ()


def test_channels_have_no_place_in_space(tmp_path):
    head = HEAD.replace("dimension: 3", "dimension: 4").replace("4 5 6", "2 4 5 3") + "kinds: list domain domain domain\n"
    found = open_nrrd(write(tmp_path, "spacings: nan 2 3 4\naxis mins: nan 1 2 3\ncenters: none node node node\n", head))
    np.testing.assert_allclose(found.geometry.affine[:3, 3], (-1, -2, 3))


@pytest.mark.parametrize("field", ["space origin: (1,2)", "axis mins: 1 2"])
def test_a_picture_says_that_it_drops_a_position(tmp_path, field):
    head = HEAD.replace("dimension: 3", "dimension: 2").replace("4 5 6", "20 6")
    found = open_nrrd(write(tmp_path, f"space dimension: 2\nspacings: 2 3\n{field}\n", head))
    assert found.geometry.spacing == (3, 2)
    assert found.remarks == (f"'{field.partition(':')[0]}' not used: a picture has no position",)


def test_a_picture_at_the_origin_drops_nothing(tmp_path):
    head = HEAD.replace("dimension: 3", "dimension: 2").replace("4 5 6", "20 6")
    text = "space dimension: 2\nspace directions: (2,0) (0,3)\nspace origin: (0,0)\n"
    assert open_nrrd(write(tmp_path, text, head)).remarks == ()
    assert open_nrrd(write(tmp_path, text.replace("(0,0)", "none"), head)).remarks == ()


@pytest.mark.parametrize(
    "text",
    ["axis mins: 1 2 3\naxis maxs: 2 3 4\n", "spacings: 1 2 3\naxis mins: 1 2\n", "spacings: 1 2 3\nspace origin: (1,2)\n",
     "spacings: 1 2 3\nspace origin: (a,2,3)\n", "spacings: 1 2 3\ncenters: cell\n", "axis mins: 1 2 3\n", ""],
)  # fmt: skip
def test_what_cannot_be_is_refused(tmp_path, text):
    with pytest.raises(CorruptFileError, match=r"a\.nrrd"):
        open_nrrd(write(tmp_path, text))
