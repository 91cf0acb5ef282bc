"""Replacements under a key: UIDs, patients, dates, and the key's file."""

import os
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import UID

from voxelry.errors import ConfigError, UsageError
from voxelry.formats.dicom.privacy.pseudonyms import KeyedPseudonyms, read_key, shifted

KEYS = st.binary(min_size=32, max_size=32)
UIDS = st.lists(st.integers(0, 10**9), min_size=2, max_size=6).map(lambda parts: ".".join(map(str, (1, 2, 9, *parts))))


@given(KEYS, UIDS, UIDS)
def test_uids_are_valid_equal_for_equal_and_different_for_different_ones(key, one, other):
    pseudonyms = KeyedPseudonyms(key)
    new = pseudonyms.uid(one)
    assert UID(new).is_valid
    assert new.startswith("2.25.")
    assert pseudonyms.uid(one + "\0") == new
    assert (pseudonyms.uid(other) == new) == (one == other)
    assert KeyedPseudonyms(bytes(32) if key != bytes(32) else b"\1" * 32).uid(one) != new


def test_uids_of_the_standard_stay():
    assert KeyedPseudonyms(bytes(32)).uid("1.2.840.10008.5.1.4.1.1.2") == "1.2.840.10008.5.1.4.1.1.2"
    assert KeyedPseudonyms(bytes(32)).uid("") == ""


@given(st.dates(date(1900, 1, 1), date(2100, 1, 1)), st.integers(1, 3650))
def test_dates_move_by_as_many_days_as_the_calendar_says(day, days):
    moved = day - timedelta(days)
    assert shifted(day.strftime("%Y%m%d"), "DA", days) == moved.strftime("%Y%m%d")
    assert shifted(day.strftime("%Y.%m.%d"), "DA", days) == moved.strftime("%Y%m%d")


@given(st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)), st.integers(1, 3650), st.sampled_from(["", "+0100", "-1130"]))
def test_datetimes_keep_time_and_zone(moment, days, zone):
    text = moment.strftime("%Y%m%d%H%M%S.%f") + zone
    assert shifted(text, "DT", days) == (moment - timedelta(days)).strftime("%Y%m%d%H%M%S.%f") + zone


@given(st.text(max_size=20), st.sampled_from(["DA", "DT", "TM"]), st.integers(1, 3650))
def test_any_text_is_moved_or_dropped(text, vr, days):
    moved = shifted(text, vr, days)
    assert set(moved) <= set("0123456789.:+-")
    assert moved == "" or moved == text.strip("\0 ") or vr != "TM"


@pytest.mark.parametrize(
    ("text", "vr", "moved"),
    [
        ("202403", "DT", "202403"),
        ("2024", "DT", "2024"),
        ("20240230", "DA", ""),
        ("Miller", "DA", ""),
        ("00010101", "DA", ""),
        ("about noon", "TM", ""),
        ("12:30:00", "TM", "12:30:00"),
        ("20240101-20240201", "DA", ""),
    ],
)
def test_single_dates(text, vr, moved):
    assert shifted(text, vr, 1) == moved


def of(**elements):
    data = Dataset()
    for keyword, value in elements.items():
        setattr(data, keyword, value)
    return data


@given(KEYS)
def test_patients_are_told_apart_by_id_else_by_name_and_birth_else_by_study(key):
    pseudonyms = KeyedPseudonyms(key)
    one = of(PatientID="17", PatientName="A^B")
    assert pseudonyms.patient(one) == pseudonyms.patient(of(PatientID="17 ", PatientName="a b"))
    assert pseudonyms.days(one) == pseudonyms.days(of(PatientID="17"))
    assert 1 <= pseudonyms.days(one) <= 3650
    others = [of(PatientID="18"), of(PatientName="A^B"), of(PatientName="A^B", PatientBirthDate="19500101"),
              of(StudyInstanceUID="1.2"), of(StudyInstanceUID="1.3")]  # fmt: skip
    names = {pseudonyms.patient(data) for data in (one, *others)}
    assert len(names) == 6
    assert "17" not in {name.removeprefix("P-") for name in names}


def test_a_key_is_made_once_for_its_owner_alone(tmp_path):
    path = tmp_path / "new" / "k.key"
    key = read_key(path)
    assert len(key) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_key(path) == key
    assert read_key(tmp_path / "other.key") != key


def test_a_key_that_others_may_read_is_refused(tmp_path):
    read_key(tmp_path / "k")
    os.chmod(tmp_path / "k", 0o640)  # noqa: PTH101
    with pytest.raises(UsageError, match=r"k: other users may read this key \(mode 640\)\. Run `chmod 600 "):
        read_key(tmp_path / "k")


@pytest.mark.parametrize("content", [b"", b"secret", b"ab" * 31, b"\xff" * 64, b"ab" * 40])
def test_a_file_without_a_key_is_refused(tmp_path, content):
    (tmp_path / "k").write_bytes(content)
    (tmp_path / "k").chmod(0o600)
    with pytest.raises(ConfigError, match="k: no key"):
        read_key(tmp_path / "k")


def test_a_folder_is_no_key(tmp_path):
    with pytest.raises(UsageError, match="cannot be read or made"):
        read_key(tmp_path)
