from dataclasses import replace

import nibabel
import numpy as np
import pytest
from monai.transforms import Compose, EnsureChannelFirstd, LoadImage, LoadImaged, Orientationd, Spacingd
from PIL import Image

from voxelry.adapters.monai_reader import VoxelryReader
from voxelry.core.geometry import Geometry
from voxelry.errors import GridMismatchError, MissingFileError
from voxelry.phantom.dicom import write_dicom
from voxelry.phantom.phantom import ACQUISITIONS, make_phantom

# MONAI's LoadImage also makes all of its own readers, and one of them warns
pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader")

AFFINE = np.array([[-1.5, 0, 0, 20], [0, 0, 2.0, -9], [0, -1.0, 0, 4], [0, 0, 0, 1.0]])


@pytest.fixture
def nifti(tmp_path):
    array = np.random.default_rng(0).integers(0, 900, (8, 10, 6)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(array, AFFINE), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz", array


def test_nifti_in_a_pipeline(nifti):
    path, array = nifti
    pipeline = Compose(
        [
            LoadImaged("image", reader=VoxelryReader()),
            EnsureChannelFirstd("image"),
            Orientationd("image", axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
        ]
    )
    image = pipeline({"image": str(path)})["image"]
    expected = nibabel.as_closest_canonical(nibabel.Nifti1Image(array, AFFINE))
    assert np.array_equal(image.numpy()[0], expected.dataobj)
    np.testing.assert_allclose(image.affine, expected.affine)
    assert image.meta["filename_or_obj"] == str(path)


def test_spacing_keeps_world_positions(nifti):
    load = Compose([LoadImaged("image", reader=VoxelryReader()), EnsureChannelFirstd("image")])
    before = load({"image": nifti[0]})["image"]
    after = Spacingd("image", pixdim=(1.0, 1.0, 1.0))({"image": before})["image"]
    assert after.shape[0] == 1
    old, new = before.affine.numpy(), after.affine.numpy()
    np.testing.assert_allclose(np.linalg.norm(new[:3, :3], axis=0), 1, atol=1e-6)
    corners = [
        affine @ [*((np.array(image.shape[1:]) - 1) * end), 1]
        for image, affine in ((before, old), (after, new))
        for end in (0, 1)
    ]
    assert np.abs(corners[0] - corners[2]).max() < 1.1
    assert np.abs(corners[1] - corners[3]).max() < 1.1


def test_a_dicom_series_has_the_geometry_of_its_headers(tmp_path):
    small = replace(ACQUISITIONS["torso-ct"], spacing=(16.0, 16.0, 30.0), rotation=(0.0, 0.0, 7.0))
    phantom = make_phantom("torso-ct", 1, small)
    (folder,) = write_dicom(phantom, tmp_path / "series")
    image = LoadImage(reader=VoxelryReader())(str(folder))
    geometry = Geometry(tuple(image.shape[1:]), image.affine.numpy())
    change = geometry.reindexing_to(phantom.volume.geometry)
    assert change is not None
    assert np.array_equal(change.apply(image.numpy()), phantom.volume.array)


def test_a_file_per_channel(nifti, tmp_path):
    path, array = nifti
    nibabel.save(nibabel.Nifti1Image(array[::-1] + 1, AFFINE @ [[-1, 0, 0, 7], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
                 tmp_path / "second.nii.gz")  # fmt: skip
    image = LoadImage(reader=VoxelryReader())([path, tmp_path / "second.nii.gz"])
    assert image.shape == (2, 8, 10, 6)
    assert np.array_equal(image[1], array + 1)  # re-indexed onto the first


def test_channels_on_different_grids_are_refused(nifti, tmp_path):
    path, array = nifti
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / "other.nii.gz")
    with pytest.raises(GridMismatchError, match=r"other.nii.gz"):
        VoxelryReader().read([path, tmp_path / "other.nii.gz"])


def test_pictures_stay_rows_by_columns(tmp_path):
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    Image.fromarray(array).save(tmp_path / "x.png")
    image = LoadImage(reader=VoxelryReader())(tmp_path / "x.png")
    assert np.array_equal(image.numpy(), array[None])
    assert np.array_equal(image.affine, np.eye(4))


def test_a_missing_file_is_our_error(tmp_path):
    with pytest.raises(MissingFileError):
        VoxelryReader().read(tmp_path / "none.nii.gz")
