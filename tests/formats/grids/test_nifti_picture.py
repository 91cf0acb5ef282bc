"""Pictures as NIfTI: read by SimpleITK and nibabel as they are, and back by ourselves without loss."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st

from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import CorruptFileError
from voxelry.formats.grids.nifti_write import write_nifti, write_nifti_image
from voxelry.formats.reader import read, read_labels

ROWS, COLS = 4, 7
TABLE = LabelTable(labels=(Label(value=1, name="left lung"), Label(value=300, name="right lung")))
VALUES = np.random.default_rng(0).choice(np.array([0, 1, 300], np.uint16), (ROWS, COLS))
SIZES = st.none() | st.tuples(*[st.floats(0.01, 10)] * 2)


def labels(size=None):
    return LabelMap.of(VALUES, Geometry((ROWS, COLS), None, size), TABLE)


@pytest.mark.parametrize(("size", "spacing"), [(None, (1, 1, 1)), ((0.5, 0.25), (0.25, 0.5, 1))])
def test_itk_sees_one_slice_of_rows_and_columns(tmp_path, size, spacing):
    image = SimpleITK.ReadImage(str(write_nifti(labels(size), tmp_path / "x.nii.gz")))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), VALUES[None])
    assert image.GetSpacing() == pytest.approx(spacing)


def test_itk_writes_the_same_voxels_in_the_same_order(tmp_path):
    """The layout is that of a picture which ITK itself saves as NIfTI."""
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VALUES), str(tmp_path / "itk.nii.gz"))
    theirs = nib.load(tmp_path / "itk.nii.gz")
    ours = nib.load(write_nifti(labels(), tmp_path / "x.nii.gz"))
    np.testing.assert_array_equal(np.asanyarray(ours.dataobj)[:, :, 0], np.asanyarray(theirs.dataobj).reshape(COLS, ROWS))


@pytest.mark.parametrize(("size", "unit"), [(None, "unknown"), ((0.5, 0.25), "mm")])
def test_the_header_claims_no_place_in_the_patient(tmp_path, size, unit):
    header = nib.load(write_nifti(labels(size), tmp_path / "x.nii")).header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (0, 0)
    assert header.get_intent()[::2] == ("label", "picture")
    assert header.get_xyzt_units()[0] == unit
    assert header.get_data_shape() == (COLS, ROWS, 1)


@given(SIZES)
def test_the_round_trip_keeps_everything(tmp_path_factory, size):
    path = write_nifti(labels(size), tmp_path_factory.mktemp("nii") / "x.nii.gz")
    back = read_labels(path)
    np.testing.assert_array_equal(back.array, VALUES)
    assert back.geometry.affine is None
    assert back.geometry.pixel_size == (None if size is None else pytest.approx(size, rel=1e-6))
    assert back.table == TABLE


@pytest.mark.parametrize("channels", [1, 3])
def test_images(tmp_path, channels):
    array = np.random.default_rng(1).integers(-500, 500, (channels, ROWS, COLS)).astype(np.int16)
    geometry = Geometry((ROWS, COLS), None, (0.5, 0.25))
    back = read(write_nifti_image(Volume(array, geometry, channels), tmp_path / "x.nii.gz"))
    np.testing.assert_array_equal(back.array, array)
    assert back.geometry.same_grid(geometry)
    assert back.geometry.ndim == 2


def remade(path, **fields):
    """The same file with other header fields."""
    image = nib.load(path)
    data = np.asanyarray(image.dataobj)
    for name, value in fields.items():
        image.header[name] = value
    image = nib.Nifti1Image(data, image.affine if fields.get("sform_code") else None, image.header)
    nib.save(image, path)
    return path


@pytest.mark.parametrize("change", [{"intent_name": b"pictures"}, {"sform_code": 1}, {"intent_name": b"labels"}])
def test_without_the_mark_or_with_an_affine_it_is_a_volume(tmp_path, change):
    path = remade(write_nifti(labels((0.5, 0.25)), tmp_path / "x.nii.gz"), **change)
    assert read_labels(path).geometry.shape == (COLS, ROWS, 1)


def test_a_volume_marked_as_picture_stays_a_volume(tmp_path):
    image = nib.Nifti1Image(np.zeros((3, 4, 2), np.uint8), None)
    image.header["intent_name"] = b"picture"
    nib.save(image, tmp_path / "x.nii.gz")
    assert read_labels(tmp_path / "x.nii.gz").geometry.shape == (3, 4, 2)


def test_metres_are_converted_and_an_impossible_pixel_size_is_refused(tmp_path):
    path = write_nifti(labels((0.5, 0.25)), tmp_path / "x.nii.gz")
    assert read_labels(remade(path, xyzt_units=1)).geometry.pixel_size == pytest.approx((500, 250))
    with pytest.raises(CorruptFileError, match=r"x\.nii\.gz.*pixel size.*pixdim"):
        read_labels(remade(path, pixdim=[1, np.nan, 1, 1, 0, 0, 0, 0]))
