"""The last defence: planes that are not alike never become one grid, whoever put them together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from voxelry.errors import SeriesError
from voxelry.formats.dicom.header import DicomHeader
from voxelry.formats.dicom.planes import read_planes
from voxelry.formats.dicom.stacks.consistency import check_consistent, check_slices


@pytest.fixture
def planes(tmp_path, plain, save_slice) -> list[DicomHeader]:
    header = read_planes(save_slice(plain[0], tmp_path / "0.dcm"))[0]
    return [replace(header, path=Path(f"{k}.dcm"), position=(0.0, 0.0, 2.0 * k)) for k in range(5)]


DIFFERENT = {
    "modality": {"modality": "MR"},
    "rows and columns": {"rows": 7},
    "photometric interpretation": {"photometric": "MONOCHROME1"},
    "frame of reference": {"frame_of_reference": "1.2"},
    "pixel spacing": {"pixel_spacing": (0.7, 0.9002)},
    "orientation": {"orientation": (1.0, 0.001, 0.0, 0.0, 1.0, 0.0)},
    "are localizers": {"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")},
}


@pytest.mark.parametrize("what", DIFFERENT)
@pytest.mark.parametrize("odd", [0, 3])
def test_one_that_differs_is_named(planes, what, odd):
    check_consistent(planes, "here")
    planes[odd] = replace(planes[odd], **DIFFERENT[what])
    with pytest.raises(SeriesError, match=f"{what}.*{odd}.dcm") as caught:
        check_consistent(planes, "here")
    assert caught.value.files == (f"{odd}.dcm",)
    assert caught.value.remedy


def test_rounding_is_no_difference(planes):
    planes[1] = replace(planes[1], pixel_spacing=(0.70001, 0.89999), orientation=(1.0, 2e-6, 0.0, -2e-6, 1.0, 0.0))
    check_consistent(planes, "here")


UNUSABLE = {
    "ImagePositionPatient": {"position": None},
    "ImageOrientationPatient": {"orientation": None},
    "PixelSpacing": {"pixel_spacing": None},
    "usable PixelSpacing": {"pixel_spacing": (0.0, 1.0)},
    "colour images": {"samples": 3, "photometric": "RGB"},
    "X-ray projections": {"modality": "DX"},
    "several frames without a position of each": {"frames": 4},
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_one_without_a_place_is_named(planes, what):
    check_slices(planes, "here")
    planes[2] = replace(planes[2], **UNUSABLE[what])
    with pytest.raises(SeriesError, match=f"{what}.*2.dcm") as caught:
        check_slices(planes, "here")
    assert caught.value.files == ("2.dcm",)


def test_frames_of_one_file_have_a_place_each(planes):
    check_slices([replace(plane, path=Path("a.dcm"), frames=5, frame=k + 1) for k, plane in enumerate(planes)], "here")
