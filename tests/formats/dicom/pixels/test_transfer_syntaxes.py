"""The table of transfer syntaxes: every row decodes, and a row of one's own needs nothing else."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import uid as uids
from pydicom.encaps import encapsulate

from voxelry.errors import UnsupportedFormatError
from voxelry.formats.dicom.pixels.codecs import check_codec, is_deflated, is_native
from voxelry.formats.dicom.pixels.transfer_syntaxes import TRANSFER_SYNTAXES, TransferSyntax, supported_codings
from voxelry.formats.dicom.planes import read_planes
from voxelry.formats.reader import read

HOW_TO = Path(__file__).parents[4] / "docs" / "how-to" / "add-a-transfer-syntax.md"
NEW = "1.2.840.10008.1.2.8.1"


def test_rows_are_of_the_standard():
    for syntax, row in TRANSFER_SYNTAXES.items():
        assert syntax == row.uid
        if syntax not in uids.UID_dictionary:  # newer than pydicom
            continue
        assert row.name != row.uid
        assert uids.UID(syntax).is_transfer_syntax
        assert row.is_native is not uids.UID(syntax).is_encapsulated
        assert row.is_deflated is uids.UID(syntax).is_deflated
        assert row.is_big_endian is not uids.UID(syntax).is_little_endian
        if row.is_lossless is False:
            assert not row.is_native


def test_codings_are_listed_once():
    codings = supported_codings()
    assert len(set(codings)) == len(codings)
    assert set(codings) >= {"uncompressed", "JPEG", "lossless JPEG", "JPEG-LS", "JPEG 2000", "HTJ2K", "RLE"}


@pytest.mark.parametrize("syntax", [uids.ImplicitVRLittleEndian, uids.RLELossless, uids.DeflatedExplicitVRLittleEndian, "1.2.3"])
def test_a_header_is_asked_by_the_table(make_slice, save_slice, tmp_path, syntax):
    (header,) = read_planes(save_slice(make_slice(np.zeros((4, 4), np.int16)), tmp_path / "a.dcm"))
    header = replace(header, syntax=str(syntax))
    assert is_native(header) is (syntax in uids.AllTransferSyntaxes and not uids.UID(syntax).is_encapsulated)
    assert is_deflated(header) is (syntax == uids.DeflatedExplicitVRLittleEndian)


def test_the_how_to_adds_a_syntax(make_slice, save_slice, tmp_path, monkeypatch):
    """The example of the page runs, and `read` decodes what it describes."""
    code = HOW_TO.read_text(encoding="utf-8").split("```python\n")[1].partition("```")[0]
    pixels = np.arange(35, dtype=np.int16).reshape(5, 7) - 3
    data = make_slice(pixels)
    data.PixelData = encapsulate([zlib.compress(pixels.tobytes(), wbits=-zlib.MAX_WBITS)])
    data["PixelData"].VR = "OB"
    path = save_slice(data, tmp_path / "a.dcm", uids.JPEGLSLossless)
    known = uids.JPEGLSLossless.encode()
    path.write_bytes(path.read_bytes().replace(known, NEW.encode().ljust(len(known), b"\0")))  # pydicom writes known ones alone
    with pytest.raises(UnsupportedFormatError, match=NEW):
        check_codec(read_planes(path)[0])
    names: dict[str, object] = {}
    exec(code, names)
    row = names["ROW"]
    assert isinstance(row, TransferSyntax)
    monkeypatch.setitem(TRANSFER_SYNTAXES, NEW, row)
    np.testing.assert_array_equal(read(path).array[0, :, :, 0].T, pixels)
    assert supported_codings()[-1] == "deflated frames"
