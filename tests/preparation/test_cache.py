import json
import multiprocessing
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from helpers.plans import SIDED, tiny_plan
from voxelry.core.geometry import Geometry
from voxelry.core.instance_form import InstanceForm
from voxelry.core.instance_plan import InstancePlan
from voxelry.core.labels import IGNORE_INDEX, Label, LabelTable
from voxelry.core.plan import Normalisation
from voxelry.core.volume import LabelMap, Source, Volume
from voxelry.datasets.cases import Case
from voxelry.errors import GridMismatchError, LabelError
from voxelry.preparation import cache as module
from voxelry.preparation.cache import cached_case, cached_cases, with_first_stage
from voxelry.preparation.instance_ids import object_ids
from voxelry.preparation.instance_targets import instance_targets
from voxelry.preparation.mapped_array import MappedArray
from voxelry.preparation.preparation import prepare


@pytest.fixture
def stored(tmp_path):
    """A case of two files, and how to load it."""
    (tmp_path / "image.bin").write_bytes(b"image")
    (tmp_path / "labels.bin").write_bytes(b"labels")
    volume, labels = made(0)
    case = Case(id="a", images=(tmp_path / "image.bin",), labels=tmp_path / "labels.bin")
    calls = []

    def load():
        calls.append(1)
        return volume, labels

    return case, load, calls, volume, labels


def made(seed, shape=(6, 7, 8)):
    rng = np.random.default_rng(seed)
    geometry = Geometry.from_spacing(shape, (1, 1, 1))
    volume = Volume(rng.integers(1, 900, (1, *shape)).astype(np.int16), geometry)
    return volume, LabelMap.of(rng.choice(np.array([0, 3, 9], np.uint8), shape), geometry, SIDED)


def entry_of(found):
    return {file.name: file for file in found.home.iterdir()}


def test_what_is_stored_is_what_was_prepared(stored, tmp_path):
    case, load, _, volume, labels = stored
    found = cached_case(case, tiny_plan(), SIDED, tmp_path / "cache", load)
    np.testing.assert_allclose(found.image[...], volume.array, rtol=1e-3)
    assert (found.image.dtype, found.classes.dtype) == (np.float16, np.int8)
    classes = SIDED.to_classes(labels.array, "labels")
    assert np.array_equal(found.classes[...], classes)
    assert isinstance(found.image, MappedArray)
    assert isinstance(found.classes, MappedArray)
    assert sorted(found.class_locations) == [1, 3]
    assert found.counts == {k: int((classes == k).sum()) for k in (0, 1, 3)}
    for index in (1, 3):
        assert found.count(index) == found.counts[index]
        assert {tuple(voxel) for voxel in found.class_locations[index][...]} == set(
            zip(*np.nonzero(classes == index), strict=True)
        )


def test_a_long_table_takes_two_bytes_and_ignored_voxels_stay_what_they_are(stored, tmp_path):
    case, load, *_ = stored
    table = LabelTable(labels=tuple(Label(value=v, name=str(v)) for v in (3, *range(10, 200))), ignore=9)
    found = cached_case(case, tiny_plan(), table, tmp_path / "cache", load)
    assert found.classes.dtype == np.int16
    assert set(np.unique(found.classes[...])) == {IGNORE_INDEX, 0, 1}


@pytest.mark.parametrize("outlier", [50.0, 1e5])
def test_a_stored_value_is_as_good_as_its_noise(stored, tmp_path, outlier):
    """Normalised values within 0.1 % of a standard deviation up to two of them, and 0.05 % of themselves beyond."""
    case = stored[0]
    values = np.random.default_rng(0).normal(0, 1, (1, 20, 20, 20)).astype(np.float32) * 3 + 1e-3
    values[0, 0, 0, 0] = outlier
    volume = Volume(values, Geometry.from_spacing((20, 20, 20), (1, 1, 1)))
    found = cached_case(case, tiny_plan(), SIDED, tmp_path / "cache", lambda: (volume, None)).image[...].astype(np.float64)
    error = abs(found - values.clip(-65504, 65504))
    assert (error <= np.maximum(1e-3, abs(values) * 5e-4)).all()
    assert np.isfinite(found).all()


def test_a_second_call_reads_and_does_not_write(stored, tmp_path):
    case, load, calls, _, _ = stored
    cached_case(case, tiny_plan(), SIDED, tmp_path / "cache", load)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").rglob("*")}
    again = cached_case(case, tiny_plan(), SIDED, tmp_path / "cache", load)
    assert len(calls) == 1
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").rglob("*")}
    assert again.id == "a"


CHANGED_PLANS = {
    "spacing": {"spacing": (2.0, 2.0, 2.0)},
    "part of the spacing": {"spacing": (None, 1.0, 1.0)},
    "scaling": {"normalisation": (Normalisation(scheme="image"),)},
    "orientation": {"orientation": "LPS"},
    "order": {"image_order": 1},
    "coarse axis": {"coarse_axis": 2},
    "reference": {"reference_channel": "T1"},
    "slices": {"slice_axis": 0, "patch_size": (1, 8, 8), "network": {"features": (4, 8, 8), "strides": ((1, 1, 1), (1, 2, 2),
               (1, 2, 2)), "kernels": ((1, 3, 3),) * 3}},
}  # fmt: skip


@pytest.mark.parametrize("change", [*CHANGED_PLANS, "table", "image", "labels", "time", "version", "code"])
def test_whatever_would_change_it_prepares_it_anew_and_leaves_the_other(stored, tmp_path, change, monkeypatch):
    case, load, calls, _, _ = stored
    first = cached_case(case, tiny_plan(), SIDED, tmp_path / "cache", load)
    plan, table = tiny_plan(**CHANGED_PLANS.get(change, {})), SIDED
    if change == "table":
        table = LabelTable(labels=(*SIDED.labels, Label(value=77, name="liver")))
    elif change == "time":
        os.utime(case.images[0], ns=(1, 1))
    elif change in ("image", "labels"):
        (tmp_path / f"{change}.bin").write_bytes(b"other content")
    elif change == "version":
        monkeypatch.setattr(module, "__version__", "0.0.1")
        module._code_hash.cache_clear()
    elif change == "code":
        monkeypatch.setattr(module, "_CODE", module._CODE[1:])
        module._code_hash.cache_clear()
    found = cached_case(case, plan, table, tmp_path / "cache", load)
    module._code_hash.cache_clear()
    assert len(calls) == 2
    assert found.classes.shape == ((3, 4, 4) if change == "spacing" else (6, 7, 8))
    assert first.home != found.home
    assert first.image[...].shape == (1, 6, 7, 8)


def test_patch_and_network_do_not_matter_to_it(stored, tmp_path):
    case, load, calls, _, _ = stored
    cached_case(case, tiny_plan(), SIDED, tmp_path / "cache", load)
    cached_case(case, tiny_plan(patch_size=(16, 16, 16), batch_size=7, overlap=0.2), SIDED, tmp_path / "cache", load)
    assert len(calls) == 1


def test_a_dicom_folder_is_known_by_its_files(stored, tmp_path):
    case, load, calls, _, _ = stored
    series = tmp_path / "series"
    series.mkdir()
    (series / "1.dcm").write_bytes(b"one")
    case = Case(id="b", images=(series,), labels=case.labels)
    for change in (lambda: None, lambda: (series / "2.dcm").write_bytes(b"two"), lambda: (series / "2.dcm").rename(series / "3")):
        change()
        cached_case(case, tiny_plan(), SIDED, tmp_path / "cache", load)
    assert len(calls) == 3


def test_files_that_only_a_header_names_count_too(stored, tmp_path):
    case, _, calls, volume, labels = stored
    raw = tmp_path / "image.raw"
    raw.write_bytes(b"voxels")
    volume = Volume(volume.array, volume.geometry, source=Source("metaimage", (str(case.images[0]), str(raw))))
    for content in (b"voxels", b"other voxels", b"other voxels"):
        if raw.read_bytes() != content:
            raw.write_bytes(content)
        cached_case(case, tiny_plan(), SIDED, tmp_path / "cache", lambda: (calls.append(1), (volume, labels))[1])
    assert len(calls) == 2


def test_an_interrupted_write_leaves_nothing(stored, tmp_path, monkeypatch):
    case, load, calls, _, _ = stored

    def full_disk(*_, **__):
        raise OSError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module, "checksum", full_disk)
        with pytest.raises(OSError, match="No space"):
            cached_case(case, tiny_plan(), SIDED, tmp_path / "cache", load)
    assert list((tmp_path / "cache" / "a").iterdir()) == []
    cached_case(case, tiny_plan(), SIDED, tmp_path / "cache", load)
    assert len(calls) == 2


DAMAGES = {
    "cut short": lambda file: file.write_bytes(file.read_bytes()[:-7]),
    "gone": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
    "other bytes": lambda file: file.write_bytes(bytes(byte ^ 255 for byte in file.read_bytes())),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["image.npy", "classes.npy", "class_locations.npy", "entry.json"])
def test_a_damaged_entry_is_made_anew(stored, tmp_path, name, damage, caplog):
    case, load, calls, _, _ = stored
    found = cached_case(case, tiny_plan(), SIDED, tmp_path / "cache", load)
    expected = found.image[...].copy(), found.classes[...].copy(), found.class_locations[3][...].copy()
    DAMAGES[damage](entry_of(found)[name])
    again = cached_case(case, tiny_plan(), SIDED, tmp_path / "cache", load)
    assert len(calls) == 2
    assert "prepared again" in caplog.text
    for one, other in zip(expected, (again.image, again.classes, again.class_locations[3]), strict=True):
        np.testing.assert_array_equal(one, other[...])
    assert [file.name for file in (tmp_path / "cache" / "a").iterdir()] == [again.home.name]


def test_a_copied_cache_is_read_and_not_made_anew(stored, tmp_path):
    case, load, calls, _, _ = stored
    found = cached_case(case, tiny_plan(), SIDED, tmp_path / "cache", load)
    for file in entry_of(found).values():
        os.utime(file, ns=(1, 1))
    cached_case(case, tiny_plan(), SIDED, tmp_path / "cache", load)
    assert len(calls) == 1


def prepared_by_a_process(folder, images, start, result):
    volume, labels = made(0)
    case = Case(id="a", images=images)
    start.wait()
    found = cached_case(case, tiny_plan(), SIDED, folder, lambda: (volume, labels))
    result.put(float(found.image[...].astype(np.float64).sum()))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="nothing is forked here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_processes_that_share_a_cache_do_not_break_each_other(stored, tmp_path):
    case, _, _, volume, _ = stored
    context = multiprocessing.get_context("fork")
    start, result = context.Barrier(4), context.Queue()
    arguments = (tmp_path / "cache", case.images, start, result)
    workers = [context.Process(target=prepared_by_a_process, args=arguments) for _ in range(4)]
    for worker in workers:
        worker.start()
    sums = [result.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert sums == [float(volume.array.astype(np.float16).astype(np.float64).sum())] * 4
    assert len(list((tmp_path / "cache" / "a").iterdir())) == 1


def test_whoever_comes_second_keeps_what_is_there(stored, tmp_path):
    """The entry appears while this process prepares it: the other's stays, so that its readers are not disturbed."""
    case, load, _, volume, labels = stored

    def late():
        first = cached_case(case, tiny_plan(), SIDED, tmp_path / "cache", load)
        late.inode = entry_of(first)["image.npy"].stat().st_ino
        return volume, labels

    found = cached_case(case, tiny_plan(), SIDED, tmp_path / "cache", late)
    assert entry_of(found)["image.npy"].stat().st_ino == late.inode


def several(tmp_path, count):
    cases = []
    for number in range(count):
        (tmp_path / f"{number}.bin").write_bytes(b"image")
        cases.append(Case(id=f"case {number}", images=(tmp_path / f"{number}.bin",)))
    return cases


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_many_cases_side_by_side_come_in_order(tmp_path, threads, monkeypatch):
    monkeypatch.setattr(module, "THREADS", threads)
    cases, done, busy, most = several(tmp_path, 9), [], [0], [0]
    lock = threading.Lock()

    def load(case):
        with lock:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        time.sleep(0.01)
        with lock:
            busy[0] -= 1
        return made(int(case.id.split()[1]))

    found = cached_cases(cases, tiny_plan(), SIDED, tmp_path / "cache", load, lambda *call: done.append(call))
    assert [one.id for one in found] == [case.id for case in cases]
    assert done == [("preparing cases", number, 9) for number in range(1, 10)]
    assert most[0] <= max(1, threads // 2)
    for number, one in enumerate(found):
        np.testing.assert_array_equal(one.image[...], made(number)[0].array.astype(np.float16))


def test_one_bad_case_is_raised_and_the_rest_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "THREADS", 2)
    loaded = []

    def load(case):
        loaded.append(case.id)
        if case.id == "case 2":
            raise LabelError("case 2: label 7")
        return made(0)

    with pytest.raises(LabelError, match="case 2"):
        cached_cases(several(tmp_path, 30), tiny_plan(), SIDED, tmp_path / "cache", load)
    assert len(loaded) < 30


def test_cases_wait_for_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "THREADS", 8)
    needed = module._footprint(made(0)[0], tiny_plan()).total
    assert needed == 6 * 7 * 8 * 8 * 2
    monkeypatch.setattr(module, "installed_memory", lambda: 2 * 2 * needed)
    busy, most, original = [0], [0], module._write
    lock = threading.Lock()

    def slow(*arguments):
        with lock:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        time.sleep(0.02)
        original(*arguments)
        with lock:
            busy[0] -= 1

    monkeypatch.setattr(module, "_write", slow)
    cached_cases(several(tmp_path, 8), tiny_plan(), SIDED, tmp_path / "cache", lambda _: made(0))
    assert most[0] == 2


def test_ignored_voxels_stay_ignored_and_background_is_found_beside_them(stored, tmp_path):
    case, _, _, volume, labels = stored
    table = LabelTable(labels=SIDED.labels[:2], ignore=9)
    marked = LabelMap(labels.layers, labels.geometry, table)
    case = Case(id="i", images=case.images, labels=case.labels)
    found = cached_case(case, tiny_plan(), table, tmp_path / "cache", lambda: (volume, marked))
    assert np.array_equal(found.classes[...] == IGNORE_INDEX, labels.array == 9)
    assert sorted(found.class_locations) == [0, 1]
    assert {tuple(voxel) for voxel in found.class_locations[0][...]} == set(zip(*np.nonzero(labels.array == 0), strict=True))


def test_without_a_reference_nothing_is_known(stored, tmp_path):
    case, _, _, volume, _ = stored
    found = cached_case(case, tiny_plan(), SIDED, tmp_path / "cache", lambda: (volume, None))
    assert (found.classes[...] == IGNORE_INDEX).all()
    assert found.count(1) == 0
    assert [len(voxels) for voxels in found.class_locations.values()] == [0]


def test_an_unknown_value_is_refused_and_nothing_is_written(stored, tmp_path):
    case, load, _, _, _ = stored
    with pytest.raises(LabelError, match="not in the table"):
        cached_case(case, tiny_plan(), LabelTable(labels=SIDED.labels[:2]), tmp_path / "cache", load)
    assert not (tmp_path / "cache" / "a").exists()


class TestPrevious:
    def case(self, tmp_path, plan):
        """A scan with an empty border, stored in another orientation and spacing than the plan's."""
        array = np.zeros((1, 12, 10, 9), np.int16)
        array[:, 2:-1, 1:-2, 3:] = np.random.default_rng(0).integers(1, 900, (1, 9, 7, 6))
        affine = np.array([[0, -1.5, 0, 4], [1, 0, 0, 5], [0, 0, 2.5, 6], [0, 0, 0, 1.0]])
        volume = Volume(array, Geometry((12, 10, 9), affine))
        (tmp_path / "image.bin").write_bytes(b"image")
        case = Case(id="p", images=(tmp_path / "image.bin",))
        found = LabelMap.of(
            np.random.default_rng(1).choice(np.array([0, 3, 5, 9], np.uint8), (12, 10, 9)), volume.geometry, SIDED
        )
        return cached_case(case, plan, SIDED, tmp_path / "cache", lambda: (volume, None)), volume, found

    @pytest.mark.parametrize("spacing", [None, (1.0, 1.0, 2.0), (1.2, None, 2.0)])
    def test_labels_lie_where_the_scan_does(self, tmp_path, spacing):
        plan = tiny_plan(spacing=spacing)
        cached, volume, found = self.case(tmp_path, plan)
        case = with_first_stage(cached, plan, "weights 1", lambda: found)
        expected = prepare(volume, plan).classes(SIDED.to_classes(found.array, ""))
        assert case.first_stage.dtype == np.int8
        np.testing.assert_array_equal(case.first_stage[...], expected)
        assert case.first_stage.shape == case.classes.shape
        assert cached.first_stage is None

    def test_they_are_asked_for_once_for_each_first_stage(self, tmp_path):
        cached, _, found = self.case(tmp_path, tiny_plan())
        asked = []

        def find():
            asked.append(1)
            return found

        for identity in ("one", "one", "two"):
            with_first_stage(cached, tiny_plan(), identity, find)
        assert len(asked) == 2
        file = next(cached.home.glob("first_stage-*.npy"))
        file.write_bytes(file.read_bytes()[:-9])
        for identity in ("one", "two"):
            case = with_first_stage(cached, tiny_plan(), identity, find)
            assert case.first_stage[...].max() == 3
        assert len(asked) == 3

    def test_labels_of_another_grid_are_refused_and_nothing_is_written(self, tmp_path):
        cached, _, found = self.case(tmp_path, tiny_plan())
        other = LabelMap.of(found.array, Geometry.from_spacing((12, 10, 9), (1, 1, 1)), SIDED)
        with pytest.raises(GridMismatchError):
            with_first_stage(cached, tiny_plan(), "one", lambda: other)
        assert not list(cached.home.glob("*first_stage*"))


def test_entries_say_what_was_read(stored, tmp_path):
    case, load, *_ = stored
    found = cached_case(case, tiny_plan(), SIDED, tmp_path / "cache", load)
    entry = json.loads(Path(found.home, "entry.json").read_text())
    assert entry["shape"] == [6, 7, 8]
    assert sorted(entry["files"]) == ["class_locations.npy", "classes.npy", "image.npy"]


HEAD = InstancePlan(labels=("spine",), diameter=4, border=1, erosion=1)


def test_targets_of_an_instance_head_lie_beside_the_classes(stored, tmp_path):
    case, load, _, volume, labels = stored
    plan = tiny_plan(instances=HEAD)
    found = cached_case(case, plan, SIDED, tmp_path / "cache", load)
    wanted = instance_targets(object_ids(labels, ["spine"]), (1, 1, 1), HEAD)
    assert np.array_equal(found.targets.parts[...], wanted.parts)
    assert np.array_equal(found.targets.distance[...], wanted.distance)
    assert (wanted.parts[found.classes[...] != 3] == 0).all()
    assert sorted(entry_of(found)) == sorted([*entry_of(cached_case(case, tiny_plan(), SIDED, tmp_path / "c", load)),
                                              "parts.npy", "distance.npy"])  # fmt: skip
    assert prepare(volume, plan).shape == found.targets.parts.shape


def test_only_what_changes_targets_prepares_them_anew(stored, tmp_path):
    case, load, calls, _, _ = stored
    semantic = cached_case(case, tiny_plan(), SIDED, tmp_path / "cache", load)
    components = tiny_plan(instances=HEAD.model_copy(update={"decoder": "components"}))
    assert cached_case(case, components, SIDED, tmp_path / "cache", load).home == semantic.home
    first = cached_case(case, tiny_plan(instances=HEAD), SIDED, tmp_path / "cache", load)
    for change in ({"persistence": 0.3}, {"smoothing": 0.3}, {"smallest": 9.0}, {"diameter": 5.0}):
        plan = tiny_plan(instances=HEAD.model_copy(update=change))
        assert cached_case(case, plan, SIDED, tmp_path / "cache", load).home == first.home
    assert len(calls) == 2
    homes = {first.home, semantic.home}
    for change in ({"erosion": 2.0}, {"border": 2.0}, {"coarse_axis": 0}, {"labels": ("left kidney",)}):
        plan = tiny_plan(instances=HEAD.model_copy(update=change))
        homes.add(cached_case(case, plan, SIDED, tmp_path / "cache", load).home)
    assert len(homes) == 6


def test_another_way_to_tell_objects_apart_is_another_entry(tmp_path):
    (case,), loads = several(tmp_path, 1), []

    def load():
        loads.append(case.id)
        return made(0)

    forms = [None, InstanceForm(form="components"), InstanceForm(form="labels"), InstanceForm(form="labels", parts="split")]
    for form in (*forms, *forms):
        cached_case(case, tiny_plan(), SIDED, tmp_path / "cache", load, form=form)
    assert len(loads) == len(forms)
