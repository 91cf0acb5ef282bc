import threading
from contextvars import ContextVar

import pytest

from voxelry.serving.device_queue import ClosingError, DeviceQueue, QueueFullError

SECONDS = 30


def test_clients_take_turns_in_the_order_in_which_they_came():
    queue, go, done = DeviceQueue(["test"], 1), threading.Event(), []
    queue.submit("first", lambda _: go.wait())
    works = [("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1"), ("c", "c1"), ("b", "b2")]
    futures = [queue.submit(client, lambda _, name=name: done.append(name)) for client, name in works]
    go.set()
    for future in futures:
        future.result(SECONDS)
    assert done == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_an_error_goes_to_who_waits_and_the_next_work_goes_on():
    queue = DeviceQueue(["test"], 1)
    failing = queue.submit("a", lambda _: 1 / 0)
    after = queue.submit("a", lambda _: "done")
    with pytest.raises(ZeroDivisionError):
        failing.result(SECONDS)
    assert after.result(SECONDS) == "done"


def test_only_so_many_are_admitted_and_a_place_is_free_again_afterwards():
    queue = DeviceQueue(["test"], 2)
    with queue.admission(), queue.admission():
        with pytest.raises(QueueFullError) as full, queue.admission():
            pass
        assert 1 <= full.value.retry_after <= 120
    with pytest.raises(ZeroDivisionError), queue.admission():
        1 / 0  # noqa: B018 - a request that fails
    with queue.admission():
        assert queue.length == 0


def test_cancelled_work_does_not_run():
    queue, go, done = DeviceQueue(["test"], 1), threading.Event(), []
    queue.submit("a", lambda _: go.wait())
    cancelled = queue.submit("b", lambda _: done.append("b"))
    last = queue.submit("c", lambda _: done.append("c"))
    assert cancelled.cancel()
    go.set()
    last.result(SECONDS)
    assert done == ["c"]


def test_closing_lets_what_runs_end_and_turns_the_rest_away():
    queue, begun, go = DeviceQueue(["test"], 1), threading.Event(), threading.Event()

    def work(device):
        begun.set()
        go.wait()
        return "finished"

    running = queue.submit("a", work)
    assert begun.wait(SECONDS)
    waiting = queue.submit("b", lambda _: "never")
    queue.close()
    with pytest.raises(ClosingError):
        waiting.result(SECONDS)
    with pytest.raises(ClosingError):
        queue.submit("c", lambda _: None)
    with pytest.raises(ClosingError), queue.admission():
        pass
    go.set()
    queue.join()
    assert running.result(0) == "finished"


def test_each_device_does_one_piece_at_a_time_and_is_told_its_number():
    queue, both = DeviceQueue(["first", "second"], 9), threading.Barrier(2)
    guard, active, at_once = threading.Lock(), set(), []

    def work(device):
        with guard:
            assert device not in active
            active.add(device)
            at_once.append(len(active))
        both.wait(SECONDS)  # passes only where the other device works too
        with guard:
            active.discard(device)
        return device

    futures = [queue.submit(client, work) for client in "abcd"]
    assert {future.result(SECONDS) for future in futures} == {0, 1}
    assert max(at_once) == 2
    queue.close()
    queue.join()


def test_work_knows_the_request_it_belongs_to():
    asked = ContextVar("asked", default="")
    queue = DeviceQueue(["test"], 1)
    asked.set("r1")
    future = queue.submit("a", lambda _: asked.get())
    asked.set("r2")
    assert future.result(SECONDS) == "r1"
