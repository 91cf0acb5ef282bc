import numpy as np
import pytest

from helpers.augmentation import augmenter, flips_of, only
from helpers.plans import SIDED
from voxelry.augmentation.augment_settings import AugmentSettings
from voxelry.core.labels import Code, Label, LabelTable
from voxelry.errors import ConfigError


def test_a_flip_is_drawn_half_the_time():
    change = augmenter(only(flip_p=0.5, flip_axes="auto"))
    count = np.zeros(3)
    for seed in range(400):
        count[list(flips_of(change.draw(seed)))] += 1
    assert (np.abs(count - 200) < 45).all()


LEFT = Code(value="7771000", meaning="Left")


@pytest.mark.parametrize(
    ("labels", "changes", "axes"),
    [
        (SIDED.labels, {}, (0, 1, 2)),  # twins are swapped
        (SIDED.labels, {"orientation": None}, ()),  # nobody knows which axis is the side's
        (SIDED.labels, {"orientation": "SAR"}, (0, 1, 2)),
        ((Label(value=1, name="kidney_left"),), {}, (1, 2)),
        ((Label(value=1, name="kidney_left"),), {"orientation": "SAR"}, (0, 1)),
        ((Label(value=1, name="Femur R"),), {}, (1, 2)),
        ((Label(value=1, name="kidney", modifier=LEFT),), {}, (1, 2)),
        ((Label(value=1, name="liver"), Label(value=2, name="vertebra L1")), {}, (0, 1, 2)),
        ((Label(value=1, name="liver"),), {"orientation": None}, (0, 1, 2)),
        ((Label(value=1, name="Niere links"),), {}, (1, 2)),
        ((Label(value=1, name="left ventricle", mirror="left ventricle"),), {}, (0, 1, 2)),
        ((Label(value=1, name="left ventricle", mirror="left ventricle"),), {"orientation": None}, (0, 1, 2)),
    ],
)
def test_axes_mirrored_by_default(labels, changes, axes):
    assert augmenter(AugmentSettings(set="nnunet"), table=LabelTable(labels=labels), **changes).geometry.flip_axes == axes


@pytest.mark.parametrize(
    ("labels", "axes"),
    [
        ((Label(value=1, name="lung"),), (1,)),
        ((Label(value=1, name="left lung", mirror="right lung"), Label(value=2, name="right lung", mirror="left lung")), (1,)),
        ((Label(value=1, name="left lung"), Label(value=2, name="right lung")), ()),
    ],
)
def test_films_are_mirrored_from_side_to_side_alone_and_never_where_a_side_would_be_lost(labels, axes):
    settings = AugmentSettings().chosen("DX", 2, "cuda")
    assert augmenter(settings, (12, 12), table=LabelTable(labels=labels)).geometry.flip_axes == axes


def test_slices_are_not_mirrored_across():
    assert augmenter(AugmentSettings(set="nnunet"), (16, 20, 1), slice_axis=2).geometry.flip_axes == (0, 1)


def test_an_axis_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match=r"augment.flip_axes names axis 2; the data have axes 0..1"):
        augmenter(AugmentSettings(flip_axes=(0, 2)), (12, 12))
