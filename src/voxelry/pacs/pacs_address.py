"""Where an archive answers: the base URL of its DICOMweb services, or AE title, host and port; and who asks, with what keys."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from voxelry.errors import UsageError

DIMSE_PORT, DIMSE_TLS_PORT = 104, 2762
"""The ports that IANA keeps for DICOM."""
_DIMSE, _DIMSE_TLS = "dicom", "dicom-tls"
_WEB = ("http", "https")
_AE_TITLE = re.compile(r"[ -\[\]-~]{1,16}")
"""PS3.5: sixteen characters of the basic repertoire without the backslash."""
_FORMS = "Use https://HOST/dicom-web, dicom://AE_TITLE@HOST:PORT, or dicom-tls:// where the connection is encrypted."


@dataclass(frozen=True)
class WebAddress:
    """An archive's DICOMweb services.

    Attributes:
        url: their base, without credentials and without a slash at its end.
        user, password: for HTTP's basic authentication; empty where there is none.
    """

    url: str
    user: str = ""
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class DimseAddress:
    """An archive that speaks DIMSE.

    Attributes:
        ae_title: its AE title.
        host, port: where it listens.
        is_encrypted: by TLS.
    """

    ae_title: str
    host: str
    port: int = DIMSE_PORT
    is_encrypted: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{_DIMSE_TLS if self.is_encrypted else _DIMSE}://{self.ae_title}@{host}:{self.port}"


PacsAddress = WebAddress | DimseAddress


@dataclass(frozen=True)
class PacsCaller:
    """Who asks an archive.

    Attributes:
        ae_title: our own AE title, for DIMSE.
        token: bearer token, for DICOMweb.
        certificate, key: PEM files by which we say who we are where TLS asks; the key may lie in the certificate's file.
        authority: PEM file of the authorities by whose word an archive is believed; None for those of the system.
        move_port: port at which we take instances that C-MOVE sends; None retrieves by C-GET.
    """

    ae_title: str = "VOXELRY"
    token: str | None = field(default=None, repr=False)
    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None
    move_port: int | None = None

    def tls(self) -> ssl.SSLContext:
        """What encrypts a connection to an archive, whose certificate and name are checked.

        Raises:
            UsageError: a PEM file cannot be used.
        """
        return tls_context(ssl.Purpose.SERVER_AUTH, self.certificate, self.key, self.authority)

    def receiving_tls(self) -> ssl.SSLContext:
        """What encrypts a connection that an archive makes to us, as C-MOVE does; where an authority is named, it is checked.

        Raises:
            UsageError: a PEM file cannot be used, or there is no certificate.
        """
        if self.certificate is None:
            raise UsageError("no certificate for the connection that C-MOVE makes", remedy="Give --certificate.")
        context = tls_context(ssl.Purpose.CLIENT_AUTH, self.certificate, self.key, self.authority)
        context.verify_mode = ssl.CERT_NONE if self.authority is None else ssl.CERT_REQUIRED
        return context


def tls_context(purpose: ssl.Purpose, certificate: Path | None, key: Path | None, authority: Path | None) -> ssl.SSLContext:
    """A context of TLS 1.2 or newer.

    Args:
        purpose: whom it checks: a server, or clients.
        certificate: our own, None for none.
        key: its key; None where it lies in the same file.
        authority: who vouches for the other side.

    Raises:
        UsageError: a PEM file cannot be used.
    """
    try:
        context = ssl.create_default_context(purpose, cafile=None if authority is None else str(authority))
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except OSError as error:  # SSLError is one
        files = ", ".join(str(file) for file in (certificate, key, authority) if file is not None)
        raise UsageError(
            f"{files}: cannot be used for TLS ({error.strerror or error})", remedy="Give PEM files that belong together."
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def parse_address(text: str) -> PacsAddress:
    """An archive's address as people write it.

    Args:
        text: ``https://host/dicom-web``, ``dicom://AE_TITLE@host:port`` or ``dicom-tls://...``.

    Raises:
        UsageError: it is none.

    Example:
        >>> str(parse_address("dicom://ORTHANC@127.0.0.1:4242"))
        'dicom://ORTHANC@127.0.0.1:4242'
        >>> parse_address("https://me:secret@pacs.example/dicom-web/").url
        'https://pacs.example/dicom-web'
    """
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if not host or parts.query or parts.fragment:
        raise _no_address(text)
    if parts.scheme in _WEB:
        url = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
        return WebAddress(url, unquote(parts.username or ""), unquote(parts.password or ""))
    if parts.scheme not in (_DIMSE, _DIMSE_TLS) or not parts.username or parts.password or parts.path.strip("/"):
        raise _no_address(text)
    is_encrypted = parts.scheme == _DIMSE_TLS
    title = check_ae_title(unquote(parts.username))
    return DimseAddress(title, host, port or (DIMSE_TLS_PORT if is_encrypted else DIMSE_PORT), is_encrypted)


def check_ae_title(title: str) -> str:
    """An AE title that the standard allows, without the blanks around it.

    Raises:
        UsageError: it is none.
    """
    if not title.strip() or not _AE_TITLE.fullmatch(title):
        raise UsageError(f"{title!r} is no AE title", remedy="Use 1 to 16 letters, digits, blanks and signs, no backslash.")
    return title.strip()


def _no_address(text: str) -> UsageError:
    shown = f"{text.partition('://')[0]}://..." if "@" in text else text
    return UsageError(f"{shown!r} is no address of an archive", remedy=_FORMS)
