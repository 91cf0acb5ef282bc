"""Servers of this machine, for one test.

One takes a file by PUT and gives it by GET, one speaks as much of the Hugging Face hub as sending and fetching a model need.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34


class _Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, code: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def tell(self, value: Any, code: int = 200) -> None:
        self.answer(code, json.dumps(value).encode(), Content_Type="application/json")

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))


class _Shelf(_Quiet):
    """Keeps bodies by path, for those who log in if that is asked for; `asked` gets every line and header."""

    def __init__(self, files: dict[str, bytes], asked: list[str], login: str, *connection: Any) -> None:
        self.files, self.asked, self.login = files, asked, login
        super().__init__(*connection)

    def _let_in(self) -> bool:
        self.asked.append(f"{self.requestline}\n{self.headers}")
        expected = f"Basic {base64.b64encode(self.login.encode()).decode()}"
        if self.login and self.headers.get("Authorization") != expected:
            self.answer(401)
            return False
        return True

    def do_GET(self) -> None:
        if self._let_in():
            place = urlsplit(self.path).path
            if place == "/moved.zip":
                self.answer(302, Location="/" + next(iter(self.files)).lstrip("/"))
            elif place in self.files:
                self.answer(200, self.files[place])
            else:
                self.answer(404)

    def do_PUT(self) -> None:
        content = self.body()
        if self._let_in():
            self.files[urlsplit(self.path).path] = content
            self.answer(201)


class _Hub(_Quiet):
    """One repository: `files`, of which those that end in safetensors go the way of large files."""

    def __init__(self, repository: str, files: dict[str, bytes], token: str, log: list[str], *connection: Any) -> None:
        self.repository, self.files, self.token, self.log = repository, files, token, log
        super().__init__(*connection)

    def _let_in(self) -> bool:
        self.log.append(self.requestline)
        if self.headers.get("Authorization") != f"Bearer {self.token}":
            self.answer(401, b'{"error": "no token"}', X_Error_Code="RepoNotFound")
            return False
        return True

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if not self._let_in():
            return
        path, root = unquote(urlsplit(self.path).path), f"/api/models/{self.repository}"
        if path in (f"{root}/revision/main", f"{root}/revision/{COMMIT}", root):
            self.tell({"id": self.repository, "sha": COMMIT, "siblings": [{"rfilename": name} for name in self.files]})
        elif path == f"{root}/tree/{COMMIT}":
            self.tell([{"type": "file", "path": name, "size": len(body), "oid": "0" * 40} for name, body in self.files.items()])
        elif path.startswith(f"/{self.repository}/resolve/{COMMIT}/"):
            name = path.partition(f"/resolve/{COMMIT}/")[2]
            tag = hashlib.sha256(self.files[name]).hexdigest()
            self.answer(200, self.files[name], ETag=f'"{tag}"', X_Repo_Commit=COMMIT)
        else:
            self.answer(404, b'{"error": "nothing"}', X_Error_Code="RevisionNotFound")

    def do_POST(self) -> None:
        content = self.body()
        if not self._let_in():
            return
        path = urlsplit(self.path).path
        if path == "/api/repos/create":
            owner, name = (json.loads(content)[key] for key in ("organization", "name"))
            assert json.loads(content)["visibility"] == "private"
            self.tell({"url": f"http://{self.headers['Host']}/{owner}/{name}"})
        elif path == "/api/validate-yaml":
            self.tell({"errors": [], "warnings": []})
        elif path.endswith("/preupload/main"):
            modes = [
                (file["path"], "lfs" if file["path"].endswith("safetensors") else "regular")
                for file in json.loads(content)["files"]
            ]
            self.tell({"files": [{"path": name, "uploadMode": mode, "shouldIgnore": False} for name, mode in modes]})
        elif path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**each, "actions": {"upload": {"href": f"http://{self.headers['Host']}/lfs/{each['oid']}"}}}
                for each in json.loads(content)["objects"]
            ]
            self.tell({"transfer": "basic", "objects": objects})
        elif path.endswith("/commit/main"):
            for line in map(json.loads, content.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    self.files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    self.files[value["path"]] = self.files.pop(f"lfs/{value['oid']}")
            url = f"http://{self.headers['Host']}/{self.repository}/commit/{COMMIT}"
            self.tell({"success": True, "commitOid": COMMIT, "commitUrl": url, "hookOutput": ""})
        else:
            self.answer(404)

    def do_PUT(self) -> None:
        content, oid = self.body(), self.path.rpartition("/")[2]
        assert hashlib.sha256(content).hexdigest() == oid
        self.files[f"lfs/{oid}"] = content
        self.answer(200)


@contextmanager
def _serving(handler: Any) -> Iterator[str]:
    web = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    web.daemon_threads = True
    thread = threading.Thread(target=web.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{web.server_port}"
    finally:
        web.shutdown()
        web.server_close()
        thread.join()


@contextmanager
def shelf(files: dict[str, bytes], asked: list[str], login: str = "") -> Iterator[str]:
    """A server of files; `login` is ``user:password``.

    Yields:
        Its address.
    """
    with _serving(partial(_Shelf, files, asked, login)) as address:
        yield address


@contextmanager
def hub(repository: str, files: dict[str, bytes], token: str, log: list[str]) -> Iterator[str]:
    """A hub with one repository.

    Yields:
        The endpoint.
    """
    with _serving(partial(_Hub, repository, files, token, log)) as address:
        yield address
