import nrrd
import numpy as np
import pytest
import SimpleITK

from helpers.sources import FLAT_TABLE, SOURCES, TABLE, TILTED, flat_labels, labels, volume
from voxelry.core.geometry import Geometry, flip_lps_ras
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import ExportError, LabelError
from voxelry.formats.grids.nrrd_write import write_nrrd
from voxelry.formats.reader import read_labels


def by_itk(path):
    """Labels and grid as ITK has them: LPS, ``(axes reversed)``."""
    image = SimpleITK.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image).T, Geometry(image.GetSize(), flip_lps_ras(affine))


@pytest.mark.parametrize("kind", SOURCES)
def test_itk_reads_the_same(tmp_path, kind):
    made = flat_labels(volume(kind, tmp_path).geometry)
    array, geometry = by_itk(write_nrrd(made, tmp_path / "x.nrrd"))
    assert geometry.same_grid(made.geometry)
    np.testing.assert_array_equal(array, made.array)


@pytest.mark.parametrize("kind", [*SOURCES, TILTED])
def test_pynrrd_and_our_reader_read_the_same(tmp_path, kind):
    made = flat_labels(volume(kind, tmp_path).geometry)
    path = write_nrrd(made, tmp_path / "x.nrrd")
    array, header = nrrd.read(str(path))
    np.testing.assert_array_equal(array, made.array)
    affine = flip_lps_ras(made.geometry.affine)
    assert header["space"] == "left-posterior-superior"
    np.testing.assert_allclose(header["space directions"].T, affine[:3, :3], rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(header["space origin"], affine[:3, 3], rtol=1e-14)
    found = read_labels(path)
    assert found.geometry.same_grid(made.geometry)
    for label in FLAT_TABLE.labels:
        np.testing.assert_array_equal(found.mask(label.name), made.mask(label.name))


@pytest.mark.parametrize("pixel_size", [(0.2, 0.3), None])
def test_a_picture(tmp_path, pixel_size):
    array = np.random.default_rng(0).integers(0, 3, (5, 8), np.uint8)
    made = LabelMap.of(array, Geometry((5, 8), None, pixel_size), LabelTable.numbered([1, 2]))
    path = write_nrrd(made, tmp_path / "x.nrrd")
    image = SimpleITK.ReadImage(str(path))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), array)
    if pixel_size:
        assert image.GetSpacing() == (0.3, 0.2)
    assert ("spacings" in nrrd.read_header(str(path))) == (pixel_size is not None)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("value", "kind"), [(255, np.uint8), (256, np.uint16)])
def test_types_and_memory_orders(tmp_path, order, value, kind):
    array = np.array(np.random.default_rng(0).choice([0, value], (3, 4, 5)).astype(np.int64), order=order)
    made = LabelMap.of(array, Geometry.from_spacing(array.shape, (1, 1, 1)), LabelTable.numbered([value]))
    stored, _ = nrrd.read(str(write_nrrd(made, tmp_path / "x.nrrd")))
    assert stored.dtype == kind
    np.testing.assert_array_equal(stored, array)


def test_refusals(tmp_path):
    geometry = volume("single", tmp_path).geometry
    with pytest.raises(ExportError, match="2 layers"):
        write_nrrd(labels(geometry), tmp_path / "x.nrrd")
    with pytest.raises(ExportError, match=r"\.nrrd"):
        write_nrrd(flat_labels(geometry), tmp_path / "x.nhdr")
    with pytest.raises(LabelError):
        write_nrrd(LabelMap(flat_labels(geometry).layers, geometry, TABLE.numbered([1])), tmp_path / "x.nrrd")
    assert not list(tmp_path.glob("x.*"))


def test_an_ignore_value_is_no_segment_and_becomes_background(tmp_path):
    array = np.zeros((5, 4, 3), np.uint8)
    array[1], array[3] = 1, 255
    table = LabelTable(labels=(Label(value=1, name="one"),), ignore=255)
    made = LabelMap.of(array, Geometry.from_spacing(array.shape, (1, 1, 2)), table)
    found = read_labels(write_nrrd(made, tmp_path / "x.nrrd"))
    np.testing.assert_array_equal(found.on_grid(made.geometry).array, array % 255)
