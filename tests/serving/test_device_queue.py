import threading

import pytest

from voxelry.serving.device_queue import ClosingError, DeviceQueue, QueueFullError

SECONDS = 30


def test_clients_take_turns_in_the_order_in_which_they_came():
    queue, go, done = DeviceQueue("test", 1), threading.Event(), []
    queue.submit("first", go.wait)
    works = [("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1"), ("c", "c1"), ("b", "b2")]
    futures = [queue.submit(client, lambda name=name: done.append(name)) for client, name in works]
    go.set()
    for future in futures:
        future.result(SECONDS)
    assert done == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_an_error_goes_to_who_waits_and_the_next_work_goes_on():
    queue = DeviceQueue("test", 1)
    failing = queue.submit("a", lambda: 1 / 0)
    after = queue.submit("a", lambda: "done")
    with pytest.raises(ZeroDivisionError):
        failing.result(SECONDS)
    assert after.result(SECONDS) == "done"


def test_only_so_many_are_admitted_and_a_place_is_free_again_afterwards():
    queue = DeviceQueue("test", 2)
    with queue.admission(), queue.admission():
        with pytest.raises(QueueFullError) as full, queue.admission():
            pass
        assert 1 <= full.value.retry_after <= 120
    with pytest.raises(ZeroDivisionError), queue.admission():
        1 / 0  # noqa: B018 - a request that fails
    with queue.admission():
        assert queue.length == 0


def test_cancelled_work_does_not_run():
    queue, go, done = DeviceQueue("test", 1), threading.Event(), []
    queue.submit("a", go.wait)
    cancelled = queue.submit("b", lambda: done.append("b"))
    last = queue.submit("c", lambda: done.append("c"))
    assert cancelled.cancel()
    go.set()
    last.result(SECONDS)
    assert done == ["c"]


def test_closing_lets_what_runs_end_and_turns_the_rest_away():
    queue, begun, go = DeviceQueue("test", 1), threading.Event(), threading.Event()

    def work():
        begun.set()
        go.wait()
        return "finished"

    running = queue.submit("a", work)
    assert begun.wait(SECONDS)
    waiting = queue.submit("b", lambda: "never")
    queue.close()
    with pytest.raises(ClosingError):
        waiting.result(SECONDS)
    with pytest.raises(ClosingError):
        queue.submit("c", lambda: None)
    with pytest.raises(ClosingError), queue.admission():
        pass
    go.set()
    queue.join()
    assert running.result(0) == "finished"
