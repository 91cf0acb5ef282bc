"""Supervisor: what ends a worker costs only its own scan; limits of time and memory; retries."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from voxelry.cohort.supervisor import Limits, Supervisor, Task
from voxelry.cohort.worker_process import Message, WorkerProcess
from voxelry.errors import UsageError

TOY = Path(__file__).parent / "toy_worker.py"


class Acts:
    """A source of tasks from a list of acts, which records their ends."""

    def __init__(self, acts: Sequence[str]) -> None:
        self.waiting = [Task(str(number), {"act": act}) for number, act in enumerate(acts)]
        self.results: dict[str, Message] = {}
        self.deaths: dict[str, str] = {}
        self.peaks: list[int] = []
        self.lacked: list[bool] = []

    def next(self, worker: str) -> Task | None:
        return self.waiting.pop(0) if self.waiting else None

    def done(self, task: Task, message: Message, peak_memory: int) -> None:
        assert task.id not in self.results | self.deaths
        self.results[task.id] = message

    def died(self, task: Task, reason: str, peak_memory: int, is_memory: bool) -> None:
        assert task.id not in self.results | self.deaths
        self.deaths[task.id] = reason
        self.peaks.append(peak_memory)
        self.lacked.append(is_memory)

    def beat(self, worker: str) -> None:
        pass


def run(acts: Sequence[str], *, workers: int = 2, depth: int = 3, limits: Limits | None = None, extra: str = "") -> Acts:
    source = Acts(acts)

    def start(number: int) -> WorkerProcess:
        return WorkerProcess(f"worker {number}", [sys.executable, str(TOY), *filter(None, [extra])], {})

    Supervisor(start, workers, limits or Limits(), depth, source).run()
    return source


def test_every_scan_ends_once_and_only_its_own_deed_ends_it() -> None:
    acts = ["fine", "segfault", "fine", "exit", "error", "once", "memory", "fine", "segfault", "fine"]
    source = run(acts)
    assert set(source.results) | set(source.deaths) == {str(n) for n in range(len(acts))}
    assert {acts[int(id)] for id in source.deaths} == {"segfault", "exit"}
    assert "SIGSEGV" in source.deaths["1"]
    assert "SIGSEGV" in source.deaths["8"]
    assert "status 1" in source.deaths["3"]
    assert "codec gave up" in source.deaths["3"]
    assert source.results["4"]["event"] == "failed"
    assert source.results["5"]["alone"]
    assert source.results["6"]["attempt"] == 2


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    acts=st.lists(st.sampled_from(["fine", "fine", "fine", "segfault", "exit", "error", "once"]), max_size=8),
    workers=st.integers(1, 3),
    depth=st.integers(1, 4),
)
def test_any_mixture_is_accounted_for(acts: list[str], workers: int, depth: int) -> None:
    source = run(acts, workers=workers, depth=depth)
    fatal = {str(n) for n, act in enumerate(acts) if act in ("segfault", "exit")}
    assert set(source.deaths) == fatal
    assert set(source.results) == {str(n) for n in range(len(acts))} - fatal


def test_a_scan_that_hangs_is_ended_by_the_limit_of_time() -> None:
    source = run(["fine", "hang", "fine"], limits=Limits(seconds=1.0))
    assert set(source.results) == {"0", "2"}
    assert "after 1 seconds without progress, in the stage 'predict'" in source.deaths["1"]
    assert source.lacked == [False]


def test_a_scan_that_takes_too_much_memory_is_ended_by_the_limit_of_memory() -> None:
    source = run(["hog", "fine"], limits=Limits(memory=200_000_000))
    assert set(source.results) == {"1"}
    assert "above the limit of" in source.deaths["0"]
    assert source.peaks[0] > 200_000_000
    assert source.lacked == [True]


def test_a_model_that_cannot_be_used_ends_the_batch() -> None:
    with pytest.raises(UsageError, match="no such model"):
        run(["fine"], extra="refuse")


def test_workers_that_cannot_start_end_the_batch_with_their_last_words() -> None:
    with pytest.raises(UsageError, match="cannot start"):
        run(["fine"], extra="die")


def test_no_scans_at_all() -> None:
    assert not run([]).results


class Distant(WorkerProcess):
    """A worker whose machine is lost with it."""

    is_lost = True


def test_a_machine_that_is_lost_is_no_fault_of_its_scans() -> None:
    source, started = Acts(["fine", "fine"]), []

    def start(number: int) -> WorkerProcess:
        started.append(number)
        is_mortal = len(started) <= 4
        kind = Distant if is_mortal else WorkerProcess
        return kind(f"worker {number}", [sys.executable, str(TOY), *(["mortal"] if is_mortal else [])], {})

    Supervisor(start, 1, Limits(attempts=2), 1, source).run()
    assert source.deaths == {}
    assert {id: message["attempt"] for id, message in source.results.items()} == {"0": 1, "1": 1}


def test_a_scan_that_takes_its_machine_along_each_time_is_given_up() -> None:
    source = Acts(["fine"])
    started = []

    def start(number: int) -> WorkerProcess:
        started.append(number)
        return Distant(f"worker {number}", [sys.executable, str(TOY), "mortal"], {})

    Supervisor(start, 1, Limits(attempts=2), 1, source).run()
    assert "SIGKILL" in source.deaths["0"]
    assert len(started) == 8  # five times for nothing, two attempts, and the worker after them


def test_nobody_waits_for_a_worker_that_is_not_needed_any_more() -> None:
    source = Acts(["fine"] * 3)

    def start(number: int) -> WorkerProcess:
        return WorkerProcess(f"worker {number}", [sys.executable, str(TOY), *(["never"] if number else [])], {})

    Supervisor(start, 2, Limits(), 1, source).run()
    assert len(source.results) == 3
