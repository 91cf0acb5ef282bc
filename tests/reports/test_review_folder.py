import pytest
from PIL import Image

from voxelry.cohort.review_list import ReviewCase
from voxelry.errors import UsageError
from voxelry.formats.grids.nifti_write import write_nifti_image
from voxelry.formats.writer import write
from voxelry.phantom import small_phantom
from voxelry.reports import review_folder as module
from voxelry.reports.review_folder import write_review_folder


@pytest.fixture
def cases(tmp_path):
    phantom = small_phantom()
    image, mask = tmp_path / "a.nii.gz", tmp_path / "masks" / "a.nii.gz"
    mask.parent.mkdir()
    write_nifti_image(phantom.volume, image)
    write(phantom.labels, mask)
    good = ReviewCase("a", 0.4, True, 0.6, "", ("liver is missing",), (image,), mask)
    gone = ReviewCase("b", 0.2, False, 0.8, "", (), (tmp_path / "gone.nii.gz",), mask)
    failed = ReviewCase("c", 0.1, True, None, "cannot be read", (), (tmp_path / "gone.nii.gz",), None)
    return [good, gone, failed]


def test_a_scan_that_is_gone_says_so_in_place_of_its_planes(cases, tmp_path, monkeypatch):
    tiles = []
    monkeypatch.setattr(module, "write_contact_sheets", lambda given, *_: tiles.extend(given))
    write_review_folder(cases, tmp_path / "qc")
    assert [tile.picture is None for tile in tiles] == [False, True, True]
    assert tiles[0].notes == ("liver is missing",)
    assert tiles[1].notes[0].startswith("cannot be drawn: ")
    assert "gone.nii.gz" in tiles[1].notes[0]
    assert tiles[2].notes == ("cannot be read",)


def test_the_folder_is_replaced_by_its_own_kind_alone(cases, tmp_path):
    done = []
    folder = write_review_folder(cases, tmp_path / "qc", lambda *call: done.append(call))
    assert {file.name for file in folder.iterdir()} == {"review.csv", "sheet_001.png"}
    assert done[-1] == ("drawing", 3, 3)
    with Image.open(folder / "sheet_001.png") as sheet:
        assert sheet.width > 100
    write_review_folder(cases[:1], folder)
    assert len((folder / "review.csv").read_text().splitlines()) == 2
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt: was changed or added"):
        write_review_folder(cases, folder)
    assert (folder / "notes.txt").read_text() == "mine"
