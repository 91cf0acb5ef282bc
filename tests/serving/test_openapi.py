"""Requests that schemathesis makes of the OpenAPI document, right and wrong ones: none is a fault of the server."""

import json
import os

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

EXAMPLES = int(os.environ.get("VOXELRY_SCHEMATHESIS", "60"))
SECONDS = 60
ROUTES = {
    ("POST", "/"), ("POST", "/models/{model}"), ("GET", "/health"), ("GET", "/info"), ("GET", "/models/{model}/health"),
    ("GET", "/models/{model}/info"), ("POST", "/jobs"), ("GET", "/jobs/{job}"), ("DELETE", "/jobs/{job}"),
    ("GET", "/jobs/{job}/answer"), ("GET", "/jobs/{job}/measurements"), ("GET", "/jobs/{job}/files/{format}"),
    ("GET", "/jobs/{job}/slices/{plane}/{index}"),
    ("GET", "/ready"), ("GET", "/metrics"),
}  # fmt: skip


@pytest.fixture(scope="module")
def operations(server):
    """The operations of the document, by method and path."""
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    every = [result.ok() for result in schema.get_all_operations()]
    return {(each.method.upper(), each.path): each for each in every}


@pytest.fixture(scope="module")
def done(server, picture):
    """The name of a job that is done."""
    job = requests.post(f"{server.url}/jobs", data=picture.read_bytes(), timeout=SECONDS).json()["id"]
    while requests.get(f"{server.url}/jobs/{job}", timeout=SECONDS).json()["state"] != "done":
        pass
    return job


def test_the_document_names_every_address(operations):
    assert set(operations) == ROUTES


def test_no_request_of_the_document_is_a_fault_of_the_server(server, operations, done, picture):
    statuses = set()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=EXAMPLES == 60,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def ask(data):
        key = data.draw(st.sampled_from(sorted(operations)))
        mode = data.draw(st.sampled_from([GenerationMode.POSITIVE, GenerationMode.NEGATIVE]))
        case = data.draw(operations[key].as_strategy(mode))
        if "job" in (case.path_parameters or {}) and key[0] == "GET" and data.draw(st.booleans()):
            case.path_parameters["job"] = done
        if "model" in (case.path_parameters or {}) and data.draw(st.booleans()):
            case.path_parameters["model"] = "lungs"
        response = case.call(timeout=SECONDS)
        statuses.add(response.status_code)
        assert response.status_code < 500, (key, case.as_curl_command(), response.text)
        assert "Traceback" not in response.text
        if response.status_code >= 400 and response.headers.get("content-type") == ["application/json"]:
            assert json.loads(response.text)["error"]

    ask()
    assert {200, 404} <= statuses
    assert statuses & {400, 415, 422}
    assert list(server.application.jobs.folder("").parent.glob("incoming/*")) == []
