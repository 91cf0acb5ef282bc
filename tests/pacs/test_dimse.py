"""DIMSE with a peer that answers as it likes: every status is checked."""

import gc
import shutil
import ssl

import pynetdicom
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ImplicitVRLittleEndian

import voxelry
from helpers.certificates import certificate
from helpers.command import refused, run, run_json
from helpers.dimse_peer import TITLE, peer
from helpers.sources import volume
from voxelry.errors import PacsError, UsageError
from voxelry.pacs.dimse import DimsePacs
from voxelry.pacs.pacs_address import DimseAddress, PacsCaller, parse_address, tls_context

pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning"
)  # pynetdicom leaves failed connections to the collector


@pytest.fixture(autouse=True)
def _collected():
    """Those connections are collected while the warning is off."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of CT slices."""
    return [*map(str, volume("axial", tmp_path_factory.mktemp("scan")).source.files)][:4]


def test_every_status_is_checked(files):
    comment = Dataset()
    comment.Status, comment.ErrorComment = 0xA701, "the disk is full"
    statuses = iter([0x0000, 0xB000, comment, 0x0124])
    with peer(lambda _: next(statuses)) as address:
        sent = voxelry.send(files, address)
    assert [each.outcome for each in sent] == ["stored", "warned", "refused", "refused"]
    assert "Coercion" in sent[1].reason
    assert "0xA701" in sent[2].reason
    assert "the disk is full" in sent[2].reason
    assert [each.uid for each in sent] == [dcmread(file).SOPInstanceUID for file in files]


def test_a_peer_that_hangs_up_refuses_what_is_left(files, monkeypatch):
    monkeypatch.setattr("voxelry.pacs.dimse._SECONDS", 2)
    answers = []

    def answer(event):
        answers.append(event)
        if len(answers) == 2:
            event.assoc.abort()
        return 0x0000

    with peer(answer) as address:
        sent = voxelry.send(files, address)
    assert [each.outcome for each in sent] == ["stored", "refused", "refused", "refused"]
    assert "hung up" in sent[1].reason
    assert all("ended the connection" in each.reason for each in sent[2:])  # it is not waited for once more


def test_what_is_no_dicom_is_refused_and_the_rest_is_sent(files, tmp_path):
    text = tmp_path / "text.dcm"
    text.write_text("these are words")
    with peer(lambda _: 0x0000) as address:
        sent = voxelry.send([files[0], text, files[1]], address)
    assert [each.outcome for each in sent] == ["stored", "refused", "stored"]
    assert "DICOM" in sent[1].reason


def test_a_class_or_encoding_that_is_not_taken_is_refused(files, tmp_path):
    compressed = tmp_path / "compressed.dcm"
    data = dcmread(files[0])
    data.compress("1.2.840.10008.1.2.5", generate_instance_uid=False)
    data.save_as(compressed, enforce_file_format=True)
    received = []

    def answer(event):
        received.append(dcmread(event.dataset_path))
        return 0x0000

    with peer(answer, syntaxes=[ImplicitVRLittleEndian]) as address:
        sent = voxelry.send([files[0], compressed], address)
    assert [each.outcome for each in sent] == ["stored", "refused"]
    assert received == [dcmread(files[0])]
    assert received[0].file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert "1.2.840.10008.1.2.5" in sent[1].reason
    with peer(answer, classes=["1.2.840.10008.5.1.4.1.1.4"]) as address, pytest.raises(PacsError, match="no service"):
        voxelry.send(files, address)


def test_the_command_names_what_was_refused_and_ends_with_1(files):
    statuses = iter([0x0000, 0xA701, 0xB000, 0x0000, 0x0000])
    with peer(lambda _: next(statuses)) as address:
        result = run("send", *files[:3], address)
        assert result.exit_code == 1
        assert "1 instances stored, 1 with a warning, 1 refused" in result.output
        assert [file in result.stderr for file in files[:3]] == [False, True, True]
        assert run_json("send", *files[:2], address)["stored"] == 2
    refused(run("send", files[0], "pacs:104"), "no address of an archive")
    refused(run("fetch", "dicom://A@127.0.0.1:1", "--modality", "CT"), "which series")


def test_nobody_there_and_a_wrong_title_are_errors(files):
    with peer(lambda _: 0x0000) as address:
        DimsePacs(parse_address(address), PacsCaller()).echo()
        with pytest.raises(PacsError, match="refuses the connection"):
            voxelry.send(files, address.replace(TITLE, "OTHER"))
    with pytest.raises(PacsError, match="cannot be reached"):
        voxelry.send(files, address)
    with pytest.raises(PacsError, match="cannot be reached"):
        voxelry.fetch(address, study="1.2.3")


def test_a_failed_query_is_an_error():
    entity = pynetdicom.AE("FINDER")
    entity.add_supported_context("1.2.840.10008.5.1.4.1.2.2.1")

    def answer(_):
        yield 0xA700, None

    handlers = [(pynetdicom.evt.EVT_C_FIND, answer)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        with pytest.raises(PacsError, match="refuses the query: status 0xA700"):
            voxelry.fetch(f"dicom://FINDER@127.0.0.1:{server.server_address[1]}", study="1.2.3")
    finally:
        server.shutdown()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates")
def test_tls_checks_both_sides(files, tmp_path):
    authority = certificate(tmp_path, "authority")
    server, client, stranger = (
        certificate(tmp_path, name, issuer) for name, issuer in (("server", authority), ("client", authority), ("stranger", None))
    )
    context = tls_context(ssl.Purpose.CLIENT_AUTH, server, None, authority)
    context.verify_mode = ssl.CERT_REQUIRED
    with peer(lambda _: 0x0000, context=context) as address:
        assert voxelry.send(files[:1], address, certificate=client, authority=authority)[0].outcome == "stored"
        for keys in ({"certificate": stranger, "authority": authority}, {"authority": authority}, {"certificate": client}):
            with pytest.raises(PacsError):
                voxelry.send(files[:1], address, **keys)
    with pytest.raises(UsageError, match="no certificate"):
        DimsePacs(DimseAddress("A", "127.0.0.1", 1, True), PacsCaller(move_port=1))._move(Dataset(), [], [])
