"""Copies of series are kept when they are what was announced, and not otherwise."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread

from helpers.sources import volume
from voxelry.base.progress import no_progress
from voxelry.errors import PacsError, UsageError
from voxelry.formats.dicom.elements import quiet_pydicom
from voxelry.pacs.archive_copy import copy_one, copy_series
from voxelry.pacs.pacs_records import SeriesRecord


class PacsOfFiles:
    """An archive that holds some files, and gives them as `change` has it."""

    def __init__(self, files, change=lambda folder: None):
        self.files, self._change = files, change
        self.announced = {str(dcmread(file).SOPInstanceUID): str(dcmread(file).SOPClassUID) for file in files}

    def find_instances(self, record):
        return self.announced

    def retrieve(self, record, classes, folder):
        for number, file in enumerate(self.files):
            shutil.copyfile(file, folder / f"{number}")
        self._change(folder)


def edited(**elements):
    """A change of elements of the first file."""

    def change(folder):
        data = dcmread(folder / "0")
        with quiet_pydicom():
            for name, value in elements.items():
                setattr(data, name, value)
            data.save_as(folder / "0", enforce_file_format=True)

    return change


def cut(folder: Path, left: int) -> None:
    """Only the first bytes of a file came."""
    content = (folder / "0").read_bytes()
    (folder / "0").write_bytes(content[:left] if left > 0 else content[: len(content) + left])


FAULTS = {
    "missing": (lambda folder: (folder / "2").unlink(), "8 of 9 instances"),
    "nothing": (lambda folder: [file.unlink() for file in folder.iterdir()], "0 of 9 instances"),
    "cut pixels": (lambda folder: cut(folder, -10), "breaks off"),
    "cut header": (lambda folder: cut(folder, 400), "cannot be read|breaks off|UID"),
    "empty": (lambda folder: cut(folder, 1) or (folder / "0").write_bytes(b""), "cannot be read"),
    "page of HTML": (lambda folder: (folder / "0").write_bytes(b"<html>" * 99), "cannot be read"),
    "twice": (lambda folder: shutil.copyfile(folder / "1", folder / "0"), "came twice"),
    "another study": (edited(StudyInstanceUID="1.2.3"), "StudyInstanceUID '1.2.3'"),
    "another series": (edited(SeriesInstanceUID="1.2.3"), "SeriesInstanceUID '1.2.3'"),
    "another instance": (edited(SOPInstanceUID="1.2.3"), "did not announce"),
    "a path": (edited(SOPInstanceUID="../../x"), "did not announce"),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of CT slices."""
    return [Path(file) for file in volume("axial", tmp_path_factory.mktemp("scan")).source.files]


@pytest.fixture(scope="module")
def record(files):
    """What an archive says of them."""
    data = dcmread(files[0])
    return SeriesRecord(str(data.StudyInstanceUID), str(data.SeriesInstanceUID), count=len(files))


def test_a_whole_series_is_kept_and_not_fetched_again(files, record, tmp_path):
    pacs = PacsOfFiles(files)
    [result] = copy_series(pacs, [record], tmp_path, no_progress)
    assert result.error == ""
    assert {file.stem: file.read_bytes() for file in result.files} == {
        str(dcmread(file).SOPInstanceUID): file.read_bytes() for file in files
    }
    pacs.files = []
    assert copy_one(pacs, record, result.folder) == result.files
    (result.folder / "note").touch()
    with pytest.raises(UsageError, match="other files"):
        copy_one(pacs, record, result.folder)


@pytest.mark.parametrize("fault", FAULTS)
def test_anything_else_leaves_nothing_and_the_others_go_on(fault, files, record, tmp_path):
    change, words = FAULTS[fault]
    target = tmp_path / record.study / record.series
    with pytest.raises(PacsError, match=words):
        copy_one(PacsOfFiles(files, change), record, target)
    assert list(tmp_path.rglob("*")) == [tmp_path / record.study]


def test_an_archive_that_contradicts_itself_is_listed(files, record, tmp_path):
    pacs = PacsOfFiles(files)
    counted = replace(record, count=10)
    results = copy_series(pacs, [counted, record], tmp_path, no_progress)
    assert "counts 10 instances" in results[0].error
    assert len(results[1].files) == 9
    for announced, words in (({}, "announces no instance"), ({"../x": ""} | pacs.announced, "no UID")):
        pacs.announced = announced
        with pytest.raises(PacsError, match=words):
            copy_one(pacs, replace(record, count=None), tmp_path / "other")
