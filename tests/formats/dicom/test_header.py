"""A DICOM header tells patients apart and names none."""

from __future__ import annotations

from voxelry.formats.dicom.planes import read_planes
from voxelry.formats.dicom.scan import scan_headers
from voxelry.formats.dicom.stacks.groups import group_planes


def test_no_digest_of_a_patient_is_printed(tmp_path, plain, save_slice):
    [header] = read_planes(save_slice(plain[0], tmp_path / "a.dcm"))
    assert header.patient
    for text in (repr(header), str(header), repr(scan_headers(tmp_path)), repr(group_planes([header]))):
        assert header.patient not in text
        assert header.patient[:16] not in text
        assert "SECRET42" not in text
