"""Files at URLs, through fsspec: listed, their first bytes read, and fetched; and URLs without their secrets.

S3, Google Cloud Storage and Azure are served by obstore, which takes credentials, endpoint and region from the environment
(``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``...); HTTP by aiohttp; anything else by the file system that fsspec knows for it. A
URL may hold a secret: a password before ``@``, a token after ``?``. It is used, and shown or stored nowhere: `public_url`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from voxelry.base.extras import extra
from voxelry.base.urls import is_url
from voxelry.errors import MissingFileError, ReadError, UsageError, VoxelryError

_URL_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^\s'\"<>]+")
_STORES = frozenset({"s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss"})
"""Protocols that obstore serves."""

_WEB = ("http", "https")
_LONGEST = 200


@dataclass(frozen=True)
class RemoteFile:
    """A file below a URL.

    Attributes:
        name: its path from the URL; empty for the file of the URL itself.
        url: its own URL, with whatever secret the whole has.
        size: bytes; None where the server does not say.
        version: what the server says of its version: ETag, time.
    """

    name: str
    url: str
    size: int | None
    version: str


def public_url(url: str) -> str:
    """A URL without user, password, query and fragment, which may be secrets.

    Raises:
        UsageError: it is none.

    Example:
        >>> public_url("https://me:pass@host:8/a.nii.gz?token=x")
        'https://host:8/a.nii.gz'
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UsageError(f"a URL that cannot be read ({error})", remedy="Check its host and port.") from None
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def without_secrets(text: str) -> str:
    """A text with every URL in it as `public_url` shows it.

    Example:
        >>> without_secrets("404 at https://host/a?sig=secret for you")
        '404 at https://host/a for you'
    """

    def shown(match: re.Match[str]) -> str:
        try:
            return public_url(match[0])
        except UsageError:
            return "a URL"

    return _URL_IN_TEXT.sub(shown, text)


def place_of(url: str) -> Path:
    """The path by which a URL is named among paths: it holds no secret and is the same on every machine.

    Example:
        >>> place_of("s3://bucket/a/b.nii.gz").as_posix()
        '/s3:/bucket/a/b.nii.gz'
    """
    parts = urlsplit(public_url(url))
    names = [name for name in PurePosixPath(parts.path).parts if name not in ("/", "..")]
    return Path("/", f"{parts.scheme}:", *([parts.netloc] if parts.netloc else []), *names)


def is_place(path: Path) -> bool:
    """Whether a path names a URL, as `place_of` makes it.

    Args:
        path: of a scan.

    Example:
        >>> is_place(place_of("s3://bucket/a/b.nii.gz"))
        True
    """
    return path.is_absolute() and len(path.parts) > 1 and path.parts[1].endswith(":")


def list_files(url: str) -> list[RemoteFile]:
    """The file of a URL, or all files below it, sorted by name, without hidden ones.

    Args:
        url: a file, or a folder (of HTTP: a page of links, whose URL ends in ``/``).

    Raises:
        MissingFileError: nothing is there.
        ReadError: it cannot be listed.
        MissingExtraError: the extra ``remote`` is not installed.
    """
    with _failures(url):
        system, path = _system(url)
        is_web = urlsplit(url).scheme in _WEB
        is_folder = url.endswith("/") if is_web else system.isdir(path)
        if not is_folder:
            return [_described("", url, system.info(path))]
        entries = system.find(path, detail=True)
        root = path.rstrip("/") + "/"
        files = []
        for name, info in sorted(entries.items()):
            relative = name.removeprefix(root)
            parts = PurePosixPath(relative).parts
            if relative == name or not parts or any(name.startswith(".") for name in parts) or "?" in relative:
                continue
            full = name if is_web else f"{url.rstrip('/')}/{relative}"
            known = info if info.get("size") is not None or info.get("type") == "directory" else system.info(name)
            if known.get("type") != "directory":
                files.append(_described(relative, full, known))
        return files


def first_bytes(file: RemoteFile, count: int) -> bytes:
    """The first bytes of a file, at most `count`.

    Raises:
        ReadError: it cannot be read.
    """
    if file.size == 0:
        return b""
    with _failures(file.url):
        system, path = _system(file.url)
        end = count if file.size is None else min(count, file.size)
        return bytes(system.cat_file(path, start=0, end=end))[:count]


def fetch_file(file: RemoteFile, target: Path) -> None:
    """Copy a file to this machine.

    Args:
        file: the file.
        target: where to; its folder is made.

    Raises:
        ReadError: it cannot be read, or has another size than it was listed with.
        OSError: it cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _failures(file.url):
        system, path = _system(file.url)
        system.get_file(path, os.fspath(target))
    size = target.stat().st_size
    if file.size is not None and size != file.size:
        raise ReadError(
            f"{public_url(file.url)}: {size} bytes came of {file.size}",
            remedy="Run again; check the connection if it happens again.",
        )


def _described(name: str, url: str, info: dict[str, Any]) -> RemoteFile:
    keys = ("ETag", "etag", "e_tag", "Content-MD5", "version", "LastModified", "last_modified", "mtime", "created")
    version = next((str(info[key]) for key in keys if info.get(key)), "")
    return RemoteFile(name, url, info.get("size"), version)


def _system(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it.

    Raises:
        MissingExtraError: the extra is not installed.
        UsageError: no such protocol.
    """
    fsspec = extra("fsspec", "a URL as input")
    protocol = urlsplit(url).scheme
    if protocol in _STORES:
        extra("obstore", f"{protocol}:// as input")
        from obstore.fsspec import register

        if protocol not in fsspec.registry:
            register(protocol)
    elif protocol in _WEB:
        extra("aiohttp", f"{protocol}:// as input")
    try:
        system, path = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise UsageError(
            f"{public_url(url)}: '{protocol}' is no kind of URL that can be read here", remedy="Use s3, gs, az, http or https."
        ) from error
    return system, str(path)


@contextmanager
def _failures(url: str) -> Iterator[None]:
    """Within the block, any failure of a server or its library names the URL and no secret."""
    where = public_url(url)
    try:
        yield
    except VoxelryError:
        raise
    except FileNotFoundError:
        raise MissingFileError(f"{where}: nothing is there", remedy="Check the URL, and that you may read it.") from None
    except Exception as error:
        if isinstance(error, OSError) and error.filename and not is_url(str(error.filename)):
            raise  # of this machine's disk
        text = " ".join(without_secrets(f"{type(error).__name__}: {error}").split())[:_LONGEST]
        remedy = "Check the connection, and the credentials in the environment."
        raise ReadError(f"{where}: cannot be read ({text})", remedy=remedy) from None
