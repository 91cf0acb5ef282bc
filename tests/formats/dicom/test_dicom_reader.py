"""Reading DICOM series: against SimpleITK, and every way in which a series is not plain."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from voxelry.core.geometry import Geometry, flip_lps_ras
from voxelry.errors import (
    CorruptFileError,
    MissingFileError,
    ReadError,
    SelectionError,
    SeriesError,
    UnsupportedFormatError,
    VoxelryError,
)
from voxelry.formats.dicom.dicom_reader import read_dicom
from voxelry.formats.read_options import ReadOptions

SIMPLEITK_MM = 1e-3


def sitk_series(folder: Path) -> tuple[np.ndarray, Geometry]:
    """What SimpleITK makes of a folder: ``(x, y, z)`` values and grid."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    return sitk_image(reader.Execute())


def sitk_image(image: sitk.Image) -> tuple[np.ndarray, Geometry]:
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0), Geometry(image.GetSize(), flip_lps_ras(affine))


def assert_agrees(folder: Path, tolerance: float = 0.0) -> None:
    volume = read_dicom(folder)
    values, grid = sitk_series(folder)
    change = grid.reindexing_to(volume.geometry)
    assert change is not None
    assert grid.reindexed(change).distance(volume.geometry) < SIMPLEITK_MM
    assert np.abs(change.apply(values) - volume.array[0].astype(np.float64)).max() <= tolerance


def rotation(angles: tuple[float, float, float]) -> np.ndarray:
    """A rotation matrix from three angles in radians."""
    result = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        i, j = [k for k in range(3) if k != axis]
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        result = result @ turn
    return result


class TestAgainstSimpleITK:
    @pytest.mark.parametrize(
        "orientation",
        [(1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1), (-1, 0, 0, 0, 1, 0), (0, 1, 0, 1, 0, 0)],
        ids=["axial", "sagittal", "coronal", "mirrored", "transposed"],
    )
    def test_plain_orientations(self, folder, make_series, ramp, orientation):
        assert_agrees(folder(make_series(ramp, orientation=orientation, RescaleSlope=2, RescaleIntercept=-1024)))

    @settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3), order=st.permutations(range(5)))
    def test_oblique_in_any_file_order(self, tmp_path_factory, make_series, save_slice, ramp, angles, order):
        turn = rotation(angles)
        place = tmp_path_factory.mktemp("oblique")
        for data, name in zip(make_series(ramp, orientation=(*turn[:, 0], *turn[:, 1])), order, strict=True):
            save_slice(data, place / f"{name}.dcm")
        assert_agrees(place)

    def test_fractional_slope_is_not_truncated(self, folder, make_series, ramp):
        volume = read_dicom(folder(make_series(ramp, RescaleSlope=0.5, RescaleIntercept=0.25)))
        assert volume.array.dtype == np.float32
        np.testing.assert_array_equal(volume.array[0], ramp.transpose(2, 1, 0) * 0.5 + 0.25)

    def test_monochrome1_is_inverted_as_simpleitk_does(self, folder, make_series):
        stored = np.arange(4 * 6 * 8, dtype=np.uint16).reshape(4, 6, 8)
        place = folder(make_series(stored, Modality="MR", PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11))
        assert_agrees(place)
        assert any("MONOCHROME1" in remark for remark in read_dicom(place).source.remarks)

    @pytest.mark.parametrize(
        "syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80"]
    )
    def test_transfer_syntaxes(self, tmp_path, make_series, save_slice, ramp, syntax):
        for index, data in enumerate(make_series(ramp - ramp.min())):
            file = save_slice(data, tmp_path / f"{index}.dcm", syntax if syntax.endswith(".2") else "1.2.840.10008.1.2.1")
            if pydicom.uid.UID(syntax).is_compressed:
                loaded = pydicom.dcmread(file)
                loaded.compress(syntax)
                loaded.save_as(file)
        assert_agrees(tmp_path)


class TestTheVolume:
    def test_axes_source_and_type(self, folder, plain, ramp):
        place = folder(plain[::-1])
        volume = read_dicom(place)
        assert volume.shape == (1, 8, 6, 5)
        assert volume.modality == "CT"
        assert volume.geometry.orientation == "LPS"
        np.testing.assert_allclose(volume.spacing, (0.9, 0.7, 2.5))
        assert volume.array.dtype == np.int16
        np.testing.assert_array_equal(volume.array[0], ramp.transpose(2, 1, 0))
        np.testing.assert_allclose(volume.geometry.world((0, 0, 1)), (30.0, -20.0, -97.5))
        assert volume.source.instances == tuple((data.SOPInstanceUID, 1) for data in plain)
        assert [Path(file).name for file in volume.source.files] == [f"IM{4 - k:03d}.dcm" for k in range(5)]
        assert volume.source.series_uid == plain[0].SeriesInstanceUID

    def test_header_first(self, folder, plain):
        place = folder(plain)
        volume = read_dicom(place)
        for file in place.iterdir():
            file.unlink()
        assert volume.shape == (1, 8, 6, 5)
        with pytest.raises(ReadError):
            _ = volume.array

    def test_each_slice_has_its_own_rescale(self, folder, plain, ramp):
        for index, data in enumerate(plain):
            data.RescaleSlope, data.RescaleIntercept = 1 + index, -10 * index
        expected = np.stack([frame.astype(int) * (1 + k) - 10 * k for k, frame in enumerate(ramp)])
        np.testing.assert_array_equal(read_dicom(folder(plain)).array[0], expected.transpose(2, 1, 0))

    def test_values_beyond_int16_become_float32(self, folder, make_series):
        stored = np.full((2, 3, 4), 65000, np.uint16)
        array = read_dicom(folder(make_series(stored))).array
        assert array.dtype == np.float32
        assert (array == 65000).all()

    def test_unsigned_within_int16_become_int16(self, folder, make_series):
        array = read_dicom(folder(make_series(np.full((2, 3, 4), 4000, np.uint16), RescaleIntercept=-1024))).array
        assert array.dtype == np.int16
        assert (array == 2976).all()

    @pytest.mark.parametrize(("signed", "expected"), [(0, 0x0801), (1, 0x0801 - 0x1000)])
    def test_garbage_in_unused_bits_is_cleared(self, folder, make_series, signed, expected):
        stored = np.full((2, 3, 4), 0xA801, np.uint16)
        place = folder(make_series(stored, BitsStored=12, HighBit=11, PixelRepresentation=signed))
        assert (read_dicom(place).array == expected).all()

    def test_float_pixels(self, folder, make_series):
        values = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4)
        slices = make_series(values.view(np.uint32))
        for data, frame in zip(slices, values, strict=True):
            del data.PixelData, data.BitsStored, data.HighBit, data.PixelRepresentation
            data.FloatPixelData = frame.tobytes()
        np.testing.assert_array_equal(read_dicom(folder(slices)).array[0], values.transpose(2, 1, 0))

    def test_files_below_subfolders_and_strangers(self, tmp_path, folder, plain, save_slice, make_slice):
        place = folder(plain, [f"{'a' if k % 2 else 'b'}/{k}" for k in range(5)])
        (place / "notes.txt").write_text("not a scan")
        (place / ".DS_Store").write_text("hidden")
        save_slice(
            make_slice(np.zeros((6, 8), np.uint8), Modality="SEG", SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4"),
            place / "seg.dcm",
        )
        remarks = read_dicom(place).source.remarks
        assert "left out (no DICOM): notes.txt" in remarks
        assert "left out (no image): seg.dcm" in remarks

    def test_no_preamble_implicit_vr(self, folder, plain, ramp):
        place = folder([])
        place.mkdir()
        for index, data in enumerate(plain):
            data.save_as(place / f"{index}", implicit_vr=True, little_endian=True, enforce_file_format=False)
        assert (place / "0").read_bytes()[:2] == b"\x08\x00"
        np.testing.assert_array_equal(read_dicom(place).array[0], ramp.transpose(2, 1, 0))

    def test_modality_from_the_class_where_it_is_missing(self, folder, make_series, ramp):
        assert read_dicom(folder(make_series(ramp, Modality=None))).modality == "CT"

    def test_rounded_positions_and_orientation_are_one_grid(self, folder, plain):
        for index, data in enumerate(plain):
            data.ImagePositionPatient = [-30, 20, -100 + 2.5 * index + (0.01 if index == 2 else 0)]
            data.ImageOrientationPatient = [1, 2e-6 * index, 0, 0, 1, 0]
        np.testing.assert_allclose(read_dicom(folder(plain)).spacing, (0.9, 0.7, 2.5), atol=1e-6)

    def test_long_decimal_strings(self, folder, plain):
        place = folder(plain)
        for file in place.iterdir():  # the same length, so the element's own stays right
            raw = file.read_bytes()
            assert raw.count(b"0.7\\0.9 ") == 1
            file.write_bytes(
                raw.replace(
                    b"\x28\x00\x30\x00DS\x08\x000.7\\0.9 ",
                    b"\x28\x00\x30\x00DS\x28\x000.70000000000000001\\0.900000000000000001",
                )
            )
        np.testing.assert_allclose(read_dicom(place).spacing, (0.9, 0.7, 2.5))


class TestOneSlice:
    def test_depth_one(self, tmp_path, make_slice, save_slice, ramp):
        file = save_slice(make_slice(ramp[0]), tmp_path / "one.dcm")
        volume = read_dicom(file)
        assert volume.shape == (1, 8, 6, 1)
        assert volume.spacing == (1.0, 1.0, 2.0)
        assert any("SliceThickness" in remark for remark in volume.source.remarks)
        assert volume.source.name == str(file)

    def test_spacing_between_slices_stands_in(self, tmp_path, make_slice, save_slice, ramp):
        data = make_slice(ramp[0], SliceThickness=None, SpacingBetweenSlices=3)
        assert read_dicom(save_slice(data, tmp_path / "one.dcm")).spacing == (1.0, 1.0, 3.0)

    def test_no_depth_is_refused(self, tmp_path, make_slice, save_slice, ramp):
        with pytest.raises(SeriesError, match="no depth"):
            read_dicom(save_slice(make_slice(ramp[0], SliceThickness=None), tmp_path / "one.dcm"))


def moved(slices: list[Any], index: int, position: list[float]) -> list[Any]:
    slices[index].ImagePositionPatient = position
    return slices


def altered(slices: list[Any], index: int, **elements: Any) -> list[Any]:
    for keyword, value in elements.items():
        setattr(slices[index], keyword, value)
    return slices


def without(slices: list[Any], keyword: str, indices: slice = slice(2, 3)) -> list[Any]:
    for data in slices[indices]:
        delattr(data, keyword)
    return slices


def tilted(slices: list[Any]) -> list[Any]:
    for k, data in enumerate(slices):
        data.ImagePositionPatient = [-30, 20 + 0.6 * k, -100 + 2.5 * k]
    return slices


def twice(slices: list[Any], **elements: Any) -> list[Any]:
    copies = copy.deepcopy(slices)
    for data in copies:
        data.SOPInstanceUID = pydicom.uid.generate_uid()
        for keyword, value in elements.items():
            setattr(data, keyword, value)
    return [*slices, *copies]


BROKEN: dict[str, tuple[Callable[[list[Any]], list[Any]], str]] = {
    "missing slice": (lambda s: s[:2] + s[3:], "1 of 5 slices are missing.*between IM001.dcm and IM002.dcm"),
    "uneven": (lambda s: moved(s, 4, [-30, 20, -89.2]), "unevenly spaced.*IM003"),
    "drifting spacing": (
        lambda s: [moved(s, k, [-30, 20, -100 + 2.5 * k + 0.04 * k * k])[k] for k in range(5)],
        "unevenly spaced",
    ),
    "copy": (lambda s: [*s, s[2]], "IM002.dcm and IM005.dcm: they have one SOPInstanceUID"),
    "an echo number for some": (lambda s: twice(altered(s, 0, EchoNumbers=1), EchoNumbers=2), "5 of 10.*EchoNumbers 1 and 2"),
    "no position": (lambda s: without(s, "ImagePositionPatient"), "without a usable ImagePositionPatient: IM002"),
    "no orientation": (lambda s: without(s, "ImageOrientationPatient"), "without a usable ImageOrientationPatient: IM002"),
    "no pixel spacing": (lambda s: without(s, "PixelSpacing"), "without a usable PixelSpacing: IM002"),
    "skewed orientation": (
        lambda s: [altered(s, k, ImageOrientationPatient=[1, 0, 0, 0.1, 1, 0])[k] for k in range(5)],
        "perpendicular",
    ),
    "multi-frame": (lambda s: altered(s, 1, NumberOfFrames=8), "IM001"),
}  # fmt: skip

ODD_ONE: dict[str, tuple[dict[str, Any], str]] = {
    "orientation": ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "plane=axial"),
    "pixel spacing": ({"PixelSpacing": [0.7, 0.95]}, "spacing=0.9x0.7"),
    "frame of reference": ({"FrameOfReferenceUID": "1.2.3"}, "frame_of_reference=1.2.826.0.1.3680043.8.498.2"),
    "localizer": ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "kind=image"),
    "modality": ({"Modality": "MR"}, "modality=CT"),
    "colour": ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "photometric=MONOCHROME2"),
    "series": ({"SeriesInstanceUID": "1.2.3", "SeriesDescription": "Scout"}, ""),
}
"""What one slice of a series differs in, and what tells the others from it."""


class TestRefused:
    @pytest.mark.parametrize("case", BROKEN)
    def test_not_plain(self, folder, plain, case):
        breaking, message = BROKEN[case]
        place = folder(breaking(plain))
        with pytest.raises(SeriesError, match=message) as caught:
            read_dicom(place)
        assert str(place) in str(caught.value)
        assert caught.value.remedy
        assert "Nobody" not in str(caught.value)
        assert "SECRET42" not in str(caught.value)

    @pytest.mark.parametrize("case", ODD_ONE)
    def test_a_slice_of_another_kind_is_a_volume_of_its_own(self, folder, plain, case):
        elements, told = ODD_ONE[case]
        place = folder(altered(plain, 4, **elements))
        with pytest.raises(SelectionError, match="holds 2 volumes") as caught:
            read_dicom(place)
        key = f"{plain[0].SeriesInstanceUID}/{told}" if told else plain[0].SeriesInstanceUID
        assert key in caught.value.choices
        assert key in str(caught.value)
        assert "Nobody" not in str(caught.value)
        assert read_dicom(place, ReadOptions(series=key)).shape == (1, 8, 6, 4)
        assert read_dicom(place, ReadOptions(series="largest")).shape == (1, 8, 6, 4)

    @pytest.mark.parametrize("case", ODD_ONE)
    def test_where_the_odd_slice_was_taken_from_the_middle_the_rest_is_not_whole(self, folder, plain, case):
        place = folder(altered(plain, 2, **ODD_ONE[case][0]))
        with pytest.raises(SeriesError, match="1 of 5 slices are missing"):
            read_dicom(place, ReadOptions(series="largest"))

    def test_different_sizes(self, folder, make_series, ramp):
        odd = make_series(ramp[:, :4])[1]
        slices = make_series(ramp)
        slices[1] = odd
        with pytest.raises(SelectionError, match=r"size 8x6, 4 images.*size 8x4, 1 image"):
            read_dicom(folder(slices))

    def test_truncated_pixels(self, folder, plain):
        place = folder(plain)
        file = place / "IM003.dcm"
        file.write_bytes(file.read_bytes()[:-40])
        with pytest.raises(CorruptFileError, match="IM003"):
            _ = read_dicom(place).array

    def test_too_few_bytes_is_known_from_the_header(self, folder, make_series):
        place = folder(make_series(np.zeros((3, 64, 64), np.int16)))
        file = place / "IM001.dcm"
        file.write_bytes(file.read_bytes()[:3000])
        with pytest.raises(CorruptFileError, match=r"IM001.*too few"):
            read_dicom(place)

    @pytest.mark.parametrize("length", [140, 200, 420])
    def test_truncated_header(self, folder, plain, length):
        place = folder(plain)
        file = place / "IM003.dcm"
        file.write_bytes(file.read_bytes()[:length])
        with pytest.raises(CorruptFileError, match=r"IM003.*header"):
            read_dicom(place)

    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(changes=st.lists(st.tuples(st.integers(132, 900), st.integers(0, 255)), min_size=1, max_size=4))
    def test_any_damage_to_the_header_ends_in_a_typed_error(self, tmp_path, plain, save_slice, changes):
        file = save_slice(plain[0], tmp_path / "d.dcm")
        raw = bytearray(file.read_bytes())
        for position, value in changes:
            raw[position] = value
        file.write_bytes(raw)
        message = "d.dcm"
        try:
            _ = read_dicom(file).array
        except VoxelryError as error:
            message = str(error)
        assert "d.dcm" in message

    def test_transfer_syntax_without_decoder(self, tmp_path, plain, save_slice):
        file = save_slice(plain[0], tmp_path / "a.dcm")
        loaded = pydicom.dcmread(file)
        loaded.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"
        loaded.PixelData = pydicom.encaps.encapsulate([b"\0" * 96])
        loaded["PixelData"].VR = "OB"
        loaded.save_as(file)
        with pytest.raises(UnsupportedFormatError, match="MPEG2"):
            read_dicom(file)

    def test_damaged_compressed_pixels_name_the_transfer_syntax(self, tmp_path, plain, save_slice):
        file = save_slice(plain[0], tmp_path / "a.dcm")
        loaded = pydicom.dcmread(file)
        loaded.compress("1.2.840.10008.1.2.4.80")
        loaded.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xf7garbage "])
        loaded.save_as(file)
        with pytest.raises(ReadError, match="JPEG-LS"):
            _ = read_dicom(file).array

    def test_slope_zero(self, folder, make_series, ramp):
        with pytest.raises(CorruptFileError, match="RescaleSlope is 0"):
            read_dicom(folder(make_series(ramp, RescaleSlope=0, RescaleIntercept=0)))

    def test_not_an_image(self, tmp_path, make_slice, save_slice):
        data = make_slice(np.zeros((6, 8), np.uint8), Modality="RTDOSE", SOPClassUID="1.2.840.10008.5.1.4.1.1.481.2")
        file = save_slice(data, tmp_path / "dose.dcm")
        for reading in (lambda: read_dicom(file), lambda: read_dicom(tmp_path)):
            with pytest.raises(UnsupportedFormatError, match=r"Dose Storage .*not an image"):
                reading()

    def test_a_folder_of_a_segmentation_holds_no_image(self, tmp_path, make_slice, save_slice):
        data = make_slice(np.zeros((6, 8), np.uint8), Modality="SEG", SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4")
        file = save_slice(data, tmp_path / "seg.dcm")
        with pytest.raises(UnsupportedFormatError, match=r"Segmentation Storage .*not an image"):
            read_dicom(tmp_path)
        with pytest.raises(CorruptFileError, match="SegmentationType"):
            read_dicom(file)

    def test_no_dicom(self, tmp_path):
        with pytest.raises(MissingFileError):
            read_dicom(tmp_path)
