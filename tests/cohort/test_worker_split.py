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


def measured(*seconds: str) -> WorkerSplit:
    """With workers that tell the seconds of their split, by its number of workers."""
    return measured_split(
        lambda number, split: WorkerProcess(str(number), [sys.executable, str(TOY), f"seconds={seconds[split.workers - 1]}"], {}),
        [WorkerSplit(1, 2), WorkerSplit(2, 1)],
    )


def test_the_split_of_more_scans_a_second_is_taken() -> None:
    assert measured("1.0", "1.5") == WorkerSplit(2, 1)  # two at a time, 1.5 s each
    assert measured("1.0", "2.5") == WorkerSplit(1, 2)


def test_a_worker_that_ends_leaves_the_choice_to_the_run() -> None:
    assert measured("die", "1.0") == WorkerSplit(2, 1)
