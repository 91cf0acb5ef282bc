from pathlib import Path

import pytest

from helpers.model_servers import shelf
from voxelry.errors import ModelError, UsageError
from voxelry.zoo.model_files import files_of
from voxelry.zoo.model_travel import pull_model, push_model


@pytest.fixture
def web():
    files, asked = {}, []
    with shelf(files, asked) as address:
        yield address, files, asked


def content(folder):
    return {name: (folder / name).read_bytes() for name in files_of(folder)}


def test_there_and_back(tiny, web):
    address, files, _ = web
    moved = push_model(tiny, f"{address}/models/tiny.zip?signature=secret")
    assert moved.place == f"{address}/models/tiny.zip"
    assert moved.source == f"{address}/models/tiny.zip#sha256={moved.sha256}"
    assert list(files) == ["/models/tiny.zip"]
    assert pull_model(moved.source, "mine").sha256 == moved.sha256
    assert content(Path("mine")) == content(tiny)


def test_a_name_in_the_cache_follows_from_the_url(tiny, web, cache):
    address, *_ = web
    assert pull_model(push_model(tiny, f"{address}/a/small.zip").source).place == str(cache / "small")


def test_a_redirect_is_followed_and_its_content_compared(tiny, web):
    address, *_ = web
    sha256 = push_model(tiny, f"{address}/tiny.zip").sha256
    assert pull_model(f"{address}/moved.zip#sha256={sha256}", "mine").sha256 == sha256


@pytest.mark.parametrize("fragment", ["", "#", "#sha256=", "#sha256=abc", "#md5=" + "0" * 32])
def test_a_url_without_its_sha256_is_refused_before_anything_is_fetched(web, fragment):
    address, _, asked = web
    with pytest.raises(UsageError, match=r"no SHA-256 to compare with.*#sha256="):
        pull_model(f"{address}/tiny.zip{fragment}", "mine")
    assert asked == []


def test_what_was_changed_or_cut_off_is_refused(tiny, web):
    address, files, _ = web
    moved = push_model(tiny, f"{address}/tiny.zip")
    for changed in (files["/tiny.zip"][:-1], files["/tiny.zip"] + b"\0", b""):
        files["/tiny.zip"] = changed
        with pytest.raises(ModelError, match=rf"has the SHA-256 [0-9a-f]{{64}}, not {moved.sha256}"):
            pull_model(moved.source, "mine")
    assert list(Path().iterdir()) == []


def test_more_than_a_model_is_not_taken(tiny, web, monkeypatch):
    address, *_ = web
    moved = push_model(tiny, f"{address}/tiny.zip")
    monkeypatch.setattr("voxelry.zoo.model_web.LARGEST_MODEL", 1000)
    with pytest.raises(ModelError, match="sends more than 1000 bytes"):
        pull_model(moved.source, "mine")


def test_a_login_is_sent_and_shown_nowhere(tiny):
    files, asked = {}, []
    with shelf(files, asked, login="me:sesame") as address:
        named = address.replace("://", "://me:sesame@")
        moved = push_model(tiny, f"{named}/tiny.zip")
        assert "sesame" not in str(moved)
        pull_model(f"{named}/tiny.zip#sha256={moved.sha256}", "mine")
        assert not any("sha256" in line for line in asked)  # a fragment stays here
        for call in (lambda: pull_model(moved.source, "other"), lambda: push_model(tiny, f"{address}/tiny.zip")):
            with pytest.raises(ModelError, match="401"):
                call()


def test_a_server_that_has_nothing_and_none_at_all(tiny, web):
    address, *_ = web
    for place, match in ((f"{address}/other.zip", "404"), ("http://127.0.0.1:9/other.zip", "refused")):
        with pytest.raises(ModelError, match=match) as caught:
            pull_model(f"{place}?signature=secret#sha256={'0' * 64}", "mine")
        assert "secret" not in str(caught.value)


def test_letters_beyond_ascii_and_hosts_that_cannot_be(tiny, web):
    address, files, _ = web
    moved = push_model(tiny, f"{address}/mod\u00e8le.zip")
    assert list(files) == ["/mod%C3%A8le.zip"]
    assert pull_model(moved.source, "mine").sha256 == moved.sha256
    for host in ("http://[::1", f"http://{'x' * 70}.org"):
        with pytest.raises((UsageError, ModelError)):
            pull_model(f"{host}/x.zip#sha256={'0' * 64}", "other")
