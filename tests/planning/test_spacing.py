import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.plans import tiny_fingerprint
from voxelry.planning.spacing import by, coarse_axis, median_shape, slice_axis, target_spacing


def thick(finest=2.0, sizes=(320, 320, 24), spacing=(0.7, 0.7, 5.0)):
    return tiny_fingerprint(shapes=(sizes,) * 3, spacing=spacing, spacing_range=((0.5, 0.5, finest), (0.9, 0.9, 7.0)))


def test_the_target_is_the_median():
    reasons = []
    assert target_spacing(thick(spacing=(0.7, 0.8, 2.0)), reasons) == (0.7, 0.8, 2.0)
    assert reasons == ["The target spacing 0.7 x 0.8 x 2 mm is the median of the 4 cases along each axis."]


def test_few_thick_slices_are_brought_to_the_finest_tenth_of_the_cases():
    reasons = []
    seen = thick().model_copy(update={"spacing_fine": (0.5, 0.5, 3.0)})
    assert target_spacing(seen, reasons) == (0.7, 0.7, 3.0)
    assert "Slices lie 5 mm apart" in reasons[0]
    assert "3 mm, the 10th percentile" in reasons[0]
    assert target_spacing(thick(), []) == (0.7, 0.7, 2.0)  # a card from before the percentile was kept
    assert target_spacing(thick(finest=0.2), []) == (0.7, 0.7, 0.7)  # never finer than the pixels


def test_many_thick_slices_are_left_as_they_are():
    assert target_spacing(thick(sizes=(320, 320, 120)), []) == (0.7, 0.7, 5.0)


def test_pictures_have_no_target():
    assert target_spacing(tiny_fingerprint(2), []) is None


def test_slices_lie_across_the_coarsest_axis_or_from_foot_to_head():
    assert slice_axis((0.7, 0.7, 5.0), "RAS") == 2
    assert slice_axis((4.0, 0.7, 0.7), "RAS") == 0
    assert slice_axis((1.0, 1.0, 1.0), "RAS") == 2
    assert slice_axis((1.0, 1.0, 1.0), "SLA") == 0


@pytest.mark.parametrize(
    ("voxel", "axis"),
    [((1, 1, 4), 2), ((1, 1, 3), None), ((4, 1, 1.2), 0), ((5, 5, 1), None), ((1, 1, 1), None)],
)
def test_a_coarse_axis_is_one_alone_and_three_times_longer(voxel, axis):
    assert coarse_axis(voxel) == axis


@given(
    extents=st.lists(st.floats(20, 400), min_size=1, max_size=9),
    target=st.floats(0.5, 5),
)
def test_the_median_of_resampled_cases_needs_the_middle_ones_alone(extents, target):
    ordered = sorted(extents)
    middle = (ordered[(len(ordered) - 1) // 2],) * 2, (ordered[len(ordered) // 2],) * 2
    seen = tiny_fingerprint(2).model_copy(update={"content_extent": middle})
    resampled = sorted(round(one / target) for one in extents)
    median = (resampled[(len(extents) - 1) // 2] + resampled[len(extents) // 2]) / 2
    assert median_shape(seen, (target, None))[0] == max(1, median)


def test_axes_without_a_target_keep_their_voxels():
    assert median_shape(tiny_fingerprint(), (2.0, None, 0.5)) == (20, 40, 80)
    assert median_shape(tiny_fingerprint(), None) == (40, 40, 40)
    assert median_shape(tiny_fingerprint(2, shapes=((10, 10), (400, 300), (900, 900))), None, long_side=200) == (200, 150)


def test_numbers_in_words():
    assert by((1.0, None, 0.98214286)) == "1 x (as stored) x 0.9821"
