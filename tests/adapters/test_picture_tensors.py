import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.plans import IDENTITY, picture, tiny_model, tiny_plan
from voxelry.adapters import image_batch, labels_of_batch, mask_batch, segment_batch, volumes_of_batch
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable, id2label
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import LabelError, NonFiniteError, UsageError
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.predictor import Predictor

SIZE = (18, 13)
TABLE = LabelTable.from_id2label({"0": "background", "3": "nucleus", "200": "debris"})
OFF = PredictOptions(mixed_precision="off")


def predictor(channels, table=TABLE):
    names = tuple(f"c{number}" for number in range(channels))
    plan = tiny_plan(2, channels=names, normalisation=(IDENTITY,) * channels)
    return Predictor(tiny_model(plan, table, channels=names), "cpu", OFF)


def images_of(seed, batch=2, grey=False, kind=torch.float32):
    values = np.random.default_rng(seed).integers(0, 256, (batch, 1 if grey else 3, *SIZE))
    return torch.from_numpy(values).to(kind).expand(-1, 3, -1, -1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [torch.uint8, torch.float32, torch.float64, torch.bfloat16])
def test_the_mask_of_a_batch_is_that_of_each_picture(channels, kind):
    images = images_of(0, grey=channels == 1, kind=kind)
    model = predictor(channels)
    masks = segment_batch(model, images)
    assert (masks.dtype, tuple(masks.shape)) == (torch.uint8, (2, 1, *SIZE))
    assert set(masks.unique().tolist()) <= set(id2label(TABLE))
    for mask, image in zip(masks, images, strict=True):
        own = model.predict(picture(image[:channels].float().numpy())).labels.array
        assert np.array_equal(mask[0], own)
    assert len(masks.unique()) > 1


def test_an_empty_batch_has_an_empty_mask():
    assert tuple(segment_batch(predictor(3), images_of(0, batch=0)).shape) == (0, 1, *SIZE)


@given(st.integers(0, 50), st.booleans(), st.sampled_from([torch.uint8, torch.float32]))
def test_pictures_to_a_batch_and_back(seed, grey, kind):
    images = images_of(seed, 3, grey, kind)
    volumes = volumes_of_batch(images, (0.2, 0.3))
    assert all(volume.spacing == (0.2, 0.3) for volume in volumes)
    assert torch.equal(image_batch(volumes), images.float())
    if grey:
        single = [Volume(volume.array[:1], volume.geometry) for volume in volumes]
        assert torch.equal(image_batch(single), images.float())


@given(st.integers(0, 50), st.sampled_from([np.uint8, np.uint16, np.int64]))
def test_masks_to_a_batch_and_back(seed, kind):
    values = np.random.default_rng(seed).choice([0, 3, 200], (3, *SIZE)).astype(kind)
    masks = mask_batch([LabelMap.of(value, Geometry(SIZE), TABLE) for value in values])
    assert masks.dtype == torch.uint8
    assert np.array_equal(masks[:, 0], values)
    pictures = volumes_of_batch(images_of(seed, 3), (0.2, 0.3))
    for back, value, volume in zip(labels_of_batch(masks, TABLE, pictures), values, pictures, strict=True):
        assert np.array_equal(back.array, value)
        assert back.geometry is volume.geometry
    assert all(mask.geometry.spacing is None for mask in labels_of_batch(masks, TABLE))


@pytest.mark.parametrize(
    ("batch", "given"),
    [
        (torch.zeros(2, 1, *SIZE), r"images of shape \[2, 1, 18, 13\] and type float32"),
        (torch.zeros(3, *SIZE), r"\[3, 18, 13\]"),
        (torch.zeros(2, *SIZE, 3), r"\[2, 18, 13, 3\]"),
        (torch.zeros(2, 3, *SIZE, dtype=torch.int64), "type int64"),
        (torch.zeros(2, 3, *SIZE, dtype=torch.bool), "type bool"),
        (torch.zeros(2, 3, 0, 4), r"\[2, 3, 0, 4\]"),
    ],
)
def test_images_of_another_shape_or_type_are_an_error(batch, given):
    with pytest.raises(UsageError, match=rf"{given}.*Give \[batch, 3, height, width\] as float or uint8"):
        segment_batch(predictor(3), batch)


@pytest.mark.parametrize("batch", [torch.zeros(2, 1, *SIZE), torch.zeros(2, 3, *SIZE, dtype=torch.uint8)])
def test_masks_of_another_shape_or_type_are_an_error(batch):
    with pytest.raises(UsageError, match=r"Give \[batch, 1, height, width\] as uint8"):
        labels_of_batch(batch, TABLE)


def test_colours_for_a_model_of_grey_pictures_are_an_error():
    with pytest.raises(UsageError, match="picture 0 of the batch has colours, and the model takes one channel"):
        segment_batch(predictor(1), images_of(0))


def test_labels_beyond_a_byte_are_an_error():
    large = LabelTable.numbered([1, 300])
    with pytest.raises(LabelError, match="'label_300' has the value 300, which does not fit uint8"):
        segment_batch(predictor(3, large), images_of(0))


def test_not_finite_values_are_an_error():
    images = images_of(0)
    images[1, 2, 3, 4] = torch.nan
    with pytest.raises(NonFiniteError, match="picture 1 of the batch"):
        volumes_of_batch(images)


def test_values_that_the_table_does_not_know_are_an_error():
    with pytest.raises(LabelError, match="values 7 are not in the table"):
        labels_of_batch(torch.full((1, 1, *SIZE), 7, dtype=torch.uint8), TABLE)


def test_masks_for_other_pictures_are_an_error():
    masks = torch.zeros(2, 1, *SIZE, dtype=torch.uint8)
    with pytest.raises(UsageError, match="2 masks of 18 x 13 pixels for 1 pictures"):
        labels_of_batch(masks, TABLE, volumes_of_batch(images_of(0, 1)))


def test_what_no_batch_holds_is_an_error():
    deep = Geometry.from_spacing((4, 4, 4), (1, 1, 1))
    with pytest.raises(UsageError, match="1 channels of"):
        image_batch([Volume(np.zeros((1, 4, 4, 4)), deep)])
    with pytest.raises(UsageError, match="2 channels of"):
        image_batch([picture(np.zeros((2, 4, 4)))])
    with pytest.raises(UsageError, match="2 sizes"):
        image_batch([picture(np.zeros((3, 4, 4))), picture(np.zeros((3, 4, 5)))])
    with pytest.raises(UsageError, match="masks of pictures"):
        mask_batch([LabelMap.of(np.zeros((4, 4, 4), np.uint8), deep, TABLE)])
    with pytest.raises(UsageError, match="masks of 2 sizes"):
        mask_batch([LabelMap.of(np.zeros(size, np.uint8), Geometry(size), TABLE) for size in ((4, 4), (4, 5))])
    layered = LabelTable(labels=(Label(value=1, name="a"), Label(value=2, name="b", layer=1)))
    with pytest.raises(LabelError, match="2 layers"):
        mask_batch([LabelMap(np.zeros((2, 4, 4), np.uint8), Geometry((4, 4)), layered)])
