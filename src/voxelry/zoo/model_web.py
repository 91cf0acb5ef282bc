"""A model at an HTTP(S) URL: one zip file, fetched with a limit and compared with its SHA-256, or sent by PUT.

The SHA-256 is the fragment of the URL, ``https://host/model.zip#sha256=...``, as pip writes it, and is never sent. User and
password of a URL become basic authentication. What is secret in a URL is shown nowhere.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import re
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import Request, urlopen

from voxelry.base.version import version
from voxelry.cohort.remote_files import public_url, without_secrets
from voxelry.errors import ModelError, UsageError
from voxelry.zoo.model_files import LARGEST_MODEL

_SECONDS = 60
"""Longest silence of a server."""

_CHUNK = 1 << 20
_FRAGMENT = re.compile(r"sha256=([0-9a-fA-F]{64})")
_LONGEST = 200

_AS_WRITTEN = "/%:@!$&'()*+,;=~?"
"""Characters of a path or query that stay as they are; letters beyond ASCII are escaped."""

_FAILURES = (HTTPError, URLError, http.client.HTTPException, TimeoutError, ConnectionError, UnicodeError, ValueError)
"""What a server, the way to it, or a host that cannot be one ends in."""


def is_web(text: str) -> bool:
    """A text is an HTTP(S) URL."""
    return text.lower().startswith(("http://", "https://"))


def fetch_archive(url: str, target: Path) -> str:
    """Fetch the file of a URL.

    Args:
        url: with ``#sha256=`` and 64 hexadecimal digits.
        target: the file to write.

    Returns:
        Its SHA-256.

    Raises:
        UsageError: the URL states no SHA-256.
        ModelError: the server refuses or fails, sends more than a model, or what came has another SHA-256.
    """
    where = public_url(url)
    stated = _FRAGMENT.fullmatch(urlsplit(url).fragment)
    if stated is None:
        raise UsageError(
            f"{where}: no SHA-256 to compare with", remedy=f"Add it, as 'voxelry models push' printed it: {where}#sha256=..."
        )
    digest = hashlib.sha256()
    try:
        with urlopen(_request(url, "GET"), timeout=_SECONDS) as answer, target.open("wb") as sink:
            taken = 0
            while chunk := answer.read(_CHUNK):
                taken += len(chunk)
                if taken > LARGEST_MODEL:
                    raise ModelError(f"{where}: sends more than {LARGEST_MODEL} bytes", remedy="Is it a model?")
                digest.update(chunk)
                sink.write(chunk)
    except _FAILURES as error:
        raise _failure(where, error) from None
    if digest.hexdigest() != stated[1].lower():
        raise ModelError(
            f"{where}: has the SHA-256 {digest.hexdigest()}, not {stated[1].lower()}",
            remedy="It was changed, or not wholly sent: ask for the SHA-256 again, and do not trust it if it differs.",
        )
    return digest.hexdigest()


def send_archive(archive: Path, url: str) -> None:
    """Send a file to a URL by PUT, as object stores with signed URLs and WebDAV servers take it.

    Args:
        archive: the file.
        url: where to.

    Raises:
        ModelError: the server refuses or fails.
    """
    where = public_url(url)
    try:
        with archive.open("rb") as content:
            urlopen(_request(url, "PUT", content, archive.stat().st_size), timeout=_SECONDS).close()
    except _FAILURES as error:
        raise _failure(where, error) from None


def _request(url: str, method: str, content: IO[bytes] | None = None, size: int = 0) -> Request:
    parts = urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    path, query = (quote(text, safe=_AS_WRITTEN) for text in (parts.path or "/", parts.query))
    request = Request(urlunsplit((parts.scheme, host, path, query, "")), data=content, method=method)
    request.add_header("User-Agent", f"voxelry/{version()}")
    if login:
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(unquote(login).encode()).decode()}")
    if content is not None:
        request.add_header("Content-Type", "application/zip")
        request.add_header("Content-Length", str(size))
    return request


def _failure(where: str, error: Exception) -> ModelError:
    """What a server or the way to it says."""
    if isinstance(error, HTTPError):
        reason = f"{error.code} {error.reason}"
        error.close()
    else:
        reason = str(getattr(error, "reason", "") or error or type(error).__name__)
    text = " ".join(without_secrets(reason).split())[:_LONGEST]
    return ModelError(f"{where}: {text}", remedy="Check the URL, that you may use it, and the connection.")
