"""b-values of private elements, in explicit and implicit representations, in either byte order."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from voxelry.formats.dicom.planes import read_planes

MAKERS = {
    "siemens": ((0x0019, 0x0010), "SIEMENS MR HEADER", (0x0019, 0x100C), "IS"),
    "philips": ((0x2001, 0x0010), "Philips Imaging DD 001", (0x2001, 0x1003), "FL"),
    "ge": ((0x0043, 0x0010), "GEMS_PARM_01", (0x0043, 0x1039), "IS"),
}


def b_value(data, save_slice, path, syntax):
    (plane,) = read_planes(save_slice(data, path, syntax))
    return dict(plane.facts)["DiffusionBValue"]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("b", [0, 50, 400, 500, 1000, 1001, 2500])
def test_each_maker(make_slice, save_slice, tmp_path, syntax, maker, b):
    block, creator, tag, vr = MAKERS[maker]
    data = make_slice(np.zeros((4, 6), np.int16), Modality="MR")
    data.add_new(block, "LO", creator)
    data.add_new(tag, vr, {"siemens": str(b), "philips": float(b), "ge": [1_000_000_000 + b, 8, 0, 0]}[maker])
    assert b_value(data, save_slice, tmp_path / "a.dcm", syntax) == str(b)


@pytest.mark.parametrize("value", [b"", b"none", b"\xff\xff\xff\xff", b"\0\0\x80\x7f", b"-5"])
def test_what_cannot_be_understood_is_none(make_slice, save_slice, tmp_path, value):
    data = make_slice(np.zeros((4, 6), np.int16))
    data.add_new((0x2001, 0x1003), "UN", value)
    assert b_value(data, save_slice, tmp_path / "a.dcm", ExplicitVRLittleEndian) == ""


def test_the_standard_element_goes_first(make_slice, save_slice, tmp_path):
    data = make_slice(np.zeros((4, 6), np.int16), DiffusionBValue=700.0)
    data.add_new((0x0019, 0x100C), "IS", "900")
    assert float(b_value(data, save_slice, tmp_path / "a.dcm", ExplicitVRLittleEndian)) == 700
