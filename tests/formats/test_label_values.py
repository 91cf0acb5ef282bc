import numpy as np
import pytest

from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import ExportError
from voxelry.formats.label_values import split_instances, stored_layers, stored_values

TABLE = LabelTable(labels=(Label(value=3, name="c"), Label(value=1, name="a"), Label(value=300, name="x", layer=1)))


@pytest.mark.parametrize(("highest", "kind"), [(255, np.uint8), (256, np.uint16), (65535, np.uint16)])
@pytest.mark.parametrize("given_as", [np.uint16, np.int64])
def test_the_smallest_type_that_holds_the_values(highest, kind, given_as):
    array = np.array([[0, highest]], given_as)
    made = LabelMap.of(array, Geometry((1, 2)), LabelTable.numbered([highest]))
    assert stored_values(made, "x").dtype == kind
    np.testing.assert_array_equal(stored_layers(made, "x")[0], array)


def test_refusals():
    grid = Geometry((1, 2))
    for values in ([0, -1], [0, 65536]):
        with pytest.raises(ExportError, match=r"0\.\.65535"):
            stored_values(LabelMap.of(np.array([values], np.int32), grid, TABLE), "x")


def test_instances_of_things_are_labels_of_their_own():
    array, ids = np.zeros((1, 6, 5, 4), np.uint8), np.zeros((1, 6, 5, 4), np.uint32)
    array[0, :2], ids[0, :2] = 9, 70000
    array[0, 3], ids[0, 3] = 9, 4
    array[0, 5] = 5
    table = LabelTable(
        labels=(Label(value=5, name="liver"), Label(value=9, name="lesion", kind="thing"), Label(value=2, name="none"))
    )
    made = LabelMap(array, Geometry.from_spacing((6, 5, 4), (1, 2, 3)), table, instances=ids)
    apart, notes = split_instances(made)
    assert apart.table.names == ("liver", "lesion 4", "lesion 70000", "none")
    assert [int(apart.mask(name).sum()) for name in apart.table.names] == [20, 20, 40, 0]
    assert (apart.mask("lesion 4") == (ids[0] == 4)).all()
    assert apart.instances is None
    plain = LabelMap(array, made.geometry, table)
    assert split_instances(plain) == (plain, {})
    assert notes == {"lesion 4": "instance 4 of lesion", "lesion 70000": "instance 70000 of lesion"}
