"""InstancePlan: which channels the head has, and what it refuses."""

import pytest
from pydantic import ValidationError

from voxelry.core.instance_plan import HEAD_CHANNELS, InstancePlan


def test_only_the_watershed_needs_a_head() -> None:
    assert InstancePlan(labels=("lesion",), decoder="components", diameter=9).head_channels == 0
    assert InstancePlan(labels=("nucleus",), diameter=9).head_channels == len(HEAD_CHANNELS)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": ()},
        {"diameter": 0},
        {"border": -1},
        {"persistence": 3},
        {"smoothing": -1},
        {"decoder": "flows"},
        {"smallest": -1},
    ],
)
def test_numbers_out_of_range_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        InstancePlan.model_validate({"labels": ("nucleus",), "diameter": 9} | change)
