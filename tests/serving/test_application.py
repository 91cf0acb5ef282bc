"""The contract as real clients speak it, and what they get where something is wrong."""

import base64
import gzip
import io
import json
import re
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from PIL import Image

import voxelry
from helpers.running_server import running
from serving.conftest import TABLE, untrained
from voxelry.adapters import segmentation_answer
from voxelry.inference import shared_passes
from voxelry.recipes.settings import PlanSettings
from voxelry.serving.device_queue import DeviceQueue
from voxelry.serving.served_model import load_served
from voxelry.zoo.model_names import find_model

TOKEN = "a-token-of-many-characters"
SECONDS = 60


def masks_of(answer):
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(row["mask"], validate=True)))) for row in answer]


def post(url, body, **options):
    return requests.post(url, data=body, timeout=SECONDS, **options)


@pytest.fixture(scope="module")
def expected(models, picture):
    """What the model says about the X-ray without any server."""
    return models["lungs"].predictor.predict(voxelry.read(picture))


@pytest.mark.parametrize("form", ["bytes", "path", "Path"])
@pytest.mark.parametrize("task", [None, "semantic", "instance", "panoptic"])
def test_the_hugging_face_client_gets_what_the_model_predicts(server, picture, expected, form, task):
    image = {"bytes": picture.read_bytes(), "path": str(picture), "Path": picture}[form]
    elements = InferenceClient().image_segmentation(image, model=f"{server.url}/models/lungs", subtask=task)
    wanted = segmentation_answer(expected, task or "semantic")
    assert len(elements) == len(wanted) > 0
    for element, row in zip(elements, wanted, strict=True):
        assert (element.label, element.score) == (row["label"], row["score"])
        assert (element.mask.mode, element.mask.size[::-1]) == ("L", expected.labels.geometry.shape)
        assert np.array_equal(np.asarray(element.mask), np.asarray(row["mask"]))


def test_thresholds_of_the_client_are_applied(server, picture, expected):
    parameters = {"subtask": "instance", "threshold": 0.2, "mask_threshold": 0.3, "overlap_mask_area_threshold": 0.5}
    elements = InferenceClient().image_segmentation(picture, model=server.url, **parameters)
    wanted = segmentation_answer(expected, **parameters)
    assert [element.label for element in elements] == [row["label"] for row in wanted]
    assert all(np.array_equal(np.asarray(e.mask), np.asarray(row["mask"])) for e, row in zip(elements, wanted, strict=True))
    nothing = InferenceClient().image_segmentation(picture, model=server.url, threshold=1.0)
    assert nothing == []


def test_probes_of_the_client_are_answered(server, models):
    client = InferenceClient(provider="hf-inference")
    for url in (server.url, f"{server.url}/models/lungs"):
        assert client.health_check(model=url)
        assert client.get_endpoint_info(model=url)["model_id"] == "lungs"
    assert [row["id"] for row in client.get_endpoint_info(model=server.url)["models"]] == list(models)


def test_the_snippet_with_a_bearer_token_and_a_file_body(models, picture, tmp_path):
    with running(models, tmp_path, TOKEN) as server:
        with picture.open("rb") as file:
            response = requests.post(
                f"{server.url}/models/lungs", headers={"Authorization": f"Bearer {TOKEN}"}, data=file, timeout=SECONDS
            )
        assert response.status_code == 200
        assert {"label", "score", "mask", "instance_id", "code", "box"} <= set(response.json()[0])
        answer = InferenceClient(token=TOKEN).image_segmentation(picture, model=server.url)
        assert [row.label for row in answer] == [row["label"] for row in response.json()]
        for headers in ({}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": TOKEN}, {"Authorization": "Basic x"}):
            refused = post(server.url, picture.read_bytes(), headers=headers)
            assert refused.status_code == 401
            assert "bearer token" in refused.json()["error"]
        assert requests.get(f"{server.url}/health", timeout=SECONDS).status_code == 200
        assert requests.get(f"{server.url}/info", timeout=SECONDS).status_code == 401
        with pytest.raises(HfHubHTTPError, match="401"):
            InferenceClient(token="another").image_segmentation(picture, model=server.url)


def test_extra_keys_say_which_object_where_and_what(server, picture):
    answer = post(server.url, picture.read_bytes()).json()
    for row, mask in zip(answer, masks_of(answer), strict=True):
        top, left, bottom, right = row["box"]
        rows, columns = np.nonzero(mask)
        assert (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1) == (top, left, bottom, right)
        assert row["code"] is None or {"value", "scheme", "meaning"} <= set(row["code"])
    body = json.dumps({"inputs": base64.b64encode(picture.read_bytes()).decode(), "parameters": {"subtask": "instance"}})
    objects = post(server.url, body).json()  # no content type: the body itself says that it is JSON
    assert [row["instance_id"] for row in objects] == list(range(1, len(objects) + 1))


@pytest.mark.parametrize("form", ["nifti", "dicom"])
def test_a_volume_is_answered_by_its_fullest_slices_and_a_link(server, models, volume_model, torso, tmp_path, form):
    if form == "nifti":
        source = voxelry.write(voxelry.read(sorted((torso / "images").iterdir())[0]), tmp_path / "scan.nii.gz")
        body = source.read_bytes()
    else:
        source = sorted((torso / "images").iterdir())[0]
        body = zipped(source)
    volume = voxelry.read(source)
    wanted = segmentation_answer(models[volume_model].predictor.predict(volume), "semantic")
    answer = post(f"{server.url}/models/{volume_model}", body).json()
    assert [row["label"] for row in answer] == [row["label"] for row in wanted]
    for row, mask, whole in zip(answer, masks_of(answer), wanted, strict=True):
        areas = np.count_nonzero(whole["mask"], axis=(0, 1))
        assert areas[row["slice"]] == areas.max() > 0
        assert np.array_equal(mask, whole["mask"][:, :, row["slice"]].T)
    assert len({row["volume"] for row in answer}) == 1
    linked = tmp_path / "linked.nii.gz"
    linked.write_bytes(requests.get(server.url + answer[0]["volume"], timeout=SECONDS).content)
    labels = voxelry.read_labels(linked)
    assert labels.geometry.same_grid(volume.geometry)
    for row, whole in zip(answer, wanted, strict=True):
        assert np.array_equal(labels.mask(row["label"]), whole["mask"] > 0)


def zipped(folder):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for file in folder.rglob("*.dcm"):
            archive.write(file, file.name)
    return content.getvalue()


BAD = {
    "nothing": (b"", 400, "empty"),
    "noise": (bytes(range(256)) * 4, 415, "no image format"),
    "half a picture": ("half", 422, "the scan"),
    "a PDF": (b"%PDF-1.4", 415, "PDF"),
    "JSON that breaks off": (b'{"inputs": ', 400, "not JSON"),
    "JSON without inputs": (b"{}", 400, "inputs"),
    "no base64": (b'{"inputs": "?"}', 400, "base64"),
    "an unknown task": (b'{"inputs": "AAAA", "parameters": {"subtask": "all"}}', 400, "subtask"),
    "a threshold out of range": (b'{"inputs": "AAAA", "parameters": {"threshold": 7}}', 400, "threshold"),
    "a list of parameters": (b'{"inputs": "AAAA", "parameters": [1]}', 400, "mapping"),
    "an archive cut off": (b"PK\x03\x04" + b"x" * 100, 422, "zip archive"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_body_is_refused_with_the_reason(server, picture, case):
    body, status, reason = BAD[case]
    response = post(server.url, picture.read_bytes()[:-400] if body == "half" else body)
    assert response.status_code == status, response.text
    assert reason in response.json()["error"]
    assert "/tmp" not in response.text
    assert list(server.application.jobs._folder.glob("incoming/*")) == []


def test_unknown_parameters_are_left_alone_as_hugging_face_does(server, picture):
    body = {"inputs": base64.b64encode(picture.read_bytes()).decode(), "parameters": {"wait_for_model": True}}
    assert requests.post(server.url, json=body, timeout=SECONDS).status_code == 200


def test_a_model_of_colours_takes_a_grey_picture(picture, tmp_path):
    with running(load_served([find_model("nuclei")], "cpu"), tmp_path) as server:
        answered = post(server.url, picture.read_bytes())
    assert answered.status_code == 200, answered.text
    assert {segment["label"] for segment in answered.json()} <= {"nucleus"}


def test_a_picture_with_other_channels_and_unknown_addresses_are_refused(server, volume_model, picture):
    assert post(f"{server.url}/models/{volume_model}", picture.read_bytes()).status_code == 422
    unknown = post(f"{server.url}/models/livers", picture.read_bytes())
    assert (unknown.status_code, "lungs" in unknown.json()["error"]) == (404, True)
    assert requests.get(f"{server.url}/jobs/../../etc/passwd", timeout=SECONDS).status_code == 404
    assert requests.get(f"{server.url}/web/index.html.bak", timeout=SECONDS).status_code == 404


def bomb_png(side):
    """A PNG of zeros, whose header is all that may be read."""
    content = io.BytesIO()
    Image.new("1", (side, side)).save(content, "PNG")
    return content.getvalue()


def bomb_nifti(shape):
    header = bytearray(352)
    header[0:4] = (348).to_bytes(4, "little")
    header[40:56] = np.array([3, *shape, 1, 1, 1, 1], "<i2").tobytes()
    header[70:74] = np.array([4, 16], "<i2").tobytes()
    header[76:108] = np.ones(8, "<f4").tobytes()
    header[108:112] = np.array(352, "<f4").tobytes()
    header[252:256] = np.array([1, 0], "<i2").tobytes()
    header[344:348] = b"n+1\0"
    return gzip.compress(bytes(header) + bytes(10 * 2**20))


def bomb_zip(size):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.dcm", bytes(size))
    return content.getvalue()


@pytest.mark.parametrize(
    "body", [bomb_png(9000), bomb_nifti((2048, 2048, 2048)), bomb_zip(40 * 2**20)], ids=["png", "nifti", "zip"]
)
def test_bombs_are_refused_by_their_headers(models, body, tmp_path):
    with running(models, tmp_path, unpacked=30 * 2**20) as server:
        response = post(server.url, body)
    assert response.status_code in (415, 422), response.text
    assert re.search("more than|the header promises", response.json()["error"])


def test_a_body_beyond_the_limit_is_refused_whether_or_not_it_says_its_length(models, picture, tmp_path):
    with running(models, tmp_path, upload=200, json=100) as server:
        assert post(server.url, picture.read_bytes()).status_code == 413
        assert post(server.url, iter([b"x" * 150, b"x" * 150])).status_code == 413
        assert post(server.url, b'{"inputs": "' + b"A" * 100 + b'"}').status_code == 413


def test_a_page_of_another_origin_or_name_is_refused(server, picture):
    body = picture.read_bytes()
    assert post(server.url, body, headers={"Origin": "http://evil.example"}).status_code == 403
    assert post(server.url, body, headers={"Host": "evil.example"}).status_code == 403
    assert post(server.url, body, headers={"Origin": server.url}).status_code == 200


class Held:
    """A model whose scans wait until they are let go."""

    def __init__(self, queue: DeviceQueue) -> None:
        self.release = threading.Event()
        queue.submit("held", lambda _: self.release.wait())


def test_more_requests_than_places_are_told_to_come_again(models, picture, tmp_path):
    with running(models, tmp_path, waiting=3) as server, ThreadPoolExecutor(3) as pool:
        held = Held(server.application.queue)
        waiting = [pool.submit(post, server.url, picture.read_bytes()) for _ in range(3)]
        until(lambda: server.application.queue.length == 4)
        refused = post(server.url, picture.read_bytes())
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) >= 1
        held.release.set()
        assert [response.result().status_code for response in waiting] == [200] * 3
        assert post(server.url, picture.read_bytes()).status_code == 200


@pytest.fixture(scope="module")
def small(picture, tmp_path_factory):
    """A model that sees a whole X-ray in one patch, loaded."""
    settings = PlanSettings(patch_size=(32, 32), long_side=32, features=(4, 8))
    folder = untrained(tmp_path_factory.mktemp("models") / "small", voxelry.read(picture), TABLE, "X-ray", settings)
    return load_served([folder], "cpu")


def test_small_pictures_that_wait_share_a_pass_and_get_the_same_answers(small, pictures, tmp_path, monkeypatch):
    sizes, grant = [], shared_passes._grant
    monkeypatch.setattr(shared_passes, "_grant", lambda wishes: (sizes.append(len(wishes)), grant(wishes)))
    bodies = [image.read_bytes() for image in pictures] * 2
    bodies.append(bodies[0][: len(bodies[0]) // 2])  # it takes its turn with others, and fails alone
    with running(small, tmp_path, together=3) as server, ThreadPoolExecutor(len(bodies)) as pool:
        alone = [post(server.url, body) for body in bodies]
        assert sizes == []
        held = Held(server.application.queue)
        answers = [pool.submit(post, server.url, body) for body in bodies]
        until(lambda: server.application.queue.length == len(bodies) + 1)
        held.release.set()
        for answer, expected in zip(answers, alone, strict=True):
            assert answer.result().status_code == expected.status_code
            if expected.status_code == 200:
                rows, wanted = answer.result().json(), expected.json()
                assert [{**row, "mask": ""} for row in rows] == [{**row, "mask": ""} for row in wanted]
                assert all(map(np.array_equal, masks_of(rows), masks_of(wanted)))
    assert [response.status_code for response in alone] == [200] * 8 + [422]
    assert sorted(sizes) == [2, 3, 3]


def test_what_is_small_is_told_by_the_header(small, models, pictures, torso, tmp_path):
    [model] = small.values()
    assert all(model.is_small(image) for image in pictures)
    wide = tmp_path / "wide.png"
    Image.new("L", (2100, 2100)).save(wide)
    (tmp_path / "cut.png").write_bytes(pictures[0].read_bytes()[:20])
    slices = sorted(sorted((torso / "images").iterdir())[0].iterdir())
    assert not any(model.is_small(file) for file in (wide, tmp_path / "cut.png", slices[0]))
    assert not list(models.values())[1].is_small(pictures[0])  # a model of volumes


def test_on_shutdown_what_runs_is_finished_and_what_waits_is_turned_away(models, picture, tmp_path):
    with ThreadPoolExecutor(2) as pool, running(models, tmp_path) as server:
        queue = server.application.queue
        run, begun = queue._next, []

        def held_next():
            work = run()
            if work and not begun:
                begun.append(work)
                until(lambda: queue._is_closed)  # the first request runs while the server is told to end
            return work

        queue._next = held_next
        queue.submit("wake", lambda _: None).result(SECONDS)
        begun.clear()
        first = pool.submit(post, server.url, picture.read_bytes())
        until(lambda: begun)
        second = pool.submit(post, server.url, picture.read_bytes())
        until(lambda: queue._inside == 2 and sum(map(len, queue._waiting.values())) == 1)
        server.stop()
        assert first.result().status_code == 200
        assert second.result().status_code == 503
        assert int(second.result().headers["Retry-After"]) > 0


def until(condition):
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
