import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from export.series import ct_series
from voxelry.errors import ExportError, GridMismatchError
from voxelry.export.writer import FORMATS, format_of, write
from voxelry.geometry import Geometry, Reindex
from voxelry.labels import Label, LabelTable
from voxelry.volume import LabelMap, Volume

TABLE = LabelTable(labels=(Label(value=1, name="lung"),))
GRID = Geometry.from_spacing((3, 4, 5), (1, 1, 2))
LABELS = LabelMap.of(np.random.default_rng(0).integers(0, 2, GRID.shape, dtype=np.uint8), GRID, TABLE)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.nii.gz", "nifti"),
        ("a.nii", "nifti"),
        ("A.NII.GZ", "nifti"),
        ("a.b.png", "png"),
        ("a.seg.dcm", "dicom-seg"),
        ("a.dcm", "dicom-seg"),
    ],
)
def test_the_ending_picks_the_format(name, expected):
    assert format_of(name) == expected


def test_formats_are_told_apart_by_their_own_ending():
    assert {name: format_of("x" + kind.ending) for name, kind in FORMATS.items()} == {name: name for name in FORMATS}


def test_nifti_of_labels_and_images(tmp_path):
    path = write(LABELS, tmp_path / "new" / "a.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(nib.load(path).dataobj), LABELS.array)
    image = Volume(np.ones((1, *GRID.shape), np.float32), GRID)
    assert nib.load(write(image, tmp_path / "b.nii")).get_data_dtype() == np.float32
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["a.nii.gz", "b.nii"]


def test_nifti_lies_on_the_source_if_there_is_one(tmp_path):
    change = Reindex((2, 0, 1), (True, False, False))
    source = Volume(np.zeros((1, *GRID.shape)), GRID).reindexed(change)
    stored = nib.load(write(LABELS, tmp_path / "a.nii.gz", source=source))
    np.testing.assert_array_equal(np.asanyarray(stored.dataobj), change.apply(LABELS.array))
    elsewhere = Volume(np.zeros((1, *GRID.shape)), Geometry.from_spacing(GRID.shape, (1, 1, 3)))
    with pytest.raises(GridMismatchError):
        write(LABELS, tmp_path / "b.nii.gz", source=elsewhere)


def test_png(tmp_path):
    array = np.eye(4, dtype=np.uint8)
    with Image.open(write(LabelMap.of(array, Geometry((4, 4)), TABLE), tmp_path / "a.png")) as image:
        np.testing.assert_array_equal(np.asarray(image), array)


def test_dicom_seg_by_ending_and_by_name(tmp_path):
    source = ct_series(tmp_path)
    labels = LabelMap.of(np.ones(source.geometry.shape, np.uint8), source.geometry, TABLE)
    for path, name in ((tmp_path / "out.seg.dcm", None), (tmp_path / "IM0", "dicom-seg")):
        assert dcmread(write(labels, path, format=name, source=source)).Modality == "SEG"


def test_refusals(tmp_path):
    with pytest.raises(ExportError, match=r"a\.nii\.g.*Did you mean '\.nii\.gz'"):
        write(LABELS, tmp_path / "a.nii.g")
    with pytest.raises(ExportError, match=r"noending.*Known: .*\.png"):
        write(LABELS, tmp_path / "noending")
    with pytest.raises(ExportError, match=r"'nifty'.*'nifti'"):
        write(LABELS, tmp_path / "a.nii.gz", format="nifty")
    with pytest.raises(ExportError, match="source"):
        write(LABELS, tmp_path / "a.seg.dcm")
    with pytest.raises(ExportError, match="not an image"):
        write(Volume(np.zeros((1, 4, 4), np.uint8), Geometry((4, 4))), tmp_path / "a.png")
    with pytest.raises(ExportError, match="not an image"):
        write(Volume(np.zeros((1, *GRID.shape)), GRID), tmp_path / "a.dcm", source=Volume(np.zeros((1, *GRID.shape)), GRID))
    assert not list(tmp_path.iterdir())
