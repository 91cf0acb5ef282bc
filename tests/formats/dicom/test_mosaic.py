"""Siemens mosaics: tiles land where nibabel and dcm2niix put them."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from nibabel.affines import apply_affine
from pydicom.uid import MRImageStorage

from voxelry.core.geometry import flip_lps_ras
from voxelry.errors import CorruptFileError
from voxelry.formats.dicom.planes import read_planes
from voxelry.formats.reader import read

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
