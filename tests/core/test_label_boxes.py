import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from voxelry.core.geometry import Geometry
from voxelry.core.label_boxes import boxes
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import LabelError

TABLE = LabelTable(labels=(Label(value=3, name="c"), Label(value=1, name="a"), Label(value=300, name="x", layer=1)))


@given(arrays(np.uint16, st.tuples(st.just(2), *[st.integers(1, 5)] * 3), elements=st.sampled_from([0, 1, 3])))
def test_boxes_are_the_smallest(layers):
    layers = layers.copy()
    layers[1][layers[1] == 1] = 0
    layers[1][layers[1] == 3] = 300
    made = LabelMap(layers, Geometry.from_spacing(layers.shape[1:], (1, 1, 1)), TABLE)
    found = boxes(made, "x")
    assert [label for label, _ in found] == list(TABLE.labels)
    for label, box in found:
        mask = made.mask(label.name)
        assert (box is None) == (not mask.any())
        if box is not None:
            inside = np.argwhere(mask)
            assert [(side.start, side.stop) for side in box] == list(zip(inside.min(axis=0), inside.max(axis=0) + 1, strict=True))


@pytest.mark.parametrize("value", [9, -1, 2**31 - 1])
def test_values_that_the_table_does_not_know(value):
    with pytest.raises(LabelError, match=rf"f\.png.*{value}"):
        boxes(LabelMap.of(np.array([[0, value]], np.int32), Geometry((1, 2)), TABLE), "f.png")
