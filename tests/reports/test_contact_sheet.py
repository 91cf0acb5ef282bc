import numpy as np
import pytest
from PIL import Image

from voxelry.errors import GridMismatchError
from voxelry.phantom import small_phantom
from voxelry.reports.contact_sheet import COLUMNS, ROWS, ContactTile, planes_picture, write_contact_sheets


@pytest.fixture(scope="module")
def picture():
    phantom = small_phantom()
    return planes_picture(phantom.volume, phantom.labels)


def colours(image):
    return {tuple(colour) for colour in np.asarray(image).reshape(-1, 3)}


def size_of(file):
    with Image.open(file) as image:
        return image.size


def test_the_planes_show_the_labels_in_their_colours(picture):
    phantom = small_phantom()
    assert phantom.labels.table["liver"].rgb in colours(picture)
    empty = type(phantom.labels)(np.zeros_like(phantom.labels.layers), phantom.labels.geometry, phantom.labels.table)
    assert phantom.labels.table["liver"].rgb not in colours(planes_picture(phantom.volume, empty))


def test_cases_fill_sheets_in_their_order_one_sheet_at_a_time(picture, tmp_path):
    drawn = []
    count = COLUMNS * ROWS + 2

    def tiles():
        for number in range(count):
            drawn.append(len(list(tmp_path.glob("*.png"))))
            yield ContactTile(f"case {number}", picture=picture)

    files = write_contact_sheets(tiles(), tmp_path, count)
    assert [file.name for file in files] == ["sheet_001.png", "sheet_002.png"]
    assert drawn == [0] * (COLUMNS * ROWS) + [1, 1]
    full, rest = map(size_of, files)
    assert full[1] > 4 * rest[1] > 0
    assert full[0] > rest[0]


def test_what_stands_out_is_written_in_another_colour(picture, tmp_path):
    plain, marked = (
        write_contact_sheets([ContactTile("a: Dice 0.5", ("note",), picture, is_marked)], tmp_path / str(is_marked), 1)[0]
        for is_marked in (False, True)
    )
    shown = []
    for file in (plain, marked):
        with Image.open(file) as image:
            shown.append(colours(image))
    assert (255, 170, 70) in shown[1] - shown[0]


def test_long_notes_are_cut_to_the_tile(picture, tmp_path):
    long = ContactTile("title " * 90, ("a long sentence about what is unusual " * 30,), picture)
    sizes = {size_of(write_contact_sheets([tile], tmp_path, 1)[0]) for tile in (long, ContactTile("short"))}
    assert len(sizes) == 1


def test_labels_on_another_grid_are_refused():
    phantom = small_phantom()
    shifted = phantom.labels.geometry.cropped((1, 0, 0), phantom.labels.geometry.shape)
    with pytest.raises(GridMismatchError):
        planes_picture(phantom.volume, type(phantom.labels)(phantom.labels.layers, shifted, phantom.labels.table))
