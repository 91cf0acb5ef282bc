"""Objects drawn one by one on a table's layers: objects over regions, the smaller over the larger; what vanishes is said."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import Source
from voxelry.formats.label_layers import SegmentBox
from voxelry.formats.object_layers import LabelledObject, stack_objects

TABLE = LabelTable(
    labels=(
        Label(value=1, name="cell", kind="thing"),
        Label(value=2, name="vessel"),
        Label(value=3, name="lesion", kind="thing"),
        Label(value=1, name="spot", kind="thing", layer=1),
    )
)
LABELS = dict(enumerate(TABLE.labels, start=1))
GRID = Geometry((4, 5))


def drawn(masks):
    objects = [
        LabelledObject(number, id, [SegmentBox((0, 0), np.array(mask, bool))]) for id, (mask, number) in enumerate(masks, 1)
    ]
    return stack_objects(objects, GRID, LABELS, TABLE, Source(), drawn=True)


@given(st.lists(st.tuples(arrays(np.bool_, (4, 5)), st.integers(1, 4)), max_size=4))
def test_each_voxel_has_the_smallest_object(masks):
    """Oracle: voxel by voxel, the object of the fewest voxels, of equal ones the later; regions lie below objects."""
    labels = drawn(masks)
    order = [(LABELS[number].kind != "thing", mask.sum(), -id) for id, (mask, number) in enumerate(masks)]
    crossed = shared = False
    for layer in range(2):
        for place in np.ndindex(4, 5):
            here = [k for k, (mask, number) in enumerate(masks) if mask[place] and LABELS[number].layer == layer]
            winner = min(here, key=order.__getitem__, default=None)
            label = None if winner is None else LABELS[masks[winner][1]]
            assert labels.layers[layer][place] == (0 if label is None else label.value)
            assert labels.instances[layer][place] == (winner + 1 if label is not None and label.kind == "thing" else 0)
            crossed |= len({masks[k][1] for k in here}) > 1
            shared |= label is not None and label.kind == "thing" and sum(masks[k][1] == masks[winner][1] for k in here) > 1
    remarks = labels.source.remarks
    assert any("several labels of one layer" in remark for remark in remarks) == crossed
    assert any("several objects of one label" in remark for remark in remarks) == shared
    hidden = [id for id, (mask, number) in enumerate(masks, 1) if mask.any() and number != 2 and id not in labels.instances]
    assert any("no voxel is left" in remark for remark in remarks) == bool(hidden)


def test_no_object_is_an_empty_map():
    labels = drawn([])
    assert not labels.instances.any()
    assert labels.layers.shape == (2, 4, 5)
    assert labels.source.remarks == ()


def square(number, id, start, size):
    return LabelledObject(number, id, [SegmentBox(start, np.ones((size, size), bool))])


def test_labels_that_overlap_lie_on_layers_and_a_region_has_no_id():
    objects = [square(1, 9, (0, 0), 3), square(1, 7, (1, 1), 3), square(2, 5, (0, 0), 4), square(1, 0, (3, 4), 1)]
    labels = stack_objects(objects, GRID, {1: LABELS[1], 2: LABELS[2]}, None, Source())
    assert labels.layers.shape == (2, 4, 5)
    assert [int((labels.instances == id).sum()) for id in (9, 7, 5)] == [5, 9, 0]
    assert (labels.layers[0, 3, 4], labels.instances[0, 3, 4]) == (1, 0)
    assert labels.source.remarks == ("4 voxels lie in several objects of one label: the smaller has them",)


def test_no_ids_where_none_are_told_apart():
    assert stack_objects([square(1, 3, (0, 0), 2)], GRID, LABELS, TABLE, Source(), by_id=False).instances is None
    assert stack_objects([square(2, 3, (0, 0), 2)], GRID, {2: LABELS[2]}, None, Source()).instances is None
