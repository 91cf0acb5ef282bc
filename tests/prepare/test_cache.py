import os

import numpy as np
import pytest

from plans import SIDED, tiny_plan
from voxelry.errors import LabelError
from voxelry.geometry import Geometry
from voxelry.labels import IGNORE_INDEX, Label, LabelTable
from voxelry.manifest.cases import Case
from voxelry.plan import Normalisation
from voxelry.prepare import cache as module
from voxelry.prepare.cache import cached_case, class_places
from voxelry.volume import LabelMap, Volume


@pytest.fixture
def stored(tmp_path):
    """A case of two files, and how to load it."""
    rng = np.random.default_rng(0)
    (tmp_path / "image.bin").write_bytes(b"image")
    (tmp_path / "labels.bin").write_bytes(b"labels")
    geometry = Geometry.from_spacing((6, 7, 8), (1, 1, 1))
    volume = Volume(rng.integers(1, 900, (1, 6, 7, 8)).astype(np.int16), geometry)
    labels = LabelMap.of(rng.choice(np.array([0, 3, 9], np.uint8), (6, 7, 8)), geometry, SIDED)
    case = Case(id="a", images=(tmp_path / "image.bin",), labels=tmp_path / "labels.bin")
    calls = []

    def load():
        calls.append(1)
        return volume, labels

    return case, load, calls, volume, labels


def test_what_is_stored_is_what_was_prepared(stored, tmp_path):
    case, load, _, volume, labels = stored
    found = cached_case(case, tiny_plan(), SIDED, tmp_path / "cache", load)
    np.testing.assert_allclose(found.image, volume.array, rtol=1e-3)
    assert found.image.dtype == np.float16
    assert np.array_equal(found.classes, SIDED.to_classes(labels.array, "labels"))
    assert isinstance(found.image, np.memmap)
    assert isinstance(found.classes, np.memmap)
    assert not found.image.flags.writeable
    assert sorted(found.places) == [1, 3]
    assert {tuple(voxel) for voxel in found.places[3]} == set(zip(*np.nonzero(labels.array == 9), strict=True))


def test_a_second_call_reads_and_does_not_write(stored, tmp_path):
    case, load, calls, _, _ = stored
    cached_case(case, tiny_plan(), SIDED, tmp_path / "cache", load)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").rglob("*")}
    again = cached_case(case, tiny_plan(), SIDED, tmp_path / "cache", load)
    assert len(calls) == 1
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").rglob("*")}
    assert again.id == "a"


@pytest.mark.parametrize("change", ["plan", "scaling", "table", "image", "labels", "time"])
def test_whatever_would_change_it_prepares_it_anew(stored, tmp_path, change):
    case, load, calls, _, _ = stored
    cached_case(case, tiny_plan(), SIDED, tmp_path / "cache", load)
    plan, table = tiny_plan(), SIDED
    if change == "plan":
        plan = tiny_plan(spacing=(2.0, 2.0, 2.0))
    elif change == "scaling":
        plan = tiny_plan(normalisation=(Normalisation(scheme="image"),))
    elif change == "table":
        table = LabelTable(labels=(*SIDED.labels, Label(value=77, name="liver")))
    elif change == "time":
        os.utime(case.images[0], ns=(1, 1))
    else:
        (tmp_path / f"{change}.bin").write_bytes(b"other content")
    found = cached_case(case, plan, table, tmp_path / "cache", load)
    assert len(calls) == 2
    assert found.classes.shape == ((3, 4, 4) if change == "plan" else (6, 7, 8))


def test_window_and_network_do_not_matter_to_it(stored, tmp_path):
    case, load, calls, _, _ = stored
    cached_case(case, tiny_plan(), SIDED, tmp_path / "cache", load)
    cached_case(case, tiny_plan(patch_size=(16, 16, 16), batch_size=7), SIDED, tmp_path / "cache", load)
    assert len(calls) == 1


def test_a_dicom_folder_is_known_by_its_files(stored, tmp_path):
    case, load, calls, _, _ = stored
    series = tmp_path / "series"
    series.mkdir()
    (series / "1.dcm").write_bytes(b"one")
    case = Case(id="b", images=(series,), labels=case.labels)
    cached_case(case, tiny_plan(), SIDED, tmp_path / "cache", load)
    (series / "2.dcm").write_bytes(b"two")
    cached_case(case, tiny_plan(), SIDED, tmp_path / "cache", load)
    assert len(calls) == 2


def test_an_interrupted_write_leaves_nothing(stored, tmp_path, monkeypatch):
    case, load, calls, _, _ = stored

    def full_disk(*_, **__):
        raise OSError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module.np, "savez", full_disk)
        with pytest.raises(OSError, match="No space"):
            cached_case(case, tiny_plan(), SIDED, tmp_path / "cache", load)
    assert list((tmp_path / "cache").iterdir()) == []
    cached_case(case, tiny_plan(), SIDED, tmp_path / "cache", load)
    assert len(calls) == 2


def test_ignored_voxels_stay_ignored_and_have_no_place(stored, tmp_path):
    case, _, _, volume, labels = stored
    table = LabelTable(labels=SIDED.labels[:2], ignore=9)
    marked = LabelMap(labels.layers, labels.geometry, table)
    case = Case(id="i", images=case.images, labels=case.labels)
    found = cached_case(case, tiny_plan(), table, tmp_path / "cache", lambda: (volume, marked))
    assert np.array_equal(found.classes == IGNORE_INDEX, labels.array == 9)
    assert sorted(found.places) == [1]


def test_an_unknown_value_is_refused_and_nothing_is_written(stored, tmp_path):
    case, load, _, _, _ = stored
    with pytest.raises(LabelError, match="not in the table"):
        cached_case(case, tiny_plan(), LabelTable(labels=SIDED.labels[:2]), tmp_path / "cache", load)
    assert not (tmp_path / "cache" / "a").exists()


def test_places_are_thinned_evenly(monkeypatch):
    monkeypatch.setattr(module, "PLACES_PER_CLASS", 10)
    classes = np.zeros((5, 8), dtype=np.int16)
    classes[1:4] = 2
    places = class_places(classes, 4)
    assert list(places) == [2]
    assert len(places[2]) <= 10
    assert set(places[2][:, 0]) == {1, 2, 3}
    assert places[2].dtype == np.int32
