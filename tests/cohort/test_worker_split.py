"""Processors are divided among workers as a measurement says, within what memory allows."""

import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from voxelry.cohort.worker_process import WorkerProcess
from voxelry.cohort.worker_split import WorkerSplit, best_split, measured_split, possible_splits

TOY = Path(__file__).parent / "toy_worker.py"


@given(processors=st.integers(1, 64), most=st.integers(-1, 100))
def test_splits_fit_processors_and_limit(processors: int, most: int) -> None:
    splits = possible_splits(processors, most)
    assert splits[0].workers == 1
    assert splits[-1].workers == max(1, min(processors, most))
    assert splits == sorted(set(splits))
    assert all(split.threads >= 1 and split.workers * split.threads <= processors for split in splits)


def test_more_workers_are_preferred_among_equals() -> None:
    few, many = WorkerSplit(1, 2), WorkerSplit(2, 1)
    assert best_split({few: 1.0, many: 0.96}) == many
    assert best_split({few: 1.0, many: 0.9}) == few


def measured(*seconds: str) -> tuple[WorkerSplit, list[WorkerProcess]]:
    """With workers that tell the seconds of a split, by its number of threads."""
    return measured_split(
        lambda number, _: WorkerProcess(str(number), [sys.executable, str(TOY), f"seconds={','.join(seconds)}"], {}),
        [WorkerSplit(1, 2), WorkerSplit(2, 1)],
    )


def next_event(worker: WorkerProcess) -> str:
    """What a worker tells next."""
    (message,) = worker.messages()
    return str(message["event"])


def test_the_split_of_more_scans_a_second_is_taken_with_its_workers() -> None:
    split, workers = measured("1.5", "1.0")  # two at a time, 1.5 s each
    try:
        assert split == WorkerSplit(2, 1)
        assert [worker.name for worker in workers] == ["0", "1"]
        assert [next_event(worker) for worker in workers] == ["ready", "ready"]
    finally:
        for worker in workers:
            worker.close()


def test_workers_of_another_split_end() -> None:
    assert measured("2.5", "1.0") == (WorkerSplit(1, 2), [])


def test_a_worker_that_ends_leaves_the_choice_to_the_run() -> None:
    assert measured("1.0", "die") == (WorkerSplit(2, 1), [])
