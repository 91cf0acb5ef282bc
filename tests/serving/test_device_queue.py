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

    def work(_):
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

    def work(turn):
        with guard:
            assert turn.device not in active
            active.add(turn.device)
            at_once.append(len(active))
        both.wait(SECONDS)  # passes only where the other device works too
        with guard:
            active.discard(turn.device)
        return turn.device

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


def turns(works, together):
    """What has its turn together, in order: works are `(client, kind)`, all there before the first has its turn."""
    queue, go, batches = DeviceQueue(["test"], 1, together), threading.Event(), []
    queue.submit("held", lambda _: go.wait())

    def work(name):
        def run(turn):
            key = id(turn.passes) if turn.passes else name
            if not batches or batches[-1][0] != key:
                batches.append((key, [], turn.passes))  # which keeps its id from being used again
            batches[-1][1].append(name)
            return name

        return run

    futures = [queue.submit(client, work(number), kind) for number, (client, kind) in enumerate(works)]
    go.set()
    assert [future.result(SECONDS) for future in futures] == list(range(len(works)))
    queue.close()
    queue.join()
    return [sorted(names) for _, names, _ in batches]


def test_what_is_of_a_kind_has_its_turn_together_up_to_so_many():
    assert turns([("a", "x"), ("b", "x"), ("c", "x"), ("d", "x"), ("e", "x")], 3) == [[0, 1, 2], [3, 4]]
    assert turns([("a", "x"), ("b", "x")], 1) == [[0], [1]]
    assert turns([("a", None), ("b", None)], 3) == [[0], [1]]


def test_who_sends_much_of_a_kind_keeps_nobody_from_a_turn():
    crowd, other = [("a", "x")] * 6, [("b", "y"), ("c", "x")]
    assert turns([*crowd, *other], 3) == [[0, 1, 7], [6], [2, 3, 4], [5]]


def test_one_of_a_batch_that_fails_or_was_cancelled_leaves_the_others_theirs():
    queue, go = DeviceQueue(["test"], 1, 4), threading.Event()
    queue.submit("held", lambda _: go.wait())
    failing = queue.submit("a", lambda _: 1 / 0, "x")
    cancelled = queue.submit("b", lambda _: "never", "x")
    fine = queue.submit("c", lambda _: "done", "x")
    assert cancelled.cancel()
    go.set()
    with pytest.raises(ZeroDivisionError):
        failing.result(SECONDS)
    assert fine.result(SECONDS) == "done"
    assert queue.submit("d", lambda _: "next").result(SECONDS) == "next"
