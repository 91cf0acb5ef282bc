"""URLs: what of them is secret, what lies at them, and S3's protocol against a store on this machine."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.object_store import object_store
from helpers.scan_tree import EXPECTED, found, scan_tree
from voxelry.cohort.inputs import find_scans
from voxelry.cohort.remote_files import list_files, place_of, public_url, without_secrets
from voxelry.errors import ReadError

WORDS = st.text("abcXYZ019_-", min_size=1, max_size=8)


@given(user=WORDS, password=WORDS, host=WORDS, path=st.lists(WORDS, max_size=3), token=WORDS)
def test_no_secret_of_a_url_is_shown(user: str, password: str, host: str, path: list[str], token: str) -> None:
    secret = f"https://{user}:P{password}P@{host}/{'/'.join(path)}?sig=S{token}S#F{token}F"
    shown = f"https://{host}/{'/'.join(path)}"
    assert public_url(secret) == shown
    assert public_url(shown) == shown
    assert without_secrets(f"404, url='{secret}' for <{secret}>") == f"404, url='{shown}' for <{shown}>"
    assert place_of(secret) == place_of(shown)
    assert place_of(secret).is_absolute()


def test_a_path_from_a_url_leads_nowhere_else() -> None:
    assert place_of("s3://b/../../etc/x.nii").as_posix() == "/s3:/b/etc/x.nii"


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    scan_tree(tmp_path / "store" / "site 1")
    with object_store(tmp_path / "store", "scans", "ME") as endpoint:
        settings = {
            "ACCESS_KEY_ID": "ME",
            "SECRET_ACCESS_KEY": "S",
            "ENDPOINT_URL": endpoint,
            "ALLOW_HTTP": "true",
            "REGION": "x",
        }
        for name, value in settings.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        yield "s3://scans"


def test_a_bucket_of_s3_holds_the_scans_of_its_folder(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = find_scans([f"{bucket}/site 1"])
    assert found(scans) == EXPECTED
    assert {scan.version for scan in scans} == {scan.version for scan in find_scans([f"{bucket}/site 1"])}
    assert found(find_scans([f"{bucket}/site 1/PAT2/brain.nii.gz"])) == {"brain": 21}
    with pytest.raises(ReadError, match=r"s3://scans/nothing: (nothing is there|holds no file)"):
        find_scans([f"{bucket}/nothing"])


def test_who_may_not_read_is_told_so(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "SOMEBODY")
    fsspec.filesystem("s3").clear_instance_cache()
    with pytest.raises(ReadError, match=r"s3://scans/site 1: cannot be read .*credentials in the environment"):
        list_files(f"{bucket}/site 1")
    fsspec.filesystem("s3").clear_instance_cache()
