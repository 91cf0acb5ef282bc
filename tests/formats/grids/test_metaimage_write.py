import numpy as np
import pytest
import SimpleITK

from formats.grids.test_nrrd_write import by_itk
from helpers.sources import SOURCES, TILTED, flat_labels, labels, volume
from voxelry.core.geometry import Geometry
from voxelry.core.labels import LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import ExportError
from voxelry.formats.grids.metaimage_write import write_metaimage
from voxelry.formats.reader import read_labels


@pytest.mark.parametrize("kind", SOURCES)
def test_itk_and_our_reader_read_the_same(tmp_path, kind):
    made = flat_labels(volume(kind, tmp_path).geometry)
    path = write_metaimage(made, tmp_path / "x.mha")
    array, geometry = by_itk(path)
    assert geometry.same_grid(made.geometry)
    np.testing.assert_array_equal(array, made.array)
    found = read_labels(path)
    assert found.geometry.same_grid(made.geometry)
    np.testing.assert_array_equal(found.array, made.array)


@pytest.mark.parametrize("pixel_size", [(0.2, 0.3), None])
def test_a_picture(tmp_path, pixel_size):
    array = np.random.default_rng(0).integers(0, 3, (5, 8), np.uint8)
    made = LabelMap.of(array, Geometry((5, 8), None, pixel_size), LabelTable.numbered([1, 2]))
    path = write_metaimage(made, tmp_path / "x.mha")
    image = SimpleITK.ReadImage(str(path))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), array)
    assert image.GetSpacing() == ((0.3, 0.2) if pixel_size else (1, 1))
    assert (b"ElementSpacing" in path.read_bytes()) == (pixel_size is not None)


def test_refusals(tmp_path):
    with pytest.raises(ExportError, match="sheared"):
        write_metaimage(flat_labels(volume(TILTED, tmp_path).geometry), tmp_path / "x.mha")
    made = labels(volume("single", tmp_path).geometry)
    with pytest.raises(ExportError, match="2 layers"):
        write_metaimage(made, tmp_path / "x.mha")
    with pytest.raises(ExportError, match=r"\.mha"):
        write_metaimage(flat_labels(made.geometry), tmp_path / "x.mhd")
    assert not list(tmp_path.glob("x.*"))
