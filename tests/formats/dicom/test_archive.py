"""Zip archives: read as the folder they hold, never trusted, and their temporary files removed."""

from __future__ import annotations

import gc
import io
import stat
import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydicom import dcmread

from helpers.dicom_files import save, series
from voxelry.core.labels import LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import CorruptFileError, DuplicateSlicesError, ExportError, ReadError, SelectionError, UnsupportedFormatError
from voxelry.formats.dicom import archive as module
from voxelry.formats.inspection import inspect
from voxelry.formats.reader import read, read_all
from voxelry.formats.writer import write


@pytest.fixture
def zipped(tmp_path, folder, plain):
    """Packs a plain series, nested in folders, with a note."""

    def pack(slices=None, name="study.zip", where="inside"):
        place = folder(plain if slices is None else slices, where=where)
        target = tmp_path / name
        target.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("readme.txt", "not a scan")
            for file in sorted(place.iterdir()):
                packed.write(file, f"study/series 1/{file.stem}")
        return target

    return pack


def damaged(tmp_path, **changes):
    """An archive with one member, some of whose fields are changed."""
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(changes.get("name", "x"), b"content")
    return path


def packed_under(tmp_path, names, slices):
    """An archive whose members are these slices under these names, which may be equal."""
    path = tmp_path / "names.zip"
    with zipfile.ZipFile(path, "w") as packed, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of equal names
        for name, data in zip(names, slices, strict=True):
            packed.writestr(name, save(data, tmp_path / "slice.dcm").read_bytes())
    return path


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path_factory, monkeypatch):
    """Other tests unpack archives at the same time."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))


def leftovers():
    return set(Path(tempfile.gettempdir()).glob("voxelry-*"))


def test_an_archive_reads_as_its_folder(zipped, folder, plain):
    place = folder(plain, where="loose")
    volume, expected = read(zipped()), read(place)
    np.testing.assert_array_equal(volume.array, expected.array)
    assert volume.geometry.distance(expected.geometry) == 0
    assert volume.source.instances == expected.source.instances
    assert "unpacked from study.zip" in volume.source.remarks


def test_its_files_live_as_long_as_the_volume(zipped):
    before = leftovers()
    volume = read(zipped())
    (folder,) = leftovers() - before
    assert len([file for file in folder.rglob("*") if file.is_file()]) == 5
    _ = volume.array
    assert folder.exists()
    del volume
    gc.collect()
    assert leftovers() == before


def test_looking_unpacks_nothing(zipped, monkeypatch):
    path = zipped()
    monkeypatch.setattr(module.tempfile, "mkdtemp", lambda **_: pytest.fail("unpacked"))
    row = next(row for row in inspect(path) if row.format == "dicom")
    assert (row.path, row.readable, row.shape, row.n_files) == (str(path), True, (1, 8, 6, 5), 5)


@given(
    names=st.lists(
        st.sampled_from(
            ["x.dcm", "X.DCM", "s/x.dcm", "s\\x.dcm", "./s/x.dcm", "s//x.dcm", "S/x.dcm", "s", "s/x.dcm/y", "é", "e\u0301"]
        ),
        min_size=5,
        max_size=5,
    )
)
@example(names=["s/x.dcm"] * 5)
@settings(max_examples=25)
def test_each_slice_has_its_own_pixels_whatever_the_names(names):
    values = np.random.default_rng(0).integers(-500, 500, (5, 3, 4)).astype(np.int16)
    with tempfile.TemporaryDirectory() as folder:
        volume = read(packed_under(Path(folder), names, series(values)))
        np.testing.assert_array_equal(volume.array[0].T, values)
        assert len(set(volume.source.files)) == 5


def test_members_of_one_name_have_a_number_in_messages(tmp_path, plain):
    plain[2].PixelData = plain[2].PixelData[:-8]
    path = packed_under(tmp_path, ["s/x.dcm"] * 5, plain)
    with pytest.raises(ReadError, match=r"names\.zip/s/x \(3\)\.dcm"):
        _ = read(path).array


def test_a_member_that_is_there_twice_counts_once(tmp_path, plain):
    path = packed_under(tmp_path, ["0", "1", "2", "3", "4", "4"], [*plain, plain[4]])
    assert read(path).shape == (1, 8, 6, 5)


def test_two_versions_of_one_slice_are_refused(tmp_path, plain, make_series):
    other = make_series(np.zeros((5, 6, 8), np.int16))[4]
    other.SOPInstanceUID = plain[4].SOPInstanceUID
    path = packed_under(tmp_path, ["0", "1", "2", "3", "4", "4"], [*plain, other])
    with pytest.raises(DuplicateSlicesError, match=r"4 and 4 \(2\): they have one SOPInstanceUID"):
        read(path)


def test_a_patient_is_named_whatever_the_separator(tmp_path, plain):
    rows = inspect(packed_under(tmp_path, [f"a\\{k}" for k in range(5)], plain), names=True)
    assert [row.name for row in rows] == ["Nobody^Known (SECRET42)"]


def test_in_a_folder_archives_and_files_are_apart(tmp_path, zipped, folder, plain):
    folder(plain, where="tree/loose")
    zipped(name="tree/a.zip")
    rows = [row for row in inspect(tmp_path / "tree") if row.format == "dicom"]
    assert [Path(row.path).name for row in rows] == ["a.zip", "loose"]
    assert all(row.readable and not row.key for row in rows)
    with pytest.raises(SelectionError) as caught:
        read(tmp_path / "tree")
    assert len(set(caught.value.choices)) == 2
    for key in caught.value.choices:
        assert read(tmp_path / "tree", series=key).shape == (1, 8, 6, 5)
    assert len(read_all(tmp_path / "tree")) == 2


def test_an_error_names_the_member_and_not_the_temporary_file(zipped, plain):
    plain[2].PixelData = plain[2].PixelData[:-8]
    path = zipped(plain)
    with pytest.raises(ReadError) as caught:
        _ = read(path).array
    assert "study.zip/study/series 1/IM002" in str(caught.value)
    assert "voxelry-" not in str(caught.value)


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "..\\x", "C:/x", "C:\\x"])
def test_a_member_outside_is_refused(tmp_path, name):
    path = damaged(tmp_path, name=name)
    with pytest.raises(CorruptFileError, match=r"outside the archive") as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert not inspect(path)[0].readable


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.dcm", bytes(2**21))
    monkeypatch.setattr(module, "FREE_BYTES", 2**20)
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_, **__: pytest.fail("unpacked"))
    with pytest.raises(CorruptFileError, match="bomb"):
        read(path)


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    path = damaged(tmp_path)
    monkeypatch.setattr(module, "MAX_MEMBERS", 0)
    with pytest.raises(CorruptFileError, match="bomb"):
        read(path)


def test_encrypted_is_refused(tmp_path):
    path = damaged(tmp_path)
    raw = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(signature) + offset] |= 1
    path.write_bytes(raw)
    with pytest.raises(UnsupportedFormatError, match="encrypted"):
        read(path)


@pytest.mark.parametrize("length", [40, 500, 2000])
def test_cut_short(zipped, length):
    path = zipped()
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CorruptFileError, match="zip archive"):
        read(path)


def test_a_lying_size_is_caught(zipped):
    path = zipped()
    raw = bytearray(path.read_bytes())
    at = raw.rindex(b"PK\x01\x02") + 24
    raw[at : at + 4] = (10).to_bytes(4, "little")
    path.write_bytes(raw)
    with pytest.raises(ReadError):
        _ = read(path).array


def test_no_dicom_inside(tmp_path):
    path = damaged(tmp_path)
    with pytest.raises(UnsupportedFormatError):
        read(path)
    assert inspect(path)[0].reason


def test_links_are_refused(tmp_path, zipped, plain):
    path = zipped(plain)
    link = zipfile.ZipInfo("slice.dcm")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as packed:
        packed.writestr(link, "../../../etc/hostname")
    with pytest.raises(CorruptFileError, match="is a link"):
        read(path)


def test_archives_inside_archives_are_not_opened(tmp_path, zipped):
    inner = zipped()
    path = tmp_path / "outer.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.write(inner, "inner.zip")
    with pytest.raises(UnsupportedFormatError):
        read(path)


def test_its_files_are_named_by_the_archive(zipped, plain, tmp_path):
    """A temporary path tells nobody anything, and is gone tomorrow; exports find the files in the archive."""
    for data in plain:
        data.StudyInstanceUID = "1.2.3"
    path = zipped(plain)
    volume = read(path)
    with zipfile.ZipFile(path) as packed:
        names = {f"{path}/{name}" for name in packed.namelist()}
    assert set(volume.source.files) <= names
    assert len(volume.source.files) == 5
    assert tempfile.gettempdir() + "/voxelry-" not in str(volume.source)
    labels = LabelMap.of(np.ones(volume.geometry.shape, np.uint8), volume.geometry, LabelTable.numbered([1]))
    stored = dcmread(write(labels, tmp_path / "a.seg.dcm", source=volume))
    referenced = {item.ReferencedSOPInstanceUID for item in stored.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert referenced == {instance[0] for instance in volume.source.instances}
    path.unlink()
    with pytest.raises(ExportError, match="gone"):
        write(labels, tmp_path / "b.seg.dcm", source=volume)
    path.write_bytes(_archive_of_nothing())
    with pytest.raises(ReadError, match="not in its archive any more"):
        write(labels, tmp_path / "b.seg.dcm", source=volume)


def _archive_of_nothing():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        packed.writestr("a.txt", "nothing")
    return content.getvalue()
