import inspect

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from helpers.ct_series import ct_series
from helpers.written import FORMATS
from voxelry.core.geometry import Geometry, Reindex
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import ExportError, GridMismatchError, UsageError, VoxelryError
from voxelry.formats import writer
from voxelry.formats.file_format import imported
from voxelry.formats.table import format_to_write
from voxelry.formats.writer import write

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
        ("a.rtstruct.dcm", "rtstruct"),
        ("a.sr.dcm", "dicom-sr"),
        ("a.stl.dcm", "encapsulated-stl"),
        ("a.seg.nrrd", "seg-nrrd"),
        ("a.nrrd", "nrrd"),
        ("a.json", "coco"),
        ("a.rle.json", "rle"),
        ("a.txt", "yolo"),
    ],
)
def test_the_ending_picks_the_format(name, expected):
    assert format_to_write(name).name == expected


def test_formats_are_told_apart_by_their_own_ending():
    assert {name: format_to_write("x" + kind.ending).name for name, kind in FORMATS.items()} == {name: name for name in FORMATS}


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
    with pytest.raises(ExportError, match=r"a\.sr\.dcm.*segmentation"):
        FORMATS["dicom-sr"].write(LABELS, tmp_path / "a.sr.dcm", Volume(np.zeros((1, *GRID.shape)), GRID))
    with pytest.raises(UsageError, match=r"no option 'smoth'.*'smooth'"):
        FORMATS["rtstruct"].write(LABELS, tmp_path / "a.rtstruct.dcm", None, {"smoth": True})
    with pytest.raises(ExportError, match="not an image"):
        write(Volume(np.zeros((1, *GRID.shape)), GRID), tmp_path / "a.dcm", source=Volume(np.zeros((1, *GRID.shape)), GRID))
    assert not list(tmp_path.iterdir())


FLAT = LabelMap.of(np.eye(4, dtype=np.uint8), Geometry((4, 4)), TABLE)
LAYERED = LabelMap(np.stack([LABELS.array] * 2), GRID, TABLE)


@pytest.mark.parametrize("name", FORMATS)
def test_what_a_format_cannot_hold_is_one_error_and_no_file(tmp_path, name):
    """A volume, a picture, overlaps, no source: each is written or refused, by the registry itself."""
    kind = FORMATS[name]
    given = [LABELS, FLAT, LAYERED]
    allowed = [3 in kind.axes, 2 in kind.axes, 3 in kind.axes and kind.layers]
    for number, (labels, fits) in enumerate(zip(given, allowed, strict=True)):
        path = tmp_path / f"{number}{kind.ending}"
        if fits and kind.source != "required":
            assert kind.write(labels, path).exists()
            continue
        with pytest.raises(ExportError) as error:
            kind.write(labels, path)
        assert path.name in str(error.value)
        assert error.value.remedy or kind.required_options
        assert not path.exists()


@pytest.mark.parametrize("name", [name for name, kind in FORMATS.items() if kind.source != "required"])
def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path, name, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    kind = FORMATS[name]
    labels = LABELS if 3 in kind.axes else FLAT
    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match="No space"):
        kind.write(labels, tmp_path / f"a{kind.ending}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [name for name, kind in FORMATS.items() if kind.source != "required"])
def test_values_without_a_name_or_below_zero_are_refused(tmp_path, name):
    """A format without names may take any value; one that refuses leaves nothing."""
    kind = FORMATS[name]
    labels = LABELS if 3 in kind.axes else FLAT
    refused = []
    for layers in (labels.layers * 9, labels.layers.astype(np.int64) - 1):
        try:
            kind.write(LabelMap(layers, labels.geometry, TABLE), tmp_path / f"a{kind.ending}").unlink()
        except VoxelryError as error:
            refused.append(error)
        assert not list(tmp_path.iterdir())
    assert refused or "names" in kind.cannot_hold


def test_every_function_of_the_table_takes_its_options():
    for kind in FORMATS.values():
        taken = inspect.signature(imported(kind.write_labels)).parameters
        keywords = {key for key, one in taken.items() if one.kind is one.KEYWORD_ONLY} - {"source"}
        assert keywords == set(kind.options)
        assert {key for key in keywords if taken[key].default is taken[key].empty} == set(kind.required_options)


def test_the_formats_that_are_written_can_be_asked_for_by_name():
    assert writer.FORMATS == FORMATS
    assert all(row.write_labels for row in FORMATS.values())
    with pytest.raises(AttributeError, match="NONE"):
        _ = writer.NONE
