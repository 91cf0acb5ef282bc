import numpy as np
import pytest

from voxelry.phantom.shapes import local
from voxelry.phantom.spine import LEVELS, Spine


@pytest.mark.parametrize("seed", range(4))
def test_each_disc_lies_on_the_axis_of_the_body_above_it(seed):
    spine = Spine.draw(np.random.default_rng(seed))
    for segment in spine.segments[1:]:
        x, y, z = local(np.array(segment.disc, dtype=np.float32), segment.centre, (segment.lean, 0, 0))
        assert z == pytest.approx(-(segment.half + segment.gap), abs=0.3)
        assert abs(x) < 1e-3
        assert abs(y) < 1.5


@pytest.mark.parametrize("seed", range(4))
def test_the_lumbar_curve_is_hollow_at_the_back(seed):
    spine = Spine.draw(np.random.default_rng(seed))
    depth = {segment.name: segment.centre[1] for segment in spine.segments}
    assert depth["L3"] > max(depth["S1"], depth["T11"])
    assert [segment.name for segment in spine.segments] == list(LEVELS)
