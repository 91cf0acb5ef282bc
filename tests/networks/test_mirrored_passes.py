"""Axes of mirrored passes, and the channels that change places, by cases that can be told by hand."""

import pytest

from helpers.plans import tiny_plan
from voxelry.core.labels import LabelTable
from voxelry.core.plan import Region
from voxelry.networks.mirrored_passes import mirrored_axes, mirrored_channels

TWINS = {"left lung": "right lung", "right lung": "left lung"}


def table_of(*names, twins=TWINS):
    labels = [{"value": value, "name": name, "mirror": twins.get(name)} for value, name in enumerate(names, 1)]
    return LabelTable.model_validate({"labels": labels})


PAIRED, UNPAIRED = table_of("left lung", "heart", "right lung"), table_of("left lung", "right lung", twins={})


@pytest.mark.parametrize(
    ("table", "changes", "axes", "channels"),
    [
        (PAIRED, {"flips": (0, 1, 2)}, (0, 1, 2), (0, 3, 2, 1)),
        (PAIRED, {"flips": (1, 2)}, (1, 2), (0, 1, 2, 3)),
        (PAIRED, {"flips": ()}, (), (0, 1, 2, 3)),
        (UNPAIRED, {"flips": (0, 1, 2)}, (1, 2), (0, 1, 2)),
        (UNPAIRED, {"flips": (0, 1, 2), "convention": "nnunet"}, (0, 1, 2), (0, 1, 2)),
        (PAIRED, {"flips": (0, 1), "convention": "nnunet"}, (0, 1), (0, 1, 2, 3)),
        (PAIRED, {"flips": (0, 1, 2), "slice_axis": 2}, (0, 1), (0, 3, 2, 1)),
    ],
)
def test_the_axes_and_channels_of_mirrored_passes(table, changes, axes, channels):
    plan = tiny_plan().model_copy(update=changes)
    assert plan.side_axis == 0
    assert mirrored_axes(plan, table) == axes
    assert mirrored_channels(plan, table, len(table) + 1) == channels
    assert mirrored_channels(plan, table, len(table) + 3) == (*channels, len(table) + 1, len(table) + 2)


def test_regions_change_places_as_their_labels_do():
    table = table_of("left lung", "right lung")
    regions = (
        Region(name="lungs", labels=("left lung", "right lung"), label="left lung"),
        Region(name="right lung", labels=("right lung",), label="right lung"),
        Region(name="left", labels=("left lung",), label="left lung"),
    )
    assert mirrored_channels(tiny_plan(flips=(0,), regions=regions), table, 4) == (0, 1, 3, 2)
