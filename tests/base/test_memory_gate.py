import threading
import time

import pytest

from voxelry.base.memory_gate import MemoryGate


def test_threads_wait_for_memory():
    gate, lock = MemoryGate(10), threading.Lock()
    held, most = [0, 0], [0, 0]  # threads, bytes

    def work(needed):
        with gate.hold(needed):
            with lock:
                held[0] += 1
                held[1] += needed
                most[:] = [max(a, b) for a, b in zip(most, held, strict=True)]
            time.sleep(0.005)
            with lock:
                held[0] -= 1
                held[1] -= needed

    workers = [threading.Thread(target=work, args=(needed,)) for needed in (3, 4, 3, 5, 2, 10, 1, 4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert held == [0, 0]
    assert most[0] > 1
    assert most[1] <= 10


def test_who_needs_more_than_there_is_waits_to_be_alone_and_an_error_gives_memory_back():
    gate = MemoryGate(10)
    with pytest.raises(ValueError, match="broken"), gate.hold(99):
        raise ValueError("broken")
    with gate.hold(99):
        other = threading.Thread(target=lambda: gate.hold(1).__enter__())
        other.start()
        other.join(0.05)
        assert other.is_alive()
    other.join(5)
    assert not other.is_alive()
