from hypothesis import given
from hypothesis import strategies as st

from voxelry.serving.rate_limit import RateLimit


class Clock:
    """A clock that stands still until it is moved."""

    now = 0.0

    def __call__(self):
        return self.now


@given(
    rate=st.floats(0.5, 50),
    burst=st.integers(1, 20),
    pauses=st.lists(st.floats(0, 2), max_size=60),
)
def test_never_more_than_the_burst_and_the_rate(rate, burst, pauses):
    clock = Clock()
    limit, taken = RateLimit(rate, burst, clock), []
    for pause in pauses:
        clock.now += pause
        wait = limit.wait("a")
        assert wait >= 0
        if not wait:
            taken.append(clock.now)
        for begin in taken:
            assert sum(begin <= moment for moment in taken) <= burst + rate * (clock.now - begin) + 1e-6


def test_after_the_stated_wait_a_request_is_taken_and_others_never_wait():
    clock = Clock()
    limit = RateLimit(2, 3, clock)
    assert [limit.wait("a") for _ in range(3)] == [0, 0, 0]
    wait = limit.wait("a")
    assert wait == 0.5
    assert limit.wait("b") == 0
    clock.now += wait
    assert limit.wait("a") == 0
    assert limit.wait("a") > 0


def test_only_so_many_clients_are_remembered():
    limit = RateLimit(1, 1, Clock())
    for number in range(20_000):
        limit.wait(str(number))
    assert len(limit._buckets) == 10_000
    assert limit.wait("19999") > 0
