import os
import re

import pytest
import requests
import yaml

from helpers.running_server import running
from voxelry.errors import ConfigError, MissingFileError, UsageError
from voxelry.serving.access_tokens import SCOPES, AccessTokens, make_token
from voxelry.serving.token_scopes import scope_of

SECONDS = 60


def test_the_file_holds_the_hash_and_the_scopes_and_never_the_token(tmp_path):
    file = tmp_path / "tokens.yaml"
    token = make_token(file, "ward-3", ["segment"])
    assert len(token) >= 43
    assert token not in file.read_text()
    assert oct(file.stat().st_mode)[-3:] == "600"
    tokens = AccessTokens(file=file)
    access = tokens.find(token)
    assert (access.name, access.scopes) == ("ward-3", {"segment"})
    assert tokens.find(token[:-1]) is tokens.find("") is tokens.find("é\udc80") is None
    row = yaml.safe_load(file.read_text())["tokens"][0]
    assert re.fullmatch("[0-9a-f]{64}", row["hash"])
    assert tokens.find(row["hash"]) is None  # who reads the file cannot ask


def test_tokens_are_added_replaced_and_revoked_while_a_server_runs(tmp_path):
    file = tmp_path / "tokens.yaml"
    first = make_token(file, "a", SCOPES)
    tokens = AccessTokens(token="given-to-the-server-16", file=file)
    other = make_token(file, "b", ["metrics"])
    again = make_token(file, "a", ["results"])
    os.utime(file, ns=(1, 1))
    assert tokens.find(first) is None
    assert (tokens.find(other).name, tokens.find(again).scopes) == ("b", {"results"})
    assert tokens.find("given-to-the-server-16").scopes == set(SCOPES)
    file.write_text("tokens: []\n")
    os.utime(file, ns=(2, 2))
    assert tokens.find(other) is None
    file.unlink()
    assert tokens.find(again) is None
    assert tokens.find("given-to-the-server-16") is not None


@pytest.mark.parametrize(
    ("name", "scopes", "reason"),
    [("a b", ["segment"], "name"), ("a", ["all"], "scope"), ("a", [], "scopes"), ("x" * 65, ["segment"], "name")],
)
def test_a_wrong_name_or_scope_is_refused_and_nothing_is_written(tmp_path, name, scopes, reason):
    with pytest.raises(ConfigError, match=reason):
        make_token(tmp_path / "tokens.yaml", name, scopes)
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_none_of_tokens_are_refused(tmp_path):
    file = tmp_path / "tokens.yaml"
    with pytest.raises(MissingFileError):
        AccessTokens(file=file)
    file.write_text("tokens: [{name: a, token: secret}]")
    with pytest.raises(ConfigError):
        AccessTokens(file=file)
    with pytest.raises(ConfigError, match="mkdir"):
        make_token(tmp_path / "nowhere" / "tokens.yaml", "a", SCOPES)
    make_token(tmp_path / "t.yaml", "a", SCOPES)
    (tmp_path / "t.yaml").chmod(0o622)
    with pytest.raises(UsageError, match="chmod go-w"):
        AccessTokens(file=tmp_path / "t.yaml")


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [("POST", "/", "segment"), ("POST", "/jobs", "segment"), ("DELETE", "/jobs/a", "segment"), ("PUT", "/metrics", "segment"),
     ("GET", "/jobs/a", "results"), ("HEAD", "/jobs/a/files/nifti", "results"), ("GET", "/metrics", "metrics"),
     ("GET", "/info", None), ("GET", "/openapi.json", None)],
)  # fmt: skip
def test_what_a_request_needs(method, path, scope):
    assert scope_of(method, path) == scope


def test_a_server_asks_for_the_scopes(models, picture, tmp_path):
    file = tmp_path / "tokens.yaml"
    headers = {scope: {"Authorization": f"Bearer {make_token(file, scope, [scope])}"} for scope in SCOPES}
    with running(models, tmp_path / "jobs", AccessTokens(file=file)) as server:

        def statuses(method, path, **options):
            answers = (
                requests.request(method, server.url + path, headers=headers[s], timeout=SECONDS, **options) for s in SCOPES
            )
            return [answer.status_code for answer in answers]

        job = requests.post(f"{server.url}/jobs", data=picture.read_bytes(), headers=headers["segment"], timeout=SECONDS).json()
        assert statuses("POST", "/", data=picture.read_bytes()) == [200, 403, 403]
        assert statuses("GET", job["url"]) == [403, 200, 403]
        assert statuses("GET", "/metrics") == [403, 403, 200]
        assert statuses("GET", "/info") == [200, 200, 200]
        assert statuses("DELETE", job["url"]) == [200, 403, 403]
        assert requests.get(server.url + "/metrics", timeout=SECONDS).status_code == 401
