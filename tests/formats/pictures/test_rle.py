import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco

from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import ExportError
from voxelry.formats.pictures.rle import compressed, run_lengths, write_rle

# pycocotools has not followed numpy 2 in how arrays are copied
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")

MASKS = arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))
TABLE = LabelTable(labels=(Label(value=9, name="lung"), Label(value=2, name="heart", layer=1), Label(value=1, name="none")))


@given(MASKS)
def test_pycocotools_reads_and_writes_the_same(mask):
    counts = run_lengths(mask)
    plain = coco.frPyObjects({"size": list(mask.shape), "counts": counts.tolist()}, *mask.shape)
    np.testing.assert_array_equal(coco.decode(plain), mask)
    assert compressed(counts) == coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


def test_long_runs():
    mask = np.zeros((1000, 1000), bool)
    mask[400:, 3:900] = True
    mask[0, 0] = True
    assert compressed(run_lengths(mask)) == coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


def test_a_file_holds_every_label_overlaps_included(tmp_path):
    layers = np.zeros((2, 6, 9), np.uint8)
    layers[0, 1:5, 2:7], layers[0, 2, 3], layers[1, 0:3, 1:4] = 9, 0, 2
    made = LabelMap(layers, Geometry((6, 9)), TABLE)
    content = json.loads(write_rle(made, tmp_path / "x.rle.json").read_text())
    assert content["size"] == [6, 9]
    for label, one in zip(TABLE.labels, content["labels"], strict=True):
        assert (one["value"], one["name"]) == (label.value, label.name)
        found = coco.decode(coco.frPyObjects({"size": content["size"], "counts": one["counts"]}, 6, 9))
        np.testing.assert_array_equal(found, made.mask(label.name))


def test_refusals(tmp_path):
    with pytest.raises(ExportError, match="picture"):
        write_rle(
            LabelMap.of(np.zeros((2, 2, 2), np.uint8), Geometry.from_spacing((2, 2, 2), (1, 1, 1)), TABLE), tmp_path / "x.json"
        )
    with pytest.raises(ExportError, match=r"\.json"):
        write_rle(LabelMap.of(np.zeros((2, 2), np.uint8), Geometry((2, 2)), TABLE), tmp_path / "x.txt")
    assert not list(tmp_path.iterdir())
