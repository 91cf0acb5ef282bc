"""Bodies that mean harm: none is taken for a scan that it is not, is a fault of the server, or leaves anything behind."""

import io
import json
import os
import random
import zipfile

import pytest
import requests

import voxelry

BODIES = int(os.environ.get("VOXELRY_HOSTILE", "240"))
SECONDS = 60


@pytest.fixture(scope="module")
def samples(picture, torso, tmp_path_factory):
    """Bytes of each kind of body that is taken."""
    folder = tmp_path_factory.mktemp("samples")
    scan = voxelry.read(sorted((torso / "images").iterdir())[0])
    nifti = voxelry.write(scan, folder / "scan.nii.gz").read_bytes()
    slices = sorted(sorted((torso / "images").iterdir())[0].rglob("*.dcm"))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
        for file in slices:
            writer.write(file, file.name)
    return [picture.read_bytes(), nifti, slices[0].read_bytes(), archive.getvalue(), b'{"inputs": "AAAA", "parameters": {}}']


def hostile(random_source, samples):
    """A body: noise, a sample cut off, with bytes changed, behind or before another one, or JSON without sense."""
    body, other = random_source.choice(samples), random_source.choice(samples)
    kind = random_source.randrange(7)
    if kind == 0:
        return random_source.randbytes(random_source.randrange(1, 4096))
    if kind == 1:
        return body[: random_source.randrange(1, len(body))]
    if kind == 2:
        changed = bytearray(body)
        for _ in range(random_source.randrange(1, 30)):
            changed[random_source.randrange(min(len(changed), 600))] = random_source.randrange(256)
        return bytes(changed)
    if kind == 3:
        return body[: random_source.randrange(1, 400)] + other
    if kind == 4:
        deep = random_source.choice([1, 100, 100_000])
        return b'{"inputs": ' + b"[" * deep + b"]" * deep + b"}"
    if kind == 5:
        values = [None, [], {}, "", "é", -1, 1e308, True, "\ud800", "data:,", "AAAA" * 1000]
        parameters = {name: random_source.choice(values) for name in ("subtask", "threshold", "mask_threshold")}
        return json.dumps({"inputs": random_source.choice(values), "parameters": parameters}).encode()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        for name in random_source.sample(["../../a.dcm", "/etc/a.dcm", "a.dcm", "b/c.zip", "C:\\a.dcm", ""], 3):
            writer.writestr(name or "d.dcm", body[: random_source.randrange(1, len(body))])
    return archive.getvalue()


def test_hostile_bodies_are_refused_and_none_is_a_fault(server, volume_model, samples):
    random_source = random.Random(0)
    taken = 0
    with requests.Session() as session:
        for number in range(BODIES):
            body = hostile(random_source, samples)
            url = f"{server.url}/models/{random_source.choice(['lungs', volume_model])}"
            response = session.post(url, data=body, timeout=SECONDS)
            assert response.status_code in (200, 400, 413, 415, 422), (number, response.status_code, response.text)
            if response.status_code == 200:
                assert isinstance(response.json(), list)
                taken += 1
            else:
                assert response.json()["error"]
                assert "Traceback" not in response.text
                assert str(server.application.jobs.folder("")) not in response.text
        assert session.get(f"{server.url}/health", timeout=SECONDS).status_code == 200
    assert taken < BODIES / 4  # what changed bytes left whole is a scan
    assert list(server.application.jobs.folder("").parent.glob("incoming/*")) == []
