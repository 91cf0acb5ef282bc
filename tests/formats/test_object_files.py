"""Objects drawn one by one: the smaller one keeps the voxels of an overlap, and what vanishes is said."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import Source
from voxelry.formats.label_layers import SegmentBox
from voxelry.formats.object_files import DrawnObject, painted

TABLE = LabelTable(
    labels=(
        Label(value=1, name="cell", kind="thing"),
        Label(value=2, name="vessel"),
        Label(value=1, name="spot", kind="thing", layer=1),
    )
)
GRID = Geometry((5, 6), None)


def drawn(mask, name="cell") -> DrawnObject:
    return DrawnObject(TABLE[name], f"{name}.png", (SegmentBox((0, 0), np.array(mask, bool)),))


@given(st.lists(st.tuples(arrays(np.bool_, (5, 6)), st.sampled_from(["cell", "vessel", "spot"])), max_size=4))
def test_the_smallest_object_of_a_voxel_has_it(masks):
    """Oracle: voxel by voxel, the object of the fewest voxels; of equal ones the later."""
    labels, remarks = painted([drawn(mask, name) for mask, name in masks], GRID, TABLE, Source(), "x")
    sizes = [mask.sum() for mask, _ in masks]
    overlap = False
    for layer in range(2):
        for place in np.ndindex(5, 6):
            here = [k for k, (mask, name) in enumerate(masks) if mask[place] and TABLE[name].layer == layer]
            winner = min(here, key=lambda k: (sizes[k], -k), default=None)
            value = 0 if winner is None else TABLE[masks[winner][1]].value
            is_thing = winner is not None and TABLE[masks[winner][1]].kind == "thing"
            assert labels.layers[layer][place] == value
            assert labels.instances[layer][place] == (winner + 1 if is_thing else 0)
            overlap |= len([k for k in here if masks[k][1] != "vessel"]) + any(masks[k][1] == "vessel" for k in here) > 1
    assert any("overlap" in remark for remark in remarks) == overlap


def test_what_vanishes_is_said():
    whole, part = np.zeros((5, 6)), np.zeros((5, 6))
    whole[1:3, 1:3], part[1, 1] = 1, 1
    labels, remarks = painted([drawn(part), drawn(part), drawn(whole), drawn(np.zeros((5, 6)))], GRID, TABLE, Source(), "a/masks")
    assert remarks == [
        "a/masks: objects overlap in 2 voxels, which the smaller object keeps",
        "a/masks: 1 object without a voxel: cell.png",
        "a/masks: 1 object covered by others, so without a voxel left: cell.png",
    ]
    assert np.unique(labels.instances).tolist() == [0, 2, 3]


def test_no_object_is_an_empty_map():
    labels, remarks = painted([], GRID, TABLE, Source(), "x")
    assert remarks == []
    assert not labels.instances.any()
    assert labels.layers.shape == (2, 5, 6)
