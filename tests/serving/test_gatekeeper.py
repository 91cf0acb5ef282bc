import asyncio
import socket

import pytest

from voxelry.errors import UsageError
from voxelry.serving.access_tokens import AccessTokens
from voxelry.serving.gatekeeper import Gatekeeper, is_loopback
from voxelry.serving.rate_limit import RateLimit
from voxelry.serving.server import check_access, refuse_taken

TOKEN = "a-token-of-many-characters"


def status_of(token, method="POST", path="/", limit=None, **headers):
    """The status of a request, and the headers of the answer; 200 is given by the application behind."""
    sent = []

    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"max-age=1")]})
        await send({"type": "http.response.body", "body": b""})

    async def send(message):
        sent.append(message)

    raw = [
        (name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in ({"host": "127.0.0.1:1"} | headers).items()
    ]
    scope = {"type": "http", "method": method, "path": path, "headers": raw}
    tokens = token if isinstance(token, AccessTokens) else AccessTokens(token)
    asyncio.run(Gatekeeper(application, tokens, limit or RateLimit(1, 10))(scope, None, send))
    return sent[0]["status"], dict(sent[0]["headers"])


@pytest.mark.parametrize("authorization", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"Bearer  {TOKEN} "])
def test_the_token_lets_in(authorization):
    assert status_of(TOKEN, authorization=authorization)[0] == 200


@pytest.mark.parametrize(
    "authorization",
    ["", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}\xe9", "Bearer", f"Bearer {TOKEN},{TOKEN}"],
)
def test_anything_else_does_not(authorization):
    status, headers = status_of(TOKEN, authorization=authorization)
    assert (status, headers[b"www-authenticate"]) == (401, b"Bearer")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 200), ("GET", "/health", 200), ("GET", "/models/a/health", 200), ("GET", "/web/app.js", 200),
     ("GET", "/info", 401), ("GET", "/openapi.json", 401), ("GET", "/jobs/a", 401), ("POST", "/models/a/health", 401)],
)  # fmt: skip
def test_only_the_page_and_health_are_open(method, path, status):
    assert status_of(TOKEN, method, path)[0] == status


def test_without_a_token_only_this_machine_is_a_name_of_the_server():
    assert status_of(None)[0] == 200
    assert status_of(None, host="localhost:80")[0] == 200
    assert status_of(None, host="[::1]:80")[0] == 200
    assert status_of(None, host="scans.example")[0] == 403
    assert status_of(TOKEN, host="scans.example", authorization=f"Bearer {TOKEN}")[0] == 200


def test_a_page_of_another_origin_is_refused():
    assert status_of(None, origin="http://127.0.0.1:1")[0] == 200
    assert status_of(None, origin="http://127.0.0.1:2")[0] == 403
    assert status_of(None, origin="null")[0] == 403


def test_every_answer_has_security_headers_once():
    for token in (None, TOKEN):
        _, headers = status_of(token)
        assert headers[b"x-content-type-options"] == b"nosniff"
        assert b"default-src 'none'" in headers[b"content-security-policy"]
    assert status_of(None)[1][b"cache-control"] == b"max-age=1"


def test_a_server_that_others_reach_needs_a_token_that_cannot_be_guessed():
    assert is_loopback("127.0.0.2")
    check_access("127.0.0.1", None)
    check_access("0.0.0.0", TOKEN)
    for host in ("0.0.0.0", "192.168.1.2", "::", "localhost.example"):
        with pytest.raises(UsageError, match="VOXELRY_TOKEN"):
            check_access(host, None)
    with pytest.raises(UsageError, match="8 characters"):
        check_access("127.0.0.1", "password")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_that_is_taken_is_refused_before_models_are_loaded(host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as taken:
        taken.bind((host, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"cannot listen at {host}, port {port}") as caught:
            refuse_taken(host, port, "--port")
    assert "--port" in str(caught.value)
    refuse_taken(host, port, "--port")


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(UsageError, match=r"cannot listen at 192\.0\.2\.1"):
        refuse_taken("192.0.2.1", 8000, "--port")
