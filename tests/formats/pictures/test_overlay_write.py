"""Overlays of pictures: what is painted where."""

import numpy as np
import pytest
from PIL import Image

import voxelry as vx
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Source, Volume
from voxelry.errors import ExportError, UsageError
from voxelry.formats.pictures.overlay_write import write_overlay

TABLE = LabelTable(labels=(Label(value=1, name="cell", kind="thing", color=(255, 0, 0)),))
GRID = Geometry((12, 16))


def cells():
    ids = np.zeros((12, 16), np.uint32)
    ids[2:8, 2:7], ids[2:8, 7:12] = 5, 9
    return LabelMap((ids > 0).astype(np.uint8)[None], GRID, TABLE, instances=ids[None])


def image(channels=1, dtype=np.uint8):
    pixels = np.random.default_rng(0).integers(0, 200, (channels, 12, 16)).astype(dtype)
    return Volume(pixels, GRID, channels=channels, source=Source("picture", ("a.png",)))


def pixels_of(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.mark.parametrize("channels", [1, 3])
def test_touching_objects_have_borders_of_different_colours(tmp_path, channels):
    source = image(channels)
    picture = pixels_of(vx.write(cells(), tmp_path / "a.overlay.png", source=source))
    outlined = pixels_of(write_overlay(cells(), tmp_path / "b.overlay.png", source=source, outline=True))
    inside, border = cells().layers[0] > 0, np.zeros((12, 16), bool)
    border[2:8, 2:12] = True
    border[3:7, 3:6] = border[3:7, 8:11] = False
    background = np.moveaxis(source.array, 0, -1) if channels == 3 else np.repeat(source.array[0][..., None], 3, axis=2)
    np.testing.assert_array_equal(picture[~inside], background[~inside])
    np.testing.assert_array_equal(outlined[~border], background[~border])
    np.testing.assert_array_equal(outlined[border], picture[border])
    assert (picture[3:7, 3:6] != background[3:7, 3:6]).any()
    left, right = (
        {tuple(color) for color in picture[2:8, columns][border[2:8, columns]]} for columns in (slice(2, 7), slice(7, 12))
    )
    assert len(left) == len(right) == 1
    assert left.isdisjoint(right)


def test_without_a_picture_it_is_black(tmp_path):
    picture = pixels_of(vx.write(cells(), tmp_path / "a.overlay.png"))
    assert not picture[cells().layers[0] == 0].any()


def test_grey_values_of_16_bits_are_spread(tmp_path):
    picture = pixels_of(vx.write(cells(), tmp_path / "a.overlay.png", source=image(dtype=np.uint16)))
    assert picture.max() == 255


def test_refusals(tmp_path):
    with pytest.raises(ExportError, match="4 channels"):
        write_overlay(cells(), tmp_path / "a.png", source=image(4))
    with pytest.raises(UsageError, match="outline is 'yes'"):
        write_overlay(cells(), tmp_path / "a.png", outline="yes")
    with pytest.raises(ExportError, match="picture"):
        vx.write(
            LabelMap.of(np.zeros((2, 2, 2), np.uint8), Geometry.from_spacing((2, 2, 2), (1, 1, 1)), TABLE),
            tmp_path / "a.overlay.png",
        )
    assert not list(tmp_path.iterdir())
