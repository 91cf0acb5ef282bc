"""The DICOM node: series pushed in come back as segmentations, whatever the order, the sender and the restarts."""

import gc
import socket
import struct
import threading
import time
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest
import requests
from pydicom import Dataset, dcmread

import voxelry
from helpers.certificates import certificate
from helpers.ct_copies import copies, push, referenced
from helpers.dimse_peer import peer
from helpers.orthanc import AE_TITLE, CALLERS, PORT
from helpers.running_server import running
from voxelry.cohort.ledger import Ledger
from voxelry.errors import PacsError
from voxelry.pacs.dimse import DimsePacs
from voxelry.pacs.pacs_address import PacsCaller, parse_address
from voxelry.pacs.pacs_records import SeriesRecord
from voxelry.serving.dicom_node import DicomNode
from voxelry.serving.node_settings import NodeSettings
from voxelry.serving.series_inbox import SeriesKey
from voxelry.serving.served_archives import ServedArchives

SECONDS = 120
SEG = "1.2.840.10008.5.1.4.1.1.66.4"

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@pytest.fixture(autouse=True)
def _collected():
    """Connections that pynetdicom leaves to the collector are collected while the warning is off."""
    yield
    gc.collect()


class Receiver:
    """An archive that keeps what it is sent; `status` is what it answers."""

    def __init__(self):
        self.objects: list[Dataset] = []
        self.status = 0x0000
        self._change = threading.Condition()

    def store(self, event):
        data = dcmread(event.dataset_path)
        with self._change:
            if self.status == 0x0000:
                self.objects.append(data)
            self._change.notify_all()
        return self.status

    def wait(self, count):
        """Until it has some objects."""
        with self._change:
            assert self._change.wait_for(lambda: len(self.objects) >= count, SECONDS), len(self.objects)
        return self.objects


@pytest.fixture
def receiver():
    """An archive, and its address."""
    kept = Receiver()
    with peer(kept.store, classes=(SEG,)) as address:
        kept.address = address
        yield kept


def settings(model, to, **changes):
    route = {"modality": "CT", "model": model, "to": to, **changes.pop("route", {})}
    callers = [{"ae_title": "SENDER", "address": "127.0.0.0/8"}, {"ae_title": "VOXELRY", "address": "127.0.0.1"}]
    return NodeSettings(**{"ae_title": "NODE", "port": 0, "callers": callers, "quiet": 0.2, "routes": [route], **changes})


@contextmanager
def node(models, folder, given, **limits):
    """A server with a node; `address` is that of the node."""
    with running(models, folder, archives=ServedArchives(given), **limits) as server:
        scheme = "dicom" if given.tls is None else "dicom-tls"
        server.address = f"{scheme}://NODE@127.0.0.1:{server.application.node.port}"
        yield server


@pytest.fixture
def series(torso):
    """The folder of a series of 12 slices."""
    return sorted((torso / "images").iterdir())[0]


def test_series_pushed_at_once_and_interleaved_come_back_each_on_its_own(models, volume_model, series, receiver, tmp_path):
    pushed = copies(series, tmp_path / "push", 12)
    with node(models, tmp_path / "jobs", settings(volume_model, receiver.address, quiet=1)) as server:
        statuses = push(server.address, [file for files in pushed.values() for file in files], 4)
        assert statuses == [0] * sum(map(len, pushed.values()))
        objects = receiver.wait(12)
    assert sorted(referenced(seg)[0] for seg in objects) == sorted(pushed)
    expected = models[volume_model].predictor.predict(voxelry.read(series)).labels
    for seg in objects:
        headers = [dcmread(file, stop_before_pixels=True) for file in pushed[referenced(seg)[0]]]
        assert referenced(seg)[1] <= {header.SOPInstanceUID for header in headers}
        assert (seg.StudyInstanceUID, seg.PatientID) == (headers[0].StudyInstanceUID, headers[0].PatientID)
        assert seg.FrameOfReferenceUID == headers[0].FrameOfReferenceUID
    file = tmp_path / "seg.dcm"
    objects[0].save_as(file, enforce_file_format=True)
    labels = voxelry.read_labels(file, expected.table).on_grid(expected.geometry)
    assert all(np.array_equal(labels.mask(name), expected.mask(name)) for name in expected.table.names)
    with Ledger(tmp_path / "jobs") as ledger:
        assert [case.details["returned"]["state"] for case in ledger.cases()] == ["sent"] * 12
    assert not list((tmp_path / "jobs" / "node").rglob("*.dcm"))


def test_who_is_not_on_the_list_is_refused(models, volume_model, series, receiver, tmp_path):
    files = sorted(series.iterdir())
    given = settings(volume_model, receiver.address, callers=[{"ae_title": "SENDER", "address": "127.0.0.1"}])
    with node(models, tmp_path / "own", given) as server:
        DimsePacs(parse_address(server.address), PacsCaller("SENDER")).echo()
        for title, address in (("OTHER", server.address), ("SENDER", server.address.replace("NODE@", "NODES@"))):
            with pytest.raises(PacsError, match="refuses the connection"):
                voxelry.send(files, address, ae_title=title)
    strangers = [{"ae_title": "SENDER", "address": "10.0.0.1"}, {"ae_title": "VOXELRY", "address": "127.0.0.1"}]
    with node(models, tmp_path / "other", settings(volume_model, receiver.address, callers=strangers)) as server:
        with pytest.raises(PacsError):
            voxelry.send(files, server.address, ae_title="SENDER")
        far = [{"ae_title": "SENDER", "address": "10.0.0.0/8"}]
    with (
        node(models, tmp_path / "far", settings(volume_model, receiver.address, callers=far)) as server,
        pytest.raises(PacsError, match="cannot be reached"),
    ):
        voxelry.send(files, server.address, ae_title="SENDER")
    assert receiver.objects == []


def test_what_no_route_takes_is_refused(models, volume_model, series, receiver, tmp_path):
    [files] = copies(series, tmp_path / "push", 1).values()
    text = tmp_path / "other.dcm"
    data = dcmread(files[0])
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    data.Modality = "MR"
    data.save_as(text, enforce_file_format=True)
    with node(models, tmp_path / "jobs", settings(volume_model, receiver.address, quiet=60)) as server:
        sent = voxelry.send([text, *files[:2]], server.address)
    assert [each.outcome for each in sent] == ["refused", "stored", "stored"]
    assert "no route" in sent[0].reason


def test_a_restart_loses_no_series(models, volume_model, series, receiver, tmp_path):
    pushed = copies(series, tmp_path / "push", 2)
    with node(models, tmp_path / "jobs", settings(volume_model, receiver.address, quiet=600)) as server:
        push(server.address, [file for files in pushed.values() for file in files], 2)
    assert receiver.objects == []
    receiver.status = 0xA700
    with node(models, tmp_path / "jobs", settings(volume_model, receiver.address)) as server:
        wait_for(lambda: sum(job_states(server).values()) == 2 and job_states(server).get("done") == 2)
    assert receiver.objects == []
    receiver.status = 0x0000
    with node(models, tmp_path / "jobs", settings(volume_model, receiver.address)):
        objects = receiver.wait(2)
    assert sorted(referenced(seg)[0] for seg in objects) == sorted(pushed)
    with Ledger(tmp_path / "jobs") as ledger:
        assert [case.details["returned"]["state"] for case in ledger.cases()] == ["sent"] * 2


def job_states(server):
    counts: dict[str, int] = {}
    for id in server.application.jobs.details("returned"):
        state = server.application.jobs.state(id).state
        counts[state] = counts.get(state, 0) + 1
    return counts


def wait_for(condition, seconds=SECONDS):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_series_made_a_job_just_before_a_crash_is_not_one_twice(models, volume_model, series, receiver, tmp_path):
    [files] = copies(series, tmp_path / "push", 1).values()
    given = settings(volume_model, receiver.address)
    with node(models, tmp_path / "jobs", given) as server:
        voxelry.send(files, server.address)
        receiver.wait(1)
        [told] = server.application.jobs.details("returned").values()
    place = tmp_path / "jobs" / "node" / "released" / told["token"] / told["key"]
    place.mkdir(parents=True)
    (place / "1.2.3.dcm").write_bytes(files[0].read_bytes())
    with node(models, tmp_path / "jobs", given) as server:
        wait_for(lambda: not place.exists())
        assert len(server.application.jobs.details("returned")) == 1


def test_late_slices_join_their_series(models, volume_model, series, receiver, tmp_path):
    [files] = copies(series, tmp_path / "push", 1).values()
    with node(models, tmp_path / "jobs", settings(volume_model, receiver.address)) as server:
        voxelry.send(files[:7], server.address)
        receiver.wait(1)
        voxelry.send(files[7:], server.address)
        first, second = receiver.wait(2)
        frames = [len({tuple(each) for each in planes(seg)}) for seg in (first, second)]
    assert frames[0] <= 7 < frames[1] <= 12


def planes(seg):
    return [item.PlanePositionSequence[0].ImagePositionPatient for item in seg.PerFrameFunctionalGroupsSequence]


def test_a_series_that_counts_more_than_came_is_reported_and_one_that_is_whole_does_not_wait(
    models, volume_model, series, receiver, tmp_path
):
    pushed = list(copies(series, tmp_path / "push", 2).values())
    for file in [file for files in pushed for file in files]:
        data = dcmread(file)
        data.NumberOfSeriesRelatedInstances = 12
        data.save_as(file, enforce_file_format=True)
    with node(models, tmp_path / "short", settings(volume_model, receiver.address)) as server:
        voxelry.send(pushed[0][:-1], server.address)
        wait_for(lambda: job_states(server).get("failed") == 1)
        [id] = server.application.jobs.details("returned")
        assert "11 of 12 instances" in server.application.jobs.state(id).error
    with node(models, tmp_path / "whole", settings(volume_model, receiver.address, quiet=600)) as server:
        voxelry.send(pushed[1], server.address)
        receiver.wait(1)


class Counting:
    """An archive that answers, or fails, about a series."""

    def __init__(self, answer):
        self.answer = answer

    def find_series(self, keys):
        assert keys == {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3"}
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def find_instances(self, record):
        return dict.fromkeys("abcde", record.modality)


@pytest.mark.parametrize(
    ("answer", "count"),
    [([], None), ([SeriesRecord("1.2", "1.3", count=12)], 12), ([SeriesRecord("1.2", "1.3")], 5),
     ([SeriesRecord("1.2", "1.9", count=12)], None), (PacsError("it is down"), None), (ValueError("JSON"), None)],
)  # fmt: skip
def test_an_archive_counts_a_series_or_nobody_does(monkeypatch, answer, count):
    monkeypatch.setattr("voxelry.serving.dicom_node.connect", lambda *_: Counting(answer))
    node = DicomNode.__new__(DicomNode)
    node._settings, node._caller = settings("any", "dicom://A@b:104", archive="https://pacs.example/dicom-web"), None
    assert node._count(SeriesKey("1.2", "1.3")) == count


class Archive:
    """An archive that holds 12 instances of any series, or cannot be reached."""

    def __init__(self, is_there):
        self.is_there, self.asked = is_there, threading.Event()

    def find_series(self, keys):
        self.asked.set()
        if not self.is_there:
            raise PacsError("the archive cannot be reached")
        return [SeriesRecord(keys["StudyInstanceUID"], keys["SeriesInstanceUID"], count=12)]


@pytest.mark.parametrize("is_there", [True, False])
def test_a_series_waits_for_what_an_archive_has_more_of(is_there, models, volume_model, series, receiver, tmp_path, monkeypatch):
    archive = Archive(is_there)
    monkeypatch.setattr("voxelry.serving.dicom_node.connect", lambda *_: archive)
    given = settings(volume_model, receiver.address, archive="https://pacs.example/dicom-web")
    files = sorted(series.iterdir())
    with node(models, tmp_path / "jobs", given) as server:
        voxelry.send(files[:7], server.address)
        assert archive.asked.wait(SECONDS)  # it asks when nothing more seems to come
        if is_there:
            voxelry.send(files[7:], server.address)
        receiver.wait(1)
        [id] = server.application.jobs.details("returned")
        with zipfile.ZipFile(server.application.jobs.folder(id) / "scan") as scan:
            assert len(scan.namelist()) == (12 if is_there else 7)


def test_hostile_bytes_end_their_own_connection_alone(models, volume_model, series, receiver, tmp_path, monkeypatch):
    monkeypatch.setattr("voxelry.serving.node_listener._SILENCE", 2.0)
    files = sorted(series.iterdir())
    with node(models, tmp_path / "jobs", settings(volume_model, receiver.address, quiet=60), upload=200_000) as server:
        place = ("127.0.0.1", server.application.node.port)
        for content in (
            b"GET / HTTP/1.1\r\n\r\n",
            struct.pack(">BBL", 1, 0, 2**32 - 1),
            struct.pack(">BBL", 4, 0, 8) + b"\xff" * 8,
        ):
            with socket.create_connection(place, timeout=SECONDS) as connection:
                connection.sendall(content)
                assert drained(connection)
        large = tmp_path / "large.dcm"
        data = dcmread(files[0])
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
        data.Rows = data.Columns = 512
        data.PixelData = bytes(2 * 512 * 512)
        data.save_as(large, enforce_file_format=True)
        assert [each.outcome for each in voxelry.send([large, files[0]], server.address)] == ["refused"] * 2
        assert voxelry.send(files[:1], server.address)[0].outcome == "stored"
        DimsePacs(parse_address(server.address), PacsCaller()).echo()


def drained(connection):
    """It is closed by the other side, whatever came before."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True


def test_a_full_inbox_is_said_to_the_sender(models, volume_model, series, receiver, tmp_path):
    files = sorted(series.iterdir())
    most = files[0].stat().st_size * 3
    with node(models, tmp_path / "jobs", settings(volume_model, receiver.address, quiet=60), collected=most) as server:
        sent = voxelry.send(files[:6], server.address)
    assert [each.outcome for each in sent][-3:] == ["refused"] * 3
    assert "0xA700" in sent[-1].reason
    assert sent[0].outcome == "stored"


def test_tls_asks_for_certificates_and_one_silent_caller_holds_up_nobody(models, volume_model, series, receiver, tmp_path):
    authority = certificate(tmp_path, "authority")
    own, caller = certificate(tmp_path, "node", authority), certificate(tmp_path, "caller", authority)
    stranger = certificate(tmp_path, "stranger")
    given = settings(volume_model, receiver.address, quiet=60, tls={"certificate": own, "authority": authority})
    files = sorted(series.iterdir())[:2]
    with node(models, tmp_path / "jobs", given) as server:
        with socket.create_connection(("127.0.0.1", server.application.node.port)):
            sent = voxelry.send(files, server.address, certificate=caller, authority=authority)
            assert [each.outcome for each in sent] == ["stored"] * 2
            with pytest.raises(PacsError):
                voxelry.send(files, server.address, certificate=stranger, authority=authority)
        with pytest.raises(PacsError):
            voxelry.send(files, server.address.replace("dicom-tls", "dicom"))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["dimse", "web"])
def test_orthanc_pushes_a_scan_in_and_gets_report_and_segmentation_back(way, archive, models, volume_model, series, tmp_path):
    [(uid, files)] = copies(series, tmp_path / "push", 1).items()
    study = str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)
    given = settings(
        volume_model,
        getattr(archive, way),
        port=CALLERS["NODE"],
        callers=[{"ae_title": AE_TITLE, "address": "127.0.0.1"}],
        route={"formats": ("dicom-sr", "rtstruct")},
    )
    with archive.inside(), node(models, tmp_path / "jobs", given):
        assert {each.outcome for each in voxelry.send(files, archive.dimse)} == {"stored"}
        rest = f"http://127.0.0.1:{PORT}"
        [found] = requests.post(f"{rest}/tools/lookup", data=uid, timeout=SECONDS).json()
        requests.post(f"{rest}/modalities/node/store", data=found["ID"], timeout=SECONDS).raise_for_status()
        wait_for(lambda: len(archive.known(study)) == len(files) + 3, 2 * SECONDS)  # the first report compiles its loops
        results = voxelry.fetch(archive.web, tmp_path / "back", study=study)
    assert [each.error for each in results] == [""] * 4
    objects = {file.stem: dcmread(file, stop_before_pixels=True) for each in results for file in each.files}
    made = {data.Modality: data for data in objects.values() if data.Modality != "CT"}
    assert sorted(made) == ["RTSTRUCT", "SEG", "SR"]
    assert referenced(made["SEG"])[0] == uid
    for data in made.values():
        named = {str(item.value) for item in data.iterall() if item.keyword == "ReferencedSOPInstanceUID"}
        assert len(named) > 1
        assert named - {study} <= set(objects)
    assert made["SEG"].SOPInstanceUID in str(made["SR"])
