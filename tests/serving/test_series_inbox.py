"""Series grow until they are complete, and are whole after a restart."""

import pytest

from voxelry.serving import series_inbox
from voxelry.serving.series_inbox import SeriesInbox, SeriesKey

KEY, OTHER = SeriesKey("1.2", "1.2.3"), SeriesKey("1.2", "1.2.4")


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand: ``clock[0]`` seconds."""
    seconds = [100.0]
    monkeypatch.setattr(series_inbox.time, "monotonic", lambda: seconds[0])
    return seconds


@pytest.fixture
def file(tmp_path):
    """A file to send."""
    path = tmp_path / "instance"
    path.write_bytes(b"x" * 100)
    return path


def inbox(tmp_path, most=10_000):
    return SeriesInbox(tmp_path / "inbox", quiet=10, most=most)


def names(released):
    return {each.key: [file.stem for file in each.files] for each in released}


def test_a_series_is_complete_when_its_senders_are_gone_and_all_is_quiet(tmp_path, clock, file):
    box = inbox(tmp_path)
    box.add(file, KEY, "1", 1, None)
    box.add(file, KEY, "2", 2, None)
    box.leave(1)
    clock[0] += 20
    assert box.released() == []
    box.leave(2)
    assert names(box.released()) == {KEY: ["1", "2"]}
    [series] = box.released()
    box.add(file, KEY, "3", 3, None)
    box.leave(3)
    assert box.released() == [series]
    box.drop(series.token)
    clock[0] += 10
    assert names(box.released()) == {KEY: ["3"]}


def test_a_sender_that_stays_is_not_waited_for_without_end(tmp_path, clock, file):
    box = inbox(tmp_path)
    box.add(file, KEY, "1", 1, None)
    clock[0] += 59
    assert box.released() == []
    clock[0] += 1
    assert names(box.released()) == {KEY: ["1"]}


def test_a_sender_that_sends_other_series_is_waited_for(tmp_path, clock, file):
    box = inbox(tmp_path)
    box.add(file, KEY, "1", 1, None)
    clock[0] += 50
    box.add(file, OTHER, "1", 1, None)
    clock[0] += 59
    assert box.released() == []
    clock[0] += 1
    assert names(box.released()) == {KEY: ["1"], OTHER: ["1"]}


def test_a_sender_that_never_stops_holds_no_series_back_for_ever(tmp_path, clock, file):
    box = inbox(tmp_path)
    box.add(file, KEY, "1", 1, None)
    for number in range(20):
        clock[0] += 29
        box.add(file, OTHER, str(number), 1, None)
        assert box.released() == []
    clock[0] += 20
    assert names(box.released()) == {KEY: ["1"]}


def test_the_number_of_instances_counts_where_it_is_known(tmp_path, clock, file):
    box = inbox(tmp_path)
    for instance in ("1", "2", "2"):
        box.add(file, KEY, instance, 1, 3)
    box.leave(1)
    clock[0] += 10
    assert box.released() == []
    box.add(file, KEY, "3", 2, 3)
    box.leave(2)
    [series] = box.released()
    assert (names([series]), series.expected) == ({KEY: ["1", "2", "3"]}, 3)
    box.add(file, OTHER, "1", 3, 3)
    box.leave(3)
    clock[0] += 60
    assert [(each.key, len(each.files), each.expected) for each in box.released()[1:]] == [(OTHER, 1, 3)]


def test_a_restart_keeps_what_grew_and_what_was_released(tmp_path, clock, file):
    box = inbox(tmp_path)
    box.add(file, KEY, "1", 1, None)
    box.leave(1)
    clock[0] += 10
    [series] = box.released()
    box.add(file, OTHER, "2", 1, None)
    again = inbox(tmp_path)
    assert again.released() == [series]
    clock[0] += 10
    assert names(again.released()) == {KEY: ["1"], OTHER: ["2"]}


def test_what_has_no_room_is_refused_and_room_comes_back(tmp_path, clock, file):
    box = inbox(tmp_path, most=250)
    box.add(file, KEY, "1", 1, None)
    box.add(file, KEY, "2", 1, None)
    with pytest.raises(OSError, match="holds 200 bytes"):
        box.add(file, KEY, "3", 1, None)
    box.leave(1)
    clock[0] += 10
    [series] = box.released()
    box.drop(series.token)
    box.add(file, KEY, "3", 1, None)
    assert [path.name for path in (tmp_path / "inbox").rglob("*.dcm")] == ["3.dcm"]
    with pytest.raises(OSError, match="100 bytes"):
        inbox(tmp_path, most=150).add(file, KEY, "4", 1, None)


def test_a_series_that_somebody_counts_waits_for_the_count(tmp_path, clock, file):
    box = SeriesInbox(tmp_path / "inbox", quiet=10, most=10_000, asks=True)
    for key in (KEY, OTHER):
        box.add(file, key, "1", 1, None)
    box.leave(1)
    assert box.uncounted() == []
    clock[0] += 10
    assert box.released() == []
    assert sorted(box.uncounted(), key=lambda key: key.series) == [KEY, OTHER]
    box.note_count(KEY, 2)
    box.note_count(OTHER, None)
    assert box.uncounted() == []
    assert names(box.released()) == {OTHER: ["1"]}
    box.drop(box.released()[0].token)
    box.add(file, KEY, "2", 2, None)
    assert names(box.released()) == {KEY: ["1", "2"]}


def test_instances_that_never_come_are_not_waited_for_without_end(tmp_path, clock, file):
    box = SeriesInbox(tmp_path / "inbox", quiet=10, most=10_000, asks=True)
    box.add(file, KEY, "1", 1, None)
    box.leave(1)
    clock[0] += 10
    box.note_count(KEY, 2)
    clock[0] += 49
    assert box.released() == []
    clock[0] += 1
    [series] = box.released()
    assert (len(series.files), series.expected) == (1, 2)
