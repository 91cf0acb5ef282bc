import threading
import time
from collections import Counter
from contextlib import closing
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plans import SIDED, tiny_plan
from train.cases import case
from voxelry.config import AugmentSettings
from voxelry.labels import IGNORE_INDEX
from voxelry.prepare.augment import Augmenter
from voxelry.prepare.cache import CachedCase
from voxelry.train.sampler import Sampler, cut, prefetched


@given(
    shape=st.tuples(*[st.integers(1, 6)] * 2),
    patch=st.tuples(*[st.integers(1, 7)] * 2),
    shares=st.tuples(*[st.floats(0, 1)] * 2),
)
def test_a_window_as_padding_and_slicing_give_it(shape, patch, shares):
    array = np.random.default_rng(0).integers(1, 99, (2, *shape))
    # any start at which window and array overlap
    start = np.array([round(-(p - 1) + share * (n + p - 2)) for n, p, share in zip(shape, patch, shares, strict=True)])
    padded = np.pad(array, ((0, 0), (8, 8), (8, 8)), constant_values=-5)
    y, x = start + 8
    got = cut(array, start, patch, -5)
    assert np.array_equal(got, padded[:, y : y + patch[0], x : x + patch[1]])
    assert got.base is None


def counted(sampler, monkeypatch):
    """The cases of a sampler's windows, recorded as they are drawn."""
    drawn = []
    original = Sampler._start

    def spy(self, case, random, forced):
        start = original(self, case, random, forced)
        drawn.append((case.id, start, forced))
        return start

    monkeypatch.setattr(Sampler, "_start", spy)
    return drawn


def test_each_case_comes_once_a_round(monkeypatch):
    cases = [case(seed, (9, 9, 9)) for seed in range(5)]
    sampler = Sampler(cases, (8, 8, 8), 2, 0.5, seed=4)
    drawn = counted(sampler, monkeypatch)
    for step in range(15):
        sampler(step)
    ids = [name for name, _, _ in drawn]
    rounds = [tuple(ids[begin : begin + 5]) for begin in range(0, 30, 5)]
    assert all(len(set(one)) == 5 for one in rounds)
    assert len(set(rounds)) > 1


@pytest.mark.parametrize(("batch", "share", "forced"), [(2, 0.34, 1), (4, 0.5, 2), (3, 0.0, 0), (3, 1.0, 3), (8, 0.34, 3)])
def test_the_foreground_share_of_a_batch(monkeypatch, batch, share, forced):
    sampler = Sampler([case(0, (9, 9, 9))], (4, 4, 4), batch, share, seed=0)
    drawn = counted(sampler, monkeypatch)
    sampler(0)
    assert [one for _, _, one in drawn] == [False] * (batch - forced) + [True] * forced


def test_forced_windows_hold_each_class_in_turn():
    classes = np.zeros((40, 40), dtype=np.int16)
    classes[0, 0], classes[39, 20], classes[20, 39] = 1, 2, 3
    places = {k: np.argwhere(classes == k).astype(np.int32) for k in (1, 2, 3)}
    lone = CachedCase("lone", np.zeros((1, 40, 40), np.float16), classes, places)
    sampler = Sampler([lone], (8, 8), 4, 1.0, seed=1)
    seen: Counter[int] = Counter()
    for step in range(20):
        for window in sampler(step)[1]:
            found = set(window.unique().tolist()) - {0}
            assert len(found) == 1
            seen.update(found)
    assert set(seen) == {1, 2, 3}
    assert min(seen.values()) > 10


def test_unforced_windows_reach_every_corner_and_stay_inside():
    sampler = Sampler([case(0, (9, 7))], (4, 4), 8, 0.0, seed=0)
    starts = set()
    for step in range(60):
        for slot in range(8):
            rng = np.random.default_rng([step, slot])
            starts.add(tuple(sampler._start(sampler.cases[0], rng, False).tolist()))
    assert starts == {(y, x) for y in range(6) for x in range(4)}


def test_cases_smaller_than_a_window_are_centred_and_the_rest_ignored():
    small = case(2, (5, 8, 12))
    image, classes = Sampler([small], (8, 8, 8), 1, 1.0, seed=0)(0)
    assert (image.shape, image.dtype) == ((1, 1, 8, 8, 8), torch.float32)
    assert (classes.shape, classes.dtype) == ((1, 8, 8, 8), torch.int64)
    outside = [0, 1, 7]
    assert (classes[0, outside] == IGNORE_INDEX).all()
    assert (image[0, 0, outside] == 0).all()
    assert (classes[0, 2:7] >= 0).all()


def test_windows_of_image_and_classes_belong_together():
    image, classes = Sampler([case(seed, (12, 12, 12)) for seed in range(3)], (6, 6, 6), 4, 0.5, seed=0)(3)
    assert (image[:, 0].round() == classes).float().mean() > 0.95


def test_a_step_draws_the_same_whatever_came_before():
    plan = tiny_plan()
    augment = Augmenter(plan, AugmentSettings(flip_axes=(0,)), SIDED)
    cases = [case(seed, (12, 12, 12)) for seed in range(3)]
    through, resumed = (Sampler(cases, (8, 8, 8), 2, 0.34, 5, augment) for _ in range(2))
    batches = [through(step) for step in range(6)]
    for step in (4, 5):
        for one, two in zip(batches[step], resumed(step), strict=True):
            assert torch.equal(one, two)
    assert not torch.equal(batches[0][0], batches[3][0])
    assert not torch.equal(Sampler(cases, (8, 8, 8), 2, 0.34, 6, augment)(0)[0], batches[0][0])


def test_prefetched_batches_come_in_order():
    sampler = Sampler([case(0, (9, 9))], (4, 4), 2, 0.5, seed=0)
    with closing(prefetched(sampler, 3, 9)) as batches:
        for step, (image, classes) in zip(range(3, 9), batches, strict=True):
            expected = sampler(step)
            assert torch.equal(image, expected[0])
            assert torch.equal(classes, expected[1])


def test_an_error_is_raised_at_the_step_it_belongs_to():
    def broken(step):
        if step == 2:
            raise ValueError("damaged case")
        return step

    with closing(prefetched(broken, 0, 10)) as batches:
        assert list(islice(batches, 2)) == [0, 1]
        with pytest.raises(ValueError, match="damaged case"):
            next(batches)


def test_closing_ends_the_thread():
    before = threading.active_count()
    batches = prefetched(lambda step: step, 0, 10**9)
    assert next(batches) == 0
    began = time.monotonic()
    batches.close()
    assert time.monotonic() - began < 5
    assert threading.active_count() == before
