"""Text where DICOM demands a number: every export leaves it out, and keeps the rest."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.config import IGNORE, settings
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

import voxelry as vx
from helpers.ct_series import odd_series, raw_element
from helpers.sources import volume
from voxelry.formats.dicom.objects.resampled_series import write_resampled
from voxelry.formats.dicom.objects.source_series import source_series
from voxelry.formats.dicom.objects.unreadable_elements import drop_unreadable

FORMATS = {"rtstruct": "o.rtstruct.dcm", "secondary-capture": "o.sc", "encapsulated-stl": "o.stl.dcm", "dicom-seg": "o.seg.dcm"}
TAGS = [
    "SeriesNumber",
    "SliceThickness",
    "KVP",
    "AcquisitionNumber",
    "PatientWeight",
    "LossyImageCompressionRatio",
    "GantryDetectorTilt",
]


def labels(scan):
    array = np.zeros(scan.geometry.shape, np.uint8)
    array[2:6, 2:5, 1:3] = 1
    return vx.LabelMap.of(array, scan.geometry, vx.LabelTable(labels=(vx.Label(value=1, name="liver"),)))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("value", "vr"), [(b"ANON", None), (b"2.5mm", None), (b"ANON", "LO"), (b"3\\\\4", None), (b"nan", "LO")])
def test_every_export_bears_text_in_every_number(tmp_path, form, value, vr):
    odd_series(tmp_path, dict.fromkeys(TAGS, (value, vr)))
    scan = vx.read(tmp_path)
    out = vx.write(labels(scan), tmp_path / FORMATS[form], format=form, source=scan)
    first = dcmread(out if out.is_file() else min(out.iterdir()))
    assert 0 < int(first.SeriesNumber) < 2**31
    assert first.PatientID == "4711"


@pytest.mark.parametrize(("text", "number"), [(b"7", 7), (b"7.0", 7), (b" 7 ", 7), (b"", 0), (b"seven", 0), (b"99999999999", 0)])
def test_the_number_of_the_new_series_counts_on(tmp_path, text, number):
    numbers = []
    for name, value in (("odd", text), ("plain", b"0")):
        (tmp_path / name).mkdir()
        odd_series(tmp_path / name, {"SeriesNumber": value})
        scan = vx.read(tmp_path / name)
        numbers.append(dcmread(vx.write(labels(scan), tmp_path / f"{name}.rtstruct.dcm", source=scan)).SeriesNumber)
    assert numbers[0] - numbers[1] == number


def test_frames_of_an_enhanced_image(tmp_path, monkeypatch):
    scan = volume("enhanced", tmp_path)
    data = dcmread(scan.source.files[0])
    measures = data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures[Tag("SliceThickness")] = raw_element("SliceThickness", b"2.5mm")
    with monkeypatch.context() as lenient:
        lenient.setattr(settings, "reading_validation_mode", IGNORE)
        data.save_as(scan.source.files[0])
    assert {float(header.SliceThickness) for header in source_series(scan, "out.dcm").headers} == {2.5}


def test_what_is_left_out_is_said_once(tmp_path, caplog):
    odd_series(tmp_path, {"KVP": b"secret"})
    with caplog.at_level(logging.WARNING):
        source_series(vx.read(tmp_path), "out.dcm")
    assert [record.getMessage() for record in caplog.records] == ["KVP of the source series cannot be read and is left out"]


@given(st.sampled_from(["IS", "DS"]), st.integers(-(2**31), 2**31 - 1) | st.floats(-1e9, 1e9).map(lambda x: round(x, 3)))
def test_numbers_stay(vr, number):
    keyword = "SeriesNumber" if vr == "IS" else "KVP"
    text = str(int(number) if vr == "IS" else number)
    data = Dataset()
    data[Tag(keyword)] = raw_element(keyword, text.encode())
    assert drop_unreadable(data) == []
    assert float(data[keyword].value) == float(text)


@pytest.mark.parametrize("form", ["rtstruct", "dicom-seg"])
def test_text_within_sequences(tmp_path, form):
    def change(header, k):
        inner, outer = Dataset(), Dataset()
        inner[Tag("KVP")] = raw_element("KVP", b"secret")
        inner.PatientID = "kept"
        outer.RequestAttributesSequence = [inner]
        header.RequestAttributesSequence = [outer]
        header.ImagePositionPatient = [-31.25, 40.5 + 0.9 * k, -512.125 + 2.5 * k]

    odd_series(tmp_path, {}, change=change)
    scan = vx.read(tmp_path, repair="tilt")
    vx.write(labels(scan), tmp_path / FORMATS[form], format=form, source=scan)
    written = dcmread(write_resampled(scan, tmp_path / "series") / "0001.dcm")
    inner = written.RequestAttributesSequence[0].RequestAttributesSequence[0]
    assert (inner.PatientID, "KVP" in inner) == ("kept", False)


def test_bytes_of_another_length():
    data = Dataset()
    data[Tag("SmallestImagePixelValue")] = RawDataElement(Tag("SmallestImagePixelValue"), "US", 3, b"abc", 0, False, True)
    data.PatientName = "abc"
    assert drop_unreadable(data) == ["SmallestImagePixelValue"]
    assert data.PatientName == "abc"
