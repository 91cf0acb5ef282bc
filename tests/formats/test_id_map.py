"""Id maps of every format: ids of 32 bits survive exactly; what is no id is refused."""

import nibabel
import numpy as np
import pytest
import SimpleITK
import tifffile
from PIL import Image

from voxelry.core.geometry import Geometry
from voxelry.errors import GridMismatchError, LabelError, UnsupportedFormatError
from voxelry.formats.id_map import ids_on_grid, read_ids

IDS = np.array([[[0, 1, 70_000], [16_777_217, 2**32 - 1, 3]]], np.uint32)


def nifti(path, array, affine=None):
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine, dtype=array.dtype), path)
    return path


@pytest.mark.parametrize("kind", [np.uint32, np.int64, np.float64])
def test_a_grid_keeps_ids_of_32_bits(kind, tmp_path):
    ids, geometry, source = read_ids(nifti(tmp_path / "ids.nii.gz", IDS.astype(kind)))
    np.testing.assert_array_equal(ids, IDS)
    assert ids.dtype == np.uint32
    assert (geometry.shape, source.kind) == (IDS.shape, "nifti")


@pytest.mark.parametrize("name", ["ids.mha", "ids.nrrd"])
def test_what_itk_wrote_is_read(name, tmp_path):
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(IDS.T), tmp_path / name)
    np.testing.assert_array_equal(read_ids(tmp_path / name)[0], IDS)


@pytest.mark.parametrize("kind", [np.uint32, np.int32, np.float32])
def test_a_tiff_keeps_ids(kind, tmp_path):
    ids = np.array([[0, 70_000], [5, 2**24]], kind)
    tifffile.imwrite(tmp_path / "ids.tif", ids)
    np.testing.assert_array_equal(read_ids(tmp_path / "ids.tif")[0], ids)


def test_a_png_of_16_bits(tmp_path):
    ids = np.array([[0, 60_000], [5, 1]], np.uint16)
    Image.fromarray(ids).save(tmp_path / "ids.png")
    np.testing.assert_array_equal(read_ids(tmp_path / "ids.png")[0], ids)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([[[0.5, 1]]], np.float32), r"ids.nii: 1 voxels hold fractions \(0.5\)"),
        (np.array([[[-1, 1]]], np.int32), r"ids.nii: negative values \(-1\)"),
        (np.array([[[2**32, 1]]], np.int64), r"ids.nii: value 4294967296 is above 4294967295, the largest id.*Renumber"),
    ],
)
def test_what_is_no_id(array, message, tmp_path):
    with pytest.raises(LabelError, match=message):
        read_ids(nifti(tmp_path / "ids.nii", array))


def test_colours_and_lossy_pictures_are_no_id_maps(tmp_path):
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(2, 2, 3)).save(tmp_path / "ids.png")
    with pytest.raises(LabelError, match="colours"):
        read_ids(tmp_path / "ids.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "ids.jpg")
    with pytest.raises(UnsupportedFormatError, match=r"ids\.jpg: a JPEG holds no id map"):
        read_ids(tmp_path / "ids.jpg")


def test_ids_are_brought_to_the_grid_of_the_mask(tmp_path):
    file = nifti(tmp_path / "ids.nii", IDS)
    turned = Geometry(IDS.shape[::-1], np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]]))
    np.testing.assert_array_equal(ids_on_grid(file, turned), IDS.transpose(2, 1, 0))
    with pytest.raises(GridMismatchError, match=r"ids\.nii"):
        ids_on_grid(file, Geometry.from_spacing(IDS.shape, (1, 2, 1)))
