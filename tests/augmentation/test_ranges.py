import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from voxelry.augmentation.ranges import PositiveRange, Range, ShareRange, uniform_about_one


@pytest.mark.parametrize(("limits", "below"), [((0.7, 1.5), 0.5), ((0.1, 1.01), 0.5), ((0.5, 1.0), 1.0), ((1.0, 2.0), 0.0)])
def test_a_factor_is_as_often_below_one_as_above_and_uniform_on_each_side(limits, below):
    drawn = np.array([uniform_about_one(limits, np.random.default_rng(seed)) for seed in range(2000)])
    assert limits[0] <= drawn.min() <= drawn.max() <= limits[1]
    assert (drawn < 1).mean() == pytest.approx(below, abs=0.04)
    for low, high in ((limits[0], 1.0), (1.0, limits[1])):
        side = drawn[(drawn >= low) & (drawn <= high)]
        assert low == high or not len(side) or side.mean() == pytest.approx((low + high) / 2, abs=0.05 * (high - low))


@pytest.mark.parametrize(("kind", "limits"), [(Range, (2, 1)), (Range, (-1, 1)), (PositiveRange, (0, 1)), (ShareRange, (0, 1.1))])
def test_ranges_that_are_none_are_refused(kind, limits):
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(limits)
    assert TypeAdapter(kind).validate_python((0.25, 0.5)) == (0.25, 0.5)
