import numpy as np
import pytest
from skimage.measure import points_in_poly

from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import ExportError
from voxelry.formats.pictures.yolo import write_yolo

TABLE = LabelTable(labels=(Label(value=7, name="lung"), Label(value=2, name="heart", layer=1), Label(value=3, name="none")))


def test_polygons_fill_to_the_masks(tmp_path):
    layers = np.zeros((2, 20, 30), np.uint8)
    layers[0, 3:15, 4:12], layers[0, 6:9, 6:8], layers[0, 19, 29] = 7, 0, 7
    layers[1, 5:18, 8:22] = 2
    made = LabelMap(layers, Geometry((20, 30)), TABLE)
    lines = write_yolo(made, tmp_path / "x.yolo.txt").read_text().splitlines()
    centres = np.stack(np.meshgrid((np.arange(30) + 0.5) / 30, (np.arange(20) + 0.5) / 20), -1).reshape(-1, 2)
    found = np.zeros((3, 20, 30), bool)
    for line in lines:
        number, *numbers = line.split()
        ring = np.array(numbers, float).reshape(-1, 2)
        assert 0 <= ring.min() <= ring.max() <= 1
        found[int(number)] |= points_in_poly(centres, ring).reshape(20, 30)
    assert [line.split()[0] for line in lines] == ["0", "0", "1"]
    for index, name in enumerate(TABLE.names):
        np.testing.assert_array_equal(found[index], made.mask(name))


def test_nothing_labelled_is_an_empty_file(tmp_path):
    made = LabelMap(np.zeros((2, 4, 5), np.uint8), Geometry((4, 5)), TABLE)
    assert write_yolo(made, tmp_path / "x.txt").read_bytes() == b""


def test_refusals(tmp_path):
    with pytest.raises(ExportError, match=r"\.txt"):
        write_yolo(LabelMap(np.zeros((2, 4, 5), np.uint8), Geometry((4, 5)), TABLE), tmp_path / "x.json")
    assert not list(tmp_path.iterdir())
