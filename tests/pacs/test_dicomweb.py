"""DICOMweb services that answer wrongly: only what an archive says that it stored is, and nothing is followed elsewhere."""

import json
from io import BytesIO

import pytest
from pydicom import dcmread

import voxelry
from helpers.sources import volume
from helpers.web_services import JSON, services
from voxelry.errors import PacsError


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of CT slices."""
    return [*map(str, volume("axial", tmp_path_factory.mktemp("scan")).source.files)][:5]


def uid_in(body):
    start = body.index(b"\r\n\r\n") + 4
    return str(dcmread(BytesIO(body[start:]), stop_before_pixels=True).SOPInstanceUID)


def told(name, uid, **more):
    item = {"00081155": {"vr": "UI", "Value": [uid]}, **more}
    return json.dumps({name: {"vr": "SQ", "Value": [item]}}).encode()


def test_only_what_is_said_to_be_stored_is(files):
    warning = {"00081196": {"vr": "US", "Value": [0xB000]}}
    failure = {"00081197": {"vr": "US", "Value": [0xA700]}}
    answers = iter(
        [
            lambda uid: (200, JSON, told("00081199", uid)),
            lambda uid: (202, JSON, told("00081199", uid, **warning)),
            lambda uid: (200, JSON, told("00081198", uid, **failure)),
            lambda uid: (409, JSON, told("00081198", uid, **failure)),
            lambda uid: (200, JSON, told("00081199", "1.2.3")),
        ]
    )
    with services(lambda method, path, body: next(answers)(uid_in(body))) as (url, requests):
        sent = voxelry.send(files, url, token="t0ken")
    assert [each.outcome for each in sent] == ["stored", "warned", "refused", "refused", "refused"]
    assert ["0xB000" in sent[1].reason, "0xA700" in sent[2].reason, "0xA700" in sent[3].reason] == [True] * 3
    assert "does not say" in sent[4].reason
    assert requests == [("POST", "/dicom-web/studies", "Bearer t0ken")] * 5


@pytest.mark.parametrize("answer", [(200, "text/html", b"<html>"), (500, "text/plain", b"no"), (200, JSON, b"[")])
def test_an_answer_that_is_none_is_a_refusal(answer, files):
    with services(lambda *_: answer) as (url, _):
        assert [each.outcome for each in voxelry.send(files[:2], url)] == ["refused"] * 2


def test_redirections_are_not_followed(files):
    with (
        services(lambda *_: (200, JSON, b"[]")) as (elsewhere, requests),
        services(lambda *_: (307, JSON, b"", ("Location", elsewhere))) as (url, _),
    ):
        assert [each.outcome for each in voxelry.send(files[:2], url)] == ["refused"] * 2
        with pytest.raises(PacsError, match="redirects"):
            voxelry.fetch(url, study="1.2.3")
        assert requests == []


def test_a_wrong_password_and_a_lost_archive_are_errors(files):
    with services(lambda *_: (401, "text/plain", b"")) as (url, requests):
        for call in (lambda: voxelry.send(files, url), lambda: voxelry.fetch(url.replace("://", "://me:pass@"), study="1.2.3")):
            with pytest.raises(PacsError, match="401") as caught:
                call()
            assert "pass@" not in str(caught.value)
    assert len(requests) == 2
    sent = voxelry.send(files[:2], url)
    assert [each.outcome for each in sent] == ["refused"] * 2
    assert "not sent" in sent[1].reason
    with pytest.raises(PacsError, match="cannot be queried"):
        voxelry.fetch(url, study="1.2.3")


@pytest.mark.parametrize(
    "answer", [(200, "text/html", b"<html>"), (404, JSON, b""), (200, JSON, b'{"a": 1}'), (200, JSON, b"[1]")]
)
def test_a_query_answered_by_anything_else_is_an_error(answer):
    with services(lambda *_: answer) as (url, _), pytest.raises(PacsError):
        voxelry.fetch(url, study="1.2.3")


def test_a_query_that_ignores_pages_ends():
    study = {"0020000D": {"vr": "UI", "Value": ["1.2.3"]}}
    series = {**study, "0020000E": {"vr": "UI", "Value": ["1.2.3.4"]}, "00201209": {"vr": "IS", "Value": [7]}}

    def answer(_, path, __):
        return 200, JSON, json.dumps([series if "/series" in path else study]).encode()

    with services(answer) as (url, requests):
        [result] = voxelry.fetch(url, study="1.2.3")
    assert (result.record.series, result.record.count) == ("1.2.3.4", 7)
    assert len(requests) == 4
