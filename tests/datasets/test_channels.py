"""An image of several files, against SimpleITK."""

from __future__ import annotations

from copy import deepcopy

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from pydicom.uid import generate_uid

from voxelry.core.geometry import Geometry, flip_lps_ras
from voxelry.core.volume import Volume
from voxelry.datasets.channels import read_channels
from voxelry.datasets.resample_to_grid import covered_share, resample_to_grid, spline_order
from voxelry.errors import GridMismatchError, UsageError

AFFINE = np.diag([-1.0, -2.0, 3.0, 1.0])


def nifti(tmp_path, name, array, affine=AFFINE):
    nibabel.Nifti1Image(array, affine).to_filename(tmp_path / name)
    return tmp_path / name


def turned_grid(shape, spacing, angles, origin, order=(0, 1, 2), flips=(1, 1, 1)):
    """A grid turned by three angles in radians, its axes permuted and flipped."""
    turn = np.eye(3)
    for (a, b), angle in zip(((1, 2), (0, 2), (0, 1)), angles, strict=True):
        one = np.eye(3)
        one[a, a] = one[b, b] = np.cos(angle)
        one[a, b], one[b, a] = -np.sin(angle), np.sin(angle)
        turn = turn @ one
    affine = np.eye(4)
    affine[:3, :3] = (turn * np.array(flips))[:, list(order)] * spacing
    centre = (np.array(shape) - 1) / 2
    affine[:3, 3] = np.array(origin) - affine[:3, :3] @ centre
    return Geometry(tuple(int(size) for size in shape), affine)


def by_sitk(array, grid, wanted, order, outside):
    """SimpleITK's resampling of ``(x, y, z)`` arrays between RAS grids."""

    def described(image, geometry):
        lps = flip_lps_ras(geometry.affine)
        image.SetSpacing([float(one) for one in geometry.spacing])
        image.SetDirection((lps[:3, :3] / geometry.spacing).ravel().tolist())
        image.SetOrigin(lps[:3, 3].tolist())
        return image

    image = described(sitk.GetImageFromArray(array.T.astype(np.float32)), grid)
    target = described(sitk.Image(*wanted.shape, sitk.sitkFloat32), wanted)
    kind = sitk.sitkLinear if order == 1 else sitk.sitkBSpline
    return sitk.GetArrayFromImage(sitk.Resample(image, target, sitk.Transform(), kind, outside)).T


def drawn(rng):
    """Any grid about the origin."""
    angles, flips = rng.uniform(-0.5, 0.5, 3), rng.choice((-1, 1), 3)
    return turned_grid(rng.integers(5, 13, 3), rng.uniform(0.8, 2, 3), angles, rng.uniform(-4, 4, 3), rng.permutation(3), flips)


@pytest.mark.parametrize("thick", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_channels_are_sampled_as_simpleitk_samples_them(seed, thick):
    rng = np.random.default_rng(seed)
    grid, wanted = drawn(rng), drawn(rng)
    if thick:
        grid = Geometry(grid.shape, grid.affine @ np.diag([1, 1, 4.0, 1]))
    array = rng.normal(0, 100, grid.shape).astype(np.float32)
    order = spline_order(grid)
    assert order == (1 if thick and max(grid.spacing) > 3 * min(grid.spacing) else order)
    expected = by_sitk(array, grid, wanted, order, np.nan)
    places = (np.indices(wanted.shape).reshape(3, -1).T @ grid.indices_of(wanted)[:3, :3].T) + grid.indices_of(wanted)[:3, 3]
    margin = np.minimum(places + 0.5, np.array(grid.shape) - 0.5 - places).min(axis=1).reshape(wanted.shape)
    made = resample_to_grid(Volume(array[None], grid), wanted).array[0]
    assert made.dtype == np.float32
    inside, sure = margin > 0.01, abs(margin) > 0.01
    assert np.array_equal(np.isnan(expected)[sure], ~inside[sure])
    np.testing.assert_allclose(made[inside], expected.clip(array.min(), array.max())[inside], atol=0.05)
    assert (made[margin < -0.01] == array.min()).all()
    assert covered_share(grid, wanted) == pytest.approx((margin > -1e-3).mean(), abs=0.02)


def test_a_linear_field_keeps_its_place_on_a_sheared_grid():
    sheared = turned_grid((12, 10, 9), (1.0, 1.2, 1.5), (0.1, 0.2, -0.3), (1.0, 2.0, 3.0)).affine @ np.array(
        [[1, 0, 0.2, 0], [0, 1, 0.1, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    )
    grid = Geometry((12, 10, 9), sheared)
    wanted = turned_grid((5, 6, 4), (0.9, 0.7, 1.1), (-0.2, 0.1, 0.4), grid.world((5.5, 4.5, 4.0)))
    field = grid.world(np.moveaxis(np.indices(grid.shape), 0, -1)) @ (1.0, -2.0, 3.0)
    made = resample_to_grid(Volume(field[None].astype(np.float32), grid), wanted).array[0]
    expected = wanted.world(np.moveaxis(np.indices(wanted.shape), 0, -1)) @ (1.0, -2.0, 3.0)
    np.testing.assert_allclose(made[1:-1, 1:-1, 1:-1], expected[1:-1, 1:-1, 1:-1], atol=0.1)


class TestOneGrid:
    def test_stacked_in_order(self, tmp_path):
        arrays = [np.full((2, 3, 4), k, np.int16) for k in range(3)]
        volume = read_channels([nifti(tmp_path, f"{k}.nii", array) for k, array in enumerate(arrays)])
        assert volume.shape == (3, 2, 3, 4)
        assert volume.array.dtype == np.int16
        np.testing.assert_array_equal(volume.array, np.stack(arrays))
        assert len(volume.source.files) == 3

    def test_other_axis_order_is_reindexed(self, tmp_path):
        array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
        turned = nibabel.Nifti1Image(array + 100, AFFINE).as_reoriented([[2, -1], [0, 1], [1, -1]])
        other = nifti(tmp_path, "b.nii", np.asarray(turned.dataobj), turned.affine)
        for reference in (None, 0):
            volume = read_channels([nifti(tmp_path, "a.nii", array), other], reference=reference)
            assert volume.array.dtype == np.int16
            np.testing.assert_array_equal(volume.array, np.stack([array, array + 100]))

    def test_mixed_types(self, tmp_path):
        files = [nifti(tmp_path, f"{k}.nii", np.ones((2, 3, 4), kind)) for k, kind in enumerate((np.int16, np.float32))]
        assert read_channels(files).array.dtype == np.float32

    def test_a_grey_picture_among_colours_is_repeated(self, tmp_path):
        grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
        Image.fromarray(grey).save(tmp_path / "grey.png")
        Image.fromarray(np.stack([grey, grey, grey], -1)).save(tmp_path / "equal.png")
        for name in ("grey", "equal"):
            volume = read_channels([tmp_path / f"{name}.png"], channels=3)
            assert np.array_equal(volume.array, [grey, grey, grey])
            assert volume.source.remarks[-1] == f"{name}.png: a grey picture among pictures in colour, repeated in the 3 channels"
        assert read_channels([tmp_path / "grey.png"]).channels == read_channels([tmp_path / "grey.png"], channels=2).channels == 1
        volume = nifti(tmp_path, "volume.nii", np.zeros((3, 4, 2), np.int16))
        assert read_channels([volume], channels=3).channels == 1

    def test_one_file_may_have_channels(self, tmp_path):
        file = nifti(tmp_path, "a.nii", np.zeros((2, 3, 4, 5), np.int16))
        for reference in (None, 3):
            assert read_channels([file], reference=reference).shape == (5, 2, 3, 4)

    def test_rounding_is_no_mismatch(self, tmp_path):
        moved = AFFINE.copy()
        moved[0, 3] += 1e-4
        array = np.zeros((2, 3, 4), np.int16)
        assert read_channels([nifti(tmp_path, "a.nii", array), nifti(tmp_path, "b.nii", array, moved)]).channels == 2

    def test_wrong_calls(self, tmp_path):
        with pytest.raises(UsageError, match="no file"):
            read_channels([])
        files = [
            nifti(tmp_path, "a.nii", np.zeros((2, 3, 4), np.int16)),
            nifti(tmp_path, "b.nii", np.zeros((2, 3, 4, 5), np.int16)),
        ]
        with pytest.raises(UsageError, match=r"b\.nii: has 5 channels"):
            read_channels(files)


class TestOtherGrids:
    def two(self, tmp_path, moved=(0.5, 0, 0)):
        rng = np.random.default_rng(0)
        arrays = rng.integers(10, 99, (8, 9, 10)).astype(np.int16), rng.integers(10, 99, (7, 12, 11)).astype(np.int16)
        grid = turned_grid((7, 12, 11), (1.1, 1.3, 2.0), (0.1, 0, 0.2), (-3.5, -8.0, 13.5), (1, 0, 2), (1, -1, 1))
        affine = grid.affine.copy()
        affine[:3, 3] += moved
        return nifti(tmp_path, "a.nii", arrays[0]), nifti(tmp_path, "b.nii", arrays[1], affine)

    def test_without_a_reference_they_are_refused_with_the_remedy(self, tmp_path):
        with pytest.raises(GridMismatchError, match=r"b\.nii: its grid .*a\.nii.*`reference_channel`"):
            read_channels(self.two(tmp_path))

    @pytest.mark.parametrize("reference", [0, 1])
    def test_the_others_are_laid_onto_the_reference(self, tmp_path, reference):
        files = self.two(tmp_path)
        volume = read_channels(files, reference=reference)
        alone = [read_channels([file]) for file in files]
        other = 1 - reference
        assert volume.geometry.same_grid(alone[reference].geometry)
        np.testing.assert_array_equal(volume.array[reference], alone[reference].array[0])
        np.testing.assert_array_equal(volume.array[other], resample_to_grid(alone[other], alone[reference].geometry).array[0])
        assert volume.source.files[0] == str(files[reference])
        assert any("resampled onto the grid of" in remark for remark in volume.source.remarks)

    def test_nothing_is_decoded_before_it_is_asked_for(self, tmp_path):
        files = self.two(tmp_path)
        volume = read_channels(files, reference=0)
        files[1].unlink()
        assert volume.shape == (2, 8, 9, 10)
        with pytest.raises(Exception, match=r"b\.nii"):
            _ = volume.array

    def test_a_channel_that_does_not_reach_has_its_lowest_value_and_is_warned_of(self, tmp_path, caplog):
        volume = read_channels(self.two(tmp_path, (7, 0, 0)), reference=0)
        assert "beyond, it has its lowest value" in caplog.text
        least = volume.array[1] == volume.array[1].min()
        assert 0.2 < least.mean() < 0.9

    def test_channels_without_a_place_in_common_are_refused(self, tmp_path):
        with pytest.raises(GridMismatchError, match=r"b\.nii.*does not overlap it"):
            read_channels(self.two(tmp_path, (400, 0, 0)), reference=0)

    def test_pictures_are_never_resampled(self, tmp_path):
        for name, shape in (("a.png", (4, 5)), ("b.png", (4, 6))):
            Image.fromarray(np.zeros(shape, np.uint8)).save(tmp_path / name)
        with pytest.raises(GridMismatchError, match=r"b\.png"):
            read_channels([tmp_path / "a.png", tmp_path / "b.png"], reference=0)


class TestFrames:
    def files(self, folder, plain, frames):
        """Two series, the second with half the slices, each in its frame of reference."""
        made = []
        for number, frame in enumerate(frames):
            slices = [deepcopy(one) for one in plain[: len(plain) - number]]
            for one in slices:
                one.SeriesInstanceUID = f"1.2.3.{number}"
                one.SOPInstanceUID = generate_uid()
                if frame is None:
                    del one.FrameOfReferenceUID
                else:
                    one.FrameOfReferenceUID = frame
            made.append(folder(slices, where=f"series{number}"))
        return made

    @pytest.mark.parametrize("frames", [("1.2.3", "1.2.3"), ("1.2.3", None), (None, None)])
    def test_one_frame_or_an_unknown_one_is_resampled(self, folder, plain, frames):
        files = self.files(folder, plain, frames)
        volume = read_channels(files, reference=0)
        assert volume.array.shape[0] == 2
        assert volume.source.frame_of_reference == (frames[0] or "")
        assert len(volume.source.instances) == len(plain)
        made = read_channels(files, reference=1)
        assert made.source.series_uid == "1.2.3.1"
        np.testing.assert_allclose(made.array[0], read_channels(files[:1]).array[0][..., : len(plain) - 1], atol=1e-2)

    @pytest.mark.parametrize("reference", [None, 0, 1])
    def test_two_frames_are_refused(self, folder, plain, reference):
        with pytest.raises(GridMismatchError, match=r"series.: its frame of reference \(1\.2\..\) is not that of .*series"):
            read_channels(self.files(folder, plain, ("1.2.3", "1.2.4")), reference=reference)
