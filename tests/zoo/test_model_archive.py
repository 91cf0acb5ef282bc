import hashlib
import stat
import zipfile

import pytest

from voxelry.errors import ModelError, ReadError
from voxelry.networks.weights import load_models
from voxelry.zoo.model_archive import pack_model, unpack_model
from voxelry.zoo.model_files import files_of


def unpacked(archive, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir(exist_ok=True)
    unpack_model(archive, folder, "there")
    return folder


def written(path, entries):
    """A zip file of names and contents; a name may be a ZipInfo."""
    with zipfile.ZipFile(path, "w") as writer:
        for name, content in entries:
            writer.writestr(name, content)
    return path


def test_the_files_come_back_and_any_zip_program_reads_them(both, tmp_path):
    sha256 = pack_model(both, tmp_path / "m.zip")
    assert sha256 == hashlib.sha256((tmp_path / "m.zip").read_bytes()).hexdigest()
    with zipfile.ZipFile(tmp_path / "m.zip") as reader:
        assert reader.testzip() is None
        assert sorted(reader.namelist()) == files_of(both)
    folder = unpacked(tmp_path / "m.zip", tmp_path)
    assert {name: (folder / name).read_bytes() for name in files_of(folder)} == {
        name: (both / name).read_bytes() for name in files_of(both)
    }
    assert len(load_models(folder)) == 2


def test_equal_models_make_equal_archives(tiny, tmp_path):
    first = pack_model(tiny, tmp_path / "a.zip")
    copy = unpacked(tmp_path / "a.zip", tmp_path)
    assert pack_model(copy, tmp_path / "b.zip") == first


def test_a_folder_in_an_archive_is_taken_for_its_root(tiny, tmp_path):
    entries = [(f"tiny/{name}", (tiny / name).read_bytes()) for name in files_of(tiny)]
    assert files_of(unpacked(written(tmp_path / "m.zip", entries), tmp_path)) == files_of(tiny)


def link(name):
    entry = zipfile.ZipInfo(name)
    entry.create_system = 3
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


@pytest.mark.parametrize(
    "entries",
    [
        [("plan.yaml", "a: 1"), ("../card.json", "{}")],
        [("plan.yaml", "a: 1"), ("/etc/card.json", "{}")],
        [("plan.yaml", "a: 1"), ("member/../../card.json", "{}")],
        [("plan.yaml", "a: 1"), ("..\\card.json", "{}")],
        [("plan.yaml", "a: 1"), ("C:/card.json", "{}")],
        [("plan.yaml", "a: 1"), ("run.py", "import os")],
        [("plan.yaml", "a: 1"), ("weights.pt", "pickle")],
        [("plan.yaml", "a: 1"), (link("card.json"), "/etc/passwd")],
        [("README.md", "no model")],
        [],
    ],
)
def test_an_archive_that_is_not_just_a_model_writes_nothing(entries, tmp_path):
    archive = written(tmp_path / "m.zip", entries)
    with pytest.raises((ModelError, ReadError)):
        unpacked(archive, tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["here", "m.zip", "out"]


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("voxelry.formats.dicom.archive.FREE_BYTES", 1 << 20)  # of which nothing is asked
    with zipfile.ZipFile(tmp_path / "m.zip", "w", zipfile.ZIP_DEFLATED) as writer:
        writer.writestr("weights.safetensors", bytes(4 << 20))
        writer.writestr("plan.yaml", "a: 1")
    with pytest.raises(ReadError, match="zip bomb"):
        unpacked(tmp_path / "m.zip", tmp_path)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04 but no zip file"])
def test_what_is_no_zip_file(content, tmp_path):
    (tmp_path / "m.zip").write_bytes(content)
    with pytest.raises((ModelError, ReadError), match="zip"):
        unpacked(tmp_path / "m.zip", tmp_path)


def test_a_truncated_archive(tiny, tmp_path):
    pack_model(tiny, tmp_path / "m.zip")
    (tmp_path / "m.zip").write_bytes((tmp_path / "m.zip").read_bytes()[:-100])
    with pytest.raises((ModelError, ReadError), match="zip"):
        unpacked(tmp_path / "m.zip", tmp_path)
