"""Files of objects whose transfer syntax is not what it says: read, or refused in words that say what is wrong."""

from __future__ import annotations

import pytest
from pydicom import dcmread
from pydicom.uid import UID_dictionary

from helpers.structures import contour, structure_set
from voxelry.errors import UnsupportedFormatError
from voxelry.formats.dicom.elements import PARSE_ERRORS
from voxelry.formats.dicom.objects.stored_object import read_object
from voxelry.formats.dicom.pixels.transfer_syntaxes import TRANSFER_SYNTAXES
from voxelry.formats.file_content import open_content

TRIANGLE = [(0, 0, 0), (4, 0, 0), (0, 4, 0)]
SYNTAXES = [uid for uid, row in UID_dictionary.items() if row[1] == "Transfer Syntax"]


@pytest.fixture
def path(tmp_path):
    return structure_set(tmp_path / "rt.dcm", [("heart", None, [contour(TRIANGLE)])])


def renamed(path, syntax):
    """Another transfer syntax in the file meta information, over the same data set."""
    content = path.read_bytes()
    old = str(dcmread(path).file_meta.TransferSyntaxUID).encode() + b"\0"
    new = syntax.encode() + b"\0" * (len(syntax) % 2)
    at = content.index(old)
    length = int.from_bytes(content[140:144], "little") + len(new) - len(old)
    path.write_bytes(
        content[:140] + length.to_bytes(4, "little") + content[144 : at - 2] + len(new).to_bytes(2, "little") + new
        + content[at + len(old) :]
    )  # fmt: skip
    return path


@pytest.mark.parametrize("syntax", [*SYNTAXES, "1.2.3.4", "no uid", "1.2.840.113619.5.2"])
def test_any_other_transfer_syntax(path, syntax):
    row = TRANSFER_SYNTAXES.get(syntax)
    renamed(path, syntax)
    if row is None:
        with pytest.raises(UnsupportedFormatError, match=r"rt\.dcm: the transfer syntax .* is not known"):
            read_object(path)
    elif row.is_deflated or row.is_big_endian:
        with pytest.raises((*PARSE_ERRORS, AttributeError)):
            read_object(path).StructureSetROISequence[0]
    else:  # explicit, or implicit, which pydicom finds out to be explicit
        assert read_object(path).Modality == "RTSTRUCT"


def test_no_transfer_syntax_means_the_encoding_that_is_there(path):
    data = read_object(renamed(path, ""))
    assert (data.Modality, data.file_meta.TransferSyntaxUID) == ("RTSTRUCT", "1.2.840.10008.1.2.1")
    path.write_bytes(path.read_bytes()[132:])  # without a preamble
    assert read_object(path).Modality == "RTSTRUCT"


def test_an_open_file_is_not_opened_again(path, monkeypatch):
    with open_content(path) as content:
        path.unlink()
        assert read_object(path, content).Modality == "RTSTRUCT"


def test_some_elements_alone(path):
    data = read_object(path, tags=["StructureSetROISequence"])
    assert "ROIContourSequence" not in data
    assert data.StructureSetROISequence[0].ROIName == "heart"
