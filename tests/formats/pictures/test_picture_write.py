import numpy as np
import pytest
import SimpleITK
from PIL import Image

from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import ExportError
from voxelry.formats.pictures.picture_write import write_png

TABLE = LabelTable(labels=(Label(value=1, name="lung"), Label(value=200, name="heart")), ignore=255)
WIDE = LabelTable(labels=(Label(value=1, name="lung"), Label(value=40000, name="heart")))


@pytest.mark.parametrize(("table", "kind"), [(TABLE, np.uint8), (WIDE, np.uint16)])
def test_stored_values_come_back(tmp_path, table, kind):
    array = np.random.default_rng(0).choice([0, *table.id2label], (6, 9)).astype(np.int32)
    path = write_png(LabelMap.of(array, Geometry((6, 9)), table), tmp_path / "x.png")
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(image), array)
    read = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    assert read.dtype == kind
    np.testing.assert_array_equal(read, array)


def test_refusals(tmp_path):
    with pytest.raises(ExportError, match=r"nii\.gz"):
        write_png(
            LabelMap.of(np.zeros((2, 3, 4), np.uint8), Geometry.from_spacing((2, 3, 4), (1, 1, 1)), TABLE), tmp_path / "x.png"
        )
    with pytest.raises(ExportError, match=r"\.png"):
        write_png(LabelMap.of(np.zeros((2, 3), np.uint8), Geometry((2, 3)), TABLE), tmp_path / "x.jpg")
    with pytest.raises(ExportError, match="2 of"):
        write_png(LabelMap(np.zeros((2, 2, 3), np.uint8), Geometry((2, 3)), TABLE), tmp_path / "x.png")
    assert not list(tmp_path.iterdir())
