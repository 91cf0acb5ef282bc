"""Scans in zip archives and at URLs: found as in a folder, fetched one at a time, and gone afterwards."""

import tempfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pytest

import voxelry as vx
from helpers.plans import SIDED, tiny_model, tiny_plan
from helpers.scan_tree import EXPECTED, found, nifti, scan_tree, stack
from voxelry.cohort.content_hash import stamp_of
from voxelry.cohort.fetched_scan import FetchedScan
from voxelry.cohort.inputs import find_scans, survey_inputs
from voxelry.errors import CorruptFileError, MissingFileError, ReadError, UnsupportedFormatError, UsageError, VoxelryError
from voxelry.formats.reader import read
from voxelry.networks.weights import save_model


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scan_tree(tmp_path_factory.mktemp("tree") / "archive")


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place for temporary folders, which is empty at the end."""
    place = tmp_path / "scratch"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield place
    assert [*place.iterdir()] == []


@pytest.fixture
def server(tree: Path) -> Iterator[str]:
    """The tree on a web server of this machine, which takes a token."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    web = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tree)))
    thread = threading.Thread(target=web.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{web.server_port}"
    web.shutdown()
    web.server_close()
    thread.join()


@pytest.fixture
def bucket(tree: Path) -> Iterator[str]:
    """The tree in a store of objects in memory."""
    system = fsspec.filesystem("memory")
    for file in tree.rglob("*"):
        if file.is_file():
            system.pipe(f"/bucket/archive/{file.relative_to(tree).as_posix()}", file.read_bytes())
    yield "memory://bucket/archive"
    system.rm("/bucket", recursive=True)


def zipped(folder: Path, target: Path, within: str = "") -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, within + file.relative_to(folder).as_posix())
    return target


def names_left_out(survey: object) -> list[tuple[str, str]]:
    return sorted((each.path.name, each.reason) for each in survey.left_out)  # type: ignore[attr-defined]


def test_a_folder_an_archive_and_a_bucket_hold_the_same_scans(tree: Path, bucket: str, tmp_path: Path) -> None:
    surveys = [survey_inputs([place]) for place in (tree, zipped(tree, tmp_path / "archive.zip"), bucket)]
    for survey in surveys:
        assert found(survey.scans) == EXPECTED
        assert [scan.id for scan in survey.scans] == [scan.id for scan in surveys[0].scans]
        assert names_left_out(survey) == names_left_out(surveys[0])
        assert {"scout", "notes.txt", "brain_seg.nii.gz"} == {each.path.name for each in survey.left_out}


def test_a_page_of_links_holds_the_scans_of_its_folder(server: str) -> None:
    assert found(find_scans([f"{server}/PAT1/SER1/"])) == {"SER1": 11}
    assert found(find_scans([f"{server}/PAT2/"])) == {"brain": 21, "old": 22}


def test_a_secret_in_a_url_is_used_and_shown_nowhere(server: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "voxelry")
    [scan] = find_scans([f"{server}/PAT2/brain.nii.gz?token=SECRET"])
    assert scan.urls[0].endswith("SECRET")
    assert found([scan]) == {"brain": 21}
    with pytest.raises(MissingFileError) as missing:
        find_scans([f"{server}/nothing.nii.gz?token=SECRET"])
    shown = [repr(scan), str(scan.images), str(missing.value), caplog.text]
    assert "SECRET" not in " ".join(shown)
    assert f"{server}/nothing.nii.gz: nothing is there" in str(missing.value)


def test_errors_name_what_was_fetched_and_not_where_to(server: str, tree: Path, tmp_path: Path, scratch: Path) -> None:
    (tmp_path / "bad" / "a").mkdir(parents=True)
    (tmp_path / "bad" / "a" / "cut.nii.gz").write_bytes((tree / "PAT2" / "brain.nii.gz").read_bytes()[:40])
    archive = zipped(tmp_path / "bad", tmp_path / "bad.zip")
    [scan] = find_scans([archive])
    with pytest.raises(ReadError) as caught, FetchedScan(scan) as local:
        _ = read(local.images[0]).array
    assert str(archive / "a" / "cut.nii.gz") in str(caught.value)
    assert str(scratch) not in str(caught.value)


def test_only_the_scan_whose_turn_it_is_lies_on_the_disk(bucket: str, scratch: Path) -> None:
    scans = {scan.id: scan for scan in find_scans([bucket])}
    assert [*scratch.iterdir()] == []
    with FetchedScan(scans["SER1"]):
        assert sorted(path.name for path in scratch.rglob("IM*")) == ["IM10", "IM11", "IM12"]
    assert [*scratch.iterdir()] == []


def test_a_changed_object_has_another_version(bucket: str) -> None:
    before = {scan.id: scan.version for scan in find_scans([bucket])}
    assert {scan.id: scan.version for scan in find_scans([bucket])} == before
    system = fsspec.filesystem("memory")
    system.pipe("/bucket/archive/PAT2/brain.nii.gz", system.cat("/bucket/archive/PAT2/brain.nii.gz") + b"\0")
    after = {scan.id: scan.version for scan in find_scans([bucket])}
    assert {id for id in before if before[id] != after[id]} == {"brain"}


def test_what_comes_short_fails(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    [scan] = find_scans([f"{bucket}/PAT2/brain.nii.gz"])
    system = type(fsspec.filesystem("memory"))
    monkeypatch.setattr(system, "get_file", lambda self, path, target, **_: Path(target).write_bytes(b"half"))
    with pytest.raises(ReadError, match=r"memory://bucket/archive/PAT2/brain.nii.gz: 4 bytes came of \d+"), FetchedScan(scan):
        pass


def test_a_listed_url_is_fetched_when_its_turn_comes(server: str, tmp_path: Path) -> None:
    nifti(tmp_path / "here.nii.gz", 5)
    (tmp_path / "scans.csv").write_text(f"id,image\nfar,{server}/PAT2/brain.nii.gz\nnear,here.nii.gz\ngone,{server}/no.nii.gz\n")
    scans = find_scans([tmp_path / "scans.csv"])
    assert found(scans[:2]) == {"far": 21, "near": 5}
    with pytest.raises(MissingFileError, match=r"no.nii.gz: nothing is there"), FetchedScan(scans[2]):
        pass


def test_an_archive_of_one_series_is_called_as_the_archive(tmp_path: Path) -> None:
    stack(tmp_path / "in", 1, 7)
    archive = zipped(tmp_path / "in", tmp_path / "case 7.zip")
    [scan] = find_scans([archive])
    assert (scan.id, scan.images) == ("case 7", (archive,))
    assert found([scan]) == {"case 7": 7}
    [chosen] = find_scans([archive], series="largest")
    assert (chosen.id, chosen.series) == ("case 7", ())


def test_archives_in_a_tree_are_opened_and_those_in_archives_are_not(tree: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        stack(tmp_path / f"in{number}", 1, number)
        zipped(tmp_path / f"in{number}", tmp_path / "cohort" / f"p{number}.zip", within="scan/")
    zipped(tmp_path / "cohort", tmp_path / "outer.zip")
    (tmp_path / "cohort" / "damaged.zip").write_bytes(b"PK\x03\x04 and nothing more")
    scans = find_scans([tmp_path / "cohort"])
    assert found([scan for scan in scans if scan.id != "damaged.zip"]) == {"p1": 1, "p2": 2}
    assert [scan.id for scan in scans] == ["damaged.zip", "p1", "p2"]
    with pytest.raises(MissingFileError, match=rf"{tmp_path}/outer.*holds no image"):
        find_scans([tmp_path / "outer.zip"])
    stack(tmp_path / "cohort" / "loose", 1, 3)
    zipped(tmp_path / "cohort", tmp_path / "outer.zip")
    survey = survey_inputs([tmp_path / "outer.zip"])
    assert found(survey.scans) == {"loose": 3}
    assert [each.path.name for each in survey.left_out] == ["damaged.zip", "p1.zip", "p2.zip"]


def test_the_stamp_of_a_scan_in_an_archive_is_that_of_the_archive(tree: Path, tmp_path: Path) -> None:
    archive = zipped(tree, tmp_path / "a.zip")
    stamps = [stamp_of(scan.images) for scan in find_scans([archive])]
    assert [stamp_of(scan.images) for scan in find_scans([archive])] == stamps
    zipped(tree / "PAT2", archive)
    assert stamp_of(find_scans([archive])[0].images) not in stamps


@pytest.mark.parametrize("name", ["../evil.nii.gz", "/etc/evil.nii.gz", "a/../../evil.nii.gz"])
def test_an_archive_that_would_write_elsewhere_is_refused(tree: Path, tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.write(tree / "PAT2" / "brain.nii.gz", "good.nii.gz")
        archive.writestr(zipfile.ZipInfo(name), (tree / "PAT2" / "brain.nii.gz").read_bytes())
    with pytest.raises(CorruptFileError, match="would lie outside the archive"):
        find_scans([tmp_path / "evil.zip"])
    assert not [*tmp_path.parent.rglob("evil.nii.gz")]


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxelry.formats.dicom.archive.FREE_BYTES", 1 << 20)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.nii", bytes(32 << 20))
    with pytest.raises(CorruptFileError, match="as a zip bomb does"):
        find_scans([tmp_path / "bomb.zip"])


def test_a_full_disk_is_told_before_anything_is_fetched(
    bucket: str, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = find_scans([bucket, zipped(tree / "PAT2", tmp_path / "more.zip")])
    monkeypatch.setattr("voxelry.cohort.scratch_folder.shutil.disk_usage", lambda _: SimpleNamespace(free=3))
    for scan in (scans[0], scans[-1]):
        with pytest.raises(ReadError, match=r"bytes do not fit on the disk .* 3 left.*TMPDIR"), FetchedScan(scan):
            pass


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.7z"])
def test_other_archives_are_refused_with_a_remedy(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(UnsupportedFormatError, match=r"only zip archives are opened.*Unpack it"):
        find_scans([tmp_path / name])


def test_a_protocol_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(VoxelryError, match="gopher://host/a: 'gopher' is no kind of URL"):
        find_scans(["gopher://me:SECRET@host/a?x=SECRET"])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that nobody trained."""
    saved = save_model(tiny_model(tiny_plan(3), SIDED), tmp_path_factory.mktemp("tiny") / "model")
    assert saved.path is not None
    return saved.path


@pytest.mark.slow
def test_a_run_over_an_archive_and_urls_is_one_over_files(
    model: Path, tree: Path, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))  # of the workers
    here = vx.predict(model, [tree / "PAT1", tree / "PAT2" / "brain.nii.gz"], tmp_path / "here", workers=0)
    places = [
        zipped(tree / "PAT1", tmp_path / "PAT1.zip"),
        f"{server}/PAT2/brain.nii.gz?token=SECRET",
        f"{server}/no.nii.gz?x=SECRET",
    ]
    (tmp_path / "places.txt").write_text("\n".join(map(str, places[1:])))
    inputs = [places[0], tmp_path / "places.txt"]
    out = tmp_path / "out"
    outcomes = vx.predict(model, inputs, out, workers=1)
    assert [outcome.id for outcome in outcomes] == ["SER1", "SER2_2", "SER2_3", "brain", "no"]
    assert [bool(outcome.error) for outcome in outcomes] == [False, False, False, False, True]
    assert outcomes[-1].error.startswith(f"{server}/no.nii.gz: nothing is there")
    for outcome in here:
        name = f"{outcome.id}.nii.gz"
        assert (out / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    assert [outcome.is_earlier for outcome in vx.predict(model, inputs, out, workers=0)] == [True] * 4 + [False]
    for file in out.rglob("*"):
        if file.is_file():
            assert b"SECRET" not in file.read_bytes()
            assert str(tmp_path / "scratch").encode() not in file.read_bytes()


def test_masks_are_not_written_to_a_url(model: Path, tree: Path) -> None:
    with pytest.raises(UsageError, match=r"s3://bucket/out: masks are written into a folder.*Copy"):
        vx.predict(model, tree, "s3://me:SECRET@bucket/out?x=SECRET")
