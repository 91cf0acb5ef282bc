"""Addresses of archives, and TLS."""

import ssl

import pytest

from voxelry.errors import UsageError
from voxelry.pacs.pacs_address import DimseAddress, PacsCaller, WebAddress, check_ae_title, parse_address, tls_context


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("dicom://ORTHANC@127.0.0.1:4242", DimseAddress("ORTHANC", "127.0.0.1", 4242)),
        ("dicom://MY%20PACS@pacs.example", DimseAddress("MY PACS", "pacs.example", 104)),
        ("dicom-tls://PACS@[::1]", DimseAddress("PACS", "::1", 2762, True)),
        ("http://127.0.0.1:8042/dicom-web/", WebAddress("http://127.0.0.1:8042/dicom-web")),
        ("https://a%40b:c%3Ad@host/x", WebAddress("https://host/x", "a@b", "c:d")),
    ],
)
def test_an_address_is_parsed_and_shown_without_secrets(text, address):
    assert parse_address(text) == address
    if isinstance(address, DimseAddress):
        assert parse_address(str(address).replace(" ", "%20")) == address
    else:
        assert "c:d" not in str(address) + repr(address)


@pytest.mark.parametrize(
    "text",
    [
        "pacs:104", "dicom://pacs:104", "dicom://A@h:x", "dicom://A:b@h", "dicom://A@h/x", "ftp://A@h", "https://", "https://h?x=1",
        "dicom://TITLE_OF_17_CHARS@h", "dicom://A@h:70000", "",
    ],
)  # fmt: skip
def test_anything_else_is_refused(text):
    with pytest.raises(UsageError):
        parse_address(text)


def test_a_secret_is_not_shown_in_a_refusal():
    with pytest.raises(UsageError) as caught:
        parse_address("dicom://A:secret@h")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("title", ["", " ", "A\\B", "Ä", "A\n", "X" * 17])
def test_an_ae_title_has_the_letters_of_the_standard(title):
    with pytest.raises(UsageError):
        check_ae_title(title)
    assert check_ae_title("  A B ") == "A B"


def test_files_that_are_no_certificates_are_named(tmp_path):
    file = tmp_path / "no.pem"
    file.write_text("nothing")
    for caller in (PacsCaller(certificate=file), PacsCaller(authority=file), PacsCaller(authority=tmp_path / "lost.pem")):
        with pytest.raises(UsageError, match=r"\.pem"):
            caller.tls()
    with pytest.raises(UsageError, match="certificate"):
        PacsCaller().receiving_tls()
    assert tls_context(ssl.Purpose.SERVER_AUTH, None, None, None).verify_mode is ssl.CERT_REQUIRED
