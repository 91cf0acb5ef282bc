import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelry.base.threads import THREADS, pool, run_slabs, slabs


@given(size=st.integers(0, 40), pieces=st.integers(1, 50))
def test_slabs_make_up_the_range_and_are_alike(size, pieces):
    parts = slabs(size, pieces)
    assert [index for start, stop in parts for index in range(start, stop)] == list(range(size))
    if parts:
        lengths = [stop - start for start, stop in parts]
        assert max(lengths) - min(lengths) <= 1
        assert len(parts) <= pieces


def filled(size):
    array = np.zeros(size, int)
    run_slabs(lambda start, stop: array[start:stop].__iadd__(1), size, pieces=7)
    return array


def test_each_stretch_is_worked_once_by_several_callers_at_once():
    with ThreadPoolExecutor(5) as callers:
        assert all((array == 1).all() for array in callers.map(filled, [1000] * 40))


def test_a_call_within_a_call_does_not_wait_for_itself():
    array = np.zeros((8, 30), int)

    def outer(start, stop):
        for row in array[start:stop]:
            run_slabs(lambda a, b, row=row: row[a:b].__iadd__(1), len(row))

    run_slabs(outer, len(array), pieces=8)
    assert (array == 1).all()


@pytest.mark.skipif(THREADS == 1, reason="one processor works in the caller's own thread")
def test_stretches_are_worked_side_by_side():
    together = threading.Barrier(2, timeout=20)
    run_slabs(lambda start, stop: together.wait(), 2, pieces=2)


def test_an_error_reaches_the_caller_once_nothing_runs_any_more():
    begun: list[int] = []
    ended: list[int] = []

    def work(start, stop):
        begun.append(start)
        if start == 0:
            raise ValueError("slab 0")
        time.sleep(0.02)
        ended.append(start)

    with pytest.raises(ValueError, match="slab 0"):
        run_slabs(work, 40, pieces=20)
    assert len(begun) == len(ended) + 1
    run_slabs(lambda start, stop: None, 3)  # the pool still serves


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_gets_threads_of_its_own():
    pool()
    child = os.fork()
    if child == 0:
        os._exit(0 if (filled(100) == 1).all() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
