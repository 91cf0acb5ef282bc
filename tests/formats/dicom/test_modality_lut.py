"""Modality look-up tables."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from voxelry.errors import CorruptFileError
from voxelry.formats.dicom.modality_lut import ModalityLut, read_modality_lut
from voxelry.formats.dicom.planes import read_planes

STORED = np.arange(48, dtype=np.int16).reshape(6, 8)


@given(st.integers(-50, 50), st.lists(st.integers(0, 65535), min_size=1, max_size=60))
def test_by_brute_force(first, values):
    table = ModalityLut(first, np.array(values, np.uint16))
    truth = [values[min(max(stored - first, 0), len(values) - 1)] for stored in STORED.ravel().tolist()]
    assert table.apply(STORED).ravel().tolist() == truth


@pytest.fixture
def header(make_slice, save_slice, tmp_path):
    def write(descriptor, data):
        item = Dataset()
        item.LUTDescriptor = descriptor
        item["LUTDescriptor"].VR = "US"
        item.LUTData = data
        item["LUTData"].VR = "OW" if isinstance(data, bytes) else "US"
        return read_planes(save_slice(make_slice(STORED, ModalityLUTSequence=[item]), tmp_path / "a.dcm"))[0]

    return write


def test_words_bytes_and_lists(header):
    values = [5, 300, 65535]
    assert read_modality_lut(header([3, 0, 16], np.array(values, "<u2").tobytes())).values.tolist() == values
    assert read_modality_lut(header([3, 0, 16], values)).values.tolist() == values
    assert read_modality_lut(header([4, 0, 8], bytes([5, 30, 255, 7]))).values.tolist() == [5, 30, 255, 7]


def test_a_negative_first_entry_is_written_unsigned(header):
    assert read_modality_lut(header([3, 65436, 16], [1, 2, 3])).first == -100


@pytest.mark.parametrize(("descriptor", "data"), [([4, 0, 16], [1, 2, 3]), ([3, 0, 40], [1, 2, 3]), ([3, 0], [1, 2, 3])])
def test_contradictions(header, descriptor, data):
    with pytest.raises(CorruptFileError, match=r"a\.dcm: the ModalityLUTSequence"):
        read_modality_lut(header(descriptor, data))
