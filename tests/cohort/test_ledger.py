"""Ledger: states survive kills, a claim is had by one alone, damaged and newer files are refused."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.full_disk import fill, small_disk
from voxelry.cohort import ledger as ledger_module
from voxelry.cohort.ledger import LEDGER, SCHEMA, STATES, Ledger, LedgerCase, file_system_of
from voxelry.errors import CorruptFileError, MissingFileError, UsageError


def cases(count: int) -> list[LedgerCase]:
    return [LedgerCase(f"case {n}", n, (f"{n}.nii.gz",), "request", f"stamp {n}") for n in range(count)]


def test_a_case_comes_back_as_it_was_put(tmp_path: Path) -> None:
    case = LedgerCase(
        "ä'\"; DROP TABLE cases", 3, ("a b.nii.gz", "c.nii.gz"), "request", "stamp", input_hash="hash", timings={"read": 0.5},
        peak_memory=1 << 40, outputs={"nifti": {"path": "x"}}, details={"flags": ["ß"]}, error="e", error_class="ReadError",
    )  # fmt: skip
    with Ledger(tmp_path) as ledger:
        ledger.put([case])
        assert ledger.case(case.id) == case
        assert ledger.case("other") is None
    with Ledger(tmp_path, read_only=True) as ledger:
        assert list(ledger.cases()) == [case]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=st.lists(st.sampled_from(["claim", "done", "failed", "ready", "expire", "give back"]), max_size=25))
def test_any_course_of_events_keeps_every_case_in_one_state(tmp_path_factory: pytest.TempPathFactory, acts: list[str]) -> None:
    running: dict[str, int] = {}
    expired: set[str] = set()
    ended: dict[str, str] = {}
    attempts = dict.fromkeys((case.id for case in cases(4)), 0)
    with Ledger(tmp_path_factory.mktemp("ledger")) as ledger:
        ledger.put(cases(4))
        for act in acts:
            if act == "claim":
                case = ledger.claim("worker", lease=1000)
                free = [id for id in attempts if id not in running and id not in ended]
                assert (case.id if case else None) == (free[0] if free else None)
                if case is not None:
                    attempts[case.id] += 1
                    running[case.id] = 1
                    expired.discard(case.id)
                    assert case.attempt == attempts[case.id]
            elif act == "give back":
                assert ledger.give_back() == len(running) + len(expired)
                running.clear()
                expired.clear()
            elif running:
                id = next(iter(running))
                if act == "expire":
                    ledger._connection.execute("UPDATE cases SET lease_until = 0 WHERE id = ?", (id,))
                    del running[id]  # may be claimed again
                    expired.add(id)
                else:
                    ledger.finish(id, act)  # type: ignore[arg-type]
                    del running[id]
                    if act != "ready":
                        ended[id] = act
        counts = ledger.counts()
        assert sum(counts.values()) == 4
        assert counts["done"] + counts["failed"] == len(ended)


def test_a_case_is_had_by_one_of_many(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.put(cases(60))
    had: list[str] = []

    def take() -> None:
        with Ledger(tmp_path) as own:
            while (case := own.claim(threading.current_thread().name, lease=100)) is not None:
                had.append(case.id)
                own.finish(case.id, "done")

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(had) == sorted(case.id for case in cases(60))


def test_a_lease_ends_unless_the_worker_lives(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.put(cases(1))
        assert ledger.claim("slow", lease=0.2) is not None
        ledger.heartbeat("slow", lease=100)
        time.sleep(0.3)
        assert ledger.claim("other", lease=1) is None
        ledger.heartbeat("slow", lease=-1)
        again = ledger.claim("other", lease=1)
        assert again is not None
        assert again.owner == "other"
        assert again.attempt == 2


_KILLED = """
import sys
from pathlib import Path
from voxelry.cohort.ledger import Ledger
with Ledger(Path(sys.argv[1])) as ledger:
    while (case := ledger.claim("w", lease=100)) is not None:
        print(case.id, flush=True)
        ledger.finish(case.id, "done", outputs={"nifti": {"path": case.id}})
        print("done", case.id, flush=True)
"""


def test_what_was_reported_survives_kill_9(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.put(cases(300))
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", _KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            lines = [child.stdout.readline() for _ in range(15)]
            os.kill(child.pid, signal.SIGKILL)
            lines += child.stdout.readlines()
        reported = {line.removeprefix("done ").strip() for line in lines if line.startswith("done ")}
        with Ledger(tmp_path) as ledger:
            done = {case.id: case.outputs for case in ledger.cases("done")}
            assert reported <= set(done)
            assert all(outputs == {"nifti": {"path": id}} for id, outputs in done.items())
            assert ledger.give_back() <= 1


def test_of_shared_file_systems_the_ledger_is_not_written_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "file_system_of", lambda _: "nfs4")
    with Ledger(tmp_path) as ledger:
        ledger.put(cases(1))
        assert ledger._connection.execute("PRAGMA journal_mode").fetchone()[0] == "delete"
    assert not (tmp_path / f"{LEDGER}-wal").exists()
    monkeypatch.undo()
    with Ledger(tmp_path) as ledger:
        assert ledger._connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert ledger._connection.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL


def test_the_file_system_of_a_folder() -> None:
    assert file_system_of(Path("/proc")) == "proc"


def test_another_process_may_look_meanwhile(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.put(cases(2))
        ledger.claim("w", lease=100)
        with Ledger(tmp_path, read_only=True) as other:
            assert other.counts() == dict(zip(STATES, (1, 1, 0, 0), strict=True))


def test_looking_leaves_no_files_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.put(cases(2))
    before = (tmp_path / LEDGER).read_bytes()
    with Ledger(tmp_path, read_only=True) as reader:
        assert reader.counts()["ready"] == 2
        with pytest.raises(OSError, match=LEDGER):
            reader.put(cases(3))
    assert [path.name for path in tmp_path.iterdir()] == [LEDGER]
    monkeypatch.setattr("os.access", lambda *_: False)  # a folder that cannot be written
    with Ledger(tmp_path, read_only=True) as reader:
        assert reader.counts()["ready"] == 2
        assert [path.name for path in tmp_path.iterdir()] == [LEDGER]
    assert (tmp_path / LEDGER).read_bytes() == before


def test_bad_ledgers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no ledger"):
        Ledger(tmp_path, read_only=True)
    (tmp_path / LEDGER).write_bytes(b"not a database" * 100)
    with pytest.raises(CorruptFileError, match="Move it away"):
        Ledger(tmp_path)
    (tmp_path / LEDGER).unlink()
    with closing(sqlite3.connect(tmp_path / LEDGER)) as connection:
        connection.execute(f"PRAGMA user_version={SCHEMA + 1}")
    with pytest.raises(UsageError, match="newer voxelry"):
        Ledger(tmp_path)


def test_a_case_that_is_gone_is_not_finished(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.put(cases(1))
        ledger.forget(["case 0"])
        with pytest.raises(UsageError, match="no case 'case 0'"):
            ledger.finish("case 0", "done")


def test_facts_are_kept(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.set_facts({"model": {"sha256": "a"}, "left out": []})
        ledger.set_facts({"model": "b"})
    with Ledger(tmp_path, read_only=True) as ledger:
        assert ledger.facts() == {"model": "b", "left out": []}


def test_measurements_are_those_of_cases_that_are_done(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.put([LedgerCase(name, rank, (name,), "request", "stamp") for rank, name in enumerate("cabd")])
        for name in "abc":
            ledger.finish(name, "done", {"label": [name], "voxels": [1]})
        ledger.finish("a", "done", {"label": ["again"], "voxels": [2]})
        ledger.finish("b", "failed", error="x")
        ledger.finish("c", "done")
        ledger.forget(["d"])
        assert list(ledger.measurements()) == [("c", {"label": ["c"], "voxels": [1]}), ("a", {"label": ["again"], "voxels": [2]})]
        ledger.forget(["a"])
        assert [id for id, _ in ledger.measurements()] == ["c"]


def test_a_ledger_that_was_for_nothing_is_removed(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        assert ledger.is_blank
        ledger.set_facts({"began": 1.0})
        ledger.remove()
    assert list(tmp_path.iterdir()) == []
    with Ledger(tmp_path) as ledger:
        ledger.put(cases(1))
        assert not ledger.is_blank


def test_a_full_disk_is_an_error_of_the_system_and_costs_no_case(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 512) as folder, Ledger(folder) as ledger:
        ledger.put(cases(3))
        fill(folder)
        with pytest.raises(OSError, match="No space left"):
            ledger.put(cases(100_000))
        (folder / "filler").unlink()
        assert ledger.counts()["ready"] == 3
        ledger.finish("case 0", "done")
        assert ledger.counts()["done"] == 1
