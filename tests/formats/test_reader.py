"""The verbs."""

from __future__ import annotations

import subprocess
import sys

import nibabel
import numpy as np
import pytest
from PIL import Image

from voxelry.core.labels import Label, LabelTable
from voxelry.errors import (
    LabelError,
    MissingFileError,
    MissingSlicesError,
    PartlyReadError,
    UnsupportedFormatError,
    UsageError,
)
from voxelry.formats.reader import read, read_all, read_labels

AFFINE = np.diag([-1.0, -2.0, 3.0, 1.0])


def nifti(tmp_path, name, array, affine=AFFINE):
    nibabel.Nifti1Image(array, affine).to_filename(tmp_path / name)
    return tmp_path / name


def flipped(array, affine):
    """The same image with its axes in another order and direction."""
    image = nibabel.Nifti1Image(array, affine)
    turned = image.as_reoriented([[2, -1], [0, 1], [1, -1]])
    return np.asarray(turned.dataobj), turned.affine


class TestRead:
    def test_every_format(self, tmp_path, folder, plain, xray):
        Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "p.png")
        scan = nifti(tmp_path, "scan.nii.gz", np.zeros((2, 3, 4), np.int16))
        series = folder(plain)
        kinds = [(scan, "nifti", 3), (series, "dicom", 3), (series / "IM000.dcm", "dicom", 3), (tmp_path / "p.png", "picture", 2)]
        kinds.append((xray(np.zeros((3, 4), np.uint16)), "dicom", 2))
        for path, kind, ndim in kinds:
            for form in (path, str(path)):
                volume = read(form)
                assert (volume.source.kind, volume.geometry.ndim) == (kind, ndim)
                assert volume.array.shape == volume.shape

    def test_missing(self, tmp_path):
        with pytest.raises(MissingFileError):
            read(tmp_path / "nothing.nii")
        with pytest.raises(MissingFileError):
            read_labels(tmp_path)

    def test_needs_neither_torch_nor_monai(self):
        code = (
            "import sys, voxelry.formats.reader, voxelry.formats.inspection;"
            "print([m for m in ('torch', 'monai', 'highdicom') if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"


class TestChoices:
    def test_a_repair_may_be_named_alone(self, folder, plain):
        place = folder(plain[:2] + plain[3:])
        assert read(place, repair="gap").source.repairs == read(place, repair=["gap"]).source.repairs != ()

    def test_an_unknown_choice(self, folder, plain):
        for choice in ({"repair": "glue"}, {"polarity": "bright"}, {"pixel_size": "big"}, {"transform": "xform"}):
            with pytest.raises(UsageError, match="is unknown"):
                read(folder(plain), **choice)

    def test_a_series_is_of_dicom(self, tmp_path):
        with pytest.raises(UsageError, match="series is chosen of DICOM"):
            read(nifti(tmp_path, "a.nii", np.zeros((2, 3, 4), np.int16)), series="largest")


class TestAll:
    def test_time_points_of_a_4d_file(self, tmp_path):
        values = np.arange(48, dtype=np.int16).reshape(2, 3, 4, 2)
        first, second = read_all(nifti(tmp_path, "a.nii", values))
        np.testing.assert_array_equal(first.array[0], values[..., 0])
        np.testing.assert_array_equal(second.array[0], values[..., 1])

    def test_what_cannot_be_read_is_not_passed_over(self, folder, plain, make_series, ramp):
        place = folder([*plain, *make_series(np.delete(ramp, 2, 0), SeriesInstanceUID="1.2.3")])
        slices = make_series(ramp, SeriesInstanceUID="1.2.4")
        folder([*slices[:2], *slices[3:]], [f"odd{k}" for k in range(4)])
        with pytest.raises(PartlyReadError, match=r"1 of 3 volumes cannot be read: 1\.2\.4: ") as caught:
            read_all(place)
        assert [volume.shape[-1] for volume in caught.value.volumes] == [5, 4]
        assert [key for key, _ in caught.value.failed] == ["1.2.4"]

    def test_the_only_one_gives_its_own_error(self, folder, plain):
        with pytest.raises(MissingSlicesError):
            read_all(folder(plain[:2] + plain[3:]))


class TestLabels:
    def test_numbered(self, tmp_path):
        array = np.zeros((2, 3, 4), np.float32)
        array[0, 0, :2] = (1, 7)
        labels = read_labels(nifti(tmp_path, "l.nii", array))
        assert labels.table.names == ("label_1", "label_7")
        np.testing.assert_array_equal(labels.array, array)

    def test_known_table(self, tmp_path):
        table = LabelTable(labels=(Label(value=1, name="liver"),), ignore=2)
        labels = read_labels(nifti(tmp_path, "l.nii", np.full((2, 3, 4), 2, np.uint8)), table)
        assert labels.table is table
        with pytest.raises(LabelError, match=r"l\.nii: label values 3 are not in the table"):
            read_labels(nifti(tmp_path, "l.nii", np.full((2, 3, 4), 3, np.uint8)), table)

    def test_picture(self, tmp_path):
        Image.fromarray(np.full((4, 5), 3, np.uint8)).save(tmp_path / "m.png")
        assert read_labels(tmp_path / "m.png").geometry.shape == (4, 5)

    def test_dicom(self, folder, plain):
        with pytest.raises(UnsupportedFormatError, match="SEG and RTSTRUCT files are read as labels"):
            read_labels(folder(plain))
