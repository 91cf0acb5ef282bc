"""Mosaics: tiles of Siemens land where nibabel puts them, those of UIH where their items say and dcm2niix puts them."""

from __future__ import annotations

import struct
import subprocess
import warnings
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from nibabel.affines import apply_affine
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_sequence
from pydicom.uid import MRImageStorage

from voxelry.core.geometry import flip_lps_ras
from voxelry.errors import CorruptFileError
from voxelry.formats.dicom.planes import read_planes
from voxelry.formats.reader import read, read_all

COUNT, ROWS, COLUMNS = 7, 8, 6
SIDE = 3
VALUES = (np.arange(COUNT * ROWS * COLUMNS, dtype=np.int16) + 5).reshape(COUNT, ROWS, COLUMNS)


def csa(normal, count=COUNT):
    """A CSA image header of type 2 (``SV10``) with the tags that place a mosaic, and the one by which nibabel knows one."""
    tags = [
        ("NumberOfImagesInMosaic", b"US", [str(count)]),
        ("SliceNormalVector", b"FD", [f"{x:.8f}" for x in normal]),
        ("AcquisitionMatrixText", b"SH", [f"{ROWS}p*{COLUMNS}"]),
    ]
    out = b"SV10\4\3\2\1" + struct.pack("<2I", len(tags), 77)
    for name, vr, values in tags:
        out += struct.pack("<64si4siii", name.encode(), len(values), vr, 0, 6, 77)
        for index in range(6):
            text = values[index].encode() + b"\0" if index < len(values) else b""
            out += struct.pack("<4i", len(text), len(text), 77, len(text)) + text + bytes(-len(text) % 4)
    return out


@pytest.fixture
def mosaic(make_slice, save_slice, tmp_path):
    def write(orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0), sign=1, code=csa, **elements) -> Path:
        whole = np.zeros((ROWS * SIDE, COLUMNS * SIDE), np.int16)
        for index, tile in enumerate(VALUES):
            row, column = index // SIDE * ROWS, index % SIDE * COLUMNS
            whole[row : row + ROWS, column : column + COLUMNS] = tile
        normal = np.cross(orientation[:3], orientation[3:]) * sign
        data = make_slice(
            whole,
            **{
                "SOPClassUID": MRImageStorage,
                "Modality": "MR",
                "Manufacturer": "SIEMENS",
                "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"],
                "ImageOrientationPatient": [f"{x:.9f}" for x in orientation],
                "ImagePositionPatient": [-120.5, -90.25, 33.0],
                "PixelSpacing": [2.0, 3.0],
                "SliceThickness": 4.0,
                "SpacingBetweenSlices": 4.5,
                "InstanceNumber": 1,
            }
            | elements,
        )
        block = data.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        block.add_new(0x10, "OB", code(normal))
        return save_slice(data, tmp_path / "mosaic.dcm")

    return write


OBLIQUE = (*np.array([0.8, 0.36, -0.48]), *np.array([0.0, 0.8, 0.6]))


@pytest.mark.parametrize("orientation", [(1.0, 0.0, 0.0, 0.0, 1.0, 0.0), OBLIQUE])
@pytest.mark.parametrize("sign", [1, -1])
def test_as_nibabel_places_it(mosaic, orientation, sign):
    path = mosaic(orientation, sign)
    volume = read(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nibabel.nicom.dicomwrappers import wrapper_from_file

        other = wrapper_from_file(path)
    affine, values = flip_lps_ras(other.affine), np.asarray(other.get_data())
    assert volume.shape == (1, COLUMNS, ROWS, COUNT)
    for index in np.ndindex(values.shape):
        place = apply_affine(np.linalg.inv(volume.geometry.affine) @ affine, index)
        ours = tuple(np.rint(place).astype(int))
        np.testing.assert_allclose(place, ours, atol=1e-3)
        assert volume.array[0][ours] == values[index]


def test_known_place(mosaic):
    """The first tile begins half of the difference between mosaic and tile further along rows and columns."""
    first = read_planes(mosaic())[0]
    np.testing.assert_allclose(first.position, (-120.5 + 3 * COLUMNS, -90.25 + 2 * ROWS, 33.0))
    assert (first.rows, first.columns, first.mosaic, first.tile) == (ROWS, COLUMNS, (ROWS * SIDE, COLUMNS * SIDE), (0, 0))
    assert read_planes(mosaic())[4].tile == (ROWS, COLUMNS)


@pytest.mark.parametrize(
    ("elements", "said"),
    [
        ({"code": lambda normal: b"nothing of the kind"}, "CSA header cannot be read|NumberOfImagesInMosaic"),
        ({"code": lambda normal: csa(normal, count=0)}, "NumberOfImagesInMosaic"),
        ({"code": lambda normal: csa(normal, count=10)}, "10 tiles do not divide"),
        ({"code": lambda normal: csa(normal[:2])}, "SliceNormalVector"),
        ({"PixelSpacing": None}, "position, orientation or pixel spacing"),
        ({"SliceThickness": 0, "SpacingBetweenSlices": 0}, "SpacingBetweenSlices"),
    ],
)
def test_what_contradicts_itself(mosaic, elements, said):
    with pytest.raises(CorruptFileError, match=said):
        read_planes(mosaic(**elements))


def uih_items(orientation, count, step=4.2, drop=()):
    """The items of UIH's private sequence, with the position of each tile."""
    normal = np.cross(orientation[:3], orientation[3:])
    items = []
    for index in range(count):
        item = Dataset()
        if index not in drop:
            item.ImagePositionPatient = [f"{x:.9g}" for x in np.array([-20.0, -58.5, 7.0]) + normal * step * index]
        items.append(item)
    return items


@pytest.fixture
def uih(make_slice, save_slice, tmp_path):
    """Writes an image of UIH of some tiles."""

    def write(count, orientation=OBLIQUE, items=None, creator=0x10, tiles=None, **elements):
        side = int(np.ceil(np.sqrt(count)))
        tiles = VALUES[:count] if tiles is None else tiles
        whole = np.zeros((ROWS * -(-count // side), COLUMNS * side), np.int16)
        for index, tile in enumerate(tiles):
            row, column = index // side * ROWS, index % side * COLUMNS
            whole[row : row + ROWS, column : column + COLUMNS] = tile
        fixed = {
            "SOPClassUID": MRImageStorage, "Modality": "MR", "Manufacturer": "UIH", "PixelSpacing": [3, 2], "InstanceNumber": 1,
            "ImageType": ["ORIGINAL", "PRIMARY", "M", "VFRAME"], "ImageOrientationPatient": [f"{x:.9f}" for x in orientation],
            "ImagePositionPatient": None, "SliceThickness": 3.5, "SpacingBetweenSlices": 4.2,
        }  # fmt: skip
        data = make_slice(whole, **(fixed | elements))
        items = uih_items(orientation, count) if items is None else items
        if creator:
            data.add_new((0x0065, creator), "LO", "Image Private Header")
        block = (creator or 0x10) << 8
        data.add_new((0x0065, block | 0x50), "DS", str(count))
        if items:
            data.add_new((0x0065, block | 0x51), "SQ", items)
        return save_slice(data, tmp_path / "uih" / f"{data.InstanceNumber}.dcm")

    return write


def lands(path, count, orientation, step=4.2, values=VALUES):
    """Every voxel has its value where its tile's item says."""
    volume = read(path)
    assert volume.shape == (1, COLUMNS, ROWS, count)
    along, down = np.array(orientation).reshape(2, 3)
    for k, row, column in np.ndindex(count, ROWS, COLUMNS):
        lps = np.array([-20.0, -58.5, 7.0]) + np.cross(along, down) * step * k + along * 2 * column + down * 3 * row
        place = apply_affine(np.linalg.inv(volume.geometry.affine), flip_lps_ras(lps))
        index = tuple(np.rint(place).astype(int))
        np.testing.assert_allclose(place, index, atol=1e-3)
        assert volume.array[0][index] == values[k, row, column]


@pytest.mark.parametrize("count", [2, 3, 5, 6, 7])
@pytest.mark.parametrize("step", [4.2, -4.2])
def test_tiles_of_uih_lie_where_their_items_say(uih, count, step):
    lands(uih(count, items=uih_items(OBLIQUE, count, step)), count, OBLIQUE, step)


@pytest.mark.parametrize("creator", [0x10, 0x11, 0xF0, None])
def test_the_private_block_may_be_any(uih, creator):
    lands(uih(5, creator=creator), 5, OBLIQUE)


def test_the_sequence_may_be_of_an_unknown_representation(uih):
    path = uih(5)
    raw = path.read_bytes()
    at = raw.index(b"\x65\x00\x51\x10SQ")
    data = pydicom.dcmread(path)
    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, True
    write_sequence(stream, DataElement(0x00651051, "SQ", data[0x0065, 0x1051].value), ["iso8859"])
    content = stream.getvalue()
    length = int.from_bytes(raw[at + 8 : at + 12], "little")
    path.write_bytes(raw[: at + 4] + b"UN\0\0" + len(content).to_bytes(4, "little") + content + raw[at + 12 + length :])
    lands(path, 5, OBLIQUE)


def test_volumes_of_uih_are_told_apart(uih):
    for number in (3, 1, 2):
        path = uih(7, InstanceNumber=number, SOPInstanceUID=f"1.2.{number}", tiles=VALUES + np.int16(100 * number))
    assert [int(volume.array.min()) for volume in read_all(path.parent)] == [105, 205, 305]


def test_uih_as_dcm2niix_places_it(uih, dcm2niix, tmp_path):
    path = uih(7)
    subprocess.run([dcm2niix, "-b", "n", "-f", "out", "-o", tmp_path, path.parent], check=True, capture_output=True)
    other, volume = nibabel.load(tmp_path / "out.nii"), read(path)
    values = np.asanyarray(other.dataobj)
    for index in np.ndindex(values.shape[:3]):
        place = apply_affine(np.linalg.inv(volume.geometry.affine) @ other.affine, index)
        np.testing.assert_allclose(place, np.rint(place), atol=1e-3)
        assert volume.array[0][tuple(np.rint(place).astype(int))] == values[index]


def test_an_image_of_uih_without_tiles_is_one_slice(uih):
    path = uih(4, items=[], ImagePositionPatient=[1, 2, 3])
    assert read(path).shape == (1, 2 * COLUMNS, 2 * ROWS, 1)


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ([], "positions of its tiles"),
        (uih_items(OBLIQUE, 7, drop=(3,)), "positions of its tiles"),
        (uih_items(OBLIQUE, 17), "17 tiles do not divide"),
    ],
)
def test_a_mosaic_of_uih_that_contradicts_itself(uih, items, said):
    with pytest.raises(CorruptFileError, match=said):
        read_planes(uih(7, items=items))
