import threading
import time
from contextlib import closing

import pytest
import torch

from voxelry.training.prefetch import BatchLoader

LAYOUT = torch.channels_last_3d


def sampler(number):
    return torch.full((2, 1, 4, 4, 4), float(number)), torch.full((2, 4, 4, 4), number)


class Ahead(BatchLoader):
    """As on a GPU: batches made ahead by threads, but left where they are."""

    def __init__(self, sampler, **parts):
        super().__init__(sampler, torch.device("cpu"), LAYOUT, **parts)

    def _in_turn(self, first):
        return self._prefetched(first)

    def _pinned(self, number):
        return self.sampler(number)


def in_turn(sampler, **parts):
    return BatchLoader(sampler, torch.device("cpu"), LAYOUT, **parts)


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("voxelry-prefetch")]


@pytest.mark.parametrize("kind", [in_turn, Ahead])
def test_batches_come_in_order_whoever_makes_them(kind):
    def uneven(number):
        time.sleep(0.002 * (number % 3))
        return sampler(number)

    with closing(kind(uneven).batches(5)) as batches:
        for number in range(5, 30):
            image, classes = next(batches)
            assert image.unique().tolist() == [number] == classes.unique().tolist()
            assert image.is_contiguous(memory_format=LAYOUT)
    assert threads() == []


@pytest.mark.parametrize("kind", [in_turn, Ahead])
def test_an_error_belongs_to_its_batch(kind):
    def broken(number):
        if number == 2:
            raise ValueError("a damaged case")
        return sampler(number)

    batches = kind(broken).batches(0)
    assert next(batches)[1].unique() == 0
    assert next(batches)[1].unique() == 1
    with pytest.raises(ValueError, match="a damaged case"):
        next(batches)
    assert threads() == []


@pytest.mark.parametrize("kind", [in_turn, Ahead])
def test_a_batch_is_changed_by_its_number(kind):
    feed = kind(sampler, augment=lambda image, classes, number: (image + number, classes))
    with closing(feed.batches(3)) as batches:
        assert next(batches)[0].unique() == 6
        assert next(batches)[0].unique() == 8


def test_the_time_without_a_batch_is_counted():
    def slow(number):
        time.sleep(0.03)
        return sampler(number)

    feed = in_turn(slow)
    with closing(feed.batches(0)) as batches:
        for _ in range(3):
            next(batches)
            time.sleep(0.01)
    assert 0.09 <= feed.waited < 1


def test_batches_made_ahead_are_not_waited_for():
    def quick(number):
        time.sleep(0.001)
        return sampler(number)

    feed = Ahead(quick)
    with closing(feed.batches(0)) as batches:
        next(batches)
        feed.waited = 0.0
        for _ in range(5):
            time.sleep(0.05)
            next(batches)
    assert feed.waited < 0.05 * 5 * 0.2
