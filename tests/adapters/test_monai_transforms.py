import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Compose, Orientationd, RandFlipd, Spacingd

from helpers.plans import IDENTITY, tiny_plan
from voxelry.adapters.monai_transforms import CropContentd, NormaliseGreyd, PrepareByPland, ResampleSpacingd
from voxelry.core.geometry import Geometry
from voxelry.core.plan import Normalisation
from voxelry.core.volume import Volume
from voxelry.errors import UsageError
from voxelry.preparation.preparation import prepare
from voxelry.preparation.resampling import resample_classes, resample_image

ROTATED = np.eye(4)
ROTATED[:3, :3] = [[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]] * np.array([1.1, 0.9, 2.0])
AFFINE = np.array([[-0.9, 0.1, 0.0, 5], [0.2, -1.4, 0.3, -7], [0.1, 0.2, 2.0, 3], [0, 0, 0, 1]])


def tensor(array, affine=AFFINE, **meta):
    return MetaTensor(torch.as_tensor(array), affine=torch.as_tensor(affine, dtype=torch.float64), meta=meta)


def ramp(shape, affine=AFFINE):
    """World x, y and z of each voxel as three channels."""
    world = Geometry(shape, affine).world(np.moveaxis(np.indices(shape), 0, -1))
    return np.moveaxis(world, -1, 0).astype(np.float32)


def at_its_place(made):
    """Both sides of: a world ramp on its own grid, half a voxel and more from the old borders."""
    core = (slice(None), *(slice(3, -3),) * 3)
    return made.numpy()[core], ramp(made.shape[1:], made.affine.numpy())[core]


@settings(max_examples=6)
@given(spacing=st.tuples(*[st.floats(0.7, 2.5)] * 3))
def test_grey_values_stay_where_they_are_in_the_world_as_with_monais_spacing(spacing):
    image = tensor(ramp((24, 20, 22), ROTATED), ROTATED)  # MONAI drops a shear
    ours = ResampleSpacingd("image", spacing, order=1, slices=False)({"image": image})["image"]
    theirs = Spacingd("image", spacing, mode="bilinear", padding_mode="border")({"image": image})["image"]
    for made in (ours, theirs):
        if min(made.shape[1:]) > 8:
            np.testing.assert_allclose(*at_its_place(made), atol=2e-2)
    # MONAI counts from centre to centre, we count from edge to edge
    assert all(abs(a - b) <= 1 + 2.0 / 0.7 for a, b in zip(ours.shape, theirs.shape, strict=True))
    np.testing.assert_allclose(ours.pixdim.numpy(), spacing, rtol=0.1)


def test_in_a_monai_pipeline_the_affine_follows_and_metadata_stay():
    rng = np.random.default_rng(0)
    image = np.zeros((2, 30, 28, 26), np.int16)
    image[:, 4:25, 3:20, 5:26] = rng.integers(1, 900, (2, 21, 17, 21))
    classes = np.zeros((1, 30, 28, 26), np.uint8)
    classes[0, 8:15, 6:12, 9:20] = 3
    item = {"image": tensor(image, filename_or_obj="a.nii"), "label": tensor(classes), "id": "case 1"}
    pipeline = Compose(
        [
            Orientationd(("image", "label"), axcodes="RAS", labels=None),
            CropContentd(("image", "label"), source="image"),
            ResampleSpacingd(("image", "label"), (1.2, 1.2, 1.2), order=(3, "label")),
            NormaliseGreyd("image", Normalisation(scheme="image")),
            RandFlipd(("image", "label"), prob=1.0, spatial_axis=0),
        ]
    )
    done = pipeline(item)
    assert done["id"] == "case 1"
    assert isinstance(done["image"], MetaTensor)
    assert done["image"].meta["filename_or_obj"] == "a.nii"
    assert done["image"].dtype == torch.float32
    assert done["label"].dtype == torch.uint8
    assert done["image"].shape[1:] == done["label"].shape[1:]
    np.testing.assert_allclose(done["image"].affine, done["label"].affine)
    assert set(torch.unique(done["label"]).tolist()) == {0, 3}

    def centre(made, mask):
        return Geometry(made.shape[1:], made.affine.numpy()).world(np.argwhere(mask).mean(0))

    before = centre(item["label"], classes[0] == 3)
    np.testing.assert_allclose(centre(done["label"], done["label"].numpy()[0] == 3), before, atol=0.6)


def test_prepared_by_a_plan_as_training_prepares():
    rng = np.random.default_rng(1)
    array = np.pad(rng.integers(1, 900, (1, 20, 22, 12)), ((0, 0), (2, 1), (0, 3), (1, 1))).astype(np.int16)
    classes = rng.integers(0, 4, array.shape[1:]).astype(np.int16)
    geometry = Geometry(array.shape[1:], AFFINE)
    plan = tiny_plan(spacing=(1.1, 1.3, 1.9), orientation="RAS", normalisation=(Normalisation(scheme="mask"),))
    preparation = prepare(Volume(array, geometry), plan)
    done = PrepareByPland(plan)({"image": tensor(array), "label": tensor(classes[None])})
    assert np.array_equal(done["image"].numpy(), preparation.image(Volume(array, geometry)))
    assert np.array_equal(done["label"].numpy()[0], preparation.classes(classes))
    np.testing.assert_allclose(done["image"].affine, preparation.geometry.affine)


def test_pictures_keep_their_two_axes():
    picture = tensor(np.arange(80, dtype=np.float32).reshape(1, 8, 10) + 1, np.diag([0.5, 0.25, 1.0]))
    done = ResampleSpacingd("image", (1.0, 1.0), order=1)({"image": picture})["image"]
    assert done.shape == (1, 4, 3)
    np.testing.assert_allclose(done.affine, [[1, 0, 0.25], [0, 5 / 6, 7 / 24], [0, 0, 1]])
    plan = tiny_plan(2, long_side=5, normalisation=(IDENTITY,))
    assert PrepareByPland(plan, label=None)({"image": picture})["image"].shape == (1, 4, 5)


def test_thick_slices_are_not_interpolated_across():
    array = np.random.default_rng(2).normal(size=(1, 12, 12, 5)).astype(np.float32)
    affine = np.diag([1.0, 1.0, 4.0, 1.0])
    item = {"image": tensor(array, affine)}
    thick = ResampleSpacingd("image", (1.5, 1.5, 1.0))(item)["image"].numpy()
    assert np.array_equal(thick, resample_image(array, (8, 8, 20), (3, 3, 0)))
    smooth = ResampleSpacingd("image", (1.5, 1.5, 1.0), slices=False)(item)["image"].numpy()
    assert np.array_equal(smooth, resample_image(array, (8, 8, 20), 3))
    labels = (array > 0).astype(np.uint8)
    got = ResampleSpacingd("image", (1.5, 1.5, 1.0), "label")({"image": tensor(labels, affine)})["image"].numpy()
    assert np.array_equal(got[0], resample_classes(labels[0].astype(np.int16), (8, 8, 20), (1, 1, 0)))


def test_inside_the_content_alone():
    array = np.zeros((1, 6, 6, 6), np.float32)
    array[0, 1:5, 1:5, 1:5] = np.random.default_rng(3).normal(50, 9, (4, 4, 4))
    done = NormaliseGreyd("image", Normalisation(scheme="mask"))({"image": tensor(array)})["image"].numpy()
    assert (done[array == 0] == 0).all()
    np.testing.assert_allclose((done[array != 0].mean(), done[array != 0].std()), (0, 1), atol=1e-5)


def test_the_input_is_left_as_it_was():
    array = np.random.default_rng(4).normal(50, 9, (1, 6, 6, 6)).astype(np.float32)
    item = {"image": tensor(array.copy())}
    NormaliseGreyd("image", Normalisation(scheme="image"))(item)
    ResampleSpacingd("image", (0.9, 1.4, 2.0))(item)
    assert np.array_equal(item["image"].numpy(), array)


def test_bad_input_is_refused():
    image = tensor(np.ones((1, 4, 4, 4), np.float32) * 0.5)
    with pytest.raises(UsageError, match="labels are not integers"):
        ResampleSpacingd("image", (2, 2, 2), "label")({"image": image})
    with pytest.raises(UsageError, match="spacing \\(2, 2\\) for an image of 3 axes"):
        ResampleSpacingd("image", (2, 2))({"image": image})
    with pytest.raises(UsageError, match="a Tensor has no affine"):
        CropContentd("image", "image")({"image": image.as_tensor()})
    with pytest.raises(UsageError, match="2 normalisations for 1 channels"):
        NormaliseGreyd("image", (IDENTITY, IDENTITY))({"image": image})
    with pytest.raises(KeyError):
        ResampleSpacingd("label", (2, 2, 2))({"image": image})
    assert "label" not in ResampleSpacingd("label", (2, 2, 2), allow_missing_keys=True)({"image": image})
