import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelry.datasets import mask_names
from voxelry.datasets.mask_names import masks_by_name


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("x", "x_seg"), ("x", "x-mask"), ("x", "x_SEG"), ("x", "x.label"), ("x", "x_labels"), ("x", "x_segmentation"),
        ("patient001_frame01", "patient001_frame01_gt"), ("BraTS_001_flair", "BraTS_001_seg"), ("x_0000", "x_seg"),
        ("x_ct", "x_mask"), ("volume-12", "segmentation-12"), ("img_7", "mask_7"), ("image7", "mask7"), ("7", "mask_7"),
        ("sub-01_T1w", "sub-01_label"), ("a b", "a b seg"),
    ],
)  # fmt: skip
def test_a_mask_beside_its_image(image, mask):
    assert masks_by_name([image, mask]) == {mask}
    assert masks_by_name([mask]) == set()  # alone it may be anything
    assert masks_by_name([mask, "another"]) == set()


def test_the_word_alone_is_a_mask_beside_an_image():
    assert masks_by_name(["ct", "seg"]) == {"seg"}
    assert masks_by_name(["t1", "t2", "segmentation", "t1_mask"]) == {"segmentation", "t1_mask"}
    assert masks_by_name(["seg", "mask"]) == masks_by_name(["label"]) == set()


@pytest.mark.parametrize("names", [["x", "y"], ["x", "x_1"], ["x_post", "x_pre"], ["legs", "leg"], ["masked", "x"]])
def test_what_is_no_mask(names):
    assert masks_by_name(names) == set()


@given(
    st.lists(st.text("abz09", min_size=2, max_size=4), min_size=1, max_size=5, unique=True), st.sampled_from(["_seg", "-mask"])
)
def test_every_mask_and_no_image_is_told(names, word):
    assert masks_by_name([*names, *(f"{name}{word}" for name in names)]) == {f"{name}{word}" for name in names}


def test_examples_run():
    assert doctest.testmod(mask_names).failed == 0
