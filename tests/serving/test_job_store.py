"""Jobs: followed, cancelled, resumed after a restart, deleted."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import requests

import voxelry
from helpers.running_server import running
from voxelry.cohort.ledger import Ledger
from voxelry.errors import UsageError

SECONDS = 120
KILLED = int(os.environ.get("VOXELRY_KILLED_JOBS", "12"))


def post(server, body, **query):
    return requests.post(f"{server.url}/jobs", params=query, data=body, timeout=SECONDS)


def get(server, path):
    return requests.get(server.url + path, timeout=SECONDS)


def ended(server, job):
    """The state of a job that has ended."""
    end = time.monotonic() + SECONDS
    while (state := get(server, job["url"]).json())["state"] in ("waiting", "running"):
        assert time.monotonic() < end
        time.sleep(0.01)
    return state


def zipped(*folders):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for folder in folders:
            for file in folder.rglob("*.dcm"):
                archive.write(file, f"{folder.name}/{file.name}")
    return content.getvalue()


@pytest.fixture(scope="module")
def scans(torso):
    return sorted((torso / "images").iterdir())


@pytest.fixture(scope="module")
def job(server, volume_model, scans):
    """A job that is done."""
    response = post(server, zipped(scans[0]), model=volume_model)
    assert (response.status_code, response.headers["Location"]) == (202, response.json()["url"])
    return ended(server, response.json())


def test_a_job_ends_with_what_the_model_predicts(server, models, volume_model, scans, job, tmp_path):
    assert (job["state"], job["progress"], job["error"]) == ("done", 1.0, "")
    volume = voxelry.read(scans[0])
    expected = models[volume_model].predictor.predict(volume)
    assert tuple(job["flags"]) == expected.flags
    answer = get(server, f"{job['url']}/answer").json()
    assert {row["label"] for row in answer} == {name for name in expected.labels.table.names if expected.labels.mask(name).any()}
    assert {row["name"] for row in job["formats"]} >= {"nifti", "dicom-seg", "rtstruct", "dicom-sr", "seg-nrrd", "stl"}
    for name, ending in (("nifti", ".nii.gz"), ("dicom-seg", ".seg.dcm"), ("seg-nrrd", ".seg.nrrd")):
        file = tmp_path / f"labels{ending}"
        file.write_bytes(get(server, f"{job['url']}/files/{name}").content)
        labels = voxelry.read_labels(file, expected.labels.table).on_grid(volume.geometry)
        assert all(np.array_equal(labels.mask(label), expected.labels.mask(label)) for label in expected.labels.table.names)


def test_measurements_come_as_json(server, models, volume_model, scans, job):
    volume = voxelry.read(scans[0])
    labels = models[volume_model].predictor.predict(volume).labels
    rows = {row["label"]: row for row in get(server, f"{job['url']}/measurements").json()}
    assert set(rows) == set(labels.table.names)
    for name in labels.table.names:
        inside = labels.mask(name)
        assert rows[name]["voxels"] == np.count_nonzero(inside)
        assert rows[name]["volume_mm3"] == pytest.approx(np.count_nonzero(inside) * volume.geometry.voxel_volume)
        if inside.any():
            assert rows[name]["intensity"]["mean"] == pytest.approx(volume.array[0][inside].mean(dtype=float))
            places = np.argwhere(inside)
            assert rows[name]["box"] == [*places.min(axis=0), *(places.max(axis=0) + 1)]
        else:
            assert rows[name]["box"] is rows[name]["axes"] is rows[name]["intensity"] is None
    assert get(server, f"{job['url']}/measurements").json() == list(rows.values())


def test_formats_of_several_files_come_as_an_archive(server, job):
    with zipfile.ZipFile(io.BytesIO(get(server, f"{job['url']}/files/dicom-sr").content)) as archive:
        assert sorted(archive.namelist()) == ["labels.seg.dcm", "labels.sr.dcm"]
    response = get(server, f"{job['url']}/files/stl")
    assert response.headers["content-disposition"] == 'attachment; filename="labels.zip"'
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert all(name.endswith(".stl") for name in archive.namelist())


def test_slices_are_drawn_and_others_are_refused(server, job):
    from PIL import Image

    for plane, row in job["planes"].items():
        for index in {0, row["fullest"], row["slices"] - 1}:
            picture = np.asarray(Image.open(io.BytesIO(get(server, f"{job['url']}/slices/{plane}/{index}").content)))
            assert max(picture.shape[:2]) == 768
        assert (picture.max(axis=2) != picture.min(axis=2)).any() or row["slices"] > 1
        assert get(server, f"{job['url']}/slices/{plane}/{row['slices']}").status_code == 422
    assert get(server, f"{job['url']}/slices/oblique/0").status_code == 422
    assert get(server, f"{job['url']}/slices/axial/first").status_code == 422


def test_several_series_are_listed_and_one_can_be_chosen(server, volume_model, scans):
    body = zipped(*scans[:2])
    failed = ended(server, post(server, body, model=volume_model).json())
    assert failed["state"] == "failed"
    assert len(failed["choices"]) == 2
    assert "/jobs/" not in failed["error"]
    chosen = ended(server, post(server, body, model=volume_model, series=failed["choices"][1]).json())
    assert chosen["state"] == "done"
    assert get(server, f"{chosen['url']}/files/nifti").status_code == 200


def test_a_job_that_waits_or_runs_is_cancelled_and_one_that_ended_is_deleted(server, picture):
    go = threading.Event()
    server.application.queue.submit("held", lambda _: go.wait())
    waiting = post(server, picture.read_bytes()).json()
    assert waiting["state"] == "waiting"
    assert get(server, f"{waiting['url']}/answer").status_code == 409
    assert requests.delete(server.url + waiting["url"], timeout=SECONDS).json()["state"] == "cancelled"
    go.set()
    assert get(server, waiting["url"]).json()["state"] == "cancelled"
    done = ended(server, post(server, picture.read_bytes()).json())
    folder = server.application.jobs.folder(done["id"])
    assert folder.is_dir()
    assert requests.delete(server.url + done["url"], timeout=SECONDS).status_code == 200
    assert get(server, done["url"]).status_code == 404
    assert not folder.exists()


def test_a_running_job_stops_at_its_next_patch(models, volume_model, scans, tmp_path, monkeypatch):
    with running(models, tmp_path) as server:
        predict, started, go = models[volume_model].predictor.predict, threading.Event(), threading.Event()

        def slow(volume, progress, _):
            started.set()
            assert go.wait(SECONDS)
            return predict(volume, progress)

        monkeypatch.setattr(models[volume_model].predictor, "predict", slow)
        job = post(server, zipped(scans[0]), model=volume_model).json()
        assert started.wait(SECONDS)
        requests.delete(server.url + job["url"], timeout=SECONDS)
        go.set()
        assert ended(server, job)["state"] == "cancelled"


def test_jobs_that_wait_at_the_end_are_done_after_a_restart(models, picture, tmp_path):
    with running(models, tmp_path) as server:
        go = threading.Event()
        server.application.queue.submit("held", lambda _: go.wait())
        jobs = [post(server, picture.read_bytes()).json() for _ in range(3)]
        threading.Timer(0.2, go.set).start()
    with running(models, tmp_path) as server:
        assert [ended(server, job)["state"] for job in jobs] == ["done"] * 3
        answers = [get(server, f"{job['url']}/answer").json() for job in jobs]
        assert answers[0] == answers[1] == answers[2] != []


def test_a_job_that_ended_the_server_twice_is_reported(models, picture, tmp_path):
    with running(models, tmp_path) as server:
        done = ended(server, post(server, picture.read_bytes()).json())
    with Ledger(tmp_path) as ledger:
        case = ledger.case(done["id"])
        ledger.put(
            [replace(case, id="twice", state="running", attempt=2), replace(case, id="gone", request="livers", state="ready")]
        )
    with running(models, tmp_path) as server:
        states = {id: ended(server, {"url": f"/jobs/{id}"}) for id in ("twice", "gone", done["id"])}
    assert "ended twice" in states["twice"]["error"]
    assert "no longer served" in states["gone"]["error"]
    assert states[done["id"]]["state"] == "done"


def test_too_many_waiting_jobs_are_refused_and_old_results_deleted(models, picture, tmp_path):
    with running(models, tmp_path, jobs=1, keep=0.0) as server:
        go = threading.Event()
        server.application.queue.submit("held", lambda _: go.wait())
        first = post(server, picture.read_bytes()).json()
        refused = post(server, picture.read_bytes())
        assert (refused.status_code, int(refused.headers["Retry-After"]) > 0) == (429, True)
        assert list(tmp_path.glob("incoming/*")) == []
        go.set()
        ended(server, first)
        assert post(server, picture.read_bytes()).status_code == 202
        assert get(server, first["url"]).status_code == 404


def test_two_servers_do_not_share_a_folder(models, tmp_path):
    with running(models, tmp_path), pytest.raises(UsageError, match="another server"), running(models, tmp_path):
        pass


@pytest.mark.slow
def test_no_job_is_lost_or_done_twice_by_a_kill(lungs, picture, models, tmp_path):
    code = "import sys; from voxelry.cli.main import main; sys.argv = sys.argv[1:]; main()"
    options = ["serve", str(lungs), "--port", "0", "--jobs", str(tmp_path), "--device", "cpu"]
    line = [sys.executable, "-c", code, "voxelry", *options]
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    url = process.stderr.readline().split()[2].rstrip(";")
    jobs = [requests.post(f"{url}/jobs", data=picture.read_bytes(), timeout=SECONDS).json() for _ in range(KILLED)]
    os.kill(process.pid, signal.SIGKILL)
    process.wait(SECONDS)
    process.stderr.close()
    with running(models, tmp_path) as server:
        states = [ended(server, job) for job in jobs]
    assert {state["state"] for state in states} == {"done"}
    with Ledger(tmp_path) as ledger:
        assert sorted(case.id for case in ledger.cases()) == sorted(job["id"] for job in jobs)
        assert {case.attempt for case in ledger.cases()} <= {1, 2}
    assert sorted(answer.parent.name for answer in tmp_path.glob("jobs/*/answer.json")) == sorted(job["id"] for job in jobs)


def test_the_folder_of_a_job_holds_its_scan(server, job, scans):
    assert Path(server.application.jobs.folder(job["id"]) / "scan").read_bytes() == zipped(scans[0])
