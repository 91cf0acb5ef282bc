"""Threads of a worker: what the network computes is computed in the thread that serves, orders are taken meanwhile."""

import json
import socket
import threading
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import torch

from voxelry.cohort import worker as worker_module
from voxelry.cohort.worker import Worker


class Pass:
    """A scan that notes which threads work on it, and has ended after the last step."""

    scan = SimpleNamespace(id="scan")

    def __init__(self):
        self.message, self.threads = None, {}

    def step(self, name):
        self.threads[name] = threading.current_thread().name
        if name == "write":
            self.message = {"event": "done", "id": "scan"}


@pytest.fixture
def served(monkeypatch):
    """A worker that a thread called "first" serves, a socket to it, and the statuses that it wanted to exit with."""
    exits = []
    monkeypatch.setattr(worker_module, "os", SimpleNamespace(_exit=lambda status: exits.append(status) or ended.set()))
    ended = threading.Event()
    ours, theirs = socket.socketpair()
    worker = Worker(theirs)
    threading.Thread(target=worker.serve, name="first", daemon=True).start()
    threading.Thread(target=worker._work, args=("write",), name="write", daemon=True).start()
    yield worker, ours, lambda: ended.wait(10) and exits[0]
    ours.close()
    for thread in threading.enumerate():
        if thread.name == "orders":  # it exits once more at the end of its orders: for real, were that after this test
            thread.join(10)
    theirs.close()


def told(ours):
    with ours.makefile("r") as lines:
        for line in lines:
            yield json.loads(line)


def test_measuring_and_predicting_are_done_by_the_thread_that_serves(served, monkeypatch):
    worker, ours, _ = served
    worker._job = SimpleNamespace(predictor=SimpleNamespace(device="cpu"))
    monkeypatch.setattr(worker_module, "seconds_of_a_patch", lambda _: threading.current_thread().name)
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    ours.sendall(b'{"do": "measure", "threads": 2}\n{"do": "keep", "threads": 1}\n')
    messages = told(ours)
    assert next(messages) == {"event": "measured", "seconds": "first"}
    assert next(messages) == {"event": "ready", "device": "cpu"}
    assert threads == [2, 1]
    scan_pass, held = Pass(), ExitStack()
    released = threading.Event()
    held.callback(released.set)
    worker._queues["main"].put((worker._predict, (scan_pass, held)))
    assert [next(messages) for _ in range(3)][-1] == {"event": "done", "id": "scan"}
    assert scan_pass.threads == {"predict": "first", "write": "write"}
    assert released.is_set()


@pytest.mark.parametrize(("sent", "status"), [(b'{"do": "stop"}\n', 0), (b"", 1)])
def test_a_worker_ends_at_once_when_told_to_or_left_alone_whatever_it_is_at(served, sent, status):
    worker, ours, exit_status = served
    never = threading.Event()
    worker._queues["main"].put((lambda _: never.wait(20), None))
    ours.sendall(sent)
    if not sent:
        ours.shutdown(socket.SHUT_WR)
    assert exit_status() == status
    never.set()
