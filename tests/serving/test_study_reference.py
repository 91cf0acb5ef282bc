"""Jobs that name a study of a DICOMweb archive: fetched from where the server may, and from nowhere else."""

import json
import time

import numpy as np
import pytest
import requests
from pydicom import dcmread

import voxelry
from helpers.running_server import running
from helpers.web_services import dicomweb_of, services
from voxelry.errors import PacsError, UnsupportedFormatError, UsageError
from voxelry.serving.serve_limits import ServeLimits
from voxelry.serving.served_archives import ServedArchives
from voxelry.serving.study_reference import StudyFetcher, StudyReference

SECONDS = 120


def ended(server, job):
    """The state of a job that has ended."""
    end = time.monotonic() + SECONDS
    while (state := requests.get(server.url + job["url"], timeout=SECONDS).json())["state"] in ("waiting", "running"):
        assert time.monotonic() < end
        time.sleep(0.02)
    return state


@pytest.fixture
def files(torso):
    """The files of a series."""
    return sorted(sorted((torso / "images").iterdir())[0].iterdir())


@pytest.fixture
def reference(files):
    """UIDs of its study and series."""
    data = dcmread(files[0], stop_before_pixels=True)
    return {"study": str(data.StudyInstanceUID), "series": str(data.SeriesInstanceUID)}


def test_a_study_is_fetched_and_segmented(models, volume_model, files, reference, tmp_path):
    with services(dicomweb_of(files)) as (url, asked):
        archives = ServedArchives(web=(url.replace("://", "://me:pass@"),))
        with running(models, tmp_path, archives=archives) as server:
            jobs = []
            for body in (reference, {"study": reference["study"]}, {**reference, "series": "1.2.3"}):
                content = json.dumps({"dicomweb": f"{url}/", **body})
                response = requests.post(f"{server.url}/jobs?model={volume_model}", data=content, timeout=SECONDS)
                assert response.status_code == 202
                jobs.append(ended(server, response.json()))
            assert [job["state"] for job in jobs] == ["done", "done", "failed"]
            assert "no such study or series" in jobs[2]["error"]
            mask = tmp_path / "labels.nii.gz"
            mask.write_bytes(requests.get(f"{server.url}{jobs[0]['url']}/files/nifti", timeout=SECONDS).content)
    assert all(authorization.startswith("Basic ") for _, _, authorization in asked)
    expected = models[volume_model].predictor.predict(voxelry.read(files[0].parent)).labels
    labels = voxelry.read_labels(mask, expected.table)
    assert all(np.array_equal(labels.mask(name), expected.mask(name)) for name in expected.table.names)
    assert b"pass" not in b"".join(file.read_bytes() for file in tmp_path.glob("*.sqlite*"))


def test_only_named_services_are_asked(models, reference, tmp_path):
    with services(lambda *_: (200, "text/plain", b"secret")) as (url, asked), running(models, tmp_path) as server:
        for place in (url, url.replace("127.0.0.1", "localhost"), "file:///etc/passwd", "http://169.254.169.254/latest", ""):
            content = json.dumps({"dicomweb": place, **reference})
            for address in ("/jobs", "/"):
                response = requests.post(server.url + address, data=content, timeout=SECONDS)
                assert response.status_code in (400, 422)
                assert "secret" not in response.text
        for wrong in ({"study": "../x"}, {"study": "1.2", "series": "1/2"}, {}, {**reference, "more": 1}):
            response = requests.post(f"{server.url}/jobs", data=json.dumps({"dicomweb": url, **wrong}), timeout=SECONDS)
            assert response.status_code == 400
    assert asked == []


def test_redirections_other_prefixes_and_too_much_are_refused(files, reference, tmp_path):
    with (
        services(lambda *_: (200, "text/plain", b"secret")) as (elsewhere, asked),
        services(lambda *_: (302, "text/plain", b"", ("Location", elsewhere))) as (moved, _),
        services(dicomweb_of(files)) as (url, _),
    ):
        fetcher = StudyFetcher(ServedArchives(web=(moved, url)), ServeLimits(unpacked=1000))
        with pytest.raises(PacsError, match="redirects"):
            fetcher.fetch(StudyReference(dicomweb=moved, **reference), tmp_path / "scan")
        for place in (f"{url}/../admin", f"{url}x", url.replace("http", "https"), url.replace("://", "://a@")):
            with pytest.raises(UsageError, match="asks no DICOMweb services"):
                fetcher.fetch(StudyReference(dicomweb=place, **reference), tmp_path / "scan")
        with pytest.raises(UnsupportedFormatError, match="1000 bytes"):
            fetcher.fetch(StudyReference(dicomweb=url, **reference), tmp_path / "scan")
    assert (asked, list(tmp_path.iterdir())) == ([], [])
