"""What lies unevenly: refused with its files, or repaired as asked and recorded with numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from voxelry.errors import DuplicateSlicesError, MissingSlicesError, SpacingError
from voxelry.formats.dicom.header import DicomHeader
from voxelry.formats.dicom.planes import read_planes
from voxelry.formats.dicom.stacks.repair import even_spacing, file_names, in_plane_shift, plane_label, remove_duplicates

UP = np.array([0.0, 0.0, 1.0])


@pytest.fixture
def header(tmp_path, plain, save_slice) -> DicomHeader:
    return read_planes(save_slice(plain[0], tmp_path / "0.dcm"))[0]


def at(header, heights, **facts) -> list[DicomHeader]:
    return [replace(header, path=Path(f"{k}.dcm"), position=(0.0, 0.0, float(h)), **facts) for k, h in enumerate(heights)]


def evened(header, heights, *repair, thickness=None):
    made = at(header, heights)
    if thickness is not None:
        made = [replace(plane, slice_thickness=float(mm)) for plane, mm in zip(made, thickness, strict=True)]
    return even_spacing(made, np.array(heights, dtype=float), "here", repair)


class TestHoles:
    def test_the_files_on_either_side_are_listed(self, header):
        with pytest.raises(MissingSlicesError, match=r"here: 3 of 8 slices are missing at a spacing of 2 mm") as caught:
            evened(header, [0, 2, 8, 10, 14])
        assert caught.value.files == ("1.dcm", "2.dcm", "3.dcm", "4.dcm")
        assert "2 between 1.dcm and 2.dcm; 1 between 3.dcm and 4.dcm" in str(caught.value)
        assert "'gap'" in caught.value.remedy

    @pytest.mark.parametrize("repair", ["gap", "spacing"])
    def test_filled_as_asked(self, header, repair):
        even, done = evened(header, [0, 2, 6, 8], repair)
        assert (even.count, even.spacing, even.levels.tolist()) == (5, 2, [0, 1, 3, 4])
        assert done == ["interpolated 1 missing slice of 5, 2 mm apart: 1 between 1.dcm and 2.dcm"]

    @pytest.mark.parametrize("repair", ["duplicates", "tilt"])
    def test_other_repairs_do_not_fill(self, header, repair):
        with pytest.raises(MissingSlicesError):
            evened(header, [0, 2, 6, 8], repair)

    def test_thicker_slices_are_no_holes(self, header):
        with pytest.raises(SpacingError):
            evened(header, [0, 2, 4, 6, 8, 12, 16], "gap", thickness=[2, 2, 2, 2, 4, 4, 4])

    def test_a_hole_between_thick_overlapping_slices_is_one(self, header):
        with pytest.raises(MissingSlicesError):
            evened(header, [0, 2, 4, 8, 10], thickness=[4] * 5)

    def test_more_holes_than_slices_are_no_lattice(self, header):
        with pytest.raises(SpacingError):
            evened(header, [0, 1, 2, 30, 31], "gap")


class TestUneven:
    def test_the_files_are_listed(self, header):
        with pytest.raises(SpacingError, match=r"1.7 to 2.3 mm apart") as caught:
            evened(header, [0, 2, 4.3, 6, 8, 10])
        assert caught.value.files == ("1.dcm", "2.dcm", "3.dcm")

    def test_resampled_as_asked(self, header):
        even, done = evened(header, [0, 2, 4.3, 6, 8, 10], "spacing")
        assert (even.count, even.spacing) == (6, 2)
        np.testing.assert_allclose(even.levels, [0, 1, 2.15, 3, 4, 5])
        assert done == ["resampled 6 uneven slices, 1.7 to 2.3 mm apart, to 6 slices 2 mm apart"]

    def test_two_spacings_keep_every_slice(self, header):
        even, done = evened(header, [0, 2.5, 5, 10, 15, 20], "spacing")
        assert (even.count, even.spacing) == (9, 2.5)
        assert even.levels.tolist() == [0, 1, 2, 4, 6, 8]
        assert "to 9 slices 2.5 mm apart" in done[0]

    def test_gap_alone_does_not_resample(self, header):
        with pytest.raises(SpacingError, match="'spacing'"):
            evened(header, [0, 2, 4.3, 6, 8, 10], "gap")


class TestCopies:
    @pytest.fixture
    def doubled(self, tmp_path, plain, save_slice, make_slice):
        """Files 0 to 4, and 5 at the place of 2, whose pixels are given."""

        def write(change=0, **elements):
            made = [*plain, make_slice(plain[2].pixel_array_ + change, **elements)]
            headers = [read_planes(save_slice(data, tmp_path / f"{k}.dcm"))[0] for k, data in enumerate(made)]
            headers[5] = replace(headers[5], position=headers[2].position, orientation=headers[2].orientation)
            return sorted(headers, key=lambda plane: (plane.position[2], plane.name))

        for data in plain:
            data.pixel_array_ = np.frombuffer(data.PixelData, "<i2").reshape(data.Rows, data.Columns)
        return write

    def dropped(self, headers, *repair):
        positions = np.array([plane.position for plane in headers])
        return remove_duplicates(headers, positions, UP, str(headers[0].path.parent), repair)

    def test_copies_are_listed(self, doubled):
        with pytest.raises(DuplicateSlicesError, match=r"1 of 6 images.*as 2.dcm and 5.dcm") as caught:
            self.dropped(doubled())
        assert [Path(file).name for file in caught.value.files] == ["2.dcm", "5.dcm"]

    def test_exact_copies_are_dropped_whatever_their_uid(self, doubled):
        kept, done = self.dropped(doubled(), "duplicates")
        assert [plane.name for plane in kept] == ["0.dcm", "1.dcm", "2.dcm", "3.dcm", "4.dcm"]
        assert done == ["dropped 1 exact copy of slices: 5.dcm"]

    def test_one_other_grey_value_is_no_copy(self, doubled):
        change = np.zeros((6, 8), np.int16)
        change[3, 3] = 1
        with pytest.raises(DuplicateSlicesError, match="no exact copies"):
            self.dropped(doubled(change), "duplicates")

    def test_another_rescale_is_no_copy(self, doubled):
        with pytest.raises(DuplicateSlicesError, match="no exact copies"):
            self.dropped(doubled(RescaleSlope=2, RescaleIntercept=0), "duplicates")

    def test_the_same_numbers_stored_otherwise_are_a_copy(self, doubled):
        assert len(self.dropped(doubled(10, RescaleSlope=1, RescaleIntercept=-10), "duplicates")[0]) == 5

    def test_nothing_to_drop(self, doubled):
        headers = [plane for plane in doubled() if plane.name != "5.dcm"]
        assert self.dropped(headers, "duplicates") == (headers, [])

    def test_all_at_one_place(self, header):
        headers = at(header, [0, 0, 0])
        with pytest.raises(DuplicateSlicesError, match="all 3 images lie at one position"):
            self.dropped(headers)

    def test_side_by_side(self, header):
        headers = at(header, [0, 2, 2])
        headers[2] = replace(headers[2], position=(0.0, 150.0, 2.0))
        with pytest.raises(DuplicateSlicesError, match="side by side"):
            self.dropped(headers, "duplicates")

    def test_facts_tell_them_apart(self, header):
        name = header.facts[0][0]
        one, other = (replace(header, facts=((name, value),), sop_instance=value) for value in "12")
        with pytest.raises(DuplicateSlicesError, match=f"they differ in {name} 1 and 2"):
            self.dropped([one, other])


def test_a_slice_out_of_line_is_the_one_named(header):
    made = at(header, np.arange(7) * 2.0)
    made[5] = replace(made[5], position=(9.0, 0.0, 10.0))
    positions = np.array([plane.position for plane in made])
    with pytest.raises(SpacingError) as caught:
        in_plane_shift(made, positions, UP, 0.05, "here", ())
    assert caught.value.files == ("5.dcm",)
    assert in_plane_shift(made, positions, UP, 0.05, "here", ("tilt",)).shifts[5].tolist() == [9, 0, 0]


def test_names_are_short_and_below_the_folder(header):
    made = [replace(header, path=Path(f"/scans/a/{k}.dcm")) for k in range(7)]
    assert file_names(made, "/scans") == "a/0.dcm, a/1.dcm, a/2.dcm, a/3.dcm, a/4.dcm and 2 more"
    assert plane_label(made[0], "/scans/a/0.dcm") == "0.dcm"
    assert plane_label(replace(made[0], frames=9, frame=4), "") == "0.dcm frame 4"
