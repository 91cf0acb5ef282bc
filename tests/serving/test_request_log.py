"""What a server says of its requests: enough to follow each, and nothing of a patient."""

import io
import json
import logging
import re
import time

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from helpers.running_server import running
from voxelry.serving.request_log import JsonLines

SECONDS = 60
PATIENT = "DOE-JANE-19700101"


def until(condition):
    """A line is written when the answer is on its way."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def lines():
    """What is logged, as `voxelry serve` logs it."""
    stream, logger = io.StringIO(), logging.getLogger("voxelry")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    serving = logging.getLogger("voxelry.serving")
    logger.addHandler(handler)
    serving.setLevel(logging.INFO)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger.removeHandler(handler)
    serving.setLevel(logging.NOTSET)


def test_each_request_has_a_line_and_a_number(server, picture, lines):
    body = picture.read_bytes()
    answer = requests.post(f"{server.url}/models/lungs", data=body, timeout=SECONDS)
    given = requests.get(f"{server.url}/info", headers={"X-Request-Id": "mine"}, timeout=SECONDS)
    job = requests.post(f"{server.url}/jobs", data=body, timeout=SECONDS).json()
    until(lambda: len(lines()) >= 3)
    rows = [line for line in lines() if line["message"] == "request"]
    assert [row["request"] for row in rows[:2]] == [each.headers["X-Request-Id"] for each in (answer, given)]
    assert all(re.fullmatch("[0-9a-f]{16}", row["request"]) for row in rows)
    first = rows[0]
    assert (first["method"], first["route"], first["status"], first["received"]) == ("POST", "/models/{model}", 200, len(body))
    assert first["sent"] == len(answer.content)
    assert (first["client"], rows[2]["job"]) == ("127.0.0.1", job["id"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["time"])


def test_nothing_of_a_patient_is_logged(server, volume_model, torso, tmp_path, lines):
    """Names in addresses, queries, headers and files, of requests that go well and that fail."""
    from pydicom import dcmread

    source = min(min((torso / "images").iterdir()).rglob("*.dcm"))
    data = dcmread(source)
    data.PatientName, data.PatientID = PATIENT, PATIENT
    data.Rows = 7  # so that reading fails
    data.save_as(tmp_path / f"{PATIENT}.dcm")
    body = (tmp_path / f"{PATIENT}.dcm").read_bytes()
    for url in (
        f"models/{volume_model}",
        f"models/{PATIENT}",
        f"jobs/{PATIENT}",
        f"{PATIENT}?name={PATIENT}",
        f"?series={PATIENT}",
    ):
        requests.post(f"{server.url}/{url}", data=body, headers={"X-Patient": PATIENT, "X-Request-Id": PATIENT}, timeout=SECONDS)
        requests.get(f"{server.url}/{url}", timeout=SECONDS)
    until(lambda: len(lines()) >= 10)
    text = json.dumps(lines())
    assert text.count('"message": "request"') == 10
    assert PATIENT not in text


def test_an_exception_is_logged_without_its_words(lines):
    try:
        raise ValueError(PATIENT)
    except ValueError:
        logging.getLogger("voxelry.serving.any").exception("it failed")
    (line,) = lines()
    assert (line["exception"], PATIENT in json.dumps(line)) == ("ValueError", False)
    assert "test_request_log.py" in line["places"]


def test_prometheus_reads_counts(models, picture, tmp_path):
    with running(models, tmp_path) as server:
        for _ in range(3):
            requests.post(server.url, data=picture.read_bytes(), timeout=SECONDS)
        requests.post(server.url, data=b"", timeout=SECONDS)
        requests.request("PROPFIND", f"{server.url}/x/{PATIENT}", timeout=SECONDS)
        answer = requests.get(f"{server.url}/metrics", timeout=SECONDS)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = [sample for family in text_string_to_metric_families(answer.text) for sample in family.samples]
    requests_of = {tuple(s.labels.values()): s.value for s in samples if s.name == "voxelry_requests_total"}
    assert requests_of == {("POST", "/", "200"): 3, ("POST", "/", "400"): 1, ("other", "none", "404"): 1}
    values = {sample.name: sample.value for sample in samples if not sample.labels}
    assert values["voxelry_received_bytes_total"] == 3 * len(picture.read_bytes())
    assert values["process_resident_memory_bytes"] > 2**20
    assert PATIENT not in answer.text


def test_ready_is_refused_while_the_server_ends_and_where_the_disk_is_full(models, tmp_path, monkeypatch):
    with running(models, tmp_path) as server:
        ask = lambda: requests.get(f"{server.url}/ready", timeout=SECONDS)  # noqa: E731
        assert (ask().status_code, ask().json()) == (200, {"status": "ready"})
        with monkeypatch.context() as patched:
            patched.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
            assert ask().status_code == 503
        server.application.queue.close()
        assert (ask().status_code, ask().json()["status"]) == (503, "shutting down")


def test_floods_of_one_client_are_refused(models, tmp_path):
    with running(models, tmp_path, rate=0.1, burst=3) as server:
        answers = [requests.get(f"{server.url}/info", timeout=SECONDS) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
        assert int(answers[-1].headers["Retry-After"]) >= 1
        assert requests.get(f"{server.url}/health", timeout=SECONDS).status_code == 200
