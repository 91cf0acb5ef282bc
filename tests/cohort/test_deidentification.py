"""De-identified copies of a series with its segmentation, structure set and report: references, masks, names."""

import json
import shutil

import numpy as np
import pytest
from pydicom import dcmread

import voxelry
from helpers.ct_series import SECRET, ct_series
from voxelry.core.catalogue import lookup
from voxelry.core.labels import LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import MissingFileError, UsageError
from voxelry.formats.dicom.objects.rtstruct_write import write_rtstruct
from voxelry.formats.dicom.objects.seg_write import write_dicom_seg
from voxelry.formats.dicom.objects.sr_write import write_dicom_sr
from voxelry.formats.reader import read

OPTIONS = ["modified-dates", "descriptors", "structured-content", "device"]


def at(name, value):
    return lookup(name).model_copy(update={"value": value})


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A CT series with a segmentation, a structure set and a report of it."""
    folder = tmp_path_factory.mktemp("study")
    (folder / SECRET).mkdir()
    ct_series(folder / SECRET, slices=5)
    scan = read(folder / SECRET)
    array = np.zeros(scan.geometry.shape, np.uint8)
    array[1:4, 1:5, 1:4], array[5:7, 2:6, 2:5] = 1, 2
    labels = LabelMap.of(array, scan.geometry, LabelTable(labels=(at("spleen", 1), at("liver", 2))))
    seg = write_dicom_seg(labels, scan, folder / "mask.seg.dcm")
    write_rtstruct(labels, scan, folder / "mask.rtstruct.dcm")
    write_dicom_sr(labels, scan, folder / "report.sr.dcm", segmentation=seg)
    return folder


@pytest.fixture(scope="module")
def copies(study, tmp_path_factory):
    out = tmp_path_factory.mktemp("copies") / "shared"
    files = voxelry.deidentify(study, out, options=OPTIONS)
    assert not [*files.held, *files.failed, *files.left_out]
    return files


def uids(data):
    """Every UID of a data set that the standard does not define; the table removes what a segmentation's frames say again."""
    data.pop("SourceImageSequence", None)
    return [
        str(uid)
        for element in data.iterall()
        if element.VR == "UI" and element.value
        for uid in (element.value if element.VM > 1 else [element.value])
        if not str(uid).startswith("1.2.840.10008.")
    ]


def test_references_are_the_same_graph_under_other_names(copies):
    """An oracle that knows no rule: one map of old to new UIDs, one to one, explains every UID of every file."""
    new_of = {}
    for source, copy in copies.written.items():
        before, after = uids(dcmread(source)), uids(dcmread(copy))
        assert len(before) == len(after)
        for old, new in zip(before, after, strict=True):
            assert new_of.setdefault(old, new) == new
    assert len(set(new_of.values())) == len(new_of)
    changed = [old for old, new in new_of.items() if old != new]
    assert {dcmread(source).SOPInstanceUID for source in copies.written} <= set(changed)


@pytest.mark.parametrize("kind", ["mask.seg.dcm", "mask.rtstruct.dcm"])
def test_a_mask_converts_to_the_same_labels(study, copies, tmp_path, kind):
    series = next(copy for source, copy in copies.written.items() if source.parent.name == SECRET).parent
    before = voxelry.convert(study / kind, tmp_path / "a.nii.gz", reference=study / SECRET)
    after = voxelry.convert(copies.written[study / kind], tmp_path / "b.nii.gz", reference=series)
    one, other = voxelry.read_labels(before.path), voxelry.read_labels(after.path)
    np.testing.assert_array_equal(one.layers, other.layers)
    np.testing.assert_array_equal(one.geometry.affine, other.geometry.affine)
    assert one.array.any()


def test_no_name_is_left_in_any_byte_or_path(study, copies):
    assert any(b"LO\x04\x004711" in source.read_bytes() for source in copies.written)
    folder = next(iter(copies.written.values())).parents[3]
    for path in folder.rglob("*"):
        text = str(path.relative_to(folder)).encode() + (path.read_bytes() if path.is_file() else b"")
        identifier = b"lo\x04\x004711"  # with its header, since four digits come up in UIDs that are drawn
        for word in (b"geheim", b"gertrud", identifier, b"m\xfcller", "müller".encode(), b"19010203", b"20200102", b"a1\0"):
            assert word not in text.lower(), (path, word)


def test_validators_have_nothing_new_to_say(study, copies, dciodvfy, dcentvfy):
    for name in ("mask.seg.dcm", "mask.rtstruct.dcm", "report.sr.dcm", f"{SECRET}/00.dcm"):
        assert set(dciodvfy(copies.written[study / name])) <= set(dciodvfy(study / name)), name
    assert not dcentvfy(*copies.written.values())


def test_a_report_is_still_read(study, copies, tmp_path, tid1500reader):
    before, after = (
        json.loads(tid1500reader(path, tmp_path / "m.json").read_text())["Measurements"]
        for path in (study / "report.sr.dcm", copies.written[study / "report.sr.dcm"])
    )
    numbers = [[item["value"] for item in group["measurementItems"]] for group in before]
    assert numbers == [[item["value"] for item in group["measurementItems"]] for group in after]
    assert numbers


def test_patient_and_days_are_the_same_in_every_file(copies):
    data = [dcmread(copy) for copy in copies.written.values()]
    assert len({str(each.PatientID) for each in data}) == 1
    assert len({str(each.StudyDate) for each in data}) == 1
    assert {each.PatientIdentityRemoved for each in data} == {"YES"}


def test_a_second_run_goes_on_and_a_second_folder_of_the_key_agrees(study, tmp_path):
    key = tmp_path / "k"
    first = voxelry.deidentify(study / SECRET, tmp_path / "a", key=key)
    copy = next(iter(first.written.values()))
    copy.unlink()
    times = {path: path.stat().st_mtime_ns for path in first.written.values() if path.exists()}
    again = voxelry.deidentify(study / SECRET, tmp_path / "a", key=key)
    assert again.written == first.written
    assert copy.exists()
    assert {path: path.stat().st_mtime_ns for path in times} == times
    other = voxelry.deidentify(study / "mask.seg.dcm", tmp_path / "b", key=key)
    seg = dcmread(next(iter(other.written.values())))
    [named] = {item.SeriesInstanceUID for item in seg.ReferencedSeriesSequence}
    assert named == dcmread(copy).SeriesInstanceUID


def test_risky_pixels_are_held_back_unless_accepted(tmp_path):
    def head(header, k):
        header.BodyPartExamined = "HEAD"
        if k == 0:
            header.BurnedInAnnotation = "YES"

    (tmp_path / "in").mkdir()
    ct_series(tmp_path / "in", slices=3, change=head)
    held = voxelry.deidentify(tmp_path / "in", tmp_path / "a")
    assert (len(held.written), len(held.held)) == (0, 3)
    assert sum("burnt-in-text" in each.reason for each in held.held) == 1
    some = voxelry.deidentify(tmp_path / "in", tmp_path / "b", accept=["faces"])
    assert (len(some.written), len(some.held)) == (2, 1)
    every = voxelry.deidentify(tmp_path / "in", tmp_path / "c", accept=["faces", "burnt-in-text"])
    assert (len(every.written), len(every.held)) == (3, 0)


def test_what_is_no_plain_dicom_file_is_listed_and_the_rest_goes_on(study, tmp_path):
    folder = tmp_path / "in"
    shutil.copytree(study / SECRET, folder)
    shutil.copy(folder / "00.dcm", folder / "twin.dcm")
    changed = dcmread(folder / "01.dcm")
    changed.Manufacturer = "other"
    changed.save_as(folder / "zwilling.dcm", enforce_file_format=True)
    (folder / "notes.txt").write_text("Geheim")
    (folder / "cut.dcm").write_bytes((folder / "02.dcm").read_bytes()[:500])
    files = voxelry.deidentify(folder, tmp_path / "out")
    assert len(files.written) == 5
    assert {(each.path.name, each.reason) for each in files.left_out} == {
        ("notes.txt", "not DICOM"),
        ("twin.dcm", "a second copy of another file"),
    }
    assert {each.path.name for each in files.failed} == {"cut.dcm", "zwilling.dcm"}


def test_mistakes_are_refused(study, tmp_path):
    scan, out = study / SECRET, tmp_path / "out"
    with pytest.raises(UsageError, match="no option 'dates'"):
        voxelry.deidentify(scan, out, options=["dates"])
    with pytest.raises(UsageError, match="no accepted risk 'face'"):
        voxelry.deidentify(scan, out, accept=["face"])
    with pytest.raises(UsageError, match="either kept or moved"):
        voxelry.deidentify(scan, out, options=["full-dates", "modified-dates"])
    with pytest.raises(UsageError, match="given away with them"):
        voxelry.deidentify(scan, out, key=out / "k")
    with pytest.raises(UsageError, match="lies in the input"):
        voxelry.deidentify(scan, scan / "out")
    with pytest.raises(MissingFileError):
        voxelry.deidentify(tmp_path / "none", out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFileError, match="empty: holds no file"):
        voxelry.deidentify(tmp_path / "empty", out)
    assert not out.exists()
    assert not out.with_name("out.key").exists()


def test_a_folder_of_anything_else_is_refused(study, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty"):
        voxelry.deidentify(study / SECRET, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_other_options_or_another_key_need_another_folder(study, tmp_path):
    voxelry.deidentify(study / SECRET, tmp_path / "out")
    with pytest.raises(UsageError, match="made with another options"):
        voxelry.deidentify(study / SECRET, tmp_path / "out", options=["uids"])
    with pytest.raises(UsageError, match="made with another key"):
        voxelry.deidentify(study / SECRET, tmp_path / "out", key=tmp_path / "other")
