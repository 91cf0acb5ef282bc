"""DICOM elements as text and numbers, against what pydicom converts them to."""

from __future__ import annotations

import io
import math

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from voxelry.formats.dicom.elements import (
    finite_numbers,
    integer_of,
    number_of,
    number_or_nan,
    numbers_of,
    short_message,
    text_of,
    transfer_syntax,
)


def stored(syntax=ExplicitVRLittleEndian, **elements):
    """A data set that was written and read again, whose elements pydicom has not converted yet."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    for keyword, value in elements.items():
        setattr(data, keyword, value)
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, data, enforce_file_format=False)
    return pydicom.dcmread(io.BytesIO(stream.getvalue()), force=True)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_texts_are_those_of_pydicom(syntax):
    elements = {"Modality": "CT", "ImageType": ["ORIGINAL", "PRIMARY"], "Rows": 512, "PatientName": "A^B", "KVP": "120"}
    data = stored(syntax, **elements)
    assert [text_of(data, keyword) for keyword in elements] == ["CT", "ORIGINAL\\PRIMARY", "512", "A^B", "120"]
    assert [text_of(data, keyword) for keyword in ("Columns", "StudyDate")] == ["", ""]
    assert transfer_syntax(data) == syntax


def test_numbers():
    data = stored(PixelSpacing=["0.5", "0.25"], RescaleSlope="2", InstanceNumber="", Rows=7)
    assert numbers_of(data, "PixelSpacing", 2) == (0.5, 0.25)
    assert numbers_of(data, "PixelSpacing", 3) is None
    assert number_of(data, "RescaleSlope") == 2
    assert integer_of(data, "Rows") == 7
    assert integer_of(data, "InstanceNumber") is None


def test_an_unreadable_number_is_told_from_a_missing_one():
    data = stored(SeriesDescription="one", StudyDescription="")
    assert math.isnan(number_or_nan(data, "SeriesDescription"))
    assert number_or_nan(data, "StudyDescription") is None
    assert number_or_nan(data, "RescaleSlope") is None


@pytest.mark.parametrize("text", ["", "1", "1\\x", "1\\inf", "1\\nan", "1\\2\\3"])
def test_what_is_no_pair_of_finite_numbers(text):
    assert finite_numbers(text, 2) is None


def test_a_long_message_is_cut():
    assert short_message(ValueError("a\n b")) == "a b"
    assert len(short_message("x" * 1000)) < 250
