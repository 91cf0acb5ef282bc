"""A store of objects that speaks as much of S3 as listing and reading need, on this machine, for one test."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

TIME = "2026-11-29T00:00:00.000Z"


class Store(BaseHTTPRequestHandler):
    """Answers for the files of a folder as the objects of a bucket, to those who sign with a key."""

    protocol_version = "HTTP/1.1"

    def __init__(self, root: Path, bucket: str, key: str, *connection: Any) -> None:
        self.root, self.bucket, self.key = root, bucket, key
        super().__init__(*connection)

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, code: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        place = urlsplit(self.path)
        name = unquote(place.path).removeprefix(f"/{self.bucket}").lstrip("/")
        if f"Credential={self.key}/" not in self.headers.get("Authorization", ""):
            self.answer(403, b"<Error><Code>AccessDenied</Code></Error>")
        elif not name:
            query = {name: values[0] for name, values in parse_qs(place.query, keep_blank_values=True).items()}
            self.answer(200, self.listing(query.get("prefix", ""), query.get("delimiter", "")), Content_Type="application/xml")
        elif not (self.root / name).is_file():
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            self.send_object((self.root / name).read_bytes())

    def send_object(self, content: bytes) -> None:
        headers = {"ETag": tag(content), "Last-Modified": "Sun, 29 Nov 2026 00:00:00 GMT"}
        asked = self.headers.get("Range", "").removeprefix("bytes=")
        if not asked:
            self.answer(200, content, **headers)
            return
        first, _, last = asked.partition("-")
        start, end = int(first), min(int(last or len(content) - 1), len(content) - 1)
        self.answer(206, content[start : end + 1], Content_Range=f"bytes {start}-{end}/{len(content)}", **headers)

    def listing(self, prefix: str, delimiter: str) -> bytes:
        keys = sorted(path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())
        rows, folders = "", set()
        for key in (key for key in keys if key.startswith(prefix)):
            rest = key.removeprefix(prefix)
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.partition(delimiter)[0] + delimiter)
                continue
            content = (self.root / key).read_bytes()
            rows += f"<Contents><Key>{escape(key)}</Key><Size>{len(content)}</Size><ETag>{escape(tag(content))}</ETag>"
            rows += f"<LastModified>{TIME}</LastModified></Contents>"
        rows += "".join(f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in sorted(folders))
        return f"<ListBucketResult><Name>{self.bucket}</Name><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>".encode()


def tag(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


@contextmanager
def object_store(root: Path, bucket: str, key: str) -> Iterator[str]:
    """Serve a folder as a bucket.

    Yields:
        The endpoint.
    """
    web = ThreadingHTTPServer(("127.0.0.1", 0), partial(Store, root, bucket, key))
    web.daemon_threads = True
    thread = threading.Thread(target=web.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{web.server_port}"
    finally:
        web.shutdown()
        web.server_close()
        thread.join()
